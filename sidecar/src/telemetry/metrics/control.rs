//! What the control thread knows: certificate, endpoints, the age of what Consul said.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use crate::telemetry::labels::{EndpointStanding, SnapshotKind};

#[derive(Debug, Default)]
pub(super) struct Control(Mutex<State>);

#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub(super) certificate_expiry: Option<SystemTime>,
    /// By upstream.
    pub(super) endpoints: BTreeMap<String, BTreeMap<EndpointStanding, usize>>,
    /// By watch: when it last agreed with Consul.
    pub(super) watches: BTreeMap<u64, (SnapshotKind, SystemTime)>,
    next_watch: u64,
}

/// How old one watch's snapshot is.
#[derive(Debug)]
#[must_use = "the age is exposed only while the handle lives"]
pub struct SnapshotAge {
    control: Arc<Control>,
    id: u64,
    kind: SnapshotKind,
}

impl Control {
    pub(super) fn certificate_expiry(&self, not_after: SystemTime) {
        self.state().certificate_expiry = Some(not_after);
    }

    pub(super) fn endpoints(&self, peer: &str, state: EndpointStanding, n: usize, cap: usize) {
        let endpoints = &mut self.state().endpoints;
        if let Some(states) = endpoints.get_mut(peer) {
            states.insert(state, n);
        } else if endpoints.len() < cap {
            endpoints.insert(peer.to_owned(), BTreeMap::from([(state, n)]));
        }
    }

    pub(super) fn forget_endpoints(&self, peer: &str) {
        self.state().endpoints.remove(peer);
    }

    pub(super) fn snapshot(&self) -> State {
        self.state().clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SnapshotAge {
    pub(super) fn new(control: &Arc<Control>, kind: SnapshotKind, now: SystemTime) -> Self {
        let mut state = control.state();
        state.next_watch += 1;
        let id = state.next_watch;
        state.watches.insert(id, (kind, now));
        Self { control: control.clone(), id, kind }
    }

    /// Consul answered: what the sidecar holds is what Consul holds.
    pub fn confirmed(&self, now: SystemTime) {
        self.control.state().watches.insert(self.id, (self.kind, now));
    }
}

impl Drop for SnapshotAge {
    fn drop(&mut self) {
        self.control.state().watches.remove(&self.id);
    }
}
