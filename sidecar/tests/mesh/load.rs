//! Steady calls by many callers, each of which makes its next call when the one before has ended.
//! Every failure is kept: none is tried again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use proto::user::v1::GetUserRequest;
use proto::user::v1::user_service_client::UserServiceClient;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::Status;
use tonic::transport::Channel;

use super::process::until;

/// Between two calls of one caller.
const PACE: Duration = Duration::from_millis(20);

/// A call that went wrong.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) begun: Instant,
    pub(crate) status: Status,
}

/// Calls that run.
pub(crate) struct Load {
    callers: JoinSet<Vec<Failure>>,
    stop: Arc<AtomicBool>,
    ended: Arc<AtomicUsize>,
}

impl Load {
    /// One caller for each channel, which asks for this user.
    pub(crate) fn start(channels: impl IntoIterator<Item = Channel>, user: &str) -> Self {
        let (stop, ended) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut callers = JoinSet::new();
        for channel in channels {
            let (stop, ended, id) = (stop.clone(), ended.clone(), user.to_owned());
            callers.spawn(async move {
                let mut client = UserServiceClient::new(channel);
                let mut failures = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let begun = Instant::now();
                    if let Err(status) = client.get_user(GetUserRequest { id: id.clone() }).await {
                        failures.push(Failure { begun, status });
                    }
                    ended.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(PACE).await;
                }
                failures
            });
        }
        Self { callers, stop, ended }
    }

    /// Waits until so many more calls have ended.
    pub(crate) async fn calls(&self, more: usize) {
        let enough = self.ended.load(Ordering::Relaxed) + more;
        until("more calls have ended", async || self.ended.load(Ordering::Relaxed) >= enough).await;
    }

    /// Lets the last calls end; returns how many there were, and the failures.
    pub(crate) async fn end(self) -> (usize, Vec<Failure>) {
        self.stop.store(true, Ordering::Relaxed);
        let failures = self.callers.join_all().await.into_iter().flatten().collect();
        (self.ended.load(Ordering::Relaxed), failures)
    }
}
