//! Calls that are given up by the dozen while the other end says nothing: it stood still, and is to
//! keep its other calls when it goes on.

use std::time::Duration;

use tokio::task::spawn_local;
use tokio::time::timeout;

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
        for more in [8, 8, GIVEN_UP - 24] {
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
async fn an_app_that_stood_still_keeps_the_calls_that_were_not_given_up() {
    let mut stage = Stage::new(Seat::App);
    let mut client = stage.client().await;
    let kept = ask(&mut client);
    let app = async {
        // It reads nothing until all that happened in between has come.
        let mut server = h2::server::handshake(stage.connection().await).await.unwrap();
        let given_up: Vec<_> = (0..GIVEN_UP).map(|_| ask(&mut client)).collect();
        tokio::time::sleep(Duration::from_secs(1)).await;
        drop(given_up);
        tokio::time::sleep(Duration::from_secs(1)).await;
        while let Some(call) = server.accept().await {
            let (request, respond) = call.expect("the connection is lost");
            spawn_local(echo(request, respond));
        }
    };
    tokio::select! {
        biased;
        answer = timeout(IN_VAIN, told(kept)) => assert_eq!(answer.unwrap(), fine()),
        () = app => panic!("the connection is lost"),
    }
}
