//! Heads and what stands around them: interim responses, trailers-only, padding, priorities, what
//! nobody knows, and heads in pieces.

use std::time::Duration;

use http::Request;
use tokio::time::timeout;

use super::super::net::{Answer, request};
use super::peer::{
    IN_VAIN, Peer, SEATS, Seat, Stage, answer_of, ask, call, fine, head, reset, told,
};
use super::wire::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, HEADERS, PING, PRIORITIZED, PRIORITY,
    PROTOCOL_ERROR, literal,
};

fn interim(stream: u32, status: &str) -> Frame {
    Frame::headers(stream, &[(":status", status), ("link", "</a.css>")])
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn interim_responses_never_stand_in_for_a_grpc_answer() {
    for seat in SEATS {
        for together in [true, false] {
            let mut stage = Stage::new(seat);
            let mut client = stage.client().await;
            let mut response = ask(&mut client);
            let mut peer = stage.accept().await;
            let stream = peer.head().await;
            let frames = [interim(stream, "100"), interim(stream, "103")];
            if together {
                peer.send_all(&frames).await;
            } else {
                for frame in &frames {
                    peer.send(frame).await;
                    let early = timeout(Duration::from_secs(1), &mut response).await;
                    assert!(early.is_err(), "{early:?}");
                }
            }
            peer.answer(stream, b"x").await;
            let answer = answer_of(response).await;
            assert_eq!((answer.body.as_slice(), answer.head.status().as_u16()), (&b"x"[..], 200));
            assert_eq!(answer.status().0, "0", "{seat:?}");
        }
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn interim_responses_that_come_with_the_answer_go_on_in_order() {
    for seat in SEATS {
        let mut stage = Stage::new(seat);
        let mut client = stage.client().await;
        let page = Request::get("http://echo/page").body(()).unwrap();
        let (mut response, _) = client.send.send_request(page, true).unwrap();
        let mut peer = stage.accept().await;
        let stream = peer.head().await;
        let frames = [interim(stream, "103"), interim(stream, "110"), head(stream).end()];
        peer.send_all(&frames).await;
        let mut statuses = Vec::new();
        while statuses.len() < 2 {
            let next = std::future::poll_fn(|cx| response.poll_informational(cx));
            let next = timeout(IN_VAIN, next).await.expect("an interim response is lost");
            statuses.push(next.unwrap().unwrap().status().as_u16());
        }
        assert_eq!(statuses, [103, 110], "{seat:?}");
        assert_eq!(answer_of(response).await.head.status(), 200);
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_interim_response_that_ends_its_stream_ends_its_call_alone() {
    for seat in SEATS {
        let mut stage = Stage::new(seat);
        let mut client = stage.client().await;
        let response = ask(&mut client);
        let mut peer = stage.accept().await;
        let stream = peer.head().await;
        peer.send(&interim(stream, "103").end()).await;
        let (status, reason) = told(response).await;
        assert_eq!((status.as_str(), reason.as_str()), ("13", "upstream_reset"), "{seat:?}");
        let next = ask(&mut client);
        let stream = peer.head().await;
        peer.answer(stream, b"x").await;
        assert_eq!(told(next).await, fine());
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn trailers_only_and_trailers_without_a_body_keep_their_form() {
    for seat in SEATS {
        let mut stage = Stage::new(seat);
        let mut client = stage.client().await;
        let response = ask(&mut client);
        let mut peer = stage.accept().await;
        let stream = peer.head().await;
        let fields = [(":status", "200"), ("grpc-status", "9"), ("grpc-message", "a%20b")];
        peer.send(&Frame::headers(stream, &fields).end()).await;
        let response = response.await.unwrap();
        assert!(response.body().is_end_stream());
        assert_eq!(response.headers()["grpc-status"], "9");
        assert_eq!(response.headers()["grpc-message"], "a%20b");

        let response = ask(&mut client);
        let stream = peer.head().await;
        let trailers = Frame::headers(stream, &[("grpc-status", "9")]).end();
        peer.send_all(&[head(stream), trailers]).await;
        let answer = answer_of(response).await;
        assert!(!answer.head.headers().contains_key("grpc-status"), "{answer:?}");
        assert_eq!(answer.trailers["grpc-status"], "9", "{seat:?}");
    }
}

/// Frames that mean nothing to us, and must not (RFC 9113 §4.1, §5.3, §5.5, §6.5.2).
fn chatter(stream: u32) -> Vec<Frame> {
    vec![
        Frame::new(PRIORITY, 0, stream, &[0, 0, 0, 0, 16]),
        // Of a stream that was never opened.
        Frame::new(PRIORITY, 0, 1001, &[0x80, 0, 0, 3, 255]),
        Frame::new(0x42, 0xff, 0, b"unknown"),
        Frame::new(0x42, 0xff, stream, b""),
        Frame::new(0x0c, 0, stream, b"origin"),
        Frame::settings(&[(0x4242, 7), (9, 1)]),
        Frame::new(PING, 0xfe, 0, &[1; 8]),
    ]
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn priorities_and_what_nobody_knows_are_ignored_either_way() {
    for seat in SEATS {
        let mut stage = Stage::new(seat);
        let mut caller = Peer::caller(&stage.mesh, &[]).await;
        caller.send_all(&chatter(1)).await;
        caller.send(&call(1)).await;
        caller.send_all(&chatter(1)).await;
        let mut peer = stage.accept().await;
        let stream = peer.head().await;
        peer.send_all(&chatter(stream)).await;
        caller.send(&Frame::new(DATA, END_STREAM | 0x42, 1, b"up")).await;
        assert_eq!(peer.expect(DATA).await.payload, b"up");
        peer.send(&head(stream)).await;
        peer.send_all(&chatter(stream)).await;
        peer.send(&Frame::data(stream, b"down")).await;
        peer.send_all(&chatter(stream)).await;
        peer.send(&Frame::headers(stream, &[("grpc-status", "0")]).end()).await;
        caller.expect(HEADERS).await;
        assert_eq!(caller.expect(DATA).await.payload, b"down");
        assert!(caller.expect(HEADERS).await.is_end(), "{seat:?}");
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn padding_crosses_no_hop_and_costs_no_window() {
    for seat in SEATS {
        let mut stage = Stage::new(seat);
        let mut caller = Peer::caller(&stage.mesh, &[]).await;
        let mut prioritized = call(1);
        prioritized.flags |= PRIORITIZED;
        prioritized.payload.splice(..0, [0x80, 0, 0, 0, 200]);
        caller.send(&prioritized.padded(255)).await;
        let mut peer = stage.accept().await;
        let stream = peer.head().await;
        // Padding counts in the windows (RFC 9113 §6.9.1): 2,000 times 256 bytes is more than a
        // stream's.
        for n in 0..2_000u32 {
            caller.send(&Frame::data(1, &n.to_be_bytes()[3..]).padded(255)).await;
            let data = peer.expect(DATA).await;
            assert_eq!(data.payload, &n.to_be_bytes()[3..]);
            let credit = Frame::window_update(stream, 1);
            peer.send_all(&[credit, Frame::window_update(0, 1)]).await;
        }
        caller.send(&Frame::data(1, b"").padded(9).end()).await;
        assert!(peer.next().await.unwrap().is_end());
        peer.send(&head(stream).padded(255)).await;
        caller.expect(HEADERS).await;
        for _ in 0..2_000 {
            peer.send(&Frame::data(stream, b"x").padded(255)).await;
            assert_eq!(caller.expect(DATA).await.payload, b"x");
        }
        let trailers = Frame::headers(stream, &[("grpc-status", "0")]).end();
        peer.send(&trailers.padded(1)).await;
        assert!(caller.expect(HEADERS).await.is_end(), "{seat:?}");
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn padding_longer_than_its_frame_ends_the_connection() {
    for seat in SEATS {
        let mut stage = Stage::new(seat);
        let mut caller = Peer::caller(&stage.mesh, &[]).await;
        let mut bad = Frame::data(1, b"x").padded(1);
        bad.payload[0] = 3;
        caller.send_all(&[call(1), bad.clone()]).await;
        assert_eq!(caller.ended().await, Some(PROTOCOL_ERROR));

        let mut client = stage.client().await;
        let response = ask(&mut client);
        let mut peer = stage.accept().await;
        let stream = loop {
            // The call before may have come so far.
            let frame = peer.next().await.unwrap();
            if frame.kind == HEADERS && frame.is_end() {
                break frame.stream;
            }
        };
        bad.stream = stream;
        peer.send_all(&[head(stream), bad]).await;
        assert_eq!(told(response).await, reset(), "{seat:?}");
        assert_eq!(peer.ended().await, Some(PROTOCOL_ERROR));
    }
}

/// The same head in as many frames as it has bytes.
fn in_pieces(head: &Frame) -> Vec<Frame> {
    let last = head.payload.len() - 1;
    let piece = |(n, byte): (usize, &u8)| {
        let (kind, flags) = if n == 0 { (HEADERS, head.flags) } else { (CONTINUATION, 0) };
        let end = if n == last { END_HEADERS } else { 0 };
        Frame::new(kind, flags & !END_HEADERS | end, head.stream, &[*byte])
    };
    head.payload.iter().enumerate().map(piece).collect()
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_head_in_a_few_pieces_is_one_head() {
    for seat in SEATS {
        let mut stage = Stage::new(seat);
        let mut client = stage.client().await;
        let response = ask(&mut client);
        let mut peer = stage.accept().await;
        let stream = peer.head().await;
        let short = Frame::headers(stream, &[(":status", "200")]);
        peer.send_all(&in_pieces(&short)).await;
        let trailers = Frame::headers(stream, &[("grpc-status", "0")]).end();
        peer.send_all(&in_pieces(&trailers)).await;
        assert_eq!(told(response).await, fine(), "{seat:?}");
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_frame_between_the_pieces_of_a_head_ends_the_connection() {
    let mut stage = Stage::new(Seat::App);
    let mut client = stage.client().await;
    let response = ask(&mut client);
    let mut app = stage.accept().await;
    let stream = app.head().await;
    let begun = Frame::new(HEADERS, 0, stream, &literal(&[(":status", "200")]));
    app.send_all(&[begun, Frame::ping(1)]).await;
    assert_eq!(told(response).await, reset());
    assert_eq!(app.ended().await, Some(PROTOCOL_ERROR));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn empty_frames_are_no_pieces_and_a_hundred_of_them_are_enough() {
    // h2 counts empty DATA frames that end nothing over a connection's whole life and ends it at
    // the 101st: they cost work and no window, so that flow control cannot bound them.
    const MOST: usize = 100;
    for seat in SEATS {
        let mut stage = Stage::new(seat);
        let mut client = stage.client().await;
        let (response, mut send) = client.open(request().body(()).unwrap());
        let mut peer = stage.accept().await;
        let stream = peer.head().await;
        peer.send(&head(stream)).await;
        for _ in 0..MOST {
            peer.send(&Frame::data(stream, b"")).await;
        }
        peer.send(&Frame::data(stream, b"x")).await;
        let mut body = response.await.unwrap().into_body();
        assert_eq!(body.data().await.unwrap().unwrap(), "x", "an empty piece came through");
        // One that ends its stream is not counted.
        send.send_data(bytes::Bytes::new(), true).unwrap();
        assert!(peer.expect(DATA).await.is_end());
        peer.send(&Frame::data(stream, b"").end()).await;
        // (h2 hands it on as an empty piece.)
        assert!(body.data().await.is_none_or(|last| last.unwrap().is_empty()));
        assert!(body.is_end_stream());

        let response = ask(&mut client);
        let stream = peer.head().await;
        peer.send_all(&[head(stream), Frame::data(stream, b"")]).await;
        let answer: Answer = answer_of(response).await;
        assert_eq!(answer.status().2, "upstream_reset", "{seat:?}: {answer:?}");
        assert!(peer.ended().await.is_some());
    }
    let stage = Stage::new(Seat::App);
    let mut caller = Peer::caller(&stage.mesh, &[]).await;
    caller.send(&call(1)).await;
    for _ in 0..=MOST {
        caller.send(&Frame::data(1, b"")).await;
    }
    assert!(caller.ended().await.is_some());
}
