//! What is no call at all: refused, and the sidecar goes on as before.

use std::net::SocketAddr;

use bytes::Bytes;
use certs::Identity;
use h2::client::SendRequest;
use http::Request;
use proto::user::v1::GetUserRequest;
use proto::user::v1::user_service_client::UserServiceClient;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use super::app::App;
use super::pki::{Pki, reckless};
use super::process::{PATIENCE, until};
use super::sidecar::Sidecar;

/// How often each offence is committed.
const TIMES: usize = 30;

/// Sends bytes and reads what comes until the other side closes.
async fn sent(port: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(port).await.unwrap();
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    answer
}

/// The connection of a mesh peer. On a busy machine the callee's short patience may be over before
/// the handshake is.
async fn peer(port: SocketAddr, identity: &Identity) -> SendRequest<Bytes> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let stream = TcpStream::connect(port).await.unwrap();
        let name = "callee.example".try_into().unwrap();
        if let Ok(tls) = TlsConnector::from(reckless(Some(identity))).connect(name, stream).await
            && let Ok((send, connection)) = h2::client::handshake(tls).await
        {
            tokio::spawn(connection);
            if let Ok(send) = send.ready().await {
                return send;
            }
        }
        assert!(Instant::now() < deadline, "a peer was not let in");
    }
}

/// What a mesh peer is told that brings headers of this size; nothing where it is cut off.
async fn oversized(port: SocketAddr, identity: &Identity, size: usize) -> Option<String> {
    let mut send = peer(port, identity).await;
    let request = Request::post("https://user-service/user.v1.UserService/GetUser")
        .header("content-type", "application/grpc")
        .header("x-large", "x".repeat(size));
    let (answer, _) = send.send_request(request.body(()).unwrap(), true).ok()?;
    let answer = answer.await.ok()?;
    Some(answer.headers().get("outrigger-reason")?.to_str().unwrap().to_owned())
}

#[tokio::test]
async fn what_is_no_call_is_refused_and_leaves_nothing_behind() {
    let pki = Pki::new();
    let app = App::start("app");
    let more = "[timeouts]\ntls_handshake = \"1s\"\n";
    let mut callee = Sidecar::guarding(&pki, "user-service", app.address, &["web"], more).await;
    let caller = Sidecar::calling(&pki, "web", "user-service", &[callee.inbound]).await;
    let mut client = UserServiceClient::new(caller.channel("user-service"));
    let mut call = async || client.get_user(GetUserRequest { id: "1".into() }).await.unwrap();
    call().await;

    // The first bytes of a ClientHello that says it is longer than what comes.
    let half = [22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3];
    let web = pki.identity("web");
    let commit = async || {
        let garbage: Vec<u8> = (0..1024).map(|_| fastrand::u8(..)).collect();
        sent(callee.inbound, &garbage).await;
        assert!(sent(callee.inbound, &half).await.is_empty());
        let answer = sent(callee.inbound, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert!(!answer.starts_with(b"HTTP/"), "plain HTTP was answered");
        sent(callee.inbound, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
        // On loopback: what is neither HTTP/1.1 nor HTTP/2, and an HTTP/1.1 head without end.
        sent(caller.outbound, b"\x16\x03\x01 tls here?\r\n\r\n").await;
        let mut head = b"GET / HTTP/1.1\r\nhost: x\r\nx: ".to_vec();
        head.resize(1024 * 1024, b'x');
        sent(caller.outbound, &head).await;
    };
    commit().await;
    let before = [&callee, &caller].map(|sidecar| sidecar.process.descriptors());
    let memory = [&callee, &caller].map(|sidecar| sidecar.process.memory());
    for _ in 0..TIMES / 10 {
        let ten = std::array::from_fn::<_, 10, _>(|_| commit());
        futures_util::future::join_all(ten).await;
    }
    for _ in 0..TIMES {
        let reason = oversized(callee.inbound, &web, 80 * 1024).await;
        assert_eq!(reason.as_deref(), Some("too_large"));
        // So large that HTTP/2 itself has no patience with it.
        assert_eq!(oversized(callee.inbound, &web, 1024 * 1024).await, None);
    }
    call().await;
    // Some sockets of the last offenders may be about to close.
    until("no descriptor has leaked", async || {
        let now = [&callee, &caller].map(|sidecar| sidecar.process.descriptors());
        now.iter().zip(&before).all(|(now, before)| *now <= before + 2)
    })
    .await;
    for (sidecar, before) in [&callee, &caller].into_iter().zip(memory) {
        let grown = sidecar.process.memory().saturating_sub(before);
        assert!(grown < 32 << 20, "grown by {grown} bytes");
        let said = sidecar.process.said();
        assert!(!said.contains("panicked"), "{said}");
    }
    let tls = ["outrigger_tls_handshakes_total{direction=\"inbound\"", "outcome=\"tls\""];
    assert!(callee.metric(&tls).await >= 3.0 * TIMES as f64);
    assert!(callee.process.lives());
}
