//! The sidecar's metrics: one registry a process, one shard a worker.
//!
//! Workers count in their own [`Shard`] and never meet; [`Metrics::encode`] merges the shards when
//! someone scrapes. Invariant: what is exposed is bounded by [`Bounds`], whatever comes over the
//! wire.

mod at_hand;
mod cells;
mod control;
mod names;
mod plain;
mod process;
mod scrape;
mod shard;
mod upstreams;

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;

use self::cells::{CallKey, ShardCells};
use self::control::Control;
use self::names::Names;
use self::process::Process;
use self::scrape::Scrape;
use self::upstreams::Upstreams;

pub use self::at_hand::AtHand;
pub use self::control::SnapshotAge;
pub use self::plain::to_plain;
pub use self::shard::{CallSeries, Shard};
use super::labels::{self, EndpointStanding, OTHER, SnapshotKind};
use crate::discovery::snapshot::Upstream;
use crate::inbound::admission::Gate;
use crate::resilience::budget::Allowance;

/// How many different values from outside are told apart; what comes later is `other`.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Names of peers.
    pub peers: usize,
    /// gRPC methods, of all services together.
    pub methods: usize,
    /// Combinations of direction, peer and method, each of them a histogram. One too many is
    /// counted as its peer's `other`.
    pub series: usize,
    /// Endpoints of upstreams.
    pub endpoints: usize,
}

impl Default for Bounds {
    /// Twice the names that outbound watches, and about 40,000 lines a scrape at the most.
    fn default() -> Self {
        Self { peers: 256, methods: 512, series: 1_024, endpoints: 1_024 }
    }
}

/// All metrics of the process.
#[derive(Debug)]
pub struct Metrics {
    service: String,
    bounds: Bounds,
    peers: Names,
    paths: Names,
    series: Mutex<HashSet<CallKey>>,
    shards: Mutex<Vec<Arc<ShardCells>>>,
    control: Arc<Control>,
    upstreams: Upstreams,
    /// Before the app, where there is one.
    gate: OnceLock<Arc<Gate>>,
}

impl Metrics {
    /// The metrics of the sidecar beside `service`.
    pub fn new(service: &str, bounds: Bounds) -> Arc<Self> {
        Arc::new(Self {
            service: labels::name(service).unwrap_or(OTHER).to_owned(),
            bounds,
            peers: Names::new(bounds.peers),
            paths: Names::new(bounds.methods),
            series: Mutex::default(),
            shards: Mutex::default(),
            control: Arc::default(),
            upstreams: Upstreams::default(),
            gate: OnceLock::new(),
        })
    }

    /// A new worker's half. What it counted stays when it is dropped: counters never go back.
    pub fn shard(self: &Arc<Self>) -> Shard {
        let cells = Arc::new(ShardCells::default());
        self.shards.lock().unwrap_or_else(PoisonError::into_inner).push(cells.clone());
        Shard::new(self.clone(), cells)
    }

    /// When the leaf certificate in use ends.
    pub fn certificate_expiry(&self, not_after: SystemTime) {
        self.control.certificate_expiry(not_after);
    }

    /// How many endpoints of the upstream `peer` are in `state`.
    pub fn endpoints(&self, peer: &str, state: EndpointStanding, n: usize) {
        self.control.endpoints(peer, state, n, self.bounds.peers);
    }

    /// An upstream of which this is known now, and what its budget allows.
    pub fn upstream(&self, snapshot: Arc<Upstream>, allowance: Allowance) {
        self.upstreams.set(snapshot, allowance);
    }

    /// The upstream `peer` is watched no more.
    pub fn forget_endpoints(&self, peer: &str) {
        self.upstreams.forget(peer);
        self.control.forget_endpoints(peer);
    }

    /// A watch on Consul that starts now. Its age is exposed until the handle is dropped; of
    /// several of one kind, the oldest.
    pub fn watch(&self, kind: SnapshotKind, now: SystemTime) -> SnapshotAge {
        SnapshotAge::new(&self.control, kind, now)
    }

    /// Appends everything to `out` in the OpenMetrics text format 1.0.0, as of `now`.
    pub fn encode(&self, now: SystemTime, out: &mut String) -> fmt::Result {
        self.encode_beside(Process::read(), now, out)
    }

    fn encode_beside(&self, process: Process, now: SystemTime, out: &mut String) -> fmt::Result {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Scrape::take(self, process, now)));
        text::encode(out, &registry)
    }

    fn shards(&self) -> Vec<Arc<ShardCells>> {
        self.shards.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether `key` may have a series of its own.
    fn admits(&self, key: &CallKey) -> bool {
        let mut series = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        series.contains(key) || (series.len() < self.bounds.series && series.insert(key.clone()))
    }
}

#[cfg(test)]
pub(crate) mod tests;
