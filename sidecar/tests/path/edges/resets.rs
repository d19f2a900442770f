//! RST_STREAM either way, with each code of RFC 9113 §7.

use std::time::Duration;

use http::{HeaderMap, Request};
use tokio::time::Instant;

use super::super::net::{Mesh, grpc_request};
use super::peer::{Peer, SEATS, Seat, Stage, answer_of, ask, call, fine, head, told};
use super::wire::{CANCEL, DATA, END_STREAM, Frame, HEADERS, INTERNAL_ERROR, NO_ERROR, RST_STREAM};

/// Each code, one that nobody knows, and gRPC's status for it (gRPC over HTTP/2, "Errors").
const STATUSES: [(u32, &str); 15] = [
    (0, "13"),
    (1, "13"),
    (2, "13"),
    (3, "13"),
    (4, "13"),
    (5, "2"),
    (6, "13"),
    (7, "14"),
    (8, "1"),
    (9, "13"),
    (10, "13"),
    (11, "8"),
    (12, "7"),
    (13, "2"),
    (0x99, "13"),
];

#[tokio::test(flavor = "local", start_paused = true)]
async fn each_code_of_a_reset_has_its_grpc_status_and_ends_its_call_alone() {
    for seat in SEATS {
        let mut stage = Stage::new(seat);
        let mut client = stage.client().await;
        let bystander = ask(&mut client);
        let mut peer = stage.accept().await;
        let other = peer.head().await;
        for (code, status) in STATUSES {
            for after_head in [false, true] {
                let response = ask(&mut client);
                let stream = peer.head().await;
                if after_head {
                    peer.send_all(&[head(stream), Frame::data(stream, b"begun")]).await;
                    // What a reset overtakes may be lost.
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                peer.send(&Frame::rst(stream, code)).await;
                let answer = answer_of(response).await;
                let (found, message, reason) = answer.status();
                let told = (found.as_str(), reason.as_str());
                assert_eq!(told, (status, "upstream_reset"), "{seat:?}, code {code}: {message}");
                assert!(message.contains("reset the stream"), "{message}");
                let body: &[u8] = if after_head { b"begun" } else { b"" };
                assert_eq!(answer.body, body);
            }
        }
        peer.answer(other, b"x").await;
        assert_eq!(told(bystander).await, fine());
        assert!(stage.is_quiet(), "another connection was opened");
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_reset_of_what_is_not_grpc_is_an_http_error_or_a_reset() {
    for seat in SEATS {
        let mut stage = Stage::new(seat);
        let mut client = stage.client().await;
        let page = || Request::get("http://echo/page").body(()).unwrap();
        let (response, _) = client.send.send_request(page(), true).unwrap();
        let mut peer = stage.accept().await;
        let stream = peer.head().await;
        peer.send(&Frame::rst(stream, CANCEL)).await;
        let answer = answer_of(response).await;
        assert_eq!(answer.head.status(), 502);
        assert_eq!(answer.head.headers()["outrigger-reason"], "upstream_reset");

        let (response, _) = client.send.send_request(page(), true).unwrap();
        let stream = peer.head().await;
        peer.send(&head(stream)).await;
        let mut body = response.await.unwrap().into_body();
        peer.send(&Frame::rst(stream, CANCEL)).await;
        let error = body.data().await.unwrap().unwrap_err();
        assert_eq!(error.reason(), Some(h2::Reason::INTERNAL_ERROR), "{seat:?}: {error}");
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_callers_reset_of_any_code_cancels_the_app_at_once() {
    for seat in SEATS {
        let mut stage = Stage::new(seat);
        let mut caller = Peer::caller(&stage.mesh, &[]).await;
        let mut peer: Option<Peer> = None;
        let mut id = 1;
        for (code, _) in STATUSES {
            for after_head in [false, true] {
                caller.send(&call(id)).await;
                if peer.is_none() {
                    peer = Some(stage.accept().await);
                }
                let peer = peer.as_mut().unwrap();
                let stream = peer.head().await;
                if after_head {
                    peer.send(&head(stream)).await;
                    caller.expect(HEADERS).await;
                }
                let begin = Instant::now();
                caller.send(&Frame::rst(id, code)).await;
                let reset = peer.expect(RST_STREAM).await;
                assert_eq!((reset.stream, reset.code()), (stream, CANCEL), "{seat:?}, {code}");
                assert!(begin.elapsed().is_zero(), "{:?}", begin.elapsed());
                id += 2;
            }
        }
        // The connections took no harm.
        caller.send(&call(id).end()).await;
        let peer = peer.as_mut().unwrap();
        let stream = peer.request().await;
        peer.answer(stream, b"x").await;
        assert_eq!(caller.expect(HEADERS).await.stream, id);
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_reset_of_a_call_that_waits_for_a_connection_reaches_nobody() {
    let mut stage = Stage::new(Seat::Sidecar);
    let mut caller = Peer::caller(&stage.mesh, &[]).await;
    caller.send(&call(1)).await;
    let connection = stage.connection().await;
    caller.send(&Frame::rst(1, CANCEL)).await;
    caller.send(&call(3).end()).await;
    tokio::time::sleep(Duration::from_millis(10)).await;
    let mut peer = Peer::new(connection);
    peer.send(&Frame::settings(&[])).await;
    peer.preface().await;
    let stream = peer.request().await;
    peer.answer(stream, b"x").await;
    assert_eq!(caller.expect(HEADERS).await.stream, 3);
    assert_eq!(peer.soon().await, None);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_whole_answer_survives_the_reset_that_stops_its_request() {
    // RFC 9113 §8.1: NO_ERROR asks the caller to send no more, and must not cost the answer.
    for seat in SEATS {
        for size in [5, 100_000] {
            let mut stage = Stage::new(seat);
            let mut client = stage.client().await;
            let (response, mut send) = client.open(grpc_request());
            // More than a window: a part of it waits when the reset comes.
            send.send_data(vec![7; 100_000].into(), false).unwrap();
            let mut peer = stage.accept().await;
            let stream = peer.head().await;
            assert_eq!(peer.drain_data().await, 65_535);
            let mut frames = vec![head(stream)];
            frames.extend(vec![7; size].chunks(10_000).map(|piece| Frame::data(stream, piece)));
            frames.push(Frame::headers(stream, &[("grpc-status", "0")]).end());
            frames.push(Frame::rst(stream, NO_ERROR));
            // As much as a stream's window takes.
            peer.send_all(&frames).await;
            let answer = answer_of(response).await;
            assert_eq!((answer.body.len(), answer.status().0.as_str()), (size, "0"), "{seat:?}");
            let stopped = std::future::poll_fn(|cx| send.poll_reset(cx)).await.unwrap();
            assert_eq!(stopped, h2::Reason::NO_ERROR);
            let next = ask(&mut client);
            let stream = peer.head().await;
            peer.answer(stream, b"x").await;
            assert_eq!(told(next).await, fine());
        }
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_reset_stops_an_upload_that_waits_for_its_window() {
    for seat in SEATS {
        let mut stage = Stage::new(seat);
        let mut client = stage.client().await;
        let (response, mut send) = client.open(grpc_request());
        send.send_data(vec![7; 100_000].into(), false).unwrap();
        send.send_trailers(HeaderMap::new()).unwrap();
        let mut peer = stage.accept().await;
        let stream = peer.head().await;
        assert_eq!(peer.drain_data().await, 65_535);
        peer.send(&Frame::rst(stream, INTERNAL_ERROR)).await;
        assert_eq!(told(response).await, ("13".into(), "upstream_reset".into()), "{seat:?}");
        let next = ask(&mut client);
        let stream = peer.head().await;
        peer.answer(stream, b"x").await;
        assert_eq!(told(next).await, fine());
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_reset_after_a_reset_is_ignored() {
    let mesh = Mesh::new();
    let mut stage = Stage::of(Seat::App, mesh);
    let mut client = stage.client().await;
    let response = ask(&mut client);
    let mut app = stage.accept().await;
    let stream = app.head().await;
    drop(response);
    app.expect(RST_STREAM).await;
    // They crossed on the way.
    app.send_all(&[head(stream), Frame::new(DATA, END_STREAM, stream, b"x")]).await;
    app.send(&Frame::rst(stream, CANCEL)).await;
    let next = ask(&mut client);
    let stream = app.head().await;
    app.answer(stream, b"x").await;
    assert_eq!(told(next).await, fine());
}
