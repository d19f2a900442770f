//! Connections: which ends when, and what that costs the calls.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use certs::{Identity, Leaf, TlsMin};
use outrigger::telemetry::labels::Direction;
use tokio::io::AsyncWriteExt;
use tokio::sync::watch;
use tokio::task::spawn_local;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;

use super::net::{Answer, Mesh, app, echo, grpc_request, inbound_address, push};

/// Waits, on paused time, until a condition holds.
async fn until(what: &str, condition: impl Fn() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < Duration::from_secs(60), "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// TLS handshakes that `web` has made.
fn handshakes(mesh: &Mesh) -> f64 {
    let text = Mesh::scrape(&mesh.web_metrics);
    let ok = "outrigger_tls_handshakes_total{direction=\"outbound\",outcome=\"ok\"} ";
    text.lines().find_map(|line| line.strip_prefix(ok)?.parse().ok()).unwrap_or(0.0)
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

/// Serves the inbound side behind pipes that stop carrying bytes when they are told to.
fn serve_freezable(mesh: &Mesh) -> watch::Sender<bool> {
    let (freeze, is_frozen) = watch::channel(false);
    let mut connections = mesh.net.listen(inbound_address());
    let worker = mesh.echo.clone();
    spawn_local(async move {
        while let Some(far) = connections.recv().await {
            let (near, served) = tokio::io::duplex(64 * 1024);
            spawn_local(outrigger::inbound::connection(worker.clone(), served));
            let (mut from_far, mut to_far) = tokio::io::split(far);
            let (mut from_near, mut to_near) = tokio::io::split(near);
            let mut is_frozen = is_frozen.clone();
            spawn_local(async move {
                tokio::select! {
                    _ = tokio::io::copy(&mut from_far, &mut to_near) => {}
                    _ = tokio::io::copy(&mut from_near, &mut to_far) => {}
                    _ = is_frozen.wait_for(|frozen| *frozen) => std::future::pending().await,
                }
            });
        }
    });
    freeze
}

/// A stream whose peer falls silent after `event` ends within the time of a PING.
async fn found_by_ping_after(event: impl AsyncFnOnce(&Mesh)) {
    let mesh = Mesh::new();
    app(&mesh, echo);
    let freeze = serve_freezable(&mesh);
    let mut client = mesh.client().await;
    let (response, _send) = client.open(grpc_request());
    let answers = response.await.unwrap();
    event(&mesh).await;
    freeze.send(true).unwrap();
    let begin = Instant::now();
    let told = timeout(Duration::from_secs(60), Answer::read(answers)).await;
    let (status, _, reason) = told.expect("it was not found").unwrap().status();
    assert_eq!((status.as_str(), reason.as_str()), ("14", "upstream_reset"));
    // 10 s of silence, told within half of that, and 5 s for the answer.
    let elapsed = begin.elapsed().as_secs();
    assert!((14..=21).contains(&elapsed), "{elapsed} s");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_peer_that_went_silent_is_found_by_ping() {
    found_by_ping_after(async |_| {}).await;
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_peer_that_went_silent_on_a_retired_connection_is_found_by_ping() {
    found_by_ping_after(async |mesh| mesh.web.set_identity(mesh.identity("web"))).await;
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_peer_that_went_silent_after_its_goaway_is_found_by_ping() {
    found_by_ping_after(async |mesh| {
        mesh.echo.drain(Direction::Inbound);
        tokio::time::sleep(Duration::from_secs(1)).await;
        // It takes no new call.
        let before = handshakes(mesh);
        mesh.client().await.call(grpc_request(), b"x").await.unwrap();
        assert!(handshakes(mesh) > before, "the connection is not retired");
    })
    .await;
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_app_that_restarts_between_calls_costs_none() {
    let mesh = Mesh::new();
    mesh.serve_inbound();
    let mut client = mesh.client().await;
    for _ in 0..5 {
        // Each life of the app serves one connection, which it ends with GOAWAY.
        let mut connections = mesh.net.listen(super::net::app_address());
        let life = spawn_local(async move {
            let pipe = connections.recv().await.unwrap();
            let mut server = h2::server::handshake(pipe).await.unwrap();
            let (request, respond) = server.accept().await.unwrap().unwrap();
            let call = spawn_local(echo(request, respond));
            server.graceful_shutdown();
            while server.accept().await.is_some() {}
            call.await.unwrap();
        });
        let answer = client.call(grpc_request(), b"x").await.unwrap();
        assert_eq!(answer.status().0, "0", "{:?}", answer.status());
        life.await.unwrap();
    }
}

/// When a peer says that it takes no calls.
#[derive(Clone, Copy, Debug)]
enum Goaway {
    WithItsGreeting,
    /// The greeting is read before it comes.
    ATurnLater,
}

/// A peer that greets whoever comes and sends them away. It counts them, and is gone after a
/// thousand.
fn serve_away(mesh: &Mesh, when: Goaway) -> Rc<Cell<usize>> {
    // RFC 9113 §6.5, §6.8: no setting, and no stream was or will be taken.
    const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";
    const GOAWAY: &[u8] = b"\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let mut connections = mesh.net.listen(inbound_address());
    let acceptor = TlsAcceptor::from(mesh.identity("echo").server_config());
    let count = Rc::new(Cell::new(0));
    let accepted = count.clone();
    spawn_local(async move {
        while let Some(pipe) = connections.recv().await {
            accepted.set(accepted.get() + 1);
            if accepted.get() == 1000 {
                return;
            }
            let acceptor = acceptor.clone();
            spawn_local(async move {
                let mut tls = acceptor.accept(pipe).await.unwrap();
                tls.write_all(SETTINGS).await.unwrap();
                let away = async move {
                    tls.write_all(GOAWAY).await.unwrap();
                    // It goes on reading: what ends the connection is the other side.
                    let _ = tokio::io::copy(&mut tls, &mut tokio::io::sink()).await;
                };
                match when {
                    Goaway::WithItsGreeting => away.await,
                    Goaway::ATurnLater => drop(spawn_local(away)),
                }
            });
        }
    });
    count
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_peer_that_sends_everyone_away_is_tried_a_bounded_number_of_times() {
    // One connection more than a pool has.
    for (when, most) in [(Goaway::WithItsGreeting, 1), (Goaway::ATurnLater, 17)] {
        let mesh = Mesh::new();
        let count = serve_away(&mesh, when);
        let answer = mesh.client().await.call(grpc_request(), b"x").await.unwrap();
        assert_eq!(answer.status().0, "14", "{:?}", answer.status());
        assert!(count.get() <= most, "{} connections for one call, {when:?}", count.get());
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn who_connects_and_says_nothing_takes_no_place_of_a_handshake() {
    let mesh = Mesh::with_app("[limits]\nhandshakes = 1\n");
    mesh.serve_inbound();
    app(&mesh, echo);
    let silent = mesh.net.connect(inbound_address()).unwrap();
    let mut slow = mesh.net.connect(inbound_address()).unwrap();
    // The first bytes of a ClientHello that says it is longer than what comes.
    slow.write_all(&[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3]).await.unwrap();
    // They have their chance to take it.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let begin = Instant::now();
    let answer = mesh.client().await.call(grpc_request(), b"x").await.unwrap();
    assert_eq!(answer.status().0, "0", "{:?}", answer.status());
    assert!(begin.elapsed() < Duration::from_millis(500), "{:?}", begin.elapsed());
    drop((silent, slow));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn calls_share_a_connection_while_none_is_stalled() {
    let mesh = Mesh::new();
    mesh.serve_inbound();
    let opened = Rc::new(Cell::new(0));
    let mut connections = mesh.net.listen(super::net::app_address());
    let counted = opened.clone();
    spawn_local(async move {
        while let Some(pipe) = connections.recv().await {
            counted.set(counted.get() + 1);
            spawn_local(async move {
                // A window that each call waits for, for a moment.
                let mut server = h2::server::Builder::new();
                server.initial_window_size(300);
                let mut server = server.handshake::<_, Bytes>(pipe).await.unwrap();
                while let Some(Ok((request, respond))) = server.accept().await {
                    spawn_local(echo(request, respond));
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
    spawn_local(outrigger::inbound::connection(worker.clone(), first));
    spawn_local(async move {
        while let Some(pipe) = connections.recv().await {
            counted.set(counted.get() + 1);
            spawn_local(outrigger::inbound::connection(worker.clone(), pipe));
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
