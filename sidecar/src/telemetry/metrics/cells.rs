//! The numbers themselves: written by one worker, read by whoever scrapes.
//!
//! Invariant: each cell has one writing thread, so a plain load and store lose nothing and no
//! worker waits for another one's cache line. Readers may see a number one call old, never torn.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::telemetry::labels::{
    Direction, FallbackKind, GRPC_STATUSES, HANDSHAKE_OUTCOMES, Injected, REASONS, RetryOutcome,
    Shed,
};

/// Upper bounds of the duration buckets, in nanoseconds; one more bucket has no bound.
pub(super) const BOUNDS_NANOS: [u64; 15] = [
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
    30_000_000_000,
];

pub(super) const BUCKETS: usize = BOUNDS_NANOS.len() + 1;

/// A number with one writing thread.
#[derive(Debug, Default)]
pub(super) struct Tally(AtomicU64);

impl Tally {
    pub(super) fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    pub(super) fn decrement(&self) {
        self.0.store(self.0.load(Relaxed).saturating_sub(1), Relaxed);
    }

    pub(super) fn read(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Calls of one method with one peer, in one direction, on one worker.
// Two lines of 64 bytes: processors fetch them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct CallCells {
    pub(super) statuses: [Tally; GRPC_STATUSES.len()],
    pub(super) buckets: [Tally; BUCKETS],
    pub(super) nanos: Tally,
    pub(super) without_deadline: Tally,
}

impl CallCells {
    pub(super) fn observe(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_NANOS.partition_point(|bound| *bound < nanos);
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.add(1);
        }
        self.nanos.add(nanos);
    }
}

/// What is counted by peer alone, on one worker.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct PeerCells {
    pub(super) in_flight: Tally,
    pub(super) faults: [Tally; REASONS.len()],
    pub(super) retries: [Tally; RetryOutcome::ALL.len()],
    pub(super) fallbacks: [Tally; FallbackKind::ALL.len()],
}

/// What is counted by direction alone, on one worker.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct EdgeCells {
    pub(super) connections: Tally,
    pub(super) handshakes: [Tally; HANDSHAKE_OUTCOMES.len()],
    pub(super) injected: [Tally; Injected::ALL.len()],
    /// From the mesh alone.
    pub(super) shed: [Tally; Shed::ALL.len()],
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PeerKey {
    pub(super) direction: Direction,
    pub(super) peer: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct CallKey {
    pub(super) direction: Direction,
    pub(super) peer: Arc<str>,
    /// A path that [`grpc_path`](crate::telemetry::labels::grpc_path) accepts, or `other`.
    pub(super) path: Arc<str>,
}

/// All cells of one worker. The lists only grow, and are locked only by a first sight or a scrape.
#[derive(Debug, Default)]
pub(super) struct ShardCells {
    pub(super) edges: [EdgeCells; Direction::ALL.len()],
    pub(super) peers: Mutex<Vec<(PeerKey, Arc<PeerCells>)>>,
    pub(super) calls: Mutex<Vec<(CallKey, Arc<CallCells>)>>,
}
