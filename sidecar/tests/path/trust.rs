//! Whom the inbound side trusts no more, and how that ends.

use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::spawn_local;
use tokio::time::Instant;

use super::net::{Mesh, app, echo, grpc_request, inbound_address};

/// A pipe through which nothing comes back once it is shut: whoever reads at its end hears no
/// GOAWAY and answers no PING.
async fn deaf(mesh: &Mesh, shut: tokio::sync::watch::Receiver<bool>) -> tokio::io::DuplexStream {
    let far = mesh.net.connect(inbound_address()).unwrap();
    let config = mesh.identity("web").client_config(&mesh.id("echo"));
    let name = rustls::pki_types::ServerName::try_from("echo").unwrap();
    let far = tokio_rustls::TlsConnector::from(config).connect(name, far).await.unwrap();
    let (near, served) = tokio::io::duplex(64 * 1024);
    let (mut from_near, mut to_near) = tokio::io::split(served);
    let (mut from_far, mut to_far) = tokio::io::split(far);
    spawn_local(async move { tokio::io::copy(&mut from_near, &mut to_far).await });
    spawn_local(async move {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(n @ 1..) = from_far.read(&mut buffer).await {
            if !*shut.borrow() && to_near.write_all(&buffer[..n]).await.is_err() {
                return;
            }
        }
    });
    near
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_peer_whose_root_was_withdrawn_gets_no_further_call_in_though_it_hears_nothing() {
    let mesh = Mesh::new();
    mesh.serve_inbound();
    let served = std::rc::Rc::new(std::cell::Cell::new(0));
    let counted = served.clone();
    app(&mesh, move |request, respond| {
        counted.set(counted.get() + 1);
        echo(request, respond)
    });
    let (shut, is_shut) = tokio::sync::watch::channel(false);
    let pipe = deaf(&mesh, is_shut).await;
    let (mut send, connection) = h2::client::handshake(pipe).await.unwrap();
    spawn_local(async move {
        let _ = connection.await;
    });
    send = send.ready().await.unwrap();
    let (answer, mut body) = send.send_request(grpc_request(), false).unwrap();
    body.send_data(Bytes::from_static(b"x"), true).unwrap();
    answer.await.unwrap();
    assert_eq!(served.get(), 1);
    shut.send(true).unwrap();
    mesh.echo.set_identity(Mesh::new().identity("echo"));
    for _ in 0..10 {
        let _unheard = send.send_request(grpc_request(), true);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(served.get(), 1);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_stalled_handshake_keeps_its_place_for_a_moment_alone() {
    let mesh = Mesh::with_app("[limits]\nhandshakes = 1");
    mesh.serve_inbound();
    app(&mesh, echo);
    // Says hello, and never a word more.
    let _stalled = Hello::say(&mesh).await;
    let begin = Instant::now();
    let answer = mesh.client().await.call(grpc_request(), b"x").await.unwrap();
    assert_eq!(answer.body, b"x");
    assert!(begin.elapsed() < Duration::from_millis(500), "{:?}", begin.elapsed());
}

/// A client of the inbound port that has said hello and read the answer.
struct Hello {
    pipe: tokio::io::DuplexStream,
    tls: rustls::ClientConnection,
}

impl Hello {
    async fn say(mesh: &Mesh) -> Self {
        let mut pipe = mesh.net.connect(inbound_address()).unwrap();
        let config = mesh.identity("web").client_config(&mesh.id("echo"));
        let name = rustls::pki_types::ServerName::try_from("echo").unwrap();
        let mut tls = rustls::ClientConnection::new(config, name).unwrap();
        let mut bytes = Vec::new();
        tls.write_tls(&mut bytes).unwrap();
        pipe.write_all(&bytes).await.unwrap();
        while tls.is_handshaking() {
            let mut read = vec![0; 64 * 1024];
            let n = pipe.read(&mut read).await.unwrap();
            assert!(n > 0, "the handshake was refused");
            tls.read_tls(&mut &read[..n]).unwrap();
            tls.process_new_packets().unwrap();
        }
        Self { pipe, tls }
    }

    /// Proves who it is.
    async fn finish(&mut self) {
        let mut bytes = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut bytes).unwrap();
        }
        self.pipe.write_all(&bytes).await.unwrap();
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_root_that_is_withdrawn_during_a_handshake_is_withdrawn_for_it_too() {
    let mesh = Mesh::new();
    mesh.serve_inbound();
    app(&mesh, echo);
    let mut hello = Hello::say(&mesh).await;
    mesh.echo.set_identity(Mesh::new().identity("echo"));
    hello.finish().await;
    let mut read = Vec::new();
    // Drained: with no call open it ends at once.
    let ended = tokio::time::timeout(Duration::from_secs(1), hello.pipe.read_to_end(&mut read));
    assert!(ended.await.is_ok(), "the connection is still open");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn half_a_request_over_http1_does_not_outlive_trust() {
    let mesh = Mesh::new();
    mesh.serve_inbound();
    app(&mesh, echo);
    let mut client = without_alpn(&mesh).await;
    client.write_all(b"GET / HTTP/1.1\r\nhost: echo\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    mesh.echo.set_identity(Mesh::new().identity("echo"));
    tokio::time::sleep(Duration::from_millis(100)).await;
    let _ = client.write_all(b"\r\n").await;
    let mut answer = Vec::new();
    let _ = client.read_to_end(&mut answer).await;
    assert!(answer.is_empty(), "{}", String::from_utf8_lossy(&answer));
}

/// A peer's connection on which HTTP/1.1 can be spoken.
async fn without_alpn(mesh: &Mesh) -> tokio_rustls::client::TlsStream<tokio::io::DuplexStream> {
    let mut config = (*mesh.identity("web").client_config(&mesh.id("echo"))).clone();
    config.alpn_protocols = Vec::new();
    let name = rustls::pki_types::ServerName::try_from("echo").unwrap();
    let pipe = mesh.net.connect(inbound_address()).unwrap();
    let tls = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    tls.connect(name, pipe).await.unwrap()
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_peer_that_reads_none_of_its_whole_answers_is_idle_too() {
    let mesh = Mesh::with_app("[timeouts]\nhttp_idle = \"3s\"");
    mesh.serve_inbound();
    app(&mesh, |_request, mut respond| async move {
        let mut send = respond.send_response(http::Response::new(()), false).unwrap();
        let _ = super::net::push(&mut send, Bytes::from(vec![7; 50_000])).await;
        let _ = send.send_data(Bytes::new(), true);
    });
    let mut client = without_alpn(&mesh).await;
    let pipelined = b"GET / HTTP/1.1\r\nhost: echo\r\n\r\n".repeat(40);
    client.write_all(&pipelined).await.unwrap();
    let connected = || {
        Mesh::scrape(&mesh.echo_metrics).contains("outrigger_connections{direction=\"inbound\"} 1")
    };
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(connected());
    for _ in 0..120 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        if !connected() {
            return;
        }
    }
    panic!("a peer that reads nothing is still connected after 12 s");
}
