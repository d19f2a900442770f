//! An app or a peer sidecar that goes away, in each phase of a call and in each way: the caller
//! gets exactly one answer, in time, with a reason.

use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

use super::super::net::{Client, grpc_request};
use super::peer::{
    Peer, SEATS, Seat, Stage, answer_of, ask, fine, gauge, head, room_for_one, told,
};
use super::wire::{DATA, Frame, HEADERS, NO_ERROR};

/// How far a call has come when the other end goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// The connection was accepted, and nothing was said.
    Accepted,
    /// Half of a frame was said.
    HalfGreeted,
    /// SETTINGS were said, nothing was read.
    Greeted,
    HeadRead,
    HalfBodyRead,
    BodyRead,
    HeadSaid,
    BetweenData,
    HalfDataSaid,
    BeforeTrailers,
}

const PHASES: [Phase; 10] = [
    Phase::Accepted,
    Phase::HalfGreeted,
    Phase::Greeted,
    Phase::HeadRead,
    Phase::HalfBodyRead,
    Phase::BodyRead,
    Phase::HeadSaid,
    Phase::BetweenData,
    Phase::HalfDataSaid,
    Phase::BeforeTrailers,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Its direction ends in order; it goes on reading.
    Eof,
    /// All is dropped.
    Drop,
    /// GOAWAY that takes the call, then all is dropped.
    GoawayAndDrop,
    /// GOAWAY that does not take it; the connection stays.
    GoawayAbove,
}

const WAYS: [Way; 4] = [Way::Eof, Way::Drop, Way::GoawayAndDrop, Way::GoawayAbove];

/// Plays up to the phase, and goes. What is returned is kept as long as the call.
async fn play(stage: &mut Stage, phase: Phase, way: Way) -> Option<Peer> {
    let mut io = stage.connection().await;
    if phase == Phase::HalfGreeted {
        io.write_all(&Frame::settings(&[]).encode()[..5]).await.unwrap();
        io.flush().await.unwrap();
    }
    let mut peer = Peer::new(io);
    if phase > Phase::HalfGreeted {
        peer.send(&Frame::settings(&[])).await;
    }
    let mut stream = 1;
    if phase >= Phase::HeadRead {
        peer.preface().await;
        stream = peer.head().await;
    }
    if phase >= Phase::HalfBodyRead {
        let data = peer.expect(DATA).await;
        if phase == Phase::BodyRead && !data.is_end() {
            assert!(peer.expect(DATA).await.is_end());
        }
    }
    if phase >= Phase::HeadSaid {
        peer.send(&head(stream)).await;
    }
    if phase >= Phase::BetweenData {
        peer.send(&Frame::data(stream, b"begun")).await;
    }
    match phase {
        Phase::HalfDataSaid => peer.send_bytes(&Frame::data(stream, &[7; 9]).encode()[..12]).await,
        Phase::BeforeTrailers => peer.send(&Frame::data(stream, b"whole")).await,
        _ => {}
    }
    // Whatever was said has arrived.
    tokio::time::sleep(Duration::from_millis(1)).await;
    match way {
        Way::Eof => {
            peer.end().await;
            Some(peer)
        }
        Way::Drop => None,
        Way::GoawayAndDrop => {
            peer.send(&Frame::goaway(stream, NO_ERROR)).await;
            None
        }
        Way::GoawayAbove => {
            peer.send(&Frame::goaway(0, NO_ERROR)).await;
            Some(peer)
        }
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn who_goes_away_in_any_phase_leaves_its_caller_one_answer_with_a_reason() {
    for seat in SEATS {
        for phase in PHASES {
            for way in WAYS {
                let at = format!("{seat:?}, {phase:?}, {way:?}");
                if phase == Phase::HalfDataSaid && !matches!(way, Way::Eof | Way::Drop) {
                    // Whatever is said in the middle of a frame belongs to it.
                    continue;
                }
                let mut stage = Stage::of(seat, room_for_one());
                let mut client = stage.client().await;
                let (response, mut send) = client.open(grpc_request());
                send.send_data(Bytes::from_static(b"one"), false).unwrap();
                if phase == Phase::BodyRead {
                    send.reserve_capacity(3);
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    send.send_data(Bytes::from_static(b"two"), true).unwrap();
                }
                let begin = Instant::now();
                let kept = play(&mut stage, phase, way).await;
                let answer = answer_of(response).await;
                let (status, message, reason) = answer.status();
                // 2 s are given to the greeting, on each hop.
                assert!(begin.elapsed() < Duration::from_secs(5), "{at}: {:?}", begin.elapsed());
                assert_eq!(status, "14", "{at}: {message}");
                let not_connected = match seat {
                    Seat::App => "app_unreachable",
                    Seat::Sidecar => "connect_failed",
                };
                match phase {
                    Phase::Accepted => {
                        assert_eq!(reason, not_connected, "{at}")
                    }
                    Phase::HalfGreeted | Phase::Greeted => assert!(
                        reason == not_connected || reason == "upstream_reset",
                        "{at}: {reason}, {message}"
                    ),
                    _ => assert_eq!(reason, "upstream_reset", "{at}: {message}"),
                }
                let heads = answer.head.headers().contains_key("grpc-status");
                let tails = answer.trailers.contains_key("grpc-status");
                assert!(heads != tails, "{at}: two answers, {answer:?}");
                assert_eq!(tails, phase >= Phase::HeadSaid, "{at}: {answer:?}");
                let body: &[u8] = match phase {
                    Phase::BetweenData | Phase::HalfDataSaid => b"begun",
                    Phase::BeforeTrailers => b"begunwhole",
                    _ => b"",
                };
                assert_eq!(answer.body, body, "{at}");
                if let Some(peer) = kept
                    && phase < Phase::HeadRead
                {
                    // What is said to be undelivered was not sent.
                    assert!(!was_sent(peer).await || reason == "upstream_reset", "{at}: {reason}");
                }
                for metrics in [&stage.mesh.web_metrics, &stage.mesh.echo_metrics] {
                    assert_eq!(gauge(metrics, "outrigger_in_flight{"), 0.0, "{at}");
                }
                recovers(&mut stage, client, &at).await;
            }
        }
    }
}

/// Whether a call came to a peer that has read nothing so far.
async fn was_sent(mut peer: Peer) -> bool {
    peer.preface().await;
    while let Some(frame) = peer.soon().await {
        if frame.kind == HEADERS {
            return true;
        }
    }
    false
}

/// Calls go well again, within the time that an endpoint is left alone.
async fn recovers(stage: &mut Stage, mut client: Client, at: &str) {
    let begin = Instant::now();
    let calling = async {
        while told(ask(&mut client)).await != fine() {
            assert!(begin.elapsed() < Duration::from_secs(10), "{at}: calls still fail");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        () = calling => {}
        _ = stage.serve() => {}
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_is_not_http2_is_told_as_a_connection_that_failed() {
    for seat in SEATS {
        let mut stage = Stage::new(seat);
        let mut client = stage.client().await;
        let response = ask(&mut client);
        let mut io = stage.connection().await;
        io.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        io.flush().await.unwrap();
        let (status, reason) = told(response).await;
        assert_eq!(status, "14");
        let reasons = ["app_unreachable", "connect_failed", "upstream_reset"];
        assert!(reasons.contains(&reason.as_str()), "{seat:?}: {reason}");
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn all_calls_of_a_connection_that_ends_are_answered() {
    for seat in SEATS {
        let mut stage = Stage::new(seat);
        let mut client = stage.client().await;
        let calls: Vec<_> = (0..100).map(|_| client.open(grpc_request())).collect();
        let mut peer = stage.accept().await;
        for n in 0..100 {
            let stream = peer.head().await;
            if n % 2 == 0 {
                peer.send(&head(stream)).await;
            }
        }
        drop(peer);
        for (response, _send) in calls {
            let (status, reason) = told(response).await;
            assert_eq!((status.as_str(), reason.as_str()), ("14", "upstream_reset"), "{seat:?}");
        }
    }
}
