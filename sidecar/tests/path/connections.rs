//! Connections: which ends when, which are shared, and what that costs the calls.

mod drained;
mod sent_away;
mod silent;

use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::task::spawn_local;
use tokio::time::Instant;

use super::net::{Answer, Mesh, app, app_as, echo, grpc_request, inbound_address};

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
async fn calls_share_a_connection_while_none_is_stalled() {
    let mesh = Mesh::new();
    mesh.serve_inbound();
    // A window that each call waits for, for a moment.
    let mut server = h2::server::Builder::new();
    server.initial_window_size(300);
    let opened = app_as(&mesh, server, echo);
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
