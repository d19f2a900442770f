//! How many calls callers may make, and what those over it are told.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use http::Request;
use tokio::time::sleep;

use super::net::{Answer, Client, Mesh, allow, counted_app, grpc_request, request};

fn mesh(rules: &str) -> (Mesh, Rc<Cell<usize>>) {
    let mesh = Mesh::with_app(rules);
    mesh.serve_inbound();
    mesh.echo.set_intentions(allow(&["web", "shop"]));
    let calls = counted_app(&mesh);
    (mesh, calls)
}

async fn call(client: &mut Client) -> Answer {
    client.call(grpc_request(), b"").await.unwrap()
}

async fn passed(client: &mut Client, calls: usize) -> usize {
    let mut passed = 0;
    for _ in 0..calls {
        passed += usize::from(call(client).await.status().0 == "0");
    }
    passed
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_caller_over_its_rate_is_told_when_to_come_again() {
    let (mesh, calls) = mesh("[[inbound.rate]]\nlimit = \"10/s\"\nburst = 2\n");
    let mut client = mesh.peer("web", &mesh.echo).await;
    assert_eq!(passed(&mut client, 2).await, 2);
    let answer = call(&mut client).await;
    let (status, message, reason) = answer.status();
    assert_eq!((status.as_str(), reason.as_str()), ("8", "overloaded"));
    assert!(message.contains("10/s"), "{message}");
    let wait: u64 =
        answer.head.headers()["grpc-retry-pushback-ms"].to_str().unwrap().parse().unwrap();
    assert!((90..=100).contains(&wait), "{wait}");
    sleep(Duration::from_millis(wait)).await;
    assert_eq!(passed(&mut client, 2).await, 1);
    assert_eq!(calls.get(), 3);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_is_not_grpc_gets_429_and_the_seconds() {
    let (mesh, _) = mesh("[[inbound.rate]]\nlimit = \"1/m\"\n");
    let mut client = mesh.peer("web", &mesh.echo).await;
    let plain = || Request::post("http://echo/upload").body(()).unwrap();
    client.call(plain(), b"").await.unwrap();
    let answer = client.call(plain(), b"").await.unwrap();
    assert_eq!(answer.head.status(), 429);
    assert_eq!(answer.head.headers()["retry-after"], "60");
    assert_eq!(answer.head.headers()["outrigger-reason"], "overloaded");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_rate_holds_over_all_workers_and_all_connections() {
    for workers in [1, 4] {
        for per_caller in [true, false] {
            let rule = format!("[[inbound.rate]]\nlimit = \"100/s\"\nper_caller = {per_caller}\n");
            let (mesh, _) = mesh(&rule);
            let mut echo = vec![mesh.echo.clone()];
            echo.extend((1..workers).map(|_| mesh.fellow()));
            let mut total = 0;
            for worker in &echo {
                for caller in ["web", "shop"] {
                    total += passed(&mut mesh.peer(caller, worker).await, 120).await;
                }
            }
            // In no time, as time is paused.
            let expected = if per_caller { 200 } else { 100 };
            assert!((expected..expected + 5).contains(&total), "{total}, {workers} workers");
        }
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn each_rule_counts_what_it_matches_and_nothing_else() {
    let (mesh, _) = mesh(
        "[[inbound.rate]]\nmatch = { path = \"/echo.v1.Echo/Say\", caller = \"shop\" }\nlimit = \"1/s\"\n\
         [[inbound.rate]]\nmatch = { prefix = \"/echo.v1.\", headers = { x-tenant = \"t\" } }\nlimit = \"2/s\"\n",
    );
    let mut web = mesh.peer("web", &mesh.echo).await;
    let mut shop = mesh.peer("shop", &mesh.echo).await;
    assert_eq!(passed(&mut web, 10).await, 10);
    assert_eq!(passed(&mut shop, 10).await, 1);
    let mut tenant = 0;
    for _ in 0..10 {
        let request = request().header("x-tenant", "t").body(()).unwrap();
        tenant += usize::from(web.call(request, b"").await.unwrap().status().0 == "0");
    }
    assert_eq!(tenant, 2);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn the_callers_sidecar_neither_sends_it_again_nor_rests_the_endpoint() {
    let (mesh, calls) = mesh("[[inbound.rate]]\nlimit = \"1/s\"\n");
    let mut client = mesh.client().await;
    assert_eq!(passed(&mut client, 20).await, 1);
    let plain = || Request::post("http://echo/upload").body(()).unwrap();
    for _ in 0..20 {
        assert_eq!(client.call(plain(), b"").await.unwrap().head.status(), 429);
    }
    // Each was asked once: 39 refusals for 39 calls.
    let metrics = Mesh::scrape(&mesh.echo_metrics);
    let refused =
        "outrigger_faults_total{direction=\"inbound\",peer=\"web\",reason=\"overloaded\"} 39";
    assert!(metrics.contains(refused), "{metrics}");
    sleep(Duration::from_secs(1)).await;
    assert_eq!(passed(&mut client, 1).await, 1);
    assert_eq!(calls.get(), 2);
}
