//! Which endpoint and which connection a call gets, and what full or failing ones cost.

use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{Request, Response};
use tokio::task::spawn_local;

use super::net::{Answer, Mesh, address, app, echo, grpc_request, inbound_address, push, sidecar};

/// Answers nothing, ever.
async fn hang(_request: Request<RecvStream>, respond: SendResponse<Bytes>) {
    std::future::pending::<()>().await;
    drop(respond);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_full_endpoint_is_passed_over_while_another_has_room() {
    let mesh = Mesh::with_caller("[limits]\nin_flight_per_endpoint = 1");
    let endpoints: Vec<_> =
        (1..=8).map(|n| (address(&format!("127.0.0.{n}:21000")), "echo")).collect();
    mesh.endpoints(&endpoints);
    for (at, _) in &endpoints {
        mesh.serve_inbound_at(*at);
    }
    app(&mesh, hang);
    let mut client = mesh.client().await;
    let mut open: Vec<_> = endpoints.iter().map(|_| client.open(grpc_request())).collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    for (answer, _) in &mut open {
        assert!(futures_util::poll!(answer).is_pending(), "one call each finds its endpoint");
    }
    let answer = mesh.client().await.call(grpc_request(), b"").await.unwrap();
    let (status, message, reason) = answer.status();
    assert_eq!((status.as_str(), reason.as_str()), ("14", "overloaded"), "{message}");
    assert!(message.contains("1 calls wait for an answer of \"echo\""), "{message}");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn cancelled_and_new_calls_that_meet_on_a_full_connection_fail_none() {
    let mesh = Mesh::with("[limits]\nconnections_per_endpoint = 1", "[limits]\nmesh_streams = 8\n");
    mesh.serve_inbound();
    app(&mesh, hang);
    let mut client = mesh.client().await;
    let mut held: Vec<_> = (0..8).map(|_| client.open(grpc_request())).collect();
    tokio::time::sleep(Duration::from_millis(100)).await;
    held.truncate(2);
    let mut new: Vec<_> = (0..6).map(|_| client.open(grpc_request())).collect();
    tokio::time::sleep(Duration::from_millis(100)).await;
    for (answer, _) in held.iter_mut().chain(&mut new) {
        let polled = futures_util::poll!(answer);
        assert!(polled.is_pending(), "{polled:?}");
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_endpoint_that_fails_at_once_does_not_draw_the_calls() {
    let mesh = Mesh::new();
    let broken = address("127.0.0.2:21000");
    mesh.endpoints(&[(inbound_address(), "echo"), (broken, "echo")]);
    mesh.serve_inbound();
    app(&mesh, |request, respond| async move {
        tokio::time::sleep(Duration::from_millis(5)).await;
        echo(request, respond).await;
    });
    fail_at(&mesh, broken);
    let mut client = mesh.client().await;
    let mut failed = 0;
    for _ in 0..200 {
        let answer = client.call(grpc_request(), b"x").await.unwrap();
        failed += usize::from(answer.status().0 != "0");
    }
    assert!(failed < 20, "{failed} of 200 calls went to the endpoint that fails");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_endpoint_that_fails_at_once_draws_few_calls_though_the_other_is_slow_and_busy() {
    let mesh = Mesh::new();
    let broken = address("127.0.0.2:21000");
    mesh.endpoints(&[(inbound_address(), "echo"), (broken, "echo")]);
    mesh.serve_inbound();
    fail_at(&mesh, broken);
    app(&mesh, |request, respond| async move {
        tokio::time::sleep(Duration::from_millis(300)).await;
        echo(request, respond).await;
    });
    let mut client = mesh.client().await;
    let mut open = Vec::new();
    for _ in 0..400 {
        let (answer, mut send) = client.open(grpc_request());
        send.send_data(Bytes::from_static(b"x"), true).unwrap();
        open.push(spawn_local(async { Answer::read(answer.await.unwrap()).await.unwrap() }));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut failed = 0;
    for answer in open {
        let answer = answer.await.unwrap();
        failed += usize::from(answer.status().0 != "0");
    }
    // Two seconds: it is tried once a second.
    assert!(failed <= 6, "{failed} of 400 calls went to the endpoint that fails");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn small_calls_that_nobody_reads_hold_up_no_others() {
    unread_hold_up_no_others(100, 1000).await;
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn one_large_call_that_nobody_reads_holds_up_no_others() {
    unread_hold_up_no_others(1, 65_535).await;
}

/// So many calls of a size that together use up the app's window, and small ones after them.
async fn unread_hold_up_no_others(calls: usize, size: usize) {
    let mesh = Mesh::new();
    mesh.serve_inbound();
    // Its connection's window is the 64 KiB of RFC 9113, and `hang` reads nothing.
    app(&mesh, |request, respond| async move {
        if request.uri().path().ends_with("Hang") {
            hold(request, respond).await;
        } else {
            echo(request, respond).await;
        }
    });
    async fn hold(request: Request<RecvStream>, respond: SendResponse<Bytes>) {
        let _unread = request.into_body();
        std::future::pending::<()>().await;
        drop(respond);
    }
    let mut client = mesh.client().await;
    let mut held = Vec::new();
    for _ in 0..calls {
        let request = Request::post("http://echo/echo.v1.Echo/Hang");
        let request = request.header("content-type", "application/grpc").body(()).unwrap();
        let (answer, mut send) = client.open(request);
        push(&mut send, Bytes::from(vec![7; size])).await.unwrap();
        send.send_data(Bytes::new(), true).unwrap();
        held.push(answer);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut other = mesh.client().await;
    for _ in 0..20 {
        let call = other.call(grpc_request(), b"small");
        let answer = tokio::time::timeout(Duration::from_secs(1), call).await;
        assert_eq!(answer.expect("a call hangs").unwrap().body, b"small");
    }
    drop(held);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn the_one_endpoint_that_works_is_found_among_those_that_fail() {
    let mesh = Mesh::new();
    let broken: Vec<_> = (2..=5).map(|n| address(&format!("127.0.0.{n}:21000"))).collect();
    let all = broken.iter().map(|at| (*at, "echo")).chain([(inbound_address(), "echo")]);
    mesh.endpoints(&all.collect::<Vec<_>>());
    mesh.serve_inbound();
    broken.iter().for_each(|at| fail_at(&mesh, *at));
    app(&mesh, echo);
    let mut client = mesh.client().await;
    let mut failed = 0;
    for _ in 0..300 {
        let answer = client.call(grpc_request(), b"x").await.unwrap();
        failed += usize::from(answer.status().0 != "0");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Each rests after five, and is asked once more in this second and a half.
    assert!(failed <= 4 * 6, "{failed} of 300 calls went to endpoints that fail");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_endpoint_that_denies_is_not_taken_for_one_that_fails() {
    let mesh = Mesh::with_caller("[balance]\nslow_start = \"0s\"");
    let denying = address("127.0.0.2:21000");
    mesh.endpoints(&[(inbound_address(), "echo"), (denying, "echo")]);
    mesh.serve_inbound();
    answer_at(&mesh, denying, "7", "denied");
    app(&mesh, echo);
    let mut client = mesh.client().await;
    let mut denied = 0;
    for _ in 0..200 {
        let answer = client.call(grpc_request(), b"x").await.unwrap();
        denied += usize::from(answer.status().0 == "7");
    }
    assert!(denied > 40, "{denied} of 200 calls went to it");
}

/// A sidecar whose app is gone, at this address.
fn fail_at(mesh: &Mesh, at: std::net::SocketAddr) {
    answer_at(mesh, at, "14", "app_unreachable");
}

/// A sidecar that answers every call so by itself.
fn answer_at(mesh: &Mesh, at: std::net::SocketAddr, status: &'static str, reason: &'static str) {
    sidecar(mesh, at, move |_request, mut respond| async move {
        let head = Response::builder()
            .header("content-type", "application/grpc")
            .header("grpc-status", status)
            .header("outrigger-reason", reason);
        let _ = respond.send_response(head.body(()).unwrap(), true);
    });
}
