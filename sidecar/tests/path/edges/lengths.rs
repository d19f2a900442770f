//! Lengths that an answer states and does not keep.

use super::super::net::grpc_request;
use super::peer::{SEATS, Stage, answer_of};
use super::wire::{Frame, INTERNAL_ERROR};

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_broken_answer_with_a_length_still_tells_its_status() {
    for seat in SEATS {
        let mut stage = Stage::new(seat);
        let mut client = stage.client().await;
        let (response, _send) = client.open(grpc_request());
        let mut peer = stage.accept().await;
        let stream = peer.head().await;
        let head = Frame::headers(stream, &[(":status", "200"), ("content-length", "10")]);
        peer.send_all(&[head, Frame::data(stream, b"begun")]).await;
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        peer.send(&Frame::rst(stream, INTERNAL_ERROR)).await;
        let (status, message, reason) = answer_of(response).await.status();
        assert_eq!((status.as_str(), reason.as_str()), ("13", "upstream_reset"), "{message}");
    }
}
