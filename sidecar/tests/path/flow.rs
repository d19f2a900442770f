//! Back-pressure: a slow reader holds back a fast writer, and nobody else.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Response};

use super::net::{Mesh, app, echo, grpc_request, push};

const MIB: usize = 1 << 20;

/// Pushes until nothing moves for a second; returns how much went.
async fn fill(send: &mut h2::SendStream<Bytes>) -> usize {
    let mut sent = 0;
    while sent < 64 * MIB {
        let piece = Bytes::from(vec![7; 16 * 1024]);
        match tokio::time::timeout(Duration::from_secs(1), push(send, piece)).await {
            Ok(pushed) => pushed.unwrap(),
            Err(_) => return sent,
        }
        sent += 16 * 1024;
    }
    sent
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_app_that_stops_reading_holds_back_its_caller_alone() {
    let mesh = Mesh::new();
    mesh.serve_inbound();
    app(&mesh, |request, respond| async move {
        if request.headers().contains_key("x-stall") {
            std::future::pending::<()>().await;
            drop((request, respond));
        } else {
            echo(request, respond).await;
        }
    });
    let mut client = mesh.client().await;
    let stalled = super::net::request().header("x-stall", "1").body(()).unwrap();
    let (_response, mut send) = client.open(stalled);
    let sent = fill(&mut send).await;
    assert!(sent < 4 * MIB, "{sent} bytes went to an app that reads nothing");
    let mut other = mesh.client().await;
    for _ in 0..100 {
        let call = other.call(grpc_request(), &[1; 1000]);
        let answer = tokio::time::timeout(Duration::from_secs(5), call).await;
        assert_eq!(answer.expect("held back by the stalled call").unwrap().body, [1; 1000]);
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_caller_that_stops_reading_holds_back_its_app_alone() {
    let mesh = Mesh::new();
    mesh.serve_inbound();
    let sent = Rc::new(Cell::new(0));
    let count = sent.clone();
    app(&mesh, move |request, mut respond| {
        let count = count.clone();
        async move {
            if !request.headers().contains_key("x-flood") {
                return echo(request, respond).await;
            }
            let mut send = respond.send_response(Response::new(()), false).unwrap();
            while push(&mut send, Bytes::from(vec![7; 16 * 1024])).await.is_ok() {
                count.set(count.get() + 16 * 1024);
            }
        }
    });
    let mut client = mesh.client().await;
    let flood = super::net::request().header("x-flood", "1").body(()).unwrap();
    let (response, _send) = client.open(flood);
    let _unread = response.await.unwrap();
    let mut before = 0;
    while sent.get() != before {
        before = sent.get();
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(before < 4 * MIB, "{before} bytes went to a caller that reads nothing");
    let mut other = mesh.client().await;
    for _ in 0..100 {
        let call = other.call(grpc_request(), &[1; 1000]);
        let answer = tokio::time::timeout(Duration::from_secs(5), call).await;
        assert_eq!(answer.expect("held back by the stalled call").unwrap().body, [1; 1000]);
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn sixteen_mebibytes_go_each_way_whole() {
    let mesh = Mesh::new();
    mesh.serve_inbound();
    app(&mesh, echo);
    let mut client = mesh.client().await;
    let (response, mut send) = client.open(grpc_request());
    let body = Bytes::from((0..16 * MIB).map(|n| (n % 251) as u8).collect::<Vec<_>>());
    let sending = body.clone();
    let upload = tokio::task::spawn_local(async move {
        push(&mut send, sending).await.unwrap();
        send.send_trailers(HeaderMap::new()).unwrap();
    });
    let answer = super::net::Answer::read(response.await.unwrap()).await.unwrap();
    upload.await.unwrap();
    assert!(answer.body == body, "the body was changed on its way");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_burst_of_small_messages_ends_no_connection() {
    let mesh = Mesh::new();
    mesh.serve_inbound();
    app(&mesh, echo);
    let mut client = mesh.client().await;
    let (response, mut send) = client.open(grpc_request());
    let upload = tokio::task::spawn_local(async move {
        for _ in 0..20_000 {
            push(&mut send, Bytes::from_static(b"\0\0\0\0\x05hello")).await.unwrap();
        }
        send.send_data(Bytes::new(), true).unwrap();
    });
    let answer = super::net::Answer::read(response.await.unwrap()).await.unwrap();
    upload.await.unwrap();
    assert_eq!(answer.body.len(), 200_000);
    assert_eq!(answer.trailers["grpc-status"], "0");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_burst_of_cancelled_calls_harms_no_other_callers_stream() {
    let mesh = Mesh::new();
    mesh.serve_inbound();
    app(&mesh, echo);
    let mut innocent = mesh.client().await;
    let (response, mut send) = innocent.open(grpc_request());
    let mut answers = response.await.unwrap().into_body();
    let mut hasty = mesh.client().await;
    for _ in 0..20 {
        for _ in 0..100 {
            let (response, mut send) = hasty.open(grpc_request());
            send.send_reset(h2::Reason::CANCEL);
            drop(response);
        }
        tokio::task::yield_now().await;
    }
    push(&mut send, Bytes::from_static(b"alive")).await.unwrap();
    assert_eq!(answers.data().await.unwrap().unwrap(), "alive");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn http1_callers_that_stop_reading_hold_back_nobody_else() {
    use tokio::io::AsyncWriteExt;
    let mesh = Mesh::new();
    mesh.serve_inbound();
    app(&mesh, |request, mut respond| async move {
        if request.uri().path() != "/flood" {
            return echo(request, respond).await;
        }
        let mut send = respond.send_response(Response::new(()), false).unwrap();
        while push(&mut send, Bytes::from(vec![7; 16 * 1024])).await.is_ok() {}
    });
    let mut unread = Vec::new();
    for _ in 0..20 {
        let mut raw = mesh.raw();
        raw.write_all(b"GET /flood HTTP/1.1\r\nhost: echo\r\n\r\n").await.unwrap();
        unread.push(raw);
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    let mut other = mesh.client().await;
    for _ in 0..20 {
        let call = other.call(grpc_request(), &[1; 1000]);
        let answer = tokio::time::timeout(Duration::from_secs(5), call).await;
        assert_eq!(answer.expect("held back by the stalled calls").unwrap().body, [1; 1000]);
    }
}
