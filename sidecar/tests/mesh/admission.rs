//! Who is refused at the door, and that log and metric tell why.

use std::net::SocketAddr;
use std::sync::Arc;

use proto::user::v1::GetUserRequest;
use proto::user::v1::user_service_client::UserServiceClient;
use rustls::ClientConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tonic::Code;

use super::app::App;
use super::pki::{Pki, reckless};
use super::process::until;
use super::sidecar::Sidecar;

/// Whether a connection that has just been made with TLS is of any use. In TLS 1.3 a refused
/// client learns it only on its first read.
async fn admitted(port: SocketAddr, config: Arc<ClientConfig>) -> bool {
    let stream = TcpStream::connect(port).await.unwrap();
    let name = "callee.example".try_into().unwrap();
    let Ok(mut stream) = TlsConnector::from(config).connect(name, stream).await else {
        return false;
    };
    let _ = stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
    let _ = stream.flush().await;
    // The SETTINGS of the other side.
    stream.read_u8().await.is_ok()
}

#[tokio::test]
async fn a_client_that_cannot_show_who_it_is_is_refused_and_log_and_metric_say_why() {
    let (pki, elsewhere) = (Pki::new(), Pki::new());
    let app = App::start("app");
    let mut callee = Sidecar::guarding(&pki, "user-service", app.address, &["web"], "").await;
    assert!(admitted(callee.inbound, reckless(Some(&pki.identity("web")))).await);

    let (stranger, expired) = (elsewhere.identity("web"), pki.expired("web"));
    for (client, outcome, words) in [
        (reckless(None), "no_certificate", "the peer showed no certificate"),
        (reckless(Some(&stranger)), "unknown_issuer", "of a CA that is not trusted here"),
        (reckless(Some(&expired)), "expired", "the peer's certificate expired at"),
    ] {
        assert!(!admitted(callee.inbound, client).await, "{outcome} was let in");
        callee.process.line(&["inbound TLS handshake failed", outcome, words]).await;
        let label = format!("outcome=\"{outcome}\"");
        let series = ["outrigger_tls_handshakes_total{direction=\"inbound\"", &label];
        assert_eq!(callee.metric(&series).await, 1.0, "{outcome}");
    }
    let ok = ["outrigger_tls_handshakes_total{direction=\"inbound\"", "outcome=\"ok\""];
    assert_eq!(callee.metric(&ok).await, 1.0);
}

#[tokio::test]
async fn a_fake_server_with_another_services_identity_is_refused_and_log_and_metric_say_so() {
    let pki = Pki::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let fake = listener.local_addr().unwrap();
    let acceptor = TlsAcceptor::from(pki.identity("payments").server_config());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut byte = [0];
            let read = stream.read(&mut byte).await;
            assert!(!matches!(read, Ok(1..)), "the fake server was sent something");
        }
    });
    let mut caller = Sidecar::calling(&pki, "web", "user-service", &[fake]).await;
    let mut client = UserServiceClient::new(caller.channel("user-service"));
    let refused = client.get_user(GetUserRequest { id: "1".into() }).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert_eq!(refused.metadata().get("outrigger-reason").unwrap(), "identity_mismatch");
    for whom in ["/svc/user-service", "/svc/payments"] {
        assert!(refused.message().contains(whom), "{refused}");
    }
    caller.process.line(&["TLS handshake failed", "wrong_identity", "/svc/payments"]).await;
    let series = ["outrigger_tls_handshakes_total{direction=\"outbound\"", "wrong_identity"];
    assert!(caller.metric(&series).await >= 1.0);
}

#[tokio::test]
async fn a_caller_that_is_not_allowed_is_told_so_and_counted() {
    let pki = Pki::new();
    let app = App::start("app");
    let callee = Sidecar::guarding(&pki, "user-service", app.address, &["web"], "").await;
    let caller = Sidecar::calling(&pki, "batch", "user-service", &[callee.inbound]).await;
    let mut client = UserServiceClient::new(caller.channel("user-service"));
    let refused = client.get_user(GetUserRequest { id: "1".into() }).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    for words in ["\"batch\"", "authorization.default"] {
        assert!(refused.message().contains(words), "{refused}");
    }
    until("the refusal is counted", async || {
        callee.metric(&["outrigger_faults_total{", "inbound", "denied"]).await >= 1.0
    })
    .await;
}
