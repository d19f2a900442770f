//! The task that keeps time for the agent: it runs the probes that are due, lets TTLs expire,
//! reaps what was critical too long, renews leaves, and drops what does not belong.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::catalog::Due;
use super::check::Status;
use super::probe;
use super::state::{Shared, State};

/// How often the node's foreign records are dropped (Consul's anti-entropy).
const UPKEEP: Duration = Duration::from_secs(60);

/// Keeps time until it is dropped. Probes end with it.
pub(super) async fn keep(shared: Arc<Shared>, reap_interval: Duration) {
    let mut probes = JoinSet::new();
    let mut changes = shared.changes();
    let mut reap_at = Instant::now() + reap_interval;
    let mut upkeep_at = Instant::now() + UPKEEP;
    loop {
        let now = Instant::now();
        changes.borrow_and_update();
        if now >= reap_at {
            reap_at = now + reap_interval;
            reap(&shared, now);
        }
        if now >= upkeep_at {
            upkeep_at = now + UPKEEP;
            drop_foreign(&shared, now);
        }
        let renew_at = now + renew(&shared, now, SystemTime::now());
        let (due, next) = shared.with(now, |state| {
            let State { catalog, index, .. } = state;
            (catalog.take_due(now, index), catalog.next_due())
        });
        for due in due {
            probes.spawn(async move {
                let (status, output) = probe::run(&due.target, due.timeout).await;
                (due, status, output)
            });
        }
        let wake = next.unwrap_or(upkeep_at).min(upkeep_at).min(reap_at).min(renew_at);
        tokio::select! {
            () = tokio::time::sleep_until(wake) => {}
            _ = changes.changed() => {}
            Some(Ok(result)) = probes.join_next() => finish(&shared, result),
        }
    }
}

fn finish(shared: &Shared, (due, status, output): (Due, Status, String)) {
    let now = Instant::now();
    shared.with(now, |state| {
        let State { catalog, index, .. } = state;
        catalog.probed(&due.id, due.generation, status, &output, now, index);
    });
}

fn reap(shared: &Shared, now: Instant) {
    let reaped = shared.with(now, |state| {
        let State { catalog, index, limits, .. } = state;
        catalog.reap(now, limits.min_deregister_after, index)
    });
    for service in reaped {
        tracing::info!(service, "deregistered: critical for longer than its check allows");
    }
}

fn drop_foreign(shared: &Shared, now: Instant) {
    shared.with(now, |state| {
        let State { catalog, index, .. } = state;
        catalog.drop_foreign(index);
    });
}

/// Issues leaves again that are due; says how long until the next one is.
fn renew(shared: &Shared, now: Instant, wall: SystemTime) -> Duration {
    let (renewed, next) = shared.with(now, |state| {
        let State { index, authority, .. } = state;
        (authority.refresh(wall, index), authority.next_refresh(wall))
    });
    if let Err(error) = renewed {
        tracing::error!(%error, "leaves were not renewed");
    }
    // At least a second: a leaf that cannot be issued must not spin the task.
    next.unwrap_or(UPKEEP).clamp(Duration::from_secs(1), UPKEEP)
}
