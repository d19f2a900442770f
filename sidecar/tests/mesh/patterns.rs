//! The four call patterns of gRPC, by the real user service, through two sidecars.

use std::process::Command;

use futures_util::stream;
use proto::user::v1::user_service_client::UserServiceClient;
use proto::user::v1::{
    CreateUserRequest, GetUserRequest, ListUsersRequest, SyncUsersRequest, User,
};
use tonic::Code;

use super::pki::Pki;
use super::ports::free;
use super::process::Process;
use super::programs::service;
use super::sidecar::Sidecar;

fn new(email: &str) -> CreateUserRequest {
    CreateUserRequest { email: email.into(), name: "Ada".into(), role: 1 }
}

#[tokio::test]
async fn all_four_patterns_of_the_user_service_cross_two_sidecars() {
    let store = tempfile::tempdir().unwrap();
    let address = free();
    let mut command = Command::new(service("user-service"));
    command.env("ADDR", address.to_string());
    command.env("DATABASE_URL", format!("sqlite:{}/user.db", store.path().display()));
    let mut app = Process::start("user-service", &mut command);
    app.line(&["listening on"]).await;
    let pki = Pki::new();
    let callee = Sidecar::guarding(&pki, "user-service", address, &["web"], "").await;
    let caller = Sidecar::calling(&pki, "web", "user-service", &[callee.inbound]).await;
    let mut client = UserServiceClient::new(caller.channel("user-service"));

    let created = client.create_user(new("ada@example.com")).await.unwrap().into_inner();
    assert_eq!(created.user.unwrap().id, "1");
    let missing = client.get_user(GetUserRequest { id: "99".into() }).await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);
    assert!(missing.message().contains("99"), "{missing}");

    let more = ["b@example.com", "c@example.com"].map(new);
    let batch = client.batch_create_users(stream::iter(more)).await.unwrap().into_inner();
    assert_eq!(batch.created_count, 2);

    let page = ListUsersRequest { page_size: 2, ..ListUsersRequest::default() };
    let mut users = client.list_users(page).await.unwrap().into_inner();
    let mut emails = Vec::new();
    while let Some(user) = users.message().await.unwrap() {
        emails.push(user.email);
    }
    assert_eq!(emails, ["ada@example.com", "b@example.com"]);
    let trailers = users.trailers().await.unwrap().unwrap();
    assert!(trailers.contains_key("next-page-token"), "{trailers:?}");

    let (send, mut receive) = tokio::sync::mpsc::channel(1);
    let messages = stream::poll_fn(move |context| receive.poll_recv(context));
    let mut answers = client.sync_users(messages).await.unwrap().into_inner();
    for name in ["Ada Lovelace", "Augusta Ada King"] {
        let user = User { id: "1".into(), name: name.into(), ..User::default() };
        let user = User { email: "ada@example.com".into(), role: 1, ..user };
        send.send(SyncUsersRequest { user: Some(user) }).await.unwrap();
        // Each answer comes while the stream is open.
        let answer = answers.message().await.unwrap().unwrap();
        assert_eq!(answer.user.unwrap().name, name);
    }
    drop(send);
    assert!(answers.message().await.unwrap().is_none());

    let series = ["outrigger_requests_total{", "peer=\"web\"", "grpc_method=\"SyncUsers\""];
    assert_eq!(callee.metric(&series).await, 1.0);
}
