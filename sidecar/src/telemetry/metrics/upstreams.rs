//! What breakers and budgets say, read from their shared state when somebody scrapes.
//!
//! Bounded by the endpoints that the sidecar takes of each upstream, and by a number of rows.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::encoding::DescriptorEncoder;
use tokio::time::Instant;

use super::scrape::gauge;
use crate::discovery::snapshot::Upstream;
use crate::resilience::breaker::State;
use crate::resilience::budget::Allowance;
use crate::telemetry::labels::{self, OTHER};

/// The upstreams that are watched.
#[derive(Debug, Default)]
pub(super) struct Upstreams(Mutex<BTreeMap<Arc<str>, Known>>);

#[derive(Clone, Debug)]
struct Known {
    snapshot: Arc<Upstream>,
    allowance: Allowance,
}

/// As of one moment.
#[derive(Debug)]
pub(super) struct Standing {
    /// Retries left, by upstream.
    budgets: Vec<(Arc<str>, u64)>,
    /// By upstream and address.
    breakers: Vec<(Arc<str>, String, u64)>,
}

impl Upstreams {
    pub(super) fn set(&self, snapshot: Arc<Upstream>, allowance: Allowance) {
        self.lock().insert(snapshot.name.clone(), Known { snapshot, allowance });
    }

    pub(super) fn forget(&self, name: &str) {
        self.lock().remove(name);
    }

    /// At most so many endpoints.
    pub(super) fn standing(&self, now: Instant, most: usize) -> Standing {
        let known: Vec<_> = self.lock().values().cloned().collect();
        let budget = |Known { snapshot, allowance }: &Known| {
            let state = &snapshot.state;
            let left = state.budget.left(allowance, state.clock.moment(now));
            (snapshot.name.clone(), left)
        };
        let breakers = known.iter().flat_map(|Known { snapshot, .. }| {
            let moment = snapshot.state.clock.moment(now);
            snapshot.endpoints.iter().map(move |endpoint| {
                let state = match endpoint.state.breaker.state(moment) {
                    State::Closed => 0,
                    State::HalfOpen => 1,
                    State::Open(_) => 2,
                };
                (snapshot.name.clone(), endpoint.address.to_string(), state)
            })
        });
        Standing {
            budgets: known.iter().map(budget).collect(),
            breakers: breakers.take(most).collect(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Standing {
    pub(super) fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let peer = |name| ("peer", labels::name(name).unwrap_or(OTHER));
        let budgets = self.budgets.iter().map(|(name, left)| ([peer(name)], *left));
        gauge(
            encoder,
            "outrigger_retry_budget_available",
            "Retries that the budget would grant now",
            None,
            budgets,
        )?;
        let breakers = self
            .breakers
            .iter()
            .map(|(name, address, state)| ([peer(name), ("endpoint", address.as_str())], *state));
        gauge(
            encoder,
            "outrigger_breaker_state",
            "0: calls go to the endpoint, 1: one call asks whether it is well, 2: it rests",
            None,
            breakers,
        )
    }
}
