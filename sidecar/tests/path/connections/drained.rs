//! Connections that are drained: a certificate that ends, a root that is withdrawn, a peer that is
//! silent meanwhile.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use certs::{Identity, Leaf, TlsMin};
use tokio::time::Instant;

use super::super::net::{Answer, Mesh, app, echo, grpc_request, inbound_address, push};
use super::{open_connections, until};

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_connection_is_drained_when_its_peers_certificate_ends() {
    let mesh = Mesh::new();
    mesh.serve_inbound();
    app(&mesh, echo);
    let ttl = Duration::from_secs(5);
    let issued = mesh.ca.issue(&mesh.id("web"), ttl, SystemTime::now()).unwrap();
    let leaf =
        Leaf::from_pem(issued.certificate_pem.as_bytes(), issued.key_pem.as_bytes()).unwrap();
    let identity = Identity::new(leaf, mesh.ca.roots().unwrap(), TlsMin::V1_3).unwrap();
    mesh.web.set_identity(Arc::new(identity));
    let mut client = mesh.client().await;
    let (response, mut send) = client.open(grpc_request());
    let answers = response.await.unwrap();
    assert!(open_connections(&mesh));
    // The clock of certificates is not paused; the timer that stands for it is.
    tokio::time::sleep(ttl * 2).await;
    // Drained, not cut: the call that is open ends by itself, then the connection does.
    push(&mut send, Bytes::from_static(b"late")).await.unwrap();
    send.send_data(Bytes::new(), true).unwrap();
    assert_eq!(Answer::read(answers).await.unwrap().body, b"late");
    until("the connection has closed", || !open_connections(&mesh)).await;
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_connection_is_drained_when_its_peers_root_is_withdrawn() {
    let mesh = Mesh::new();
    mesh.serve_inbound();
    app(&mesh, echo);
    let mut client = mesh.client().await;
    let (response, mut send) = client.open(grpc_request());
    let answers = response.await.unwrap();
    mesh.echo.set_identity(Mesh::new().identity("echo"));
    push(&mut send, Bytes::from_static(b"late")).await.unwrap();
    send.send_data(Bytes::new(), true).unwrap();
    assert_eq!(Answer::read(answers).await.unwrap().body, b"late");
    until("the connection has closed", || !open_connections(&mesh)).await;
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_new_identity_on_both_sides_fails_no_call() {
    let mesh = Mesh::new();
    mesh.serve_inbound();
    app(&mesh, echo);
    let mut client = mesh.client().await;
    for n in 0..20 {
        match n % 4 {
            1 => mesh.web.set_identity(mesh.identity("web")),
            3 => mesh.echo.set_identity(mesh.identity("echo")),
            _ => {}
        }
        let answer = client.call(grpc_request(), b"x").await.unwrap();
        assert_eq!((answer.body.as_slice(), answer.status().0.as_str()), (&b"x"[..], "0"));
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_silent_peer_without_a_call_does_not_hold_a_drain() {
    let mesh = Mesh::new();
    mesh.serve_inbound();
    let config = mesh.identity("web").client_config(&mesh.id("echo"));
    let name = rustls::pki_types::ServerName::try_from("echo").unwrap();
    let pipe = mesh.net.connect(inbound_address()).unwrap();
    let tls = tokio_rustls::TlsConnector::from(config).connect(name, pipe).await.unwrap();
    let (_send, mut connection) = h2::client::handshake(tls).await.unwrap();
    // Heard once, and never again.
    for _ in 0..100 {
        assert!(futures_util::poll!(&mut connection).is_pending());
        tokio::task::yield_now().await;
    }
    assert!(open_connections(&mesh));
    let begin = Instant::now();
    mesh.echo.drain(outrigger::telemetry::labels::Direction::Inbound);
    until("the connection has closed", || !open_connections(&mesh)).await;
    assert!(begin.elapsed() < Duration::from_secs(6), "{:?}", begin.elapsed());
}
