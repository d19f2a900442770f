//! Streams of which one half has ended (RFC 9113 §5.1): either end may be the first.

use std::time::Duration;

use bytes::Bytes;

use super::super::net::grpc_request;
use super::peer::{Peer, SEATS, Seat, Stage, answer_of, ask, call, fine, head, told};
use super::wire::{CANCEL, DATA, Frame, HEADERS, NO_ERROR, RST_STREAM};

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_answer_that_is_whole_before_its_request_ends_the_call() {
    for seat in SEATS {
        let mut stage = Stage::new(seat);
        let mut client = stage.client().await;
        let (response, mut send) = client.open(grpc_request());
        send.send_data(Bytes::from_static(b"one"), false).unwrap();
        let mut peer = stage.accept().await;
        let stream = peer.head().await;
        peer.answer(stream, b"enough").await;
        let answer = answer_of(response).await;
        assert_eq!((answer.body.as_slice(), answer.status().0.as_str()), (&b"enough"[..], "0"));
        // The caller is told that the rest is not wanted; so is the callee that none will come.
        let stopped = std::future::poll_fn(|cx| send.poll_reset(cx)).await.unwrap();
        assert_eq!(stopped, h2::Reason::NO_ERROR, "{seat:?}");
        let mut frame = peer.next().await.unwrap();
        while frame.kind == DATA && !frame.is_end() {
            frame = peer.next().await.unwrap();
        }
        assert!(frame.is_end() || [NO_ERROR, CANCEL].contains(&frame.code()), "{frame:?}");
        let next = ask(&mut client);
        let stream = peer.head().await;
        peer.answer(stream, b"x").await;
        assert_eq!(told(next).await, fine());
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_trailers_only_answer_before_the_requests_end_is_read() {
    for seat in SEATS {
        let mut stage = Stage::new(seat);
        let mut client = stage.client().await;
        let (response, _send) = client.open(grpc_request());
        let mut peer = stage.accept().await;
        let stream = peer.head().await;
        let fields = [(":status", "200"), ("grpc-status", "16")];
        peer.send_all(&[Frame::headers(stream, &fields).end(), Frame::rst(stream, NO_ERROR)]).await;
        assert_eq!(told(response).await, ("16".into(), String::new()), "{seat:?}");
    }
}

/// Nothing is said for some minutes but PINGs and their answers.
async fn quiet(peer: &mut Peer) {
    let said = tokio::time::timeout(Duration::from_secs(200), peer.next()).await;
    assert!(said.is_err(), "{said:?}");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_upload_goes_on_after_its_answers_head_until_the_answer_ends() {
    for seat in SEATS {
        let mut stage = Stage::new(seat);
        let mut client = stage.client().await;
        let (response, mut send) = client.open(grpc_request());
        let mut peer = stage.accept().await;
        let stream = peer.head().await;
        peer.send(&head(stream)).await;
        let answers = response.await.unwrap();
        for n in 0..100u8 {
            send.send_data(Bytes::from(vec![n]), n == 99).unwrap();
            let data = peer.expect(DATA).await;
            assert_eq!((data.payload.as_slice(), data.is_end()), (&[n][..], n == 99));
            quiet(&mut peer).await;
        }
        peer.send(&Frame::headers(stream, &[("grpc-status", "0")]).end()).await;
        let answer = super::super::net::Answer::read(answers).await.unwrap();
        assert_eq!(answer.status().0, "0", "{seat:?}");
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_answer_streams_on_for_long_after_its_request_has_ended() {
    for seat in SEATS {
        let mut stage = Stage::new(seat);
        let mut client = stage.client().await;
        let response = ask(&mut client);
        let mut peer = stage.accept().await;
        let stream = peer.request().await;
        peer.send(&head(stream)).await;
        let mut answers = response.await.unwrap().into_body();
        for n in 0..48u8 {
            quiet(&mut peer).await;
            peer.send(&Frame::data(stream, &[n])).await;
            let data = answers.data().await.unwrap().unwrap();
            answers.flow_control().release_capacity(1).unwrap();
            assert_eq!(data, [n].as_slice());
        }
        peer.send(&Frame::headers(stream, &[("grpc-status", "0")]).end()).await;
        assert!(answers.data().await.is_none());
        assert_eq!(answers.trailers().await.unwrap().unwrap()["grpc-status"], "0", "{seat:?}");
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_request_that_ends_with_trailers_ends_with_them() {
    for seat in SEATS {
        let mut stage = Stage::new(seat);
        let mut caller = Peer::caller(&stage.mesh, &[]).await;
        caller.send_all(&[call(1), Frame::data(1, b"one")]).await;
        caller.send(&Frame::headers(1, &[("x-sum", "7")]).end()).await;
        let mut peer = stage.accept().await;
        let stream = peer.head().await;
        assert!(!peer.expect(DATA).await.is_end());
        assert!(peer.expect(HEADERS).await.is_end());
        peer.answer(stream, b"x").await;
        caller.expect(HEADERS).await;
        assert_eq!(caller.expect(DATA).await.payload, b"x");
        assert!(caller.expect(HEADERS).await.is_end());
        // Both halves have ended: nobody resets what is done.
        assert_eq!(caller.soon().await, None, "{seat:?}");
        assert_eq!(peer.soon().await, None, "{seat:?}");
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_caller_that_resets_after_its_end_stops_the_answer() {
    let mut stage = Stage::new(Seat::App);
    let mut caller = Peer::caller(&stage.mesh, &[]).await;
    caller.send(&call(1).end()).await;
    let mut app = stage.accept().await;
    let stream = app.request().await;
    app.send_all(&[head(stream), Frame::data(stream, b"begun")]).await;
    caller.expect(HEADERS).await;
    caller.send(&Frame::rst(1, NO_ERROR)).await;
    assert_eq!(app.expect(RST_STREAM).await.stream, stream);
}
