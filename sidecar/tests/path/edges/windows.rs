//! Flow control (RFC 9113 §5.2, §6.9): no byte goes without a window, none is held back with one,
//! and a window that overflows ends what it belongs to and no more.

use bytes::Bytes;

use super::super::net::{Client, Mesh, grpc_request};
use super::peer::{Peer, SEATS, Seat, Stage, ask, call, fine, head, reset, told};
use super::wire::{
    DATA, FLOW_CONTROL_ERROR, Frame, HEADERS, INITIAL_WINDOW_SIZE, PROTOCOL_ERROR, RST_STREAM,
    WINDOW_UPDATE,
};

const MOST: u32 = 0x7fff_ffff;

/// A connection's window, unless it is raised.
const WINDOW: usize = 65_535;

/// A call with a body of so many bytes, whole.
pub fn upload(client: &mut Client, size: usize) -> h2::client::ResponseFuture {
    let (response, mut send) = client.open(grpc_request());
    send.send_data(Bytes::from(vec![7; size]), true).unwrap();
    response
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_request_goes_byte_for_byte_as_its_window_is_raised() {
    for seat in SEATS {
        for size in [3_usize, 3_000, 100_000] {
            let mut stage = Stage::new(seat);
            let mut client = stage.client().await;
            let response = upload(&mut client, size);
            let mut peer = stage.accept_with(&[(INITIAL_WINDOW_SIZE, 0)]).await;
            let stream = peer.head().await;
            peer.send(&Frame::window_update(0, 200_000)).await;
            assert_eq!(peer.soon().await, None, "bytes without a window");
            peer.send(&Frame::window_update(stream, 1)).await;
            assert_eq!(peer.expect(DATA).await.payload.len(), 1);
            peer.send(&Frame::window_update(stream, 1)).await;
            assert_eq!(peer.drain_data().await, 1);
            peer.send(&Frame::window_update(stream, size as u32)).await;
            assert_eq!(peer.drain_data().await, size - 2, "{seat:?}");
            peer.answer(stream, b"x").await;
            assert_eq!(told(response).await, fine());
        }
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_call_without_a_body_needs_no_window() {
    for seat in SEATS {
        let mut stage = Stage::new(seat);
        let mut client = stage.client().await;
        let response = ask(&mut client);
        let mut peer = stage.accept_with(&[(INITIAL_WINDOW_SIZE, 0)]).await;
        let stream = peer.request().await;
        peer.answer(stream, b"x").await;
        assert_eq!(told(response).await, fine());
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_connections_window_holds_back_its_calls_and_opens_another_connection() {
    for seat in SEATS {
        let mut stage = Stage::new(seat);
        let mut client = stage.client().await;
        let response = upload(&mut client, 100_000);
        let mut peer = stage.accept_with(&[(INITIAL_WINDOW_SIZE, 1 << 20)]).await;
        let stream = peer.head().await;
        assert_eq!(peer.drain_data().await, WINDOW);
        // The next call does not wait behind it.
        let next = upload(&mut client, 5);
        let mut other = stage.accept().await;
        let stream_there = other.request().await;
        other.answer(stream_there, b"x").await;
        assert_eq!(told(next).await, fine());
        peer.send(&Frame::window_update(0, 10)).await;
        assert_eq!(peer.drain_data().await, 10);
        peer.send(&Frame::window_update(0, 100_000)).await;
        assert_eq!(peer.drain_data().await, 100_000 - WINDOW - 10, "{seat:?}");
        peer.answer(stream, b"x").await;
        assert_eq!(told(response).await, fine());
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_answer_waits_for_its_callers_windows() {
    for seat in SEATS {
        let mut stage = Stage::new(seat);
        let mut caller = Peer::caller(&stage.mesh, &[(INITIAL_WINDOW_SIZE, 0)]).await;
        caller.send(&call(1).end()).await;
        let mut peer = stage.accept().await;
        let stream = peer.head().await;
        peer.answer(stream, &[7; 10_000]).await;
        // The head needs no window, the trailers wait for the body before them.
        caller.expect(HEADERS).await;
        assert_eq!(caller.soon().await, None);
        caller.send(&Frame::window_update(1, 9_999)).await;
        assert_eq!(caller.drain_data().await, 9_999);
        caller.send(&Frame::window_update(1, 1)).await;
        assert_eq!(caller.expect(DATA).await.payload.len(), 1, "{seat:?}");
        assert!(caller.expect(HEADERS).await.is_end());
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_callers_connection_window_is_shared_by_its_answers_and_starves_none() {
    for seat in SEATS {
        let mut stage = Stage::new(seat);
        let mut caller = Peer::caller(&stage.mesh, &[(INITIAL_WINDOW_SIZE, 1 << 20)]).await;
        caller.send_all(&[call(1).end(), call(3).end()]).await;
        let mut peer = stage.accept().await;
        for _ in 0..2 {
            let stream = peer.head().await;
            let body: Vec<_> = [7; 60_000].chunks(10_000).map(|p| Frame::data(stream, p)).collect();
            let trailers = Frame::headers(stream, &[("grpc-status", "0")]).end();
            peer.send_all(&[vec![head(stream)], body, vec![trailers]].concat()).await;
        }
        assert_eq!(caller.drain_data().await, WINDOW);
        caller.send(&Frame::window_update(0, 200_000)).await;
        assert_eq!(caller.drain_data().await, 120_000 - WINDOW, "{seat:?}");
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_window_that_overflows_ends_the_callees_stream_or_connection() {
    for seat in SEATS {
        let mut stage = Stage::new(seat);
        let mut client = stage.client().await;
        let (bystander, _open) = client.open(grpc_request());
        let mut peer = stage.accept().await;
        let other = peer.head().await;
        let (response, _send) = client.open(grpc_request());
        let stream = peer.head().await;
        peer.send(&Frame::window_update(stream, MOST)).await;
        assert_eq!(told(response).await, ("13".into(), "upstream_reset".into()));
        let reset = peer.expect(RST_STREAM).await;
        assert_eq!((reset.stream, reset.code()), (stream, FLOW_CONTROL_ERROR), "{seat:?}");
        // The stream's own error left the connection as it was; this one is the connection's.
        peer.send(&head(other)).await;
        let mut answers = bystander.await.unwrap().into_body();
        peer.send(&Frame::window_update(0, MOST)).await;
        assert!(answers.data().await.is_none());
        let trailers = answers.trailers().await.unwrap().unwrap();
        assert_eq!(trailers["outrigger-reason"], "upstream_reset");
        assert_eq!(peer.ended().await, Some(FLOW_CONTROL_ERROR));
        let next = ask(&mut client);
        let mut peer = stage.accept().await;
        let stream = peer.head().await;
        peer.answer(stream, b"x").await;
        assert_eq!(told(next).await, fine());
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_window_that_overflows_ends_the_callers_stream_or_connection() {
    let mut stage = Stage::new(Seat::App);
    let mut caller = Peer::caller(&stage.mesh, &[]).await;
    let mut bystander = stage.client().await;
    let answer = ask(&mut bystander);
    let mut app = stage.accept().await;
    let unharmed = app.head().await;
    caller.send(&call(1)).await;
    let stream = app.head().await;
    caller.send(&Frame::window_update(1, MOST)).await;
    let reset = caller.expect(RST_STREAM).await;
    assert_eq!((reset.stream, reset.code()), (1, FLOW_CONTROL_ERROR));
    assert_eq!(app.expect(RST_STREAM).await.stream, stream, "the app is told");
    caller.send(&call(3)).await;
    let stream = app.head().await;
    caller.send(&Frame::window_update(0, MOST)).await;
    assert_eq!(caller.ended().await, Some(FLOW_CONTROL_ERROR));
    assert_eq!(app.expect(RST_STREAM).await.stream, stream);
    app.answer(unharmed, b"x").await;
    assert_eq!(told(answer).await, fine());
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_window_of_the_wrong_form_ends_its_connection() {
    let bad = [
        (Frame::window_update(0, 0), PROTOCOL_ERROR),
        // RFC 9113 calls this one FRAME_SIZE_ERROR, the next one FLOW_CONTROL_ERROR; h2 has one
        // name for what it cannot read.
        (Frame::new(WINDOW_UPDATE, 0, 0, &[0, 0, 1]), PROTOCOL_ERROR),
        (Frame::settings(&[(INITIAL_WINDOW_SIZE, MOST + 1)]), PROTOCOL_ERROR),
        // An error of its stream, which may be taken for one of the connection (§5.4.1).
        (Frame::window_update(1, 0), PROTOCOL_ERROR),
        // Of a stream that was never opened.
        (Frame::window_update(1001, 5), PROTOCOL_ERROR),
    ];
    for (frame, code) in bad {
        let mut stage = Stage::new(Seat::App);
        let mut caller = Peer::caller(&stage.mesh, &[]).await;
        caller.send(&frame).await;
        assert_eq!(caller.ended().await, Some(code), "{frame:?}");
        let mut client = stage.client().await;
        let response = ask(&mut client);
        let mut app = stage.accept().await;
        app.head().await;
        app.send(&frame).await;
        assert_eq!(told(response).await, reset());
        assert_eq!(app.ended().await, Some(code), "{frame:?}");
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_app_that_sends_more_than_its_window_fails_its_call() {
    let mesh = Mesh::with("[limits]\nstream_window = \"16KiB\"", "");
    let mut stage = Stage::of(Seat::App, mesh);
    let mut client = stage.client().await;
    let response = ask(&mut client);
    let mut app = stage.accept().await;
    let stream = app.head().await;
    app.send(&head(stream)).await;
    let response = response.await.unwrap();
    // The caller reads nothing: what it is owed stays on the way.
    for _ in 0..100 {
        app.send(&Frame::data(stream, &[7; 16_000])).await;
    }
    let mut code = None;
    while code.is_none() {
        let frame = app.next().await.expect("the connection ended without a word");
        code = (frame.kind != DATA).then(|| frame.code());
    }
    assert_eq!(code, Some(FLOW_CONTROL_ERROR));
    let answer = super::super::net::Answer::read(response).await.unwrap();
    assert_eq!(answer.status().2, "upstream_reset");
}
