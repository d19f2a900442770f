//! Windows after a call has gone: what it had taken of its connection's comes back, whoever ended
//! it, and what still comes for it harms no other.

use bytes::Bytes;

use super::super::net::{Mesh, grpc_request};
use super::peer::{Peer, SEATS, Seat, Stage, ask, call, fine, head, told};
use super::wire::{CANCEL, DATA, Frame, HEADERS, INITIAL_WINDOW_SIZE, RST_STREAM};

/// Under a stream's window, and 50 of them are more than a connection's.
const LARGE: usize = 200_000;

fn data(stream: u32, size: usize) -> Vec<Frame> {
    vec![7; size].chunks(16_384).map(|piece| Frame::data(stream, piece)).collect()
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_answer_that_its_caller_left_unread_gives_its_window_back() {
    for seat in SEATS {
        let mut stage = Stage::new(seat);
        let mut caller = Peer::caller(&stage.mesh, &[(INITIAL_WINDOW_SIZE, 0)]).await;
        caller.send(&call(1).end()).await;
        let mut peer = stage.accept().await;
        for n in 0..50 {
            let id = 2 * n + 1;
            let stream = peer.head().await;
            peer.send(&head(stream)).await;
            peer.send_all(&data(stream, LARGE)).await;
            caller.expect(HEADERS).await;
            caller.send(&Frame::rst(id, CANCEL)).await;
            assert_eq!(peer.expect(RST_STREAM).await.code(), CANCEL, "{seat:?}, call {n}");
            caller.send(&call(id + 2).end()).await;
        }
        let stream = peer.head().await;
        peer.answer(stream, b"").await;
        assert!(!caller.expect(HEADERS).await.is_end());
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_request_that_its_callee_left_unread_gives_its_window_back() {
    for seat in SEATS {
        for by_caller in [true, false] {
            let mut stage = Stage::new(seat);
            let mut caller = Peer::caller(&stage.mesh, &[]).await;
            caller.send(&call(1)).await;
            let mut peer = stage.accept_with(&[(INITIAL_WINDOW_SIZE, 0)]).await;
            // Our windows hold once they are acknowledged.
            assert_eq!(caller.soon().await, None);
            for n in 0..50 {
                let id = 2 * n + 1;
                let stream = peer.head().await;
                caller.send_all(&data(id, LARGE)).await;
                if by_caller {
                    caller.send(&Frame::rst(id, CANCEL)).await;
                    assert_eq!(peer.expect(RST_STREAM).await.stream, stream, "{seat:?}, call {n}");
                } else {
                    peer.send(&Frame::rst(stream, CANCEL)).await;
                    let answer = caller.expect(HEADERS).await;
                    assert!(answer.is_end(), "{seat:?}, call {n}");
                    assert_eq!(caller.expect(RST_STREAM).await.stream, id);
                }
                caller.send(&call(id + 2)).await;
            }
            let stream = peer.head().await;
            peer.answer(stream, b"x").await;
            assert_eq!(caller.expect(HEADERS).await.stream, 101);
        }
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_upload_that_is_cancelled_leaves_its_share_of_the_connection_to_the_others() {
    for seat in SEATS {
        let one = "[limits]\nconnections_per_endpoint = 1";
        let mut stage = Stage::of(seat, Mesh::with(one, one));
        let mut client = stage.client().await;
        let (first, mut send) = client.open(grpc_request());
        send.send_data(Bytes::from(vec![7; 200_000]), false).unwrap();
        let mut peer = stage.accept_with(&[(INITIAL_WINDOW_SIZE, 1 << 20)]).await;
        let stream = peer.head().await;
        assert_eq!(peer.drain_data().await, 65_535);
        let (second, mut send_second) = client.open(grpc_request());
        send_second.send_data(Bytes::from(vec![7; 20_000]), true).unwrap();
        let other = peer.head().await;
        assert_eq!(peer.drain_data().await, 0);
        send.send_reset(h2::Reason::CANCEL);
        drop(first);
        assert_eq!(peer.expect(RST_STREAM).await.stream, stream, "{seat:?}");
        peer.send(&Frame::window_update(0, 20_000)).await;
        let mut left = 20_000;
        while left > 0 {
            let frame = peer.expect(DATA).await;
            assert_eq!(frame.stream, other);
            left -= frame.payload.len();
        }
        peer.answer(other, b"x").await;
        assert_eq!(told(second).await, fine());
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn late_answers_of_many_cancelled_calls_harm_no_other() {
    // More than h2 remembers one by one, and in all more than a connection's window.
    const CALLS: u32 = 4_500;
    for seat in SEATS {
        let mut stage = Stage::new(seat);
        let mut client = stage.client().await;
        let bystander = ask(&mut client);
        let mut peer = stage.accept().await;
        let unharmed = peer.head().await;
        let mut caller = Peer::caller(&stage.mesh, &[]).await;
        let mut streams = Vec::new();
        for n in 0..CALLS {
            caller.send(&call(2 * n + 1)).await;
            streams.push(peer.head().await);
            caller.send(&Frame::rst(2 * n + 1, CANCEL)).await;
            peer.expect(RST_STREAM).await;
        }
        for stream in streams {
            peer.send(&head(stream)).await;
            peer.send(&Frame::data(stream, &[7; 1_000])).await;
        }
        peer.answer(unharmed, b"x").await;
        assert_eq!(told(bystander).await, fine(), "{seat:?}");
        assert!(stage.is_quiet());
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_stream_over_our_limit_is_refused_alone() {
    let limits = "[limits]\nloopback_streams = 2\nmesh_streams = 2";
    let mut stage = Stage::of(Seat::App, Mesh::with(limits, limits));
    for from_mesh in [false, true] {
        let mut caller = match from_mesh {
            false => Peer::caller(&stage.mesh, &[]).await,
            true => Peer::mesh_caller(&stage.mesh).await,
        };
        caller.send_all(&[call(1).end(), call(3).end(), call(5).end()]).await;
        let refused = caller.expect(RST_STREAM).await;
        assert_eq!((refused.stream, refused.code()), (5, super::wire::REFUSED_STREAM));
        let mut app = stage.accept().await;
        for _ in 0..2 {
            let stream = app.head().await;
            app.answer(stream, b"x").await;
        }
        for _ in 0..6 {
            assert!([1, 3].contains(&caller.next().await.unwrap().stream));
        }
        caller.send(&call(7).end()).await;
        let stream = app.head().await;
        app.answer(stream, b"x").await;
        assert_eq!(caller.expect(HEADERS).await.stream, 7);
    }
}
