//! A caller that goes away, in each phase of a call and in each way: the app sees it at once, and
//! nothing of the call is left.

use std::time::Duration;

use tokio::time::Instant;

use super::peer::{Peer, SEATS, Seat, Stage, ask, call, fine, gauge, head, room_for_one, told};
use super::wire::{CANCEL, DATA, Frame, HEADERS, NO_ERROR, RST_STREAM};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    HeadSaid,
    HalfBodySaid,
    BodySaid,
    HeadRead,
    BetweenData,
}

const PHASES: [Phase; 5] =
    [Phase::HeadSaid, Phase::HalfBodySaid, Phase::BodySaid, Phase::HeadRead, Phase::BetweenData];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Eof,
    Drop,
    Reset,
    GoawayAndDrop,
    /// Half of a frame, then all is dropped.
    MidFrame,
    /// What it says is no HTTP/2.
    Nonsense,
}

const WAYS: [Way; 6] =
    [Way::Eof, Way::Drop, Way::Reset, Way::GoawayAndDrop, Way::MidFrame, Way::Nonsense];

async fn go(mut caller: Peer, way: Way) -> Option<Peer> {
    match way {
        Way::Eof => {
            caller.end().await;
            return Some(caller);
        }
        Way::Drop => {}
        Way::Reset => {
            caller.send(&Frame::rst(1, CANCEL)).await;
            return Some(caller);
        }
        Way::GoawayAndDrop => caller.send(&Frame::goaway(0, NO_ERROR)).await,
        Way::MidFrame => caller.send_bytes(&Frame::data(1, &[7; 9]).encode()[..12]).await,
        Way::Nonsense => {
            caller.send(&Frame::new(DATA, 0, 0, b"x")).await;
            return Some(caller);
        }
    }
    None
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_caller_that_goes_away_in_any_phase_is_gone_for_the_app_at_once() {
    for seat in SEATS {
        for phase in PHASES {
            for way in WAYS {
                let at = format!("{seat:?}, {phase:?}, {way:?}");
                let mut stage = Stage::of(seat, room_for_one());
                let mut caller = Peer::caller(&stage.mesh, &[]).await;
                caller.send(&call(1)).await;
                let mut peer = stage.accept().await;
                let stream = peer.head().await;
                if phase >= Phase::HalfBodySaid {
                    let last = phase == Phase::BodySaid;
                    let data = Frame::data(1, b"one");
                    caller.send(&if last { data.end() } else { data }).await;
                    assert_eq!(peer.expect(DATA).await.is_end(), last);
                }
                if phase >= Phase::HeadRead {
                    peer.send(&head(stream)).await;
                    caller.expect(HEADERS).await;
                }
                if phase >= Phase::BetweenData {
                    peer.send(&Frame::data(stream, b"begun")).await;
                    caller.expect(DATA).await;
                }
                let begin = Instant::now();
                let _kept = go(caller, way).await;
                let reset = peer.expect(RST_STREAM).await;
                assert_eq!((reset.stream, reset.code()), (stream, CANCEL), "{at}");
                assert!(begin.elapsed().is_zero(), "{at}: {:?}", begin.elapsed());

                tokio::time::sleep(Duration::from_millis(1)).await;
                for metrics in [&stage.mesh.web_metrics, &stage.mesh.echo_metrics] {
                    assert_eq!(gauge(metrics, "outrigger_in_flight{"), 0.0, "{at}");
                }
                let mut client = stage.client().await;
                let response = ask(&mut client);
                let stream = peer.head().await;
                peer.answer(stream, b"x").await;
                assert_eq!(told(response).await, fine(), "{at}: something is left");
            }
        }
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_caller_that_goes_away_before_its_call_is_sent_leaves_nothing() {
    for way in [Way::Eof, Way::Drop, Way::Reset, Way::GoawayAndDrop, Way::Nonsense] {
        let mut stage = Stage::of(Seat::Sidecar, room_for_one());
        let mut caller = Peer::caller(&stage.mesh, &[]).await;
        caller.send(&call(1)).await;
        // The call waits for the greeting.
        let connection = stage.connection().await;
        let _kept = go(caller, way).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(gauge(&stage.mesh.web_metrics, "outrigger_in_flight{"), 0.0, "{way:?}");
        let mut peer = Peer::new(connection);
        peer.send(&Frame::settings(&[])).await;
        peer.preface().await;
        assert_eq!(peer.soon().await, None, "{way:?}: the call goes on");
        let mut client = stage.client().await;
        let response = ask(&mut client);
        let stream = peer.head().await;
        peer.answer(stream, b"x").await;
        assert_eq!(told(response).await, fine(), "{way:?}: something is left");
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_caller_that_goes_away_in_its_greeting_costs_no_connection() {
    let stage = Stage::new(Seat::App);
    let preface: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let settings = Frame::settings(&[]).encode();
    let whole = [preface, &settings, &call(1).encode()].concat();
    for said in 0..whole.len() {
        let mut caller = Peer::new(Box::new(stage.mesh.raw()));
        caller.send_bytes(&whole[..said]).await;
    }
    tokio::time::sleep(Duration::from_millis(1)).await;
    let open = "outrigger_connections{direction=\"outbound\"}";
    assert_eq!(gauge(&stage.mesh.web_metrics, open), 0.0);
}
