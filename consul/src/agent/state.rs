//! All that the agent knows, behind one lock, and the signal that something changed. Alias checks
//! are settled before the lock is given back: no reader sees them lag.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use super::authority::{Authority, CaError};
use super::catalog::{Bounds, Catalog, Index, Node, SERF_CHECK};
use super::check::{Check, Status};
use super::config::{AgentConfig, Limits};
use super::entries::Entries;
use super::intentions::Intentions;
use super::service::{Origin, Service};
use crate::api::intention::Action;

/// What the agent answers with as its version: the Consul whose API it speaks.
pub(super) const CONSUL_VERSION: &str = "1.22.3";

/// What a Consul server writes into the metadata of its own service.
const SERVER_META: [(&str, &str); 7] = [
    ("non_voter", "false"),
    ("raft_version", "3"),
    ("read_replica", "false"),
    ("serf_protocol_current", "2"),
    ("serf_protocol_max", "5"),
    ("serf_protocol_min", "1"),
    ("version", CONSUL_VERSION),
];

/// The agent's data.
pub(super) struct State {
    pub(super) datacenter: String,
    pub(super) node_id: String,
    pub(super) policy: Action,
    pub(super) limits: Limits,
    pub(super) index: Index,
    pub(super) catalog: Catalog,
    pub(super) intentions: Intentions,
    pub(super) entries: Entries,
    pub(super) authority: Authority,
}

impl State {
    fn new(config: &AgentConfig, now: SystemTime) -> Result<Self, CaError> {
        let mut index = Index::new();
        let limits = config.limits;
        let node_id = uuid::Uuid::new_v4().to_string();
        let bounds =
            Bounds { nodes: limits.nodes, services: limits.services, checks: limits.checks };
        let catalog = Catalog::new(local_node(config, &node_id), bounds, &mut index);
        let authority =
            Authority::new(&config.datacenter, config.leaf_ttl, limits.leaves, now, &mut index)?;
        Ok(Self {
            datacenter: config.datacenter.clone(),
            node_id,
            policy: config.default_intention_policy,
            limits,
            index,
            catalog,
            intentions: Intentions::new(limits.intentions),
            entries: Entries::new(limits.config_entries),
            authority,
        })
    }
}

/// The agent's own node, as a Consul server in development mode lists itself.
fn local_node(config: &AgentConfig, id: &str) -> Node {
    // An address to listen on everywhere is none that can be called.
    let address = match config.http.ip() {
        ip if !ip.is_unspecified() => ip.to_string(),
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.to_string(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.to_string(),
    };
    let family = if config.http.is_ipv4() { "ipv4" } else { "ipv6" };
    let tagged = ["lan", "wan"]
        .into_iter()
        .flat_map(|scope| [scope.to_owned(), format!("{scope}_{family}")]);
    let mut serf = Check::given(SERF_CHECK, "Serf Health Status", "", Status::Passing);
    "Agent alive and reachable".clone_into(&mut serf.output);
    let server = Service {
        kind: String::new(),
        id: "consul".to_owned(),
        name: "consul".to_owned(),
        tags: Vec::new(),
        meta: SERVER_META.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        address: String::new(),
        tagged_addresses: BTreeMap::new(),
        port: 8300,
        socket_path: String::new(),
        weights: (1, 1),
        enable_tag_override: false,
        proxy: None,
        native: false,
        is_nested_sidecar: false,
        origin: Origin::Server,
        create_index: 0,
        modify_index: 0,
    };
    Node {
        id: id.to_owned(),
        name: config.node_name.clone(),
        tagged_addresses: tagged.map(|label| (label, address.clone())).collect(),
        address,
        meta: BTreeMap::from([
            ("consul-network-segment".to_owned(), String::new()),
            ("consul-version".to_owned(), CONSUL_VERSION.to_owned()),
        ]),
        services: BTreeMap::from([(server.id.clone(), server)]),
        checks: BTreeMap::from([(serf.id.clone(), serf)]),
        create_index: 0,
        modify_index: 0,
    }
}

/// The state as the agent's tasks share it.
pub(super) struct Shared {
    state: Mutex<State>,
    changed: watch::Sender<u64>,
    /// Bounds the queries that wait at one time.
    pub(super) waiting: Semaphore,
}

impl Shared {
    /// The state of an agent that starts now.
    pub(super) fn new(config: &AgentConfig, now: SystemTime) -> Result<Self, CaError> {
        let state = State::new(config, now)?;
        let (changed, _) = watch::channel(state.index.current());
        let waiting = Semaphore::new(config.limits.blocked_queries);
        Ok(Self { state: Mutex::new(state), changed, waiting })
    }

    /// Reads or changes the state, then settles what follows from it and wakes who waits.
    pub(super) fn with<T>(&self, now: Instant, act: impl FnOnce(&mut State) -> T) -> T {
        // A panic elsewhere leaves data that is whole enough for a development agent.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let before = state.index.current();
        let result = act(&mut state);
        if state.index.current() != before {
            let State { catalog, index, .. } = &mut *state;
            catalog.settle_aliases(now, index);
            let current = state.index.current();
            drop(state);
            self.changed.send_replace(current);
        }
        result
    }

    /// Tells when anything changed after now.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}
