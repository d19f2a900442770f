//! The seven calls of `user.v1.UserService`.
//!
//! Every stream is bounded: a page is read whole (1,000 users at most), a batch has 1,000 users at
//! most, and a sync reads its next message only when the answer to the one before was taken.

use futures_util::stream::{self, BoxStream, StreamExt as _};
use http::{HeaderName, HeaderValue};
use kit::{Moment, Page, invalid};
use proto::user::v1::{self, user_service_server::UserService};
use tonic::{Request, Response, Status, Streaming};

use crate::{
    model::{Change, Email, Name, NewUser, Role},
    store::{Refusal, Store, Synced},
};

const BATCH: usize = 1_000;
/// The trailer that leads to the next page of `ListUsers`.
const NEXT_PAGE_TOKEN: HeaderName = HeaderName::from_static("next-page-token");

/// The service over its store.
#[derive(Clone, Debug)]
pub struct Users {
    store: Store,
}

impl Users {
    /// The service over this store.
    pub fn new(store: Store) -> Self {
        Self { store }
    }

    async fn sync(&self, message: v1::SyncUsersRequest) -> Result<v1::SyncUsersResponse, Status> {
        let user = message.user.ok_or_else(|| invalid("user", "found nothing, expected a user"))?;
        let email = Email::parse(&user.email)?;
        let name = Name::parse(&user.name)?;
        let role = Role::parse(user.role)?;
        let to = Change { email: Some(email.clone()), name: Some(name.clone()), role };
        let now = Moment::now();
        let (user, status): Synced = if user.id.is_empty() {
            let user = NewUser { email, name, role: role.unwrap_or(Role::Member) };
            self.store.sync_by_email(&user, &to, now).await?
        } else {
            self.store.sync(known_id(&user.id)?, &to, now).await?
        };
        Ok(v1::SyncUsersResponse { user: Some(user.into()), status: status.into() })
    }
}

#[tonic::async_trait]
impl UserService for Users {
    async fn get_user(
        &self,
        request: Request<v1::GetUserRequest>,
    ) -> Result<Response<v1::GetUserResponse>, Status> {
        let user = self.store.find(known_id(&request.get_ref().id)?).await?;
        Ok(Response::new(v1::GetUserResponse { user: Some(user.into()) }))
    }

    async fn create_user(
        &self,
        request: Request<v1::CreateUserRequest>,
    ) -> Result<Response<v1::CreateUserResponse>, Status> {
        let user = NewUser::try_from(request.into_inner())?;
        let created = self.store.create(&[user], Moment::now()).await;
        let user = created.map_err(|(_, refusal)| refusal)?.pop().map(v1::User::from);
        Ok(Response::new(v1::CreateUserResponse { user }))
    }

    async fn update_user(
        &self,
        request: Request<v1::UpdateUserRequest>,
    ) -> Result<Response<v1::UpdateUserResponse>, Status> {
        let message = request.into_inner();
        let id = message.id.clone();
        let change = Change::try_from(message)?;
        let user = self.store.update(known_id(&id)?, &change, Moment::now()).await?;
        Ok(Response::new(v1::UpdateUserResponse { user: Some(user.into()) }))
    }

    async fn delete_user(
        &self,
        request: Request<v1::DeleteUserRequest>,
    ) -> Result<Response<()>, Status> {
        self.store.delete(known_id(&request.get_ref().id)?).await?;
        Ok(Response::new(()))
    }

    type ListUsersStream = BoxStream<'static, Result<v1::User, Status>>;

    async fn list_users(
        &self,
        request: Request<v1::ListUsersRequest>,
    ) -> Result<Response<Self::ListUsersStream>, Status> {
        let v1::ListUsersRequest { page_size, page_token } = request.into_inner();
        let page = Page::parse("users", page_size, &page_token)?;
        let (users, next) = page.cut(self.store.list(&page).await?, |user| user.id);
        let users = stream::iter(users.into_iter().map(|user| Ok(user.into())));
        let mut response = Response::new(users.boxed());
        if let Some(token) = next.and_then(|token| HeaderValue::try_from(token).ok()) {
            kit::trailers::append(&mut response, NEXT_PAGE_TOKEN, token);
        }
        Ok(response)
    }

    async fn batch_create_users(
        &self,
        request: Request<Streaming<v1::CreateUserRequest>>,
    ) -> Result<Response<v1::BatchCreateUsersResponse>, Status> {
        let mut messages = request.into_inner();
        let mut users = Vec::new();
        while let Some(message) = messages.message().await? {
            if users.len() == BATCH {
                let why =
                    format!("found more than {BATCH} users in a batch, expected at most that");
                return Err(Status::invalid_argument(why));
            }
            let user = NewUser::try_from(message);
            users.push(user.map_err(|status| at(users.len(), status))?);
        }
        let created = self.store.create(&users, Moment::now()).await;
        let created = created.map_err(|(index, refusal)| at(index, refusal.into()))?;
        let created_count = i32::try_from(created.len()).unwrap_or(i32::MAX);
        let users = created.into_iter().map(v1::User::from).collect();
        Ok(Response::new(v1::BatchCreateUsersResponse { users, created_count }))
    }

    type SyncUsersStream = BoxStream<'static, Result<v1::SyncUsersResponse, Status>>;

    async fn sync_users(
        &self,
        request: Request<Streaming<v1::SyncUsersRequest>>,
    ) -> Result<Response<Self::SyncUsersStream>, Status> {
        // Driven by whoever takes the answers: no task of its own, nothing kept between two.
        let start = (self.clone(), request.into_inner(), 0);
        let answers = stream::try_unfold(start, |(users, mut messages, index)| async move {
            let Some(message) = messages.message().await? else { return Ok(None) };
            let answer = users.sync(message).await.map_err(|status| at(index, status))?;
            Ok(Some((answer, (users, messages, index + 1))))
        });
        Ok(Response::new(answers.boxed()))
    }
}

/// The ID of a user that may exist; what no store ever gives out is the ID of nobody.
fn known_id(found: &str) -> Result<i64, Status> {
    kit::id("id", found)?.ok_or_else(|| nobody(found))
}

fn nobody(id: &str) -> Status {
    let shown: String = id.chars().take(80).collect();
    Status::not_found(format!("user {shown:?} does not exist"))
}

/// The status with the position, from 1, of the message in its stream.
fn at(index: usize, status: Status) -> Status {
    Status::new(status.code(), format!("message {}: {}", index + 1, status.message()))
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::EmailTaken(email) => {
                Self::already_exists(format!("email {email:?} belongs to another user"))
            }
            Refusal::NoSuchUser(id) => nobody(&id.to_string()),
            Refusal::Failed(error) => kit::fault(error),
        }
    }
}
