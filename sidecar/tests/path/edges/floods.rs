//! Floods: frames that cost their sender nothing and us something. Each is either held back or
//! ends its connection, memory stays bounded, and nobody else's call is harmed.

use std::time::Duration;

use http::Request;

use super::super::net::{Answer, Mesh, app, echo, grpc_request};
use super::peer::{Peer, SEATS, Seat, Stage, answer_of, ask, call, fine, head, told};
use super::wire::{
    ACK, CANCEL, CONTINUATION, Frame, HEADERS, PING, PRIORITY, RST_STREAM, SETTINGS, literal,
};

const MIB: usize = 1024 * 1024;

/// What pipes and buffers between a flooder and us may hold.
const HELD: usize = 2 * MIB;

/// Writes the same bytes, again and again, and reads nothing, until they are not taken any more.
async fn flood(peer: &mut Peer, bytes: &[u8], most: usize) -> usize {
    let batch = bytes.repeat(16 * 1024 / bytes.len() + 1);
    let mut taken = 0;
    while taken < most && peer.cram(&batch).await {
        taken += batch.len();
    }
    taken
}

/// Frames that ask for an answer.
fn questions() -> [Vec<u8>; 2] {
    [Frame::ping(7).encode(), Frame::settings(&[(0x42, 7)]).encode()]
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_caller_that_floods_with_questions_and_reads_no_answer_is_held_back() {
    for question in questions() {
        let mesh = Mesh::new();
        mesh.serve_inbound();
        app(&mesh, echo);
        let mut flooder = Peer::caller(&mesh, &[]).await;
        let mut from_mesh = Peer::mesh_caller(&mesh).await;
        for peer in [&mut flooder, &mut from_mesh] {
            let taken = flood(peer, &question, 4 * HELD).await;
            assert!(taken < HELD, "{taken} bytes of questions are held in memory");
        }
        let mut other = mesh.client().await;
        for _ in 0..10 {
            let answer = other.call(grpc_request(), b"x").await.unwrap();
            assert_eq!(answer.status().0, "0");
        }
        assert!(flooder.frame().await.is_some(), "held back, not cut");
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_callee_that_floods_with_questions_and_reads_no_answer_is_held_back() {
    for seat in SEATS {
        for question in questions() {
            let mut stage = Stage::new(seat);
            let mut client = stage.client().await;
            let response = ask(&mut client);
            let mut peer = stage.accept().await;
            let stream = peer.head().await;
            let taken = flood(&mut peer, &question, 4 * HELD).await;
            assert!(taken < HELD, "{seat:?}: {taken} bytes of questions are held in memory");
            // Once it reads again, all goes on: what was asked is answered. (The last question was
            // cut short.)
            while peer.soon().await.is_some() {}
            drop(peer);
            assert_eq!(told(response).await.1, "upstream_reset", "{seat:?}, {stream}");
        }
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn every_question_has_its_answer_in_order() {
    for seat in SEATS {
        let mut stage = Stage::new(seat);
        let mut client = stage.client().await;
        let response = ask(&mut client);
        let mut peer = stage.accept().await;
        let stream = peer.head().await;
        for n in 0..5_000 {
            peer.send(&Frame::ping(n)).await;
            if n % 10 == 0 {
                peer.send(&Frame::settings(&[])).await;
            }
        }
        let (mut pings, mut acks) = (0, 0);
        while pings < 5_000 || acks < 500 {
            let frame = peer.frame().await.expect("the connection has ended");
            match (frame.kind, frame.flags) {
                (PING, ACK) => {
                    assert_eq!(frame.payload, u64::to_be_bytes(pings));
                    pings += 1;
                }
                (SETTINGS, ACK) => acks += 1,
                _ => {}
            }
        }
        peer.answer(stream, b"x").await;
        assert_eq!(told(response).await, fine(), "{seat:?}");
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn calls_that_are_reset_at_once_reach_no_app() {
    let mut stage = Stage::new(Seat::App);
    let mut bystander = stage.client().await;
    let response = ask(&mut bystander);
    let mut app = stage.accept().await;
    let unharmed = app.head().await;
    let mut hasty = Peer::caller(&stage.mesh, &[]).await;
    let mut from_mesh = Peer::mesh_caller(&stage.mesh).await;
    for peer in [&mut hasty, &mut from_mesh] {
        for n in 0..20_000 {
            let id = 2 * n + 1;
            peer.send_all(&[call(id).end(), Frame::rst(id, CANCEL)]).await;
        }
    }
    assert_eq!(app.soon().await, None, "CVE-2023-44487: the app works for calls that are gone");
    app.answer(unharmed, b"x").await;
    assert_eq!(told(response).await, fine());
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn calls_that_are_reset_a_moment_later_leave_nothing() {
    let mut stage = Stage::of(Seat::App, Mesh::with_caller("[limits]\nopen_streams = 8"));
    let mut hasty = Peer::caller(&stage.mesh, &[]).await;
    hasty.send(&call(1)).await;
    let mut app = stage.accept().await;
    let mut open = vec![app.head().await];
    for n in 0..1_000 {
        hasty.send(&Frame::rst(2 * n + 1, CANCEL)).await;
        let reset = app.expect(RST_STREAM).await;
        assert_eq!((reset.stream, reset.code()), (open.pop().unwrap(), CANCEL));
        hasty.send(&call(2 * n + 3)).await;
        open.push(app.head().await);
    }
    let mut client = stage.client().await;
    let response = ask(&mut client);
    let stream = app.head().await;
    app.answer(stream, b"x").await;
    assert_eq!(told(response).await, fine());
}

/// A head that never ends.
fn endless(stream: u32) -> (Vec<u8>, Vec<u8>) {
    let more = literal(&[("x-more", &"v".repeat(1_000))]);
    let begin = Frame::new(HEADERS, 0, stream, &literal(&[(":status", "200")]));
    (begin.encode(), Frame::new(CONTINUATION, 0, stream, &more).encode())
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_head_without_an_end_ends_its_connection() {
    // The limit is 64 KiB; what is over it is still read for a while, so that it ends one call.
    let most = 16 * 64 * 1024 + HELD;
    let mesh = Mesh::new();
    mesh.serve_inbound();
    app(&mesh, echo);
    for mut flooder in [Peer::caller(&mesh, &[]).await, Peer::mesh_caller(&mesh).await] {
        let (begin, more) = endless(1);
        assert!(flooder.cram(&begin).await);
        let taken = flood(&mut flooder, &more, 4 * most).await;
        assert!(taken < most, "{taken} bytes of one head were taken");
        assert!(flooder.ended().await.is_some(), "it is told why");
    }
    let answer = mesh.client().await.call(grpc_request(), b"x").await.unwrap();
    assert_eq!(answer.status().0, "0");

    for seat in SEATS {
        let mut stage = Stage::new(seat);
        let mut client = stage.client().await;
        let response = ask(&mut client);
        let mut peer = stage.accept().await;
        let (begin, more) = endless(peer.head().await);
        assert!(peer.cram(&begin).await);
        let taken = flood(&mut peer, &more, 4 * most).await;
        assert!(taken < most, "{seat:?}: {taken} bytes of one head were taken");
        let (status, reason) = told(response).await;
        assert_eq!((status.as_str(), reason.as_str()), ("14", "upstream_reset"), "{seat:?}");
        let next = ask(&mut client);
        let mut peer = stage.accept().await;
        let stream = peer.head().await;
        peer.answer(stream, b"x").await;
        assert_eq!(told(next).await, fine());
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_head_of_many_empty_pieces_ends_its_connection() {
    let mesh = Mesh::new();
    mesh.serve_inbound();
    app(&mesh, echo);
    for mut flooder in [Peer::caller(&mesh, &[]).await, Peer::mesh_caller(&mesh).await] {
        assert!(flooder.cram(&endless(1).0).await);
        let empty = Frame::new(CONTINUATION, 0, 1, b"").encode();
        let taken = flood(&mut flooder, &empty, 4 * HELD).await;
        assert!(taken < HELD, "{taken} bytes of nothing were taken");
        assert!(flooder.ended().await.is_some());
    }
}

/// Each one another, so that no table makes them small.
fn hint(stream: u32, n: usize) -> Frame {
    Frame::headers(stream, &[(":status", "103"), ("link", &format!("{n:01000}"))])
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn interim_responses_that_grpc_has_no_use_for_are_dropped() {
    for seat in SEATS {
        let mut stage = Stage::new(seat);
        let mut caller = Peer::caller(&stage.mesh, &[]).await;
        caller.send(&call(1).end()).await;
        let mut peer = stage.accept().await;
        let stream = peer.head().await;
        for n in 0..5_000 {
            assert!(peer.cram(&hint(stream, n).encode()).await, "{seat:?}: held back");
        }
        peer.answer(stream, b"x").await;
        let answer = caller.expect(HEADERS).await;
        assert!(answer.payload.len() < 1_000, "a hint came through");
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn priorities_and_windows_without_an_end_cost_nothing() {
    let mesh = Mesh::new();
    mesh.serve_inbound();
    app(&mesh, echo);
    let mut flooder = Peer::caller(&mesh, &[]).await;
    for n in 0..50_000u32 {
        let priority = Frame::new(PRIORITY, 0, 2 * n + 1, &[0, 0, 0, 0, 1]);
        flooder.send_all(&[priority, Frame::window_update(0, 1)]).await;
    }
    flooder.send(&call(100_001).end()).await;
    assert_eq!(flooder.expect(HEADERS).await.stream, 100_001);
    let answer: Answer = mesh.client().await.call(grpc_request(), b"x").await.unwrap();
    assert_eq!(answer.status().0, "0");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn streams_that_we_are_made_to_reset_end_in_a_bounded_number() {
    // CVE-2025-8671: each one breaks the protocol, so that the reset is ours.
    let mut stage = Stage::of(Seat::App, Mesh::with_caller("[limits]\nopen_streams = 8"));
    let mut caller = Peer::caller(&stage.mesh, &[]).await;
    caller.send_all(&[call(1), Frame::window_update(1, 0x7fff_ffff)]).await;
    for n in 1..2_000 {
        let id = 2 * n + 1;
        caller.send_all(&[call(id), Frame::window_update(id, 0x7fff_ffff)]).await;
        caller.expect(RST_STREAM).await;
    }
    tokio::time::sleep(Duration::from_millis(1)).await;
    let mut client = stage.client().await;
    let page = Request::post("http://echo/p.S/M").header("content-type", "application/grpc");
    let response = client.send.send_request(page.body(()).unwrap(), true).unwrap().0;
    let mut app = stage.accept().await;
    let stream = loop {
        let frame = app.next().await.unwrap();
        if frame.kind == HEADERS && frame.is_end() {
            break frame.stream;
        }
    };
    app.send_all(&[head(stream), Frame::headers(stream, &[("grpc-status", "0")]).end()]).await;
    assert_eq!(answer_of(response).await.status().0, "0");
}
