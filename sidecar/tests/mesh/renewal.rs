//! Certificate files that change under a running sidecar, and an upstream with a port of its own.

use proto::user::v1::GetUserRequest;
use proto::user::v1::user_service_client::UserServiceClient;

use super::app::App;
use super::pki::Pki;
use super::ports::free;
use super::process::until;
use super::sidecar::{Sidecar, channel};

fn get() -> GetUserRequest {
    GetUserRequest { id: "1".into() }
}

#[tokio::test]
async fn changed_certificate_files_are_read_again_and_unusable_ones_change_nothing() {
    let pki = Pki::new();
    let app = App::start("app");
    let mut callee = Sidecar::guarding(&pki, "user-service", app.address, &["web"], "").await;
    let caller = Sidecar::calling(&pki, "web", "user-service", &[callee.inbound]).await;
    let mut client = UserServiceClient::new(caller.channel("user-service"));
    client.get_user(get()).await.unwrap();

    pki.section("user-service");
    callee.process.line(&["the certificate was read again", "/svc/user-service"]).await;
    client.get_user(get()).await.unwrap();

    pki.spoil("user-service");
    callee.process.line(&["cannot be used", "user-service.cert.pem"]).await;
    until("/ready tells of it", async || {
        let ready = callee.read("/ready").await;
        ready.is_some_and(|(status, text)| status == 200 && text.contains("certificate files"))
    })
    .await;
    client.get_user(get()).await.unwrap();
}

#[tokio::test]
async fn an_upstreams_own_port_takes_every_authority() {
    let pki = Pki::new();
    let app = App::start("app");
    let callee = Sidecar::guarding(&pki, "user-service", app.address, &["web"], "").await;
    let own = free();
    let sections = format!(
        "[consul]\nenabled = false\n{}[upstreams.user-service]\nendpoints = [\"{}\"]\nlisten = \"{own}\"\n",
        pki.section("web"),
        callee.inbound,
    );
    let _caller = Sidecar::start("web", None, &sections).ready().await;
    for authority in ["somewhere.example.com", "127.0.0.1", "other-service"] {
        let mut client = UserServiceClient::new(channel(own, authority));
        client.get_user(get()).await.unwrap();
    }
}
