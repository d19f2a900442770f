//! The snapshots that the control thread publishes to the workers.
//!
//! A snapshot is immutable once published. What a limit counts is per process and lives as atomics
//! in one state per upstream and per endpoint, which the next snapshot carries over by key.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use certs::SpiffeId;

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
#[derive(Debug, Default)]
pub struct UpstreamState {
    /// Calls whose response head is still to come.
    pub in_flight: Arc<AtomicUsize>,
    /// Set by a worker at each call, cleared by whoever drops idle names.
    pub used: AtomicBool,
}

/// Per-process counts of one endpoint.
#[derive(Debug, Default)]
pub struct EndpointState {
    /// Calls whose response head is still to come.
    pub in_flight: Arc<AtomicUsize>,
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
        let endpoints = endpoints
            .into_iter()
            .map(|(address, identity, sni)| {
                let state = known.get(&(address, &identity)).map(|&state| state.clone());
                Endpoint { address, identity, sni, state: state.unwrap_or_default() }
            })
            .collect();
        let state = previous.map_or_else(Arc::default, |previous| previous.state.clone());
        Self { name, endpoints, critical, state }
    }
}
