//! SETTINGS that change while calls are open (RFC 9113 §6.5).

use h2::client::ResponseFuture;

use super::super::net::{Mesh, grpc_request};
use super::peer::{Peer, SEATS, Seat, Stage, ask, call, fine, head, told};
use super::windows::upload;
use super::wire::{
    ACK, DATA, FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, Frame, HEADER_TABLE_SIZE, HEADERS,
    INITIAL_WINDOW_SIZE, MAX_CONCURRENT_STREAMS, MAX_FRAME_SIZE, PROTOCOL_ERROR, SETTINGS,
    header_fields,
};

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_window_lowered_below_what_is_on_its_way_is_negative_until_it_is_paid_back() {
    for seat in SEATS {
        let mut stage = Stage::new(seat);
        let mut client = stage.client().await;
        let response = upload(&mut client, 5_000);
        let mut peer = stage.accept_with(&[(INITIAL_WINDOW_SIZE, 1_000)]).await;
        let stream = peer.head().await;
        assert_eq!(peer.drain_data().await, 1_000);
        // 100 - 1,000: RFC 9113 §6.9.2.
        peer.send(&Frame::settings(&[(INITIAL_WINDOW_SIZE, 100)])).await;
        assert_eq!(peer.drain_data().await, 0);
        peer.send(&Frame::window_update(stream, 900)).await;
        assert_eq!(peer.drain_data().await, 0, "a window of nothing");
        peer.send(&Frame::window_update(stream, 7)).await;
        assert_eq!(peer.drain_data().await, 7);
        peer.send(&Frame::settings(&[(INITIAL_WINDOW_SIZE, 150)])).await;
        assert_eq!(peer.drain_data().await, 50);
        peer.send(&Frame::settings(&[(INITIAL_WINDOW_SIZE, 60_000)])).await;
        assert_eq!(peer.drain_data().await, 5_000 - 1_057, "{seat:?}");
        peer.answer(stream, b"x").await;
        assert_eq!(told(response).await, fine());
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_callers_window_may_turn_negative_too() {
    for seat in SEATS {
        let mut stage = Stage::new(seat);
        let mut caller = Peer::caller(&stage.mesh, &[(INITIAL_WINDOW_SIZE, 1_000)]).await;
        caller.send(&call(1).end()).await;
        let mut peer = stage.accept().await;
        let stream = peer.head().await;
        peer.answer(stream, &[7; 5_000]).await;
        assert_eq!(caller.drain_data().await, 1_000);
        caller.send(&Frame::settings(&[(INITIAL_WINDOW_SIZE, 0)])).await;
        caller.send(&Frame::window_update(1, 1_000)).await;
        assert_eq!(caller.drain_data().await, 0);
        caller.send(&Frame::window_update(1, 3)).await;
        assert_eq!(caller.drain_data().await, 3);
        caller.send(&Frame::settings(&[(INITIAL_WINDOW_SIZE, 3_997)])).await;
        let mut left = 3_997;
        while left > 0 {
            left -= caller.expect(DATA).await.payload.len();
        }
        assert!(caller.expect(HEADERS).await.is_end(), "{seat:?}");
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_setting_that_overflows_an_open_streams_window_ends_the_connection() {
    for seat in SEATS {
        let mut stage = Stage::new(seat);
        let mut client = stage.client().await;
        let (response, _send) = client.open(grpc_request());
        let mut peer = stage.accept().await;
        let stream = peer.head().await;
        let most = 0x7fff_ffff;
        peer.send(&Frame::window_update(stream, most - 65_535)).await;
        peer.send(&Frame::settings(&[(INITIAL_WINDOW_SIZE, 65_536)])).await;
        assert_eq!(told(response).await.1, "upstream_reset", "{seat:?}");
        assert_eq!(peer.ended().await, Some(FLOW_CONTROL_ERROR));
    }
}

fn one_connection() -> Mesh {
    let one = "[limits]\nconnections_per_endpoint = 1";
    Mesh::with(&format!("{one}\n[retry]\nattempts = 1"), one)
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn fewer_streams_than_are_open_end_none_of_them() {
    for seat in SEATS {
        let mut stage = Stage::of(seat, one_connection());
        let mut client = stage.client().await;
        let open: Vec<ResponseFuture> = (0..3).map(|_| ask(&mut client)).collect();
        let mut peer = stage.accept().await;
        let mut streams = Vec::new();
        for _ in 0..3 {
            streams.push(peer.head().await);
        }
        peer.send(&Frame::settings(&[(MAX_CONCURRENT_STREAMS, 1)])).await;
        assert_eq!(peer.soon().await, None);
        // One more is one too many, and is told so at once.
        assert_eq!(told(ask(&mut client)).await, ("14".into(), "overloaded".into()), "{seat:?}");
        for (stream, call) in streams.into_iter().zip(open) {
            peer.answer(stream, b"x").await;
            assert_eq!(told(call).await, fine());
        }
        let next = ask(&mut client);
        let stream = peer.head().await;
        peer.answer(stream, b"x").await;
        assert_eq!(told(next).await, fine());
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn fewer_streams_than_are_open_open_another_connection() {
    for seat in SEATS {
        let mut stage = Stage::new(seat);
        let mut client = stage.client().await;
        let open = [ask(&mut client), ask(&mut client)];
        let mut peer = stage.accept().await;
        let streams = [peer.head().await, peer.head().await];
        peer.send(&Frame::settings(&[(MAX_CONCURRENT_STREAMS, 1)])).await;
        assert_eq!(peer.soon().await, None);
        let next = ask(&mut client);
        let mut other = stage.accept().await;
        let stream = other.head().await;
        other.answer(stream, b"x").await;
        assert_eq!(told(next).await, fine(), "{seat:?}");
        for (stream, call) in streams.into_iter().zip(open) {
            peer.answer(stream, b"x").await;
            assert_eq!(told(call).await, fine());
        }
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_peer_that_takes_no_stream_for_a_while_is_called_again_after_it() {
    for seat in SEATS {
        let mut stage = Stage::of(seat, one_connection());
        let mut client = stage.client().await;
        let first = ask(&mut client);
        let mut peer = stage.accept().await;
        let stream = peer.head().await;
        peer.send(&Frame::settings(&[(MAX_CONCURRENT_STREAMS, 0)])).await;
        assert_eq!(peer.soon().await, None);
        assert_eq!(told(ask(&mut client)).await, ("14".into(), "overloaded".into()), "{seat:?}");
        peer.answer(stream, b"x").await;
        assert_eq!(told(first).await, fine());
        assert_eq!(told(ask(&mut client)).await, ("14".into(), "overloaded".into()), "{seat:?}");
        peer.send(&Frame::settings(&[(MAX_CONCURRENT_STREAMS, 1)])).await;
        assert_eq!(peer.soon().await, None);
        for _ in 0..3 {
            let next = ask(&mut client);
            let stream = peer.head().await;
            peer.answer(stream, b"x").await;
            assert_eq!(told(next).await, fine());
        }
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_call_that_crosses_a_lowered_limit_is_served_or_told() {
    for seat in SEATS {
        for turns in 0..40 {
            let mut stage = Stage::of(seat, one_connection());
            let mut client = stage.client().await;
            let mut calls = vec![ask(&mut client)];
            let mut peer = stage.accept().await;
            let stream = peer.head().await;
            calls.push(ask(&mut client));
            calls.push(ask(&mut client));
            for _ in 0..turns {
                tokio::task::yield_now().await;
            }
            peer.send(&Frame::settings(&[(MAX_CONCURRENT_STREAMS, 1)])).await;
            peer.answer(stream, b"x").await;
            let calling = async {
                for call in calls {
                    let told = told(call).await;
                    let full = ("14".into(), "overloaded".into());
                    assert!(told == fine() || told == full, "{seat:?}, {turns}: {told:?}");
                }
            };
            tokio::select! {
                () = calling => {}
                () = peer.serve() => panic!("{seat:?}, {turns}: a call waits for nothing"),
            }
        }
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_peer_that_never_takes_a_stream_is_connected_a_bounded_number_of_times() {
    for seat in SEATS {
        let three = "[limits]\nconnections_per_endpoint = 3";
        let mut stage = Stage::of(seat, Mesh::with(three, three));
        let mut client = stage.client().await;
        let response = ask(&mut client);
        let mut peers = Vec::new();
        for _ in 0..3 {
            peers.push(stage.accept_with(&[(MAX_CONCURRENT_STREAMS, 0)]).await);
        }
        assert_eq!(told(response).await, ("14".into(), "overloaded".into()), "{seat:?}");
        assert!(stage.is_quiet());
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn no_frame_is_larger_than_its_reader_allows_now() {
    for seat in SEATS {
        let mut stage = Stage::new(seat);
        let mut client = stage.client().await;
        let (response, mut send) = client.open(grpc_request());
        let windows = [(INITIAL_WINDOW_SIZE, 1 << 20)];
        let mut peer = stage.accept_with(&windows).await;
        let stream = peer.head().await;
        peer.send(&Frame::window_update(0, 1 << 20)).await;
        for (size, largest) in [(None, 16_384), (Some(40_000), 40_000), (Some(16_384), 16_384)] {
            if let Some(size) = size {
                peer.send(&Frame::settings(&[(MAX_FRAME_SIZE, size)])).await;
                let acked = peer.frame().await.unwrap();
                assert_eq!((acked.kind, acked.flags), (SETTINGS, ACK), "{acked:?}");
            }
            send.send_data(vec![7; 100_000].into(), false).unwrap();
            let mut left = 100_000;
            while left > 0 {
                let n = peer.expect(DATA).await.payload.len();
                assert!(n <= largest, "{n} of {largest} bytes, {seat:?}");
                left -= n;
            }
        }
        peer.answer(stream, b"x").await;
        assert_eq!(told(response).await, fine());
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn settings_and_frames_out_of_their_range_end_the_connection() {
    let bad = [
        (Frame::settings(&[(MAX_FRAME_SIZE, 16_383)]), PROTOCOL_ERROR),
        (Frame::settings(&[(MAX_FRAME_SIZE, 1 << 24)]), PROTOCOL_ERROR),
        // ENABLE_PUSH knows 0 and 1.
        (Frame::settings(&[(2, 2)]), PROTOCOL_ERROR),
        // RFC 9113 §6.5 calls these two FRAME_SIZE_ERROR; h2 calls what it cannot read by one name.
        (Frame::new(SETTINGS, 0, 0, &[0; 5]), PROTOCOL_ERROR),
        (Frame::new(SETTINGS, ACK, 0, &[0; 6]), PROTOCOL_ERROR),
        (Frame::new(SETTINGS, 0, 1, &[]), PROTOCOL_ERROR),
        // Ours takes 64 KiB.
        (Frame::new(0x42, 0, 0, &[0; 64 * 1024 + 1]), FRAME_SIZE_ERROR),
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
        assert_eq!(told(response).await, ("14".into(), "upstream_reset".into()));
        assert_eq!(app.ended().await, Some(code), "{frame:?}");
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_header_table_of_nothing_is_kept_to_and_given_up_again() {
    for seat in SEATS {
        let mut stage = Stage::new(seat);
        let mut client = stage.client().await;
        let mut peer: Option<Peer> = None;
        for (table, is_used) in [(None, true), (Some(0), false), (Some(4_096), true)] {
            if let (Some(size), Some(peer)) = (table, &mut peer) {
                peer.send(&Frame::settings(&[(HEADER_TABLE_SIZE, size)])).await;
                assert_eq!(peer.soon().await, None);
            }
            let mut blocks = Vec::new();
            for _ in 0..3 {
                let response = ask(&mut client);
                if peer.is_none() {
                    peer = Some(stage.accept().await);
                }
                let peer = peer.as_mut().unwrap();
                let call = peer.expect(HEADERS).await;
                blocks.push(header_fields(&call.payload));
                peer.send_all(&[
                    head(call.stream),
                    Frame::headers(call.stream, &[("grpc-status", "0")]).end(),
                ])
                .await;
                assert_eq!(told(response).await, fine(), "{seat:?}");
            }
            let sizes: Vec<_> = blocks.iter().flat_map(|block| block.sizes.clone()).collect();
            assert_eq!(sizes, Vec::from_iter(table.map(|size| size as usize)), "{seat:?}");
            let dynamic = blocks.iter().any(|block| block.indexes.iter().any(|i| *i > 61));
            assert_eq!(dynamic, is_used, "{blocks:?}");
        }
    }
}
