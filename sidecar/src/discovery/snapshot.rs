//! The snapshots that the control thread publishes to the workers.
//!
//! A snapshot is immutable once published. What a limit counts is per process and lives as atomics
//! in one state per upstream and per endpoint, which the next snapshot carries over by key.
//!
//! Each says what differs from the one before, so that a worker that has that one does no work for
//! what stayed.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Mutex};

use certs::SpiffeId;
use tokio::time::Instant;

use crate::resilience::balance::table::Table;
use crate::resilience::balance::zones::Zones;
use crate::resilience::breaker::{Breaker, Resting};
use crate::resilience::budget::Budget;
use crate::resilience::moment::Clock;

/// All that is known of one upstream.
#[derive(Debug)]
pub struct Upstream {
    /// The service's name in Consul.
    pub name: Arc<str>,
    /// The endpoints that take calls.
    pub endpoints: Vec<Endpoint>,
    /// How many more are known but critical in Consul.
    pub critical: usize,
    /// How the weight of all its endpoints lies, those that this caller does not take among them.
    pub zones: Zones,
    /// Where hashes point, by the place in `endpoints`; none where no route hashes.
    pub table: Option<Table>,
    /// Counts the snapshots.
    pub generation: u64,
    /// From the snapshot with the generation before and the same state to this one.
    pub change: Change,
    /// Counts that hold for the whole process.
    pub state: Arc<UpstreamState>,
    next_key: u64,
}

/// One address of an upstream.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Stays the same, and is no other's, while the upstream is watched.
    pub key: u64,
    /// Where its sidecar listens.
    pub address: SocketAddr,
    /// Whom its certificate must name.
    pub identity: SpiffeId,
    /// The TLS server name that is sent; Consul's form where Consul is the source.
    pub sni: Arc<str>,
    /// Its share of the calls beside others'; 0: none, unless no other takes any.
    pub weight: u16,
    /// Whether it is in our own zone.
    pub is_near: bool,
    /// Counts that hold for the whole process.
    pub state: Arc<EndpointState>,
}

/// What differs from the snapshot before.
#[derive(Debug, Default)]
pub struct Change {
    /// Keys of the endpoints that went.
    pub gone: Vec<u64>,
    /// Places in `endpoints` of those that came, or whose weight or zone changed.
    pub new: Vec<usize>,
}

/// One endpoint that takes calls, as it is found.
#[derive(Clone, Debug)]
pub struct Found {
    /// As [`Endpoint::address`].
    pub address: SocketAddr,
    /// As [`Endpoint::identity`].
    pub identity: SpiffeId,
    /// As [`Endpoint::sni`].
    pub sni: Arc<str>,
    /// As [`Endpoint::weight`].
    pub weight: u16,
    /// As [`Endpoint::is_near`].
    pub is_near: bool,
}

/// One of which no more is said.
impl From<(SocketAddr, SpiffeId, Arc<str>)> for Found {
    fn from((address, identity, sni): (SocketAddr, SpiffeId, Arc<str>)) -> Self {
        Self { address, identity, sni, weight: 1, is_near: false }
    }
}

/// Per-process counts of one upstream.
#[derive(Debug)]
pub struct UpstreamState {
    /// The time that its counts speak of.
    pub clock: Clock,
    /// What may be sent again.
    pub budget: Budget,
    /// How many breakers of its endpoints are not closed.
    pub resting: Arc<Resting>,
    /// Calls whose response head is still to come.
    pub in_flight: Arc<AtomicUsize>,
    /// Set by a worker at each call, cleared by whoever drops idle names.
    pub used: AtomicBool,
}

/// Per-process counts of one endpoint. First comes what every choice reads.
#[derive(Debug)]
#[repr(C)]
pub struct EndpointState {
    /// Calls whose response head is still to come.
    pub in_flight: AtomicUsize,
    /// Lets it rest while it fails.
    pub breaker: Breaker,
    /// What its last failure was, for people. Only calls that failed look at it.
    failed: Mutex<Option<Arc<str>>>,
}

impl Default for UpstreamState {
    /// Nothing was called yet; time counts from now on.
    fn default() -> Self {
        Self {
            clock: Clock::new(Instant::now()),
            budget: Budget::default(),
            resting: Arc::default(),
            in_flight: Arc::default(),
            used: AtomicBool::default(),
        }
    }
}

impl EndpointState {
    /// Of an endpoint that nothing is known of yet.
    fn new(of: &UpstreamState) -> Arc<Self> {
        let breaker = Breaker::new(of.resting.clone());
        Arc::new(Self { in_flight: AtomicUsize::new(0), breaker, failed: Mutex::default() })
    }

    /// It failed so.
    pub fn set_failed(&self, why: &str) {
        // Who would have to wait leaves it to whoever is there.
        if let Ok(mut failed) = self.failed.try_lock() {
            *failed = Some(why.into());
        }
    }

    /// How it failed last.
    pub fn failed(&self) -> Option<Arc<str>> {
        self.failed.try_lock().ok().and_then(|failed| failed.clone())
    }
}

impl Upstream {
    /// The next snapshot of `name`: endpoints that `previous` knew keep their key and state.
    pub fn succeed<F: Into<Found>>(
        previous: Option<&Upstream>,
        name: Arc<str>,
        endpoints: impl IntoIterator<Item = F>,
        critical: usize,
    ) -> Self {
        let mut known: HashMap<_, _> = previous
            .iter()
            .flat_map(|previous| &previous.endpoints)
            .map(|endpoint| ((endpoint.address, endpoint.identity.clone()), endpoint))
            .collect();
        let state = previous.map_or_else(Arc::default, |previous| previous.state.clone());
        let mut next_key = previous.map_or(0, |previous| previous.next_key);
        let mut change = Change::default();
        let mut zones = Zones { count: 1, ..Zones::default() };
        let endpoints = endpoints
            .into_iter()
            .enumerate()
            .map(|(at, found)| {
                let Found { address, identity, sni, weight, is_near } = found.into();
                let known = known.remove(&(address, identity.clone()));
                if known.is_none_or(|it| (it.weight, it.is_near) != (weight, is_near)) {
                    change.new.push(at);
                }
                let key = known.map_or(next_key, |known| known.key);
                next_key = next_key.max(key + 1);
                *(if is_near { &mut zones.near } else { &mut zones.far }) += u64::from(weight);
                let state =
                    known.map_or_else(|| EndpointState::new(&state), |known| known.state.clone());
                Endpoint { key, address, identity, sni, weight, is_near, state }
            })
            .collect();
        change.gone = known.into_values().map(|endpoint| endpoint.key).collect();
        let generation = previous.map_or(0, |previous| previous.generation + 1);
        Self { name, endpoints, critical, zones, table: None, generation, change, state, next_key }
    }

    /// The same as a part of an upstream whose weight lies so.
    #[must_use]
    pub fn within(self, zones: Zones) -> Self {
        Self { zones, ..self }
    }

    /// The same with a table for routes that hash.
    #[must_use]
    pub fn hashed(mut self) -> Self {
        self.table = Table::new(self.endpoints.iter().map(|one| (one.address, one.weight)));
        self
    }

    /// Whether it changes what `before` says, and nothing that came between.
    pub fn follows(&self, before: &Upstream) -> bool {
        self.generation == before.generation + 1 && Arc::ptr_eq(&self.state, &before.state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(previous: Option<&Upstream>, endpoints: &[(u16, u16)]) -> Upstream {
        let identity = SpiffeId::for_consul("td.consul", "default", "dc1", "user").unwrap();
        let found = |(port, weight): &(u16, u16)| Found {
            weight: *weight,
            ..(([127, 0, 0, 1], *port).into(), identity.clone(), Arc::from("user")).into()
        };
        Upstream::succeed(previous, "user".into(), endpoints.iter().map(found), 0)
    }

    #[test]
    fn what_stays_keeps_its_key_and_state_and_is_no_change() {
        let first = next(None, &[(1, 1), (2, 1), (3, 1)]);
        assert_eq!((&first.change.new[..], &first.change.gone[..]), (&[0, 1, 2][..], &[][..]));
        let second = next(Some(&first), &[(4, 1), (3, 1), (2, 5)]);
        assert!(second.follows(&first));
        assert_eq!(second.endpoints.iter().map(|one| one.key).collect::<Vec<_>>(), [3, 2, 1]);
        assert_eq!((&second.change.new[..], &second.change.gone[..]), (&[0, 2][..], &[0][..]));
        assert!(Arc::ptr_eq(&second.endpoints[1].state, &first.endpoints[2].state));
        let third = next(Some(&second), &[(1, 1)]);
        assert_eq!(third.endpoints[0].key, 4, "a key is used once");
        assert!(!third.follows(&first));
        assert!(!next(Some(&next(None, &[])), &[]).follows(&first), "another life of the name");
    }
}
