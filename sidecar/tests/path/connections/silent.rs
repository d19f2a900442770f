//! Peers that fall silent without a word are found by PING.

use std::time::Duration;

use outrigger::telemetry::labels::Direction;
use tokio::sync::watch;
use tokio::task::spawn_local;
use tokio::time::{Instant, timeout};

use super::super::net::{Answer, Mesh, app, echo, grpc_request, inbound_address};
use super::handshakes;

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
