//! GOAWAY (RFC 9113 §6.8): who is served to the end, who is sent away, and what was delivered.

use bytes::Bytes;
use outrigger::fault::{Delivery, Fault};
use tokio::io::duplex;
use tokio::task::spawn_local;

use super::super::net::{Mesh, grpc_request};
use super::peer::{
    IN_VAIN, Peer, SEATS, Seat, Stage, answer_of, ask, call, fine, head, reset, told,
};
use super::wire::{
    ACK, CANCEL, DATA, ENHANCE_YOUR_CALM, Frame, GOAWAY, HEADERS, INTERNAL_ERROR, NO_ERROR, PING,
    PROTOCOL_ERROR, REFUSED_STREAM,
};

/// More than any stream's ID.
const ALL: u32 = 0x7fff_ffff;

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_goaway_ends_the_streams_above_its_last_id_alone() {
    for seat in SEATS {
        for code in [NO_ERROR, INTERNAL_ERROR, ENHANCE_YOUR_CALM] {
            let mut stage = Stage::new(seat);
            let mut client = stage.client().await;
            let calls = [ask(&mut client), ask(&mut client), ask(&mut client)];
            let mut peer = stage.accept().await;
            let streams = [peer.head().await, peer.head().await, peer.head().await];
            peer.send(&Frame::goaway(streams[1], code)).await;
            let [first, second, third] = calls;
            let begin = tokio::time::Instant::now();
            assert_eq!(told(third).await, reset(), "{seat:?}, {code}");
            assert!(begin.elapsed().is_zero(), "{:?}", begin.elapsed());

            // A new call goes elsewhere.
            let new = ask(&mut client);
            let mut other = stage.accept().await;
            let stream = other.head().await;
            other.answer(stream, b"new").await;
            assert_eq!(told(new).await, fine(), "{seat:?}, {code}");

            for (stream, call) in [(streams[1], second), (streams[0], first)] {
                peer.answer(stream, b"old").await;
                assert_eq!(told(call).await, fine(), "{seat:?}, {code}");
            }
            // Nothing is left on it.
            peer.ended().await;
        }
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn the_first_of_two_goaways_ends_no_call() {
    for seat in SEATS {
        let mut stage = Stage::new(seat);
        let mut client = stage.client().await;
        let calls = [ask(&mut client), ask(&mut client)];
        let mut peer = stage.accept().await;
        let streams = [peer.head().await, peer.head().await];
        peer.send(&Frame::goaway(ALL, NO_ERROR)).await;
        assert_eq!(peer.soon().await, None);
        peer.send(&Frame::goaway(streams[1], NO_ERROR)).await;
        for (stream, call) in streams.into_iter().zip(calls) {
            peer.answer(stream, b"").await;
            assert_eq!(told(call).await, fine(), "{seat:?}");
        }
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_stream_under_a_goaway_streams_on_both_ways() {
    for seat in SEATS {
        let mut stage = Stage::new(seat);
        let mut client = stage.client().await;
        let (response, mut send) = client.open(grpc_request());
        let mut peer = stage.accept().await;
        let stream = peer.head().await;
        peer.send_all(&[head(stream), Frame::goaway(stream, NO_ERROR)]).await;
        let mut answers = response.await.unwrap().into_body();
        for n in 0..10u8 {
            send.send_data(Bytes::from(vec![n]), false).unwrap();
            assert_eq!(peer.expect(DATA).await.payload, [n]);
            peer.send(&Frame::data(stream, &[n])).await;
            assert_eq!(answers.data().await.unwrap().unwrap(), [n].as_slice());
        }
        peer.send(&Frame::headers(stream, &[("grpc-status", "0")]).end()).await;
        assert!(answers.data().await.is_none());
        assert_eq!(answers.trailers().await.unwrap().unwrap()["grpc-status"], "0");
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_peer_that_ends_after_its_goaway_ends_its_calls() {
    for seat in SEATS {
        for code in [NO_ERROR, PROTOCOL_ERROR] {
            let mut stage = Stage::new(seat);
            let mut client = stage.client().await;
            let response = ask(&mut client);
            let mut peer = stage.accept().await;
            let stream = peer.head().await;
            peer.send(&Frame::goaway(stream, code)).await;
            drop(peer);
            assert_eq!(told(response).await, reset(), "{seat:?}, {code}");
        }
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_caller_that_said_goaway_still_gets_its_answer() {
    let mut stage = Stage::new(Seat::App);
    let mut caller = Peer::caller(&stage.mesh, &[]).await;
    caller.send(&call(1).end()).await;
    let mut app = stage.accept().await;
    let stream = app.head().await;
    caller.send(&Frame::goaway(0, NO_ERROR)).await;
    app.answer(stream, b"late").await;
    caller.expect(HEADERS).await;
    assert_eq!(caller.expect(DATA).await.payload, b"late");
    assert!(caller.expect(HEADERS).await.is_end());
}

/// What one end does with a stream that is open on it.
type Deed = fn(u32) -> Vec<Frame>;

#[tokio::test(flavor = "local", start_paused = true)]
async fn only_what_a_peer_says_it_did_not_take_was_not_delivered() {
    let deeds: [(&str, Deed, Delivery); 10] = [
        ("above", |_| vec![Frame::goaway(0, NO_ERROR)], Delivery::No),
        ("above, an error", |_| vec![Frame::goaway(0, INTERNAL_ERROR)], Delivery::No),
        ("refused", |id| vec![Frame::rst(id, REFUSED_STREAM)], Delivery::No),
        ("below", |id| vec![Frame::goaway(id, NO_ERROR)], Delivery::Maybe),
        ("below, an error", |id| vec![Frame::goaway(id, INTERNAL_ERROR)], Delivery::Maybe),
        ("below all", |_| vec![Frame::goaway(ALL, ENHANCE_YOUR_CALM)], Delivery::Maybe),
        ("cancelled", |id| vec![Frame::rst(id, CANCEL)], Delivery::Maybe),
        ("the end", |_| Vec::new(), Delivery::Maybe),
        ("nonsense", |_| vec![Frame::data(0, b"")], Delivery::Maybe),
        ("nonsense on the stream", |id| vec![Frame::window_update(id, 0)], Delivery::Maybe),
    ];
    for (name, deed, delivery) in deeds {
        let (near, far) = duplex(64 * 1024);
        let (mut send, connection) = h2::client::handshake(near).await.unwrap();
        spawn_local(async move {
            let _ = connection.await;
        });
        let (response, _body) = send.send_request(grpc_request(), false).unwrap();
        let _: &h2::SendStream<Bytes> = &_body;
        let mut peer = Peer::new(Box::new(far));
        peer.send(&Frame::settings(&[])).await;
        peer.preface().await;
        let stream = peer.head().await;
        peer.send_all(&deed(stream)).await;
        drop(peer);
        let error = tokio::time::timeout(IN_VAIN, response).await.unwrap().unwrap_err();
        let fault = Fault::from_h2(format_args!("it"), &error);
        assert_eq!(fault.delivery, delivery, "{name}: {fault}");
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_goaway_between_two_calls_costs_neither() {
    for seat in SEATS {
        let mut stage =
            Stage::of(seat, Mesh::with_caller("[limits]\nconnections_per_endpoint = 1"));
        let mut client = stage.client().await;
        for _ in 0..5 {
            let response = ask(&mut client);
            let mut peer = stage.accept().await;
            let stream = peer.head().await;
            peer.answer(stream, b"x").await;
            peer.send(&Frame::goaway(stream, NO_ERROR)).await;
            assert_eq!(answer_of(response).await.body, b"x", "{seat:?}");
            assert_eq!(peer.ended().await, Some(NO_ERROR));
        }
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_goaway_in_two_steps_loses_no_call_whenever_it_comes() {
    for seat in SEATS {
        for turns in 0..40 {
            let mut stage = Stage::new(seat);
            let mut client = stage.client().await;
            let first = ask(&mut client);
            let mut peer = stage.accept().await;
            let stream = peer.head().await;
            peer.answer(stream, b"x").await;
            assert_eq!(told(first).await, fine());
            let mut calls = vec![ask(&mut client), ask(&mut client)];
            for _ in 0..turns {
                tokio::task::yield_now().await;
            }
            peer.send_all(&[Frame::goaway(ALL, NO_ERROR), Frame::ping(1)]).await;
            calls.push(ask(&mut client));
            let leaving = async {
                let mut last = stream;
                loop {
                    let frame = peer.frame().await.expect("the connection has ended");
                    match (frame.kind, frame.flags) {
                        (PING, ACK) => break,
                        (HEADERS, _) => {
                            last = frame.stream;
                            peer.answer(last, b"x").await;
                        }
                        _ => {}
                    }
                }
                peer.send(&Frame::goaway(last, NO_ERROR)).await;
                assert_eq!(peer.soon().await.map(|frame| frame.kind), Some(GOAWAY));
                std::future::pending::<()>().await;
            };
            let calling = async {
                for call in calls {
                    assert_eq!(told(call).await, fine(), "{seat:?}, after {turns} turns");
                }
            };
            tokio::select! {
                () = calling => {}
                () = leaving => {}
                _ = stage.serve() => {}
            }
        }
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_goaway_that_crosses_a_call_serves_it_elsewhere_or_says_so() {
    for seat in SEATS {
        for turns in 0..40 {
            let mut stage = Stage::new(seat);
            let mut client = stage.client().await;
            let first = ask(&mut client);
            let mut peer = stage.accept().await;
            let stream = peer.head().await;
            peer.answer(stream, b"x").await;
            assert_eq!(told(first).await, fine());
            let call = ask(&mut client);
            for _ in 0..turns {
                tokio::task::yield_now().await;
            }
            peer.send(&Frame::goaway(stream, NO_ERROR)).await;
            tokio::select! {
                told = told(call) => {
                    assert!(told == fine() || told == reset(), "{seat:?}, {turns}: {told:?}");
                }
                _ = stage.serve() => {}
            }
        }
    }
}
