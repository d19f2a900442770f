//! Connections: which ends when, and what that costs the calls.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use certs::{Identity, Leaf, TlsMin};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use super::net::{Answer, Mesh, app, echo, grpc_request, inbound_address, push};

/// Waits, on paused time, until a condition holds.
async fn until(what: &str, condition: impl Fn() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < Duration::from_secs(60), "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn open_connections(mesh: &Mesh) -> bool {
    Mesh::scrape(&mesh.echo_metrics)
        .lines()
        .any(|line| line == "outrigger_connections{direction=\"inbound\"} 1")
}

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
async fn a_peer_that_went_silent_is_found_by_ping() {
    let mesh = Mesh::new();
    app(&mesh, echo);
    // The inbound side behind a pipe that stops carrying bytes when it is told to.
    let (frozen, is_frozen) = tokio::sync::watch::channel(false);
    let mut connections = mesh.net.listen(inbound_address());
    let worker = mesh.echo.clone();
    tokio::task::spawn_local(async move {
        while let Some(far) = connections.recv().await {
            let (near, served) = tokio::io::duplex(64 * 1024);
            tokio::task::spawn_local(outrigger::inbound::connection(worker.clone(), served));
            let (mut from_far, mut to_far) = tokio::io::split(far);
            let (mut from_near, mut to_near) = tokio::io::split(near);
            let mut is_frozen = is_frozen.clone();
            tokio::task::spawn_local(async move {
                tokio::select! {
                    _ = tokio::io::copy(&mut from_far, &mut to_near) => {}
                    _ = tokio::io::copy(&mut from_near, &mut to_far) => {}
                    _ = is_frozen.wait_for(|frozen| *frozen) => std::future::pending().await,
                }
            });
        }
    });
    let mut client = mesh.client().await;
    let (response, _send) = client.open(grpc_request());
    let answers = response.await.unwrap();
    frozen.send(true).unwrap();
    let begin = Instant::now();
    let (status, _, reason) = Answer::read(answers).await.unwrap().status();
    assert_eq!((status.as_str(), reason.as_str()), ("14", "upstream_reset"));
    // 10 s of silence, told within half of that, and 5 s for the answer.
    let elapsed = begin.elapsed().as_secs();
    assert!((14..=21).contains(&elapsed), "{elapsed} s");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_app_that_restarts_between_calls_costs_none() {
    let mesh = Mesh::new();
    mesh.serve_inbound();
    let mut client = mesh.client().await;
    for _ in 0..5 {
        // Each life of the app serves one connection, which it ends with GOAWAY.
        let mut connections = mesh.net.listen(super::net::app_address());
        let life = tokio::task::spawn_local(async move {
            let pipe = connections.recv().await.unwrap();
            let mut server = h2::server::handshake(pipe).await.unwrap();
            let (request, respond) = server.accept().await.unwrap().unwrap();
            let call = tokio::task::spawn_local(echo(request, respond));
            server.graceful_shutdown();
            while server.accept().await.is_some() {}
            call.await.unwrap();
        });
        let answer = client.call(grpc_request(), b"x").await.unwrap();
        assert_eq!(answer.status().0, "0", "{:?}", answer.status());
        life.await.unwrap();
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_peer_that_sends_everyone_away_is_tried_a_bounded_number_of_times() {
    let mesh = Mesh::new();
    app(&mesh, echo);
    mesh.echo.drain(outrigger::telemetry::labels::Direction::Inbound);
    let mut connections = mesh.net.listen(inbound_address());
    let worker = mesh.echo.clone();
    let count = std::rc::Rc::new(std::cell::Cell::new(0));
    let accepted = count.clone();
    tokio::task::spawn_local(async move {
        while let Some(pipe) = connections.recv().await {
            accepted.set(accepted.get() + 1);
            tokio::task::spawn_local(outrigger::inbound::connection(worker.clone(), pipe));
        }
    });
    let mut client = mesh.client().await;
    let answer = client.call(grpc_request(), b"x").await.unwrap();
    // Served before the GOAWAY came, or told that nobody takes calls: never tried for ever.
    assert!(["0", "14"].contains(&answer.status().0.as_str()), "{:?}", answer.status());
    assert!(count.get() <= 3, "{} connections for one call", count.get());
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn calls_share_a_connection_while_none_is_stalled() {
    let mesh = Mesh::new();
    mesh.serve_inbound();
    let opened = std::rc::Rc::new(std::cell::Cell::new(0));
    let mut connections = mesh.net.listen(super::net::app_address());
    let counted = opened.clone();
    tokio::task::spawn_local(async move {
        while let Some(pipe) = connections.recv().await {
            counted.set(counted.get() + 1);
            tokio::task::spawn_local(async move {
                // A window that each call waits for, for a moment.
                let mut server = h2::server::Builder::new();
                server.initial_window_size(300);
                let mut server = server.handshake::<_, Bytes>(pipe).await.unwrap();
                while let Some(Ok((request, respond))) = server.accept().await {
                    tokio::task::spawn_local(echo(request, respond));
                }
            });
        }
    });
    let mut client = mesh.client().await;
    for _ in 0..5 {
        let mut open = Vec::new();
        for _ in 0..50 {
            let (answer, mut send) = client.open(grpc_request());
            send.send_data(Bytes::from(vec![7; 1_000]), true).unwrap();
            open.push(answer);
        }
        for answer in open {
            let answer = Answer::read(answer.await.unwrap()).await.unwrap();
            assert_eq!((answer.body.len(), answer.status().0.as_str()), (1_000, "0"));
        }
    }
    assert_eq!(opened.get(), 1);
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
    let ended = tokio::time::timeout(Duration::from_secs(20), hello.pipe.read_to_end(&mut read));
    assert!(ended.await.is_ok(), "the connection is still open");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_connection_that_was_being_opened_when_the_identity_changed_takes_no_calls() {
    let mesh = Mesh::new();
    app(&mesh, echo);
    let mut connections = mesh.net.listen(inbound_address());
    let mut client = mesh.client().await;
    let (answer, mut send) = client.open(grpc_request());
    send.send_data(Bytes::from_static(b"x"), true).unwrap();
    let first = connections.recv().await.unwrap();
    mesh.web.set_identity(mesh.identity("web"));
    let opened = std::rc::Rc::new(std::cell::Cell::new(1));
    let (counted, worker) = (opened.clone(), mesh.echo.clone());
    tokio::task::spawn_local(outrigger::inbound::connection(worker.clone(), first));
    tokio::task::spawn_local(async move {
        while let Some(pipe) = connections.recv().await {
            counted.set(counted.get() + 1);
            tokio::task::spawn_local(outrigger::inbound::connection(worker.clone(), pipe));
        }
    });
    let answer = Answer::read(answer.await.unwrap()).await.unwrap();
    assert_eq!((answer.status().0.as_str(), opened.get()), ("0", 2));
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
