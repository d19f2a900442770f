//! Finds connections whose other end is gone without a word.
//!
//! A PING goes out after a time of silence with streams open; no answer in time, and the
//! connection is dead. Silence is told from a counter of reads, so that no request reads a clock
//! for it.

use std::future::{Future, pending};
use std::time::Duration;

use h2::{Ping, PingPong};
use tokio::time::{sleep, timeout};

use super::io::Activity;

/// When to ask, and how long to wait.
#[derive(Clone, Copy, Debug)]
pub struct Keepalive {
    /// Silence before a PING.
    pub after: Duration,
    /// Time for its answer.
    pub timeout: Duration,
}

/// Ends once the connection is dead; `streams` counts those open on it. Never, where no PINGs are
/// wanted.
pub async fn watch(
    keepalive: Option<Keepalive>,
    pings: Option<PingPong>,
    activity: &Activity,
    streams: impl Fn() -> usize,
) {
    match (keepalive, pings) {
        (Some(keepalive), Some(pings)) => keepalive.watch(pings, activity, streams).await,
        _ => pending().await,
    }
}

impl Keepalive {
    async fn watch(self, mut pings: PingPong, activity: &Activity, streams: impl Fn() -> usize) {
        let mut silent = 0;
        let mut seen = activity.reads();
        loop {
            // Two ticks a period: silence is told within half a period.
            sleep(self.after / 2).await;
            let reads = activity.reads();
            silent = if reads == seen && streams() > 0 { silent + 1 } else { 0 };
            seen = reads;
            if silent < 2 {
                continue;
            }
            silent = 0;
            let answered = async {
                if pings.ping(Ping::opaque()).await.is_err() {
                    // The connection has ended by itself and says so on its own.
                    pending::<()>().await;
                }
            };
            if expired(timeout(self.timeout, answered)).await && activity.reads() == seen {
                return;
            }
        }
    }
}

async fn expired<T, E>(future: impl Future<Output = Result<T, E>>) -> bool {
    future.await.is_err()
}
