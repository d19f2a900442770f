//! An app in the test's own process, whose every step the test decides.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use futures_util::{Stream, StreamExt, stream};
use proto::user::v1::user_service_client::UserServiceClient;
use proto::user::v1::user_service_server::{UserService, UserServiceServer};
use proto::user::v1::{self, User};
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::Instant;
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

/// How long a call takes that says nothing else.
const USUAL: Duration = Duration::from_millis(20);

/// A call for this ID is answered when the test says so.
pub(crate) const HELD: &str = "held";
/// How the name of a user begins whose creation the next hop passes on as well.
pub(crate) const VIA: &str = "via/";
/// A stream whose first message has this ID is read no further.
pub(crate) const STALLED: &str = "stalled";

/// The app as the test sees it. It ends when this is dropped.
pub(crate) struct App {
    pub(crate) address: SocketAddr,
    pub(crate) state: Arc<State>,
    _stop: oneshot::Sender<()>,
}

/// What the test reads and decides.
#[derive(Default)]
pub(crate) struct State {
    name: String,
    /// Calls that were begun.
    pub(crate) begun: AtomicUsize,
    /// The `grpc-timeout` of each call for a user that had one.
    pub(crate) timeouts: Mutex<Vec<String>>,
    /// The next hop of calls that create a user, where there is one.
    pub(crate) next: OnceLock<Channel>,
    /// The `tracestate` of each call that was passed on.
    pub(crate) traces: Mutex<Vec<String>>,
    /// When each call ended that got no answer.
    pub(crate) given_up: Mutex<Vec<Instant>>,
    /// Messages that went out on endless streams.
    pub(crate) flooded: AtomicUsize,
    /// Lets the held calls go.
    pub(crate) release: Notify,
    /// How many calls are held.
    pub(crate) held: watch::Sender<usize>,
}

impl App {
    /// Serves on a free port; `name` is in each of its answers.
    pub(crate) fn start(name: &str) -> Self {
        Self::start_at(name, SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    /// Serves at this address.
    pub(crate) fn start_at(name: &str, address: SocketAddr) -> Self {
        let state = Arc::new(State { name: name.to_owned(), ..State::default() });
        let listener = std::net::TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let incoming = TcpIncoming::from(tokio::net::TcpListener::from_std(listener).unwrap());
        let (stop, stopped) = oneshot::channel::<()>();
        let service = UserServiceServer::new(Scripted(state.clone()));
        let (_, health) = tonic_health::server::health_reporter();
        let server = tonic::transport::Server::builder()
            .initial_connection_window_size(8 * 64 * 1024)
            .initial_stream_window_size(64 * 1024)
            .add_service(service)
            .add_service(health)
            .serve_with_incoming_shutdown(incoming.with_nodelay(Some(true)), async {
                let _ = stopped.await;
            });
        tokio::spawn(async move { server.await.unwrap() });
        Self { address, state, _stop: stop }
    }
}

/// A call for a user: where it is dropped without an answer, that is kept.
struct Underway<'a>(&'a State, bool);

impl<'a> Underway<'a> {
    fn new(state: &'a State) -> Self {
        Self(state, false)
    }

    fn answered(mut self) {
        self.1 = true;
    }
}

impl Drop for Underway<'_> {
    fn drop(&mut self) {
        if !self.1 {
            self.0.given_up.lock().unwrap().push(Instant::now());
        }
    }
}

struct Scripted(Arc<State>);

impl Scripted {
    fn user(&self, id: String) -> User {
        User { id, name: self.0.name.clone(), ..User::default() }
    }

    /// A call of its own for one that it serves.
    fn traced<T>(&self, served: &MetadataMap, message: T) -> Request<T> {
        let mut request = Request::new(message);
        for state in served.get_all("tracestate") {
            self.0.traces.lock().unwrap().push(state.to_str().unwrap().to_owned());
            request.metadata_mut().append("tracestate", state.clone());
        }
        request
    }
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl UserService for Scripted {
    async fn get_user(
        &self,
        request: Request<v1::GetUserRequest>,
    ) -> Result<Response<v1::GetUserResponse>, Status> {
        self.0.begun.fetch_add(1, Ordering::Relaxed);
        if let Some(timeout) = request.metadata().get("grpc-timeout") {
            self.0.timeouts.lock().unwrap().push(timeout.to_str().unwrap().to_owned());
        }
        let (id, underway) = (request.into_inner().id, Underway::new(&self.0));
        if id == HELD {
            let released = self.0.release.notified();
            self.0.held.send_modify(|held| *held += 1);
            released.await;
        } else {
            tokio::time::sleep(USUAL).await;
        }
        underway.answered();
        Ok(Response::new(v1::GetUserResponse { user: Some(self.user(id)) }))
    }

    type ListUsersStream = Answers<User>;

    /// Without end.
    async fn list_users(
        &self,
        _: Request<v1::ListUsersRequest>,
    ) -> Result<Response<Self::ListUsersStream>, Status> {
        let state = self.0.clone();
        let large = User { name: "x".repeat(16 * 1024), ..User::default() };
        let users = stream::repeat(large).map(move |user| {
            state.flooded.fetch_add(1, Ordering::Relaxed);
            Ok(user)
        });
        Ok(Response::new(Box::pin(users)))
    }

    type SyncUsersStream = Answers<v1::SyncUsersResponse>;

    /// An answer a message.
    async fn sync_users(
        &self,
        request: Request<Streaming<v1::SyncUsersRequest>>,
    ) -> Result<Response<Self::SyncUsersStream>, Status> {
        let answers = request.into_inner().then(async |message| {
            let user = message?.user;
            if user.as_ref().is_some_and(|user| user.id == STALLED) {
                std::future::pending::<()>().await;
            }
            Ok(v1::SyncUsersResponse { user, ..v1::SyncUsersResponse::default() })
        });
        Ok(Response::new(Box::pin(answers)))
    }

    /// Asks the next hop for a user, or to create one in its turn, as a bare app does: the trace is handed on, and nothing else.
    async fn create_user(
        &self,
        request: Request<v1::CreateUserRequest>,
    ) -> Result<Response<v1::CreateUserResponse>, Status> {
        let next = self.0.next.get().ok_or_else(|| Status::unimplemented("not played"))?;
        let (mut next, underway) = (UserServiceClient::new(next.clone()), Underway::new(&self.0));
        let (metadata, _, create) = request.into_parts();
        let user = match create.name.strip_prefix(VIA) {
            Some(name) => {
                let create = v1::CreateUserRequest { name: name.into(), ..create };
                next.create_user(self.traced(&metadata, create)).await?.into_inner().user
            }
            None => {
                let ask = v1::GetUserRequest { id: create.name };
                next.get_user(self.traced(&metadata, ask)).await?.into_inner().user
            }
        };
        underway.answered();
        Ok(Response::new(v1::CreateUserResponse { user }))
    }

    async fn update_user(
        &self,
        _: Request<v1::UpdateUserRequest>,
    ) -> Result<Response<v1::UpdateUserResponse>, Status> {
        Err(Status::unimplemented("not played"))
    }

    async fn delete_user(&self, _: Request<v1::DeleteUserRequest>) -> Result<Response<()>, Status> {
        Err(Status::unimplemented("not played"))
    }

    async fn batch_create_users(
        &self,
        _: Request<Streaming<v1::CreateUserRequest>>,
    ) -> Result<Response<v1::BatchCreateUsersResponse>, Status> {
        Err(Status::unimplemented("not played"))
    }
}
