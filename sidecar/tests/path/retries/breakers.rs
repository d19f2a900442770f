//! What endpoints that fail are spared, and what callers read of it.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Response};
use outrigger::discovery::snapshot::Upstream;
use tokio::time::Instant;

use super::script::{Does, script};
use crate::path::net::{Mesh, address, echo, grpc_request, inbound_address, request, sidecar};

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_endpoint_that_fails_rests_and_is_asked_once_whether_it_is_well() {
    let mesh = Mesh::new();
    mesh.endpoints(&[(inbound_address(), "echo")]);
    let (seen, well) = (Rc::new(RefCell::new(0)), Rc::new(RefCell::new(false)));
    let (count, is_well) = (seen.clone(), well.clone());
    sidecar(&mesh, inbound_address(), move |request, mut respond| {
        *count.borrow_mut() += 1;
        let is_well = *is_well.borrow();
        async move {
            if is_well {
                return echo(request, respond).await;
            }
            let head = Response::builder().header("content-type", "application/grpc");
            let head = head.header("grpc-status", "14").header("grpc-message", "no database");
            respond.send_response(head.body(()).unwrap(), true).unwrap();
        }
    });
    let mut client = mesh.client().await;
    for _ in 0..5 {
        assert_eq!(client.call(grpc_request(), b"").await.unwrap().status().1, "no database");
    }
    let (status, message, reason) = client.call(grpc_request(), b"").await.unwrap().status();
    assert_eq!((status.as_str(), reason.as_str()), ("14", "breaker_open"));
    assert!(
        message.contains("1 known, 1 with an open breaker") && message.contains("no database"),
        "{message}"
    );
    assert_eq!(*seen.borrow(), 5);
    tokio::time::sleep(Duration::from_millis(1_001)).await;
    assert_eq!(client.call(grpc_request(), b"").await.unwrap().status().1, "no database");
    assert_eq!(client.call(grpc_request(), b"").await.unwrap().status().2, "breaker_open");
    assert_eq!(*seen.borrow(), 6, "one call asked, and it rests for twice as long");
    *well.borrow_mut() = true;
    tokio::time::sleep(Duration::from_millis(2_001)).await;
    for _ in 0..10 {
        assert_eq!(client.call(grpc_request(), b"").await.unwrap().status().0, "0");
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_budget_and_a_breaker_hold_for_all_workers_of_a_process() {
    for workers in [1, 4] {
        let mesh = Mesh::with_caller("[retry_budget]\npercent = 0\nfloor = 3");
        let callers = mesh.callers(workers);
        let refuse = vec![Does::Refuses; 100];
        let seen = script(&mesh, &refuse);
        mesh.endpoints(&[(address("127.0.0.2:21000"), "echo")]);
        let mut clients = Vec::new();
        for caller in &callers {
            clients.push(mesh.client_of(caller).await);
        }
        let mut reasons = Vec::new();
        for n in 0..12 {
            let answer = clients[n % workers].call(grpc_request(), b"").await.unwrap();
            reasons.push(answer.status().2);
        }
        // Five failures in a row, three of them of retries.
        assert_eq!(seen.borrow().len(), 5, "{workers} workers: {reasons:?}");
        assert!(reasons[3..].iter().all(|reason| reason == "breaker_open"), "{reasons:?}");
        tokio::time::sleep(Duration::from_millis(1_001)).await;
        for n in 0..12 {
            let _ = clients[n % workers].call(grpc_request(), b"").await.unwrap();
        }
        assert_eq!(seen.borrow().len(), 6, "{workers} workers: one call asks for all of them");
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_endpoint_that_fails_quickly_for_its_own_reasons_draws_few_calls() {
    let mesh = Mesh::new();
    let broken = address("127.0.0.2:21000");
    mesh.endpoints(&[(inbound_address(), "echo"), (broken, "echo")]);
    sidecar(&mesh, inbound_address(), |request, respond| async move {
        tokio::time::sleep(Duration::from_millis(20)).await;
        echo(request, respond).await;
    });
    sidecar(&mesh, broken, |_request, mut respond| async move {
        let head = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
        let mut send = respond.send_response(head, false).unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "13".parse().unwrap());
        send.send_trailers(trailers).unwrap();
    });
    let mut client = mesh.client().await;
    let mut failed = 0;
    for _ in 0..200 {
        let answer = client.call(grpc_request(), b"").await.unwrap();
        failed += usize::from(answer.status().0 != "0");
    }
    assert!(failed < 20, "{failed} of 200 calls went to the endpoint that fails");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_method_slower_than_a_rest_closes_its_breaker_all_the_same() {
    let mesh = Mesh::new();
    mesh.endpoints(&[(inbound_address(), "echo")]);
    let is_well = Rc::new(RefCell::new(false));
    let also = is_well.clone();
    sidecar(&mesh, inbound_address(), move |request, mut respond| {
        let is_well = *also.borrow();
        async move {
            if is_well {
                tokio::time::sleep(Duration::from_secs(6)).await;
                return echo(request, respond).await;
            }
            let head = Response::builder().header("content-type", "application/grpc");
            respond
                .send_response(head.header("grpc-status", "14").body(()).unwrap(), true)
                .unwrap();
        }
    });
    let mut client = mesh.client().await;
    for _ in 0..5 {
        client.call(grpc_request(), b"").await.unwrap();
    }
    *is_well.borrow_mut() = true;
    let begin = Instant::now();
    let mut open = Vec::new();
    while begin.elapsed() < Duration::from_secs(20) {
        let (answer, mut send) = client.open(grpc_request());
        send.send_data(Bytes::new(), true).unwrap();
        open.push(answer);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let answer = client.call(grpc_request(), b"").await.unwrap();
    assert_eq!(answer.status().0, "0", "{:?}", answer.status());
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_the_sidecar_asks_an_upstream_is_no_use_of_it() {
    let mesh = Mesh::new();
    script(&mesh, &[]);
    let endpoint = (inbound_address(), mesh.id("echo"), Arc::from("echo"));
    let snapshot = Arc::new(Upstream::succeed(None, "echo".into(), [endpoint], 0));
    mesh.web.set_upstream(snapshot.clone());
    let mut client = mesh.client().await;
    for (path, is_use) in [
        ("grpc.reflection.v1.ServerReflection/ServerReflectionInfo", false),
        ("grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", false),
        ("echo.v1.Echo/Say", true),
    ] {
        let asked = request().uri(format!("http://echo/{path}")).body(()).unwrap();
        assert_eq!(client.call(asked, b"").await.unwrap().status().0, "0");
        assert_eq!(snapshot.state.used.load(Ordering::Relaxed), is_use, "{path}");
    }
}
