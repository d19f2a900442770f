//! The writing half: what a worker holds.
//!
//! A worker resolves a [`CallSeries`] once per connection and method, and then counts with loads
//! and stores on memory of its own: no lock, no allocation, no clock.

use std::cell::RefCell;
use std::collections::HashMap;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::Metrics;
use super::cells::{CallCells, CallKey, EdgeCells, PeerCells, PeerKey, ShardCells};
use super::names::KnownNames;
use crate::inbound::admission::Gate;
use crate::telemetry::labels::{
    self, Direction, FallbackKind, HANDSHAKE_OUTCOMES, Injected, REASONS, RetryOutcome, Shed,
    grpc_status_index, index_in,
};

/// One worker's metrics. It belongs to the thread that made it.
#[derive(Debug)]
pub struct Shard {
    metrics: Arc<Metrics>,
    cells: Arc<ShardCells>,
    peer_names: KnownNames,
    paths: KnownNames,
    /// By direction. Bounded: its keys are resolved names.
    peers: RefCell<[HashMap<Arc<str>, Peer>; Direction::ALL.len()]>,
}

#[derive(Debug)]
struct Peer {
    cells: Arc<PeerCells>,
    /// By path, which is a resolved name too.
    calls: HashMap<Arc<str>, Rc<CallSeries>>,
}

/// The calls of one method with one peer, in one direction, on one worker.
#[derive(Debug)]
pub struct CallSeries {
    calls: Arc<CallCells>,
    peer: Arc<PeerCells>,
    /// The cells have one writing thread.
    not_send: PhantomData<Rc<()>>,
}

impl Shard {
    pub(super) fn new(metrics: Arc<Metrics>, cells: Arc<ShardCells>) -> Self {
        Self {
            metrics,
            cells,
            peer_names: KnownNames::new(),
            paths: KnownNames::new(),
            peers: RefCell::default(),
        }
    }

    /// The series of `path` (`/pkg.Service/Method`) with `peer`, a service's name.
    ///
    /// To be called once per connection and method, and kept. A lock is taken at most when this
    /// worker sees the peer or the path for the first time. What is no gRPC path, no name, or one
    /// too many, is counted as `other`.
    pub fn calls(&self, direction: Direction, peer: &str, path: &str) -> Rc<CallSeries> {
        if let Some(peer) = self.peers.borrow()[direction as usize].get(peer)
            && let Some(series) = peer.calls.get(path)
        {
            return series.clone();
        }
        let path = match labels::grpc_path(path) {
            Some(_) => self.paths.resolve(&self.metrics.paths, path),
            None => self.paths.other(),
        };
        self.with_peer(direction, peer, |key, peer| {
            if let Some(series) = peer.calls.get(&path) {
                return series.clone();
            }
            let key = CallKey { direction, peer: key.clone(), path: path.clone() };
            let series = self.series(key, peer);
            peer.calls.insert(path, series.clone());
            series
        })
    }

    /// One of the sidecar's own answers, by its reason (one of [`REASONS`]).
    pub fn fault(&self, direction: Direction, peer: &str, reason: &'static str) {
        let reason = index_in(&REASONS, reason);
        self.with_peer(direction, peer, |_, peer| peer.cells.faults[reason].add(1));
    }

    /// A call to `peer` that was sent again, or would have been.
    pub fn retry(&self, peer: &str, outcome: RetryOutcome) {
        self.with_peer(Direction::Outbound, peer, |_, peer| {
            peer.cells.retries[outcome as usize].add(1);
        });
    }

    /// A call to `peer` that was answered by its route's fallback.
    pub fn fallback(&self, peer: &str, kind: FallbackKind) {
        self.with_peer(Direction::Outbound, peer, |_, peer| {
            peer.cells.fallbacks[kind as usize].add(1);
        });
    }

    /// A TLS handshake that ended, by its outcome (one of [`HANDSHAKE_OUTCOMES`]).
    pub fn handshake(&self, direction: Direction, outcome: &'static str) {
        let outcome = index_in(&HANDSHAKE_OUTCOMES, outcome);
        self.edge(direction).handshakes[outcome].add(1);
    }

    /// A fault that the config asks for met a call.
    pub fn injected(&self, direction: Direction, kind: Injected) {
        self.edge(direction).injected[kind as usize].add(1);
    }

    /// A call from the mesh was refused to spare the app or this sidecar.
    pub fn shed(&self, cause: Shed) {
        self.edge(Direction::Inbound).shed[cause as usize].add(1);
    }

    /// The way to the app that calls from the mesh take; told by as many workers as there are.
    pub fn before_app(&self, gate: &Arc<Gate>) {
        let _ = self.metrics.gate.set(gate.clone());
    }

    /// A connection that calls can come or go by.
    pub fn connection_opened(&self, direction: Direction) {
        self.edge(direction).connections.add(1);
    }

    /// The end of such a connection.
    pub fn connection_closed(&self, direction: Direction) {
        self.edge(direction).connections.decrement();
    }

    fn edge(&self, direction: Direction) -> &EdgeCells {
        &self.cells.edges[direction as usize]
    }

    fn with_peer<T>(
        &self,
        direction: Direction,
        peer: &str,
        f: impl FnOnce(&Arc<str>, &mut Peer) -> T,
    ) -> T {
        let name = match labels::name(peer) {
            Some(peer) => self.peer_names.resolve(&self.metrics.peers, peer),
            None => self.peer_names.other(),
        };
        let mut peers = self.peers.borrow_mut();
        let peer = peers[direction as usize].entry(name.clone()).or_insert_with(|| {
            let cells = Arc::new(PeerCells::default());
            let key = PeerKey { direction, peer: name.clone() };
            let mut all = self.cells.peers.lock().unwrap_or_else(PoisonError::into_inner);
            all.push((key, cells.clone()));
            Peer { cells, calls: HashMap::new() }
        });
        f(&name, peer)
    }

    /// A new series for `key`, or the peer's `other` where the process has too many.
    fn series(&self, key: CallKey, peer: &mut Peer) -> Rc<CallSeries> {
        let other = self.paths.other();
        if key.path == other || self.metrics.admits(&key) {
            return self.register(key, peer);
        }
        if let Some(series) = peer.calls.get(&other) {
            return series.clone();
        }
        let series = self.register(CallKey { path: other.clone(), ..key }, peer);
        peer.calls.insert(other, series.clone());
        series
    }

    fn register(&self, key: CallKey, peer: &Peer) -> Rc<CallSeries> {
        let calls = Arc::new(CallCells::default());
        let mut all = self.cells.calls.lock().unwrap_or_else(PoisonError::into_inner);
        all.push((key, calls.clone()));
        Rc::new(CallSeries { calls, peer: peer.cells.clone(), not_send: PhantomData })
    }
}

impl CallSeries {
    /// A call starts: one more is in flight, until [`end`](Self::end).
    pub fn begin(&self) {
        self.peer.in_flight.add(1);
    }

    /// The call came without a deadline.
    pub fn without_deadline(&self) {
        self.calls.without_deadline.add(1);
    }

    /// The call ended, with its gRPC status or with none, this long after it began.
    pub fn end(&self, grpc_status: Option<u8>, duration: Duration) {
        self.peer.in_flight.decrement();
        self.calls.statuses[grpc_status_index(grpc_status)].add(1);
        self.calls.observe(duration);
    }
}
