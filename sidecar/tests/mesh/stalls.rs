//! Stalled streams of each kind, and a hundred callers beside them.

use std::sync::atomic::Ordering;

use futures_util::stream;
use proto::user::v1::user_service_client::UserServiceClient;
use proto::user::v1::{GetUserRequest, ListUsersRequest, SyncUsersRequest, User};
use tokio::sync::mpsc;
use tokio::time::{Duration, timeout};
use tonic::transport::Channel;

use super::app::{App, STALLED};
use super::load::Load;
use super::pki::Pki;
use super::sidecar::{Sidecar, WORKERS, workers};

const CALLERS: usize = 100;

/// Stalled streams beside the first: more than a connection's window has place for.
const STREAMS: usize = 15;

/// What a stalled stream may hold on its way, in messages of 16 KiB: 16 MiB of buffers.
const HELD_BACK: usize = 1024;

async fn path(count: usize) -> (App, Sidecar, Sidecar) {
    let (pki, more) = (Pki::new(), workers(count));
    let app = App::start("app");
    let callee = Sidecar::guarding(&pki, "user-service", app.address, &["web"], &more).await;
    let endpoints = [callee.inbound];
    let caller = Sidecar::calling_with(&pki, "web", "user-service", &endpoints, &more).await;
    (app, callee, caller)
}

/// A hundred callers on connections of their own, none of which fails or waits.
async fn unharmed(channels: impl Iterator<Item = Channel>) {
    let load = Load::start(channels, "1");
    load.calls(5 * CALLERS).await;
    let (calls, failures) = load.end().await;
    assert!(failures.is_empty(), "{} of {calls} calls failed: {failures:?}", failures.len());
}

/// Fills a stream to an app that reads nothing of it; it stays open while the answer is kept.
async fn fill(channel: Channel) -> impl Sized {
    let (send, mut receive) = mpsc::channel(1);
    let messages = stream::poll_fn(move |context| receive.poll_recv(context));
    let answers = UserServiceClient::new(channel).sync_users(messages).await.unwrap();
    let name = "x".repeat(16 * 1024);
    let user = User { id: STALLED.into(), name, ..User::default() };
    let message = SyncUsersRequest { user: Some(user) };
    let mut sent = 0;
    // Full when nothing goes for a second.
    while let Ok(taken) = timeout(Duration::from_secs(1), send.send(message.clone())).await {
        taken.unwrap();
        sent += 1;
        assert!(sent < HELD_BACK, "{sent} messages went to an app that reads nothing");
    }
    (send, answers)
}

#[tokio::test]
async fn an_app_that_stops_reading_harms_no_other_caller() {
    for count in WORKERS {
        an_app_that_stops_reading(count).await;
    }
}

async fn an_app_that_stops_reading(count: usize) {
    let (_app, callee, caller) = path(count).await;
    // One of the other callers is on the very connection of a stalled stream.
    let shared = caller.channel("user-service");
    let channels = (0..STREAMS).map(|_| caller.channel("user-service")).chain([shared.clone()]);
    let stalled = futures_util::future::join_all(channels.map(fill)).await;
    let others = (1..CALLERS).map(|_| caller.channel("user-service"));
    unharmed(std::iter::once(shared).chain(others)).await;
    drop(stalled);
    assert!(callee.process.memory() < 256 << 20);
}

#[tokio::test]
async fn a_caller_that_stops_reading_harms_no_other_caller() {
    for count in WORKERS {
        a_caller_that_stops_reading(count).await;
    }
}

async fn a_caller_that_stops_reading(count: usize) {
    let (app, _callee, caller) = path(count).await;
    let shared = caller.channel("user-service");
    let mut client = UserServiceClient::new(shared.clone());
    let unread = client.list_users(ListUsersRequest::default()).await.unwrap();
    // Full when nothing goes for a second.
    let flooded = || app.state.flooded.load(Ordering::Relaxed);
    let mut before = 0;
    while flooded() != before || before == 0 {
        before = flooded();
        assert!(before < HELD_BACK, "{before} messages went to a caller that reads nothing");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    // A connection of its own: the windows of the stalled one are its client's to open.
    unharmed((0..CALLERS).map(|_| caller.channel("user-service"))).await;
    drop(unread);
    client.get_user(GetUserRequest { id: "1".into() }).await.unwrap();
}
