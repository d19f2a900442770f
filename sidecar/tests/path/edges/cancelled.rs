//! Calls that are given up by the dozen while the other end says nothing: it stood still, and is to
//! keep its other calls when it goes on.

use std::future::poll_fn;
use std::time::Duration;

use tokio::task::spawn_local;
use tokio::time::{Instant, timeout};

use super::super::net::echo;
use super::peer::{IN_VAIN, Peer, SEATS, Seat, Stage, ask, fine, told};
use super::wire::{ACK, Frame, HEADERS, RST_STREAM, SETTINGS};

const GIVEN_UP: usize = 30;

/// What comes, by kind, until nothing more does; nothing is answered.
async fn silently(peer: &mut Peer) -> Vec<u8> {
    let mut kinds = Vec::new();
    while let Ok(Some(frame)) = timeout(Duration::from_secs(1), peer.frame()).await {
        if matches!(frame.kind, RST_STREAM | HEADERS) || frame.kind == SETTINGS && frame.flags == 0
        {
            kinds.push(frame.kind);
        }
    }
    kinds
}

fn count(kinds: &[u8], kind: u8) -> usize {
    kinds.iter().filter(|found| **found == kind).count()
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn who_says_nothing_is_asked_before_all_calls_are_cancelled() {
    for seat in SEATS {
        let mut stage = Stage::new(seat);
        let mut client = stage.client().await;
        let kept = ask(&mut client);
        let given_up: Vec<_> = (0..GIVEN_UP).map(|_| ask(&mut client)).collect();
        let mut peer = stage.accept().await;
        let stream = peer.head().await;
        assert_eq!(count(&silently(&mut peer).await, HEADERS), GIVEN_UP);
        drop(given_up);
        let kinds = silently(&mut peer).await;
        assert_eq!((count(&kinds, RST_STREAM), count(&kinds, SETTINGS)), (8, 1), "{seat:?}");
        // It acknowledges what came before those that were cancelled, and then them.
        for more in [8, 0, 8, 0, GIVEN_UP - 24] {
            peer.send(&Frame::new(SETTINGS, ACK, 0, &[])).await;
            assert_eq!(count(&silently(&mut peer).await, RST_STREAM), more, "{seat:?}");
        }
        peer.answer(stream, b"x").await;
        assert_eq!(told(kept).await, fine(), "{seat:?}");
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn who_answers_others_meanwhile_is_not_asked() {
    for seat in SEATS {
        let mut stage = Stage::new(seat);
        let mut client = stage.client().await;
        let mut first = Some(ask(&mut client));
        let mut peer = stage.accept().await;
        for _ in 0..GIVEN_UP {
            let stream = peer.head().await;
            let given_up = ask(&mut client);
            peer.head().await;
            drop(given_up);
            assert_eq!(silently(&mut peer).await, [RST_STREAM], "{seat:?}");
            peer.answer(stream, b"x").await;
            assert_eq!(told(first.replace(ask(&mut client)).unwrap()).await, fine(), "{seat:?}");
        }
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn who_answers_a_call_has_looked_at_those_before_it_and_not_at_those_after() {
    for seat in SEATS {
        let mut stage = Stage::new(seat);
        let mut client = stage.client().await;
        let first = ask(&mut client);
        let mut given_up: Vec<_> = (0..GIVEN_UP / 2).map(|_| ask(&mut client)).collect();
        let middle = ask(&mut client);
        given_up.extend((0..GIVEN_UP / 2).map(|_| ask(&mut client)));
        let last = ask(&mut client);
        let mut peer = stage.accept().await;
        let mut heads = Vec::new();
        for _ in 0..GIVEN_UP + 3 {
            heads.push(peer.head().await);
        }
        drop(given_up);
        assert_eq!(count(&silently(&mut peer).await, RST_STREAM), 8, "{seat:?}");
        let (middle_head, last_head) = (heads[GIVEN_UP / 2 + 1], heads[GIVEN_UP + 2]);
        // The rest of those before it, and 8 of those after it.
        let after_middle = GIVEN_UP / 2 - 8 + 8;
        for (kept, stream, more) in [
            (first, heads[0], 0),
            (middle, middle_head, after_middle),
            (last, last_head, GIVEN_UP - 8 - after_middle),
        ] {
            peer.answer(stream, b"x").await;
            assert_eq!(told(kept).await, fine(), "{seat:?}");
            assert_eq!(count(&silently(&mut peer).await, RST_STREAM), more, "{seat:?}");
        }
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_was_looked_at_is_cancelled_at_once_however_many() {
    for (status, at_once) in [("200", GIVEN_UP), ("431", 8)] {
        let mut stage = Stage::new(Seat::App);
        let mut client = stage.client().await;
        let given_up: Vec<_> = (0..GIVEN_UP).map(|_| ask(&mut client)).collect();
        let last = ask(&mut client);
        let mut peer = stage.accept().await;
        let mut stream = peer.head().await;
        for _ in 0..GIVEN_UP {
            stream = peer.head().await;
        }
        // With the one of them h2 says that it handed the call to nobody.
        peer.send(&Frame::headers(stream, &[(":status", status)]).end()).await;
        assert_ne!(told(last).await, fine());
        drop(given_up);
        let kinds = silently(&mut peer).await;
        assert_eq!(count(&kinds, RST_STREAM), at_once, "{status}");
    }
}

/// An app that reads nothing while calls are given up, and does not look at all that it has read at
/// once; so many others wait for it before those, and one after.
async fn an_app_that_stood_still_keeps(before: usize) {
    let mut stage = Stage::new(Seat::App);
    let mut client = stage.client().await;
    let mut kept: Vec<_> = (0..before).map(|_| ask(&mut client)).collect();
    let app = async {
        let mut server = h2::server::handshake(stage.connection().await).await.unwrap();
        let given_up: Vec<_> = (0..GIVEN_UP).map(|_| ask(&mut client)).collect();
        kept.push(ask(&mut client));
        tokio::time::sleep(Duration::from_secs(1)).await;
        drop(given_up);
        tokio::time::sleep(Duration::from_secs(1)).await;
        spawn_local(async move {
            while let Some(call) = server.accept().await {
                let (request, respond) = call.expect("the connection is lost");
                spawn_local(echo(request, respond));
                // Others of its threads go on meanwhile.
                for _ in 0..10 {
                    tokio::task::yield_now().await;
                }
            }
        });
        for kept in kept {
            assert_eq!(told(kept).await, fine());
        }
    };
    timeout(IN_VAIN, app).await.unwrap();
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_app_that_stood_still_keeps_the_calls_that_were_not_given_up() {
    an_app_that_stood_still_keeps(1).await;
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_an_app_has_read_it_is_given_time_to_look_at() {
    an_app_that_stood_still_keeps(100).await;
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_app_that_reads_learns_of_all_in_a_moment_however_many() {
    let mut stage = Stage::new(Seat::App);
    let mut client = stage.client().await;
    let given_up: Vec<_> = (0..5 * GIVEN_UP).map(|_| ask(&mut client)).collect();
    let mut server = h2::server::handshake(stage.connection().await).await.unwrap();
    let (works, mut ends) = tokio::sync::mpsc::unbounded_channel();
    spawn_local(async move {
        while let Some(call) = server.accept().await {
            let (_, mut respond) = call.expect("the connection is lost");
            let works = works.clone();
            spawn_local(async move {
                poll_fn(|cx| respond.poll_reset(cx)).await.unwrap();
                works.send(()).unwrap();
            });
        }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(given_up);
    let begin = Instant::now();
    for _ in 0..5 * GIVEN_UP {
        timeout(IN_VAIN, ends.recv()).await.unwrap();
    }
    // By eights, a millisecond each to look at them.
    let took = begin.elapsed();
    assert!((15..40).contains(&took.as_millis()), "{took:?}");
}
