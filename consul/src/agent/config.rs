//! How an embedded agent is set up. Every key has a default, and those are Consul's own.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::api::intention::Action;

/// The setup of an embedded agent.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// Where the HTTP API listens; port 0 takes a free one.
    pub http: SocketAddr,
    /// Where DNS listens, over UDP and TCP; none: no DNS.
    pub dns: Option<SocketAddr>,
    /// The datacenter's name.
    pub datacenter: String,
    /// The name of its one node.
    pub node_name: String,
    /// What decides where no intention does. Allow is Consul's own without ACLs; deny is its
    /// `default_intention_policy = "deny"`, and as with Consul no header tells it, only
    /// `/v1/agent/connect/authorize` and `/v1/agent/self`.
    pub default_intention_policy: Action,
    /// How long a leaf certificate lives.
    pub leaf_ttl: Duration,
    /// What the agent holds and takes at most, and its slow clocks.
    pub limits: Limits,
}

impl Default for AgentConfig {
    fn default() -> Self {
        Self {
            http: SocketAddr::from((Ipv4Addr::LOCALHOST, 8500)),
            dns: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 8600))),
            datacenter: "dc1".to_owned(),
            node_name: "outrigger-agent".to_owned(),
            default_intention_policy: Action::Allow,
            leaf_ttl: Duration::from_secs(72 * 3600),
            limits: Limits::default(),
        }
    }
}

/// Bounds of what an agent holds and takes, and the clocks that a test may want faster.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// HTTP connections at a time; more wait to be accepted.
    pub connections: usize,
    /// Blocking queries that wait at a time; more are answered with 429.
    pub blocked_queries: usize,
    /// Bytes of a request's body; more are answered with 413.
    pub body: usize,
    /// Nodes in the catalog.
    pub nodes: usize,
    /// Service instances in the catalog.
    pub services: usize,
    /// Checks in the catalog.
    pub checks: usize,
    /// Sources of intentions.
    pub intentions: usize,
    /// Config entries other than intentions.
    pub config_entries: usize,
    /// Services that hold a leaf.
    pub leaves: usize,
    /// The least `DeregisterCriticalServiceAfter` (Consul: 1 minute).
    pub min_deregister_after: Duration,
    /// How often critical services are looked for (Consul: 30 s).
    pub reap_interval: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            blocked_queries: 4096,
            body: 1024 * 1024,
            nodes: 256,
            services: 4096,
            checks: 8192,
            intentions: 4096,
            config_entries: 1024,
            leaves: 1024,
            min_deregister_after: Duration::from_secs(60),
            reap_interval: Duration::from_secs(30),
        }
    }
}
