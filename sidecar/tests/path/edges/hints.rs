//! Interim responses (1xx) without an end: what has no flow control must not fill our memory.

use super::peer::{Peer, SEATS, Stage};
use super::wire::{Frame, HEADERS};

/// What pipes and buffers on the way may hold.
const HELD: usize = 2 * 1024 * 1024;

/// Each one another, so that no table makes them small.
fn hint(stream: u32, n: usize) -> Frame {
    Frame::headers(stream, &[(":status", "103"), ("link", &format!("{n:01000}"))])
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn interim_responses_without_an_end_do_not_pile_up_for_a_caller_that_reads_none() {
    for seat in SEATS {
        let mut stage = Stage::new(seat);
        let mut caller = Peer::caller(&stage.mesh, &[]).await;
        let fields =
            [(":method", "GET"), (":scheme", "http"), (":authority", "echo"), (":path", "/")];
        assert!(caller.cram(&Frame::headers(1, &fields).end().encode()).await);
        let mut peer = stage.accept().await;
        let stream = peer.head().await;
        let mut taken = 0;
        while taken < 8 * HELD && peer.cram(&hint(stream, taken).encode()).await {
            taken += 1_000;
        }
        // What was held comes out once it is read.
        let mut held = 0;
        while let Some(frame) = caller.soon().await {
            assert_eq!(frame.kind, HEADERS);
            held += frame.payload.len();
        }
        assert!(held < HELD, "{seat:?}: {held} bytes of hints were held in memory");
    }
}
