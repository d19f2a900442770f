//! The user service over the wire: what each call answers, and how it refuses.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "in tests, outside #[test] too")]

#[path = "../../kit/tests/served/running.rs"]
mod running;

use futures_util::stream;
use proto::user::v1::{self, user_service_client::UserServiceClient};
use tonic::{Code, Status, transport::Channel};

use running::{Running, serve};

type Client = UserServiceClient<Channel>;

async fn running() -> Running<Client> {
    let start = async |url: &str| {
        user::start(&kit::Environment::from_variables([("DATABASE_URL", url)])).await
    };
    serve(start, Client::new).await
}

fn new(email: &str) -> v1::CreateUserRequest {
    v1::CreateUserRequest { email: email.into(), name: "Ada".into(), role: 0 }
}

async fn create(client: &mut Client, email: &str) -> Result<v1::User, Status> {
    Ok(client.create_user(new(email)).await?.into_inner().user.unwrap())
}

async fn get(client: &mut Client, id: &str) -> Result<v1::User, Status> {
    let id = id.to_owned();
    Ok(client.get_user(v1::GetUserRequest { id }).await?.into_inner().user.unwrap())
}

fn refused<T: std::fmt::Debug>(answer: Result<T, Status>, code: Code, message: &str) {
    let status = answer.unwrap_err();
    assert_eq!((status.code(), status.message()), (code, message));
}

#[tokio::test]
async fn a_created_user_is_found_by_the_id_it_was_given() {
    let client = &mut running().await.client;
    let first = create(client, "ada@example.com").await.unwrap();
    let second = create(client, "bob@example.com").await.unwrap();
    assert_eq!((first.id.as_str(), second.id.as_str()), ("1", "2"));
    assert_eq!(first.role(), v1::UserRole::Member);
    assert_eq!(first.created_at, first.updated_at);
    assert!(first.created_at.unwrap().seconds > 1_700_000_000);
    assert_eq!(get(client, "1").await.unwrap(), first);
}

#[tokio::test]
async fn an_email_that_is_taken_is_named() {
    let client = &mut running().await.client;
    create(client, "Ada@example.com").await.unwrap();
    let says = r#"email "ada@EXAMPLE.com" belongs to another user"#;
    refused(create(client, "ada@EXAMPLE.com").await, Code::AlreadyExists, says);
    // Nothing is lost by a refusal, not even an ID.
    assert_eq!(create(client, "bob@example.com").await.unwrap().id, "2");
}

#[tokio::test]
async fn a_refused_field_is_named() {
    let client = &mut running().await.client;
    let mut nameless = new("ada@example.com");
    nameless.name.clear();
    let mut roleless = new("ada@example.com");
    roleless.role = 7;
    let expected = "expected an address like ada@example.com, of at most 254 bytes";
    for (message, says) in [
        (new("ada"), format!(r#"email: found "ada", {expected}"#)),
        (nameless, r#"name: found "", expected a text"#.to_owned()),
        (roleless, "role: found 7, expected 0, 1 or 2".to_owned()),
    ] {
        refused(client.create_user(message).await, Code::InvalidArgument, &says);
    }
    refused(get(client, "").await, Code::InvalidArgument, "id: found nothing, expected an ID");
    refused(get(client, "42").await, Code::NotFound, r#"user "42" does not exist"#);
    refused(get(client, "x").await, Code::NotFound, r#"user "x" does not exist"#);
}

#[tokio::test]
async fn an_update_sets_what_is_present_and_a_repeat_changes_nothing() {
    let client = &mut running().await.client;
    let before = create(client, "ada@example.com").await.unwrap();
    let update = v1::UpdateUserRequest {
        id: "1".into(),
        name: Some("Ada L.".into()),
        role: Some(v1::UserRole::Admin.into()),
        ..Default::default()
    };
    let after = client.update_user(update.clone()).await.unwrap().into_inner().user.unwrap();
    assert_eq!(after.email, before.email);
    assert_eq!((after.name.as_str(), after.role()), ("Ada L.", v1::UserRole::Admin));
    assert_eq!(after.created_at, before.created_at);
    assert_ne!(after.updated_at, before.updated_at);
    let again = client.update_user(update).await.unwrap().into_inner().user.unwrap();
    assert_eq!(again, after);

    create(client, "bob@example.com").await.unwrap();
    let update = |id: &str, email: &str| v1::UpdateUserRequest {
        id: id.into(),
        email: Some(email.into()),
        ..Default::default()
    };
    let taken = client.update_user(update("2", "ada@example.com")).await;
    refused(taken, Code::AlreadyExists, r#"email "ada@example.com" belongs to another user"#);
    let nobody = client.update_user(update("9", "x@example.com")).await;
    refused(nobody, Code::NotFound, r#"user "9" does not exist"#);
    let empty = client.update_user(update("2", "")).await.unwrap_err();
    assert!(empty.message().starts_with(r#"email: found """#), "{}", empty.message());
}

#[tokio::test]
async fn a_deleted_user_is_gone_and_its_id_is_not_given_again() {
    let client = &mut running().await.client;
    create(client, "ada@example.com").await.unwrap();
    client.delete_user(v1::DeleteUserRequest { id: "1".into() }).await.unwrap();
    let nobody = r#"user "1" does not exist"#;
    refused(get(client, "1").await, Code::NotFound, nobody);
    let again = client.delete_user(v1::DeleteUserRequest { id: "1".into() }).await;
    refused(again, Code::NotFound, nobody);
    assert_eq!(create(client, "ada@example.com").await.unwrap().id, "2");
}

/// A page, and what its trailers say of the next.
async fn page(
    client: &mut Client,
    page_size: i32,
    page_token: &str,
) -> (Vec<String>, Option<String>) {
    let request = v1::ListUsersRequest { page_size, page_token: page_token.into() };
    let mut stream = client.list_users(request).await.unwrap().into_inner();
    let mut ids = Vec::new();
    while let Some(user) = stream.message().await.unwrap() {
        ids.push(user.id);
    }
    let trailers = stream.trailers().await.unwrap().unwrap();
    let token = trailers.get("next-page-token");
    (ids, token.map(|token| token.to_str().unwrap().to_owned()))
}

#[tokio::test]
async fn the_trailer_leads_from_page_to_page_to_the_end() {
    let client = &mut running().await.client;
    assert_eq!(page(client, 2, "").await, (vec![], None));
    for name in ["a", "b", "c", "d", "e"] {
        create(client, &format!("{name}@example.com")).await.unwrap();
    }
    client.delete_user(v1::DeleteUserRequest { id: "3".into() }).await.unwrap();
    let (first, token) = page(client, 2, "").await;
    let (second, none) = page(client, 2, &token.unwrap()).await;
    assert_eq!(
        (first, second, none),
        (vec!["1".into(), "2".into()], vec!["4".into(), "5".into()], None)
    );
    assert_eq!(page(client, 0, "").await.0.len(), 4);

    for (page_size, token, names) in [(1, "garbage", "page_token: "), (-1, "", "page_size: ")] {
        let request = v1::ListUsersRequest { page_size, page_token: token.into() };
        let status = client.list_users(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().starts_with(names), "{}", status.message());
        assert!(status.metadata().get("next-page-token").is_none());
    }
}

#[tokio::test]
async fn a_batch_is_created_whole_or_not_at_all() {
    let client = &mut running().await.client;
    let batch =
        |emails: &[&str]| stream::iter(emails.iter().map(|email| new(email)).collect::<Vec<_>>());
    let answer = client.batch_create_users(batch(&["a@example.com", "b@example.com"])).await;
    let answer = answer.unwrap().into_inner();
    assert_eq!(answer.created_count, 2);
    assert_eq!(answer.users.iter().map(|user| user.id.as_str()).collect::<Vec<_>>(), ["1", "2"]);

    let taken = client.batch_create_users(batch(&["c@example.com", "A@example.com"])).await;
    let says = r#"message 2: email "A@example.com" belongs to another user"#;
    refused(taken, Code::AlreadyExists, says);
    let bad = client.batch_create_users(batch(&["c@example.com", "c@c", "d"])).await.unwrap_err();
    assert!(bad.message().starts_with(r#"message 3: email: found "d""#), "{}", bad.message());
    let twice = client.batch_create_users(batch(&["c@example.com", "c@example.com"])).await;
    assert_eq!(twice.unwrap_err().code(), Code::AlreadyExists);
    assert_eq!(create(client, "c@example.com").await.unwrap().id, "3");

    let many: Vec<_> = (0..1_001).map(|n| new(&format!("{n}@many.example"))).collect();
    let thousand = client.batch_create_users(stream::iter(many[..1_000].to_vec())).await;
    assert_eq!(thousand.unwrap().into_inner().created_count, 1_000);
    let more = client.batch_create_users(stream::iter(many)).await.unwrap_err();
    assert_eq!(more.code(), Code::InvalidArgument);
}

fn wanted(id: &str, email: &str, name: &str) -> v1::SyncUsersRequest {
    let (id, email, name) = (id.into(), email.into(), name.into());
    v1::SyncUsersRequest { user: Some(v1::User { id, email, name, ..Default::default() }) }
}

#[tokio::test]
async fn a_sync_answers_each_message_before_it_needs_the_next() {
    let client = &mut running().await.client;
    let (send, mut receive) = tokio::sync::mpsc::channel(1);
    let requests = stream::poll_fn(move |context| receive.poll_recv(context));
    let mut answers = client.sync_users(requests).await.unwrap().into_inner();
    let by_id = wanted("1", "ada@new.example", "Ada L.");
    for (message, status) in [
        (wanted("", "ada@example.com", "Ada"), v1::SyncStatus::Created),
        (wanted("", "ada@example.com", "Ada"), v1::SyncStatus::Unchanged),
        (wanted("", "ADA@example.com", "Ada"), v1::SyncStatus::Updated),
        (by_id.clone(), v1::SyncStatus::Updated),
        (by_id, v1::SyncStatus::Unchanged),
    ] {
        send.send(message).await.unwrap();
        let answer = answers.message().await.unwrap().unwrap();
        assert_eq!((answer.status(), answer.user.unwrap().id), (status, "1".to_owned()));
    }
    send.send(wanted("7", "x@example.com", "X")).await.unwrap();
    let status = answers.message().await;
    refused(status, Code::NotFound, r#"message 6: user "7" does not exist"#);
    // What was answered before the refusal stays.
    assert_eq!(get(client, "1").await.unwrap().email, "ada@new.example");
}

#[tokio::test]
async fn a_sync_ends_when_its_caller_does() {
    let client = &mut running().await.client;
    let requests =
        stream::iter([wanted("", "ada@example.com", "Ada"), v1::SyncUsersRequest::default()]);
    let mut answers = client.sync_users(requests).await.unwrap().into_inner();
    assert!(answers.message().await.unwrap().is_some());
    let says = "message 2: user: found nothing, expected a user";
    refused(answers.message().await, Code::InvalidArgument, says);

    let requests = stream::iter([wanted("", "ada@example.com", "Ada")]);
    let mut answers = client.sync_users(requests).await.unwrap().into_inner();
    assert_eq!(answers.message().await.unwrap().unwrap().status(), v1::SyncStatus::Unchanged);
    assert!(answers.message().await.unwrap().is_none());
}
