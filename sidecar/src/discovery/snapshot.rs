//! The snapshots that the control thread publishes to the workers.
//!
//! A snapshot is immutable once published. What a limit counts is per process and lives as atomics
//! in one state per upstream and per endpoint, which the next snapshot carries over by key.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use certs::SpiffeId;
use tokio::time::Instant;

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
    /// Counts that hold for the whole process.
    pub state: Arc<UpstreamState>,
}

/// One address of an upstream.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Where its sidecar listens.
    pub address: SocketAddr,
    /// Whom its certificate must name.
    pub identity: SpiffeId,
    /// The TLS server name that is sent; Consul's form where Consul is the source.
    pub sni: Arc<str>,
    /// Counts that hold for the whole process.
    pub state: Arc<EndpointState>,
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

/// Per-process counts of one endpoint.
#[derive(Debug)]
pub struct EndpointState {
    /// Calls whose response head is still to come.
    pub in_flight: Arc<AtomicUsize>,
    /// Lets it rest while it fails.
    pub breaker: Breaker,
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
        Arc::new(Self { in_flight: Arc::default(), breaker })
    }
}

impl Upstream {
    /// The next snapshot of `name`: endpoints that `previous` knew keep their state.
    pub fn succeed(
        previous: Option<&Upstream>,
        name: Arc<str>,
        endpoints: impl IntoIterator<Item = (SocketAddr, SpiffeId, Arc<str>)>,
        critical: usize,
    ) -> Self {
        let known: HashMap<_, _> = previous
            .iter()
            .flat_map(|previous| &previous.endpoints)
            .map(|endpoint| ((endpoint.address, &endpoint.identity), &endpoint.state))
            .collect();
        let of = previous.map_or_else(Arc::default, |previous| previous.state.clone());
        let endpoints = endpoints
            .into_iter()
            .map(|(address, identity, sni)| {
                let state = known.get(&(address, &identity)).map(|&state| state.clone());
                let state = state.unwrap_or_else(|| EndpointState::new(&of));
                Endpoint { address, identity, sni, state }
            })
            .collect();
        Self { name, endpoints, critical, state: of }
    }
}
