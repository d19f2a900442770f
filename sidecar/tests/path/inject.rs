//! Faults that the config asks for.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use http::Request;
use tokio::time::Instant;

use super::net::{Client, Mesh, allow, counted_app, grpc_request, request};

fn mesh(rules: &str) -> (Mesh, Rc<Cell<usize>>) {
    let mesh = Mesh::with_app(rules);
    mesh.echo.set_intentions(allow(&["web", "shop"]));
    let calls = counted_app(&mesh);
    (mesh, calls)
}

async fn status(client: &mut Client, request: Request<()>) -> String {
    client.call(request, b"").await.unwrap().status().0
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_injected_abort_says_so_and_looks_like_the_apps_own_otherwise() {
    let (mesh, calls) = mesh("[[inbound.fault]]\nabort = \"data_loss\"\n");
    let mut client = mesh.peer("web", &mesh.echo).await;
    let answer = client.call(grpc_request(), b"").await.unwrap();
    let (status, message, reason) = answer.status();
    assert_eq!((status.as_str(), reason.as_str()), ("15", ""));
    assert!(message.contains("injected") && message.contains("inbound.fault"), "{message}");
    assert_eq!(answer.head.headers()["outrigger-injected"], "true");
    let plain = Request::post("http://echo/upload").body(()).unwrap();
    let answer = client.call(plain, b"").await.unwrap();
    assert_eq!(answer.head.status(), 500);
    assert_eq!(answer.head.headers()["outrigger-injected"], "true");
    assert_eq!(calls.get(), 0);
    let metrics = Mesh::scrape(&mesh.echo_metrics);
    assert!(metrics.contains("grpc_status=\"DATA_LOSS\"} 1"), "{metrics}");
    assert!(!metrics.contains("outrigger_faults_total{"), "{metrics}");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_injected_delay_lets_the_call_go_on_after_it_within_its_deadline() {
    let (mesh, calls) = mesh("[[inbound.fault]]\ndelay = \"300ms\"\n");
    let mut client = mesh.peer("web", &mesh.echo).await;
    let begin = Instant::now();
    assert_eq!(status(&mut client, grpc_request()).await, "0");
    assert!((300..305).contains(&begin.elapsed().as_millis()), "{:?}", begin.elapsed());
    let begin = Instant::now();
    let hasty = request().header("grpc-timeout", "100m").body(()).unwrap();
    assert_eq!(status(&mut client, hasty).await, "4");
    assert!(begin.elapsed() < Duration::from_millis(103), "{:?}", begin.elapsed());
    assert_eq!(calls.get(), 1);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_delayed_call_takes_no_place_among_those_in_flight() {
    let (mesh, _) = mesh(
        "[inbound.concurrency]\nadaptive = false\nmost = 1\n\
         [[inbound.fault]]\nmatch = { headers = { x-slow = \"1\" } }\ndelay = \"10s\"\n",
    );
    let mut client = mesh.peer("web", &mesh.echo).await;
    let slow = client.open(request().header("x-slow", "1").body(()).unwrap());
    assert_eq!(status(&mut client, grpc_request()).await, "0");
    drop(slow);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn faults_meet_only_whom_they_are_for_and_as_many_as_is_asked_for() {
    let (mesh, _) = mesh(
        "[[inbound.fault]]\nmatch = { caller = \"shop\" }\npercent = 50\nabort = \"unavailable\"\n",
    );
    let mut web = mesh.peer("web", &mesh.echo).await;
    let mut shop = mesh.peer("shop", &mesh.echo).await;
    let (mut of_web, mut of_shop) = (0, 0);
    for _ in 0..200 {
        of_web += usize::from(status(&mut web, grpc_request()).await == "14");
        of_shop += usize::from(status(&mut shop, grpc_request()).await == "14");
    }
    assert_eq!(of_web, 0);
    assert!((60..140).contains(&of_shop), "{of_shop}");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_route_injects_into_the_calls_that_it_matches_before_they_are_sent() {
    let rules = "[[upstreams.echo.route]]\nmatch = { headers = { x-test = \"slow\" } }\n\
                 fault = { delay = \"300ms\" }\n\
                 [[upstreams.echo.route]]\nmatch = { headers = { x-test = \"broken\" } }\n\
                 fault = { abort = \"unavailable\" }\n";
    let mesh = Mesh::with_caller(rules);
    mesh.serve_inbound();
    let calls = counted_app(&mesh);
    let mut client = mesh.client().await;
    let begin = Instant::now();
    assert_eq!(status(&mut client, grpc_request()).await, "0");
    assert!(begin.elapsed() < Duration::from_millis(100));
    let slow = request().header("x-test", "slow").body(()).unwrap();
    assert_eq!(status(&mut client, slow).await, "0");
    assert!(begin.elapsed() >= Duration::from_millis(300));
    let broken = request().header("x-test", "broken").body(()).unwrap();
    let answer = client.call(broken, b"").await.unwrap();
    let (status, message, _) = answer.status();
    assert!(status == "14" && message.contains("injected"), "{status} {message}");
    assert_eq!(calls.get(), 2, "what was broken on purpose was sent");
}
