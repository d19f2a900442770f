//! What one sidecar is told to do, parsed once and never checked again.
//!
//! Flags beat the environment, which beats the file ([`load`]); every wrong key
//! and value is reported in one go. Past this module a value is right by its
//! type: an address that must be on loopback is a [`Loopback`] inside, a name is
//! a [`ServiceName`], and what was left out has its default.

mod address;
pub(crate) mod amount;
mod balance;
mod calling;
mod duration;
mod fallback;
mod fault;
pub(crate) mod file;
mod inbound;
mod keys;
mod load;
mod name;
mod problem;
pub(crate) mod reader;
mod reference;
mod resolve;
mod sections;
mod target;
mod text;
pub(crate) mod tree;
mod upstream;
mod variables;
mod workload;

use address::AgentAddr;

pub use address::{
    AdminAddr, AdvertiseAddr, AppAddr, EndpointAddr, InboundAddr, Loopback, OutboundAddr,
    UpstreamListenAddr,
};
pub use amount::{Count, Size};
pub use balance::{Balance, HashOn, Weight};
pub use calling::{Calling, Hedge, HedgeAfter};
pub(crate) use duration::parse as parse_duration;
pub use duration::{Timeout, Wait};
pub use fallback::Rung;
pub use inbound::{CallMatch, Caller, Concurrency, FaultRule, RateLimit, RateRule};
pub use load::{Flag, Loaded, Setting, Sources, load};
pub use name::{InstanceId, ServiceName};
pub use problem::{Origin, Problem, Problems};
pub use reference::reference;
pub use sections::{
    Advertise, AppProtocol, Authorization, DefaultAction, Drain, Identity, IdentitySource, Inbound,
    Limits, Log, LogFormat, LogLevel, Runtime, Service, Timeouts, ZONE,
};
pub use target::Target;
pub use text::Expected;
pub use upstream::{Endpoints, PathMatch, Route, RouteMatch, Upstream, Upstreams};
use workload::Workload;

/// A whole configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Who this sidecar stands beside.
    pub service: Service,
    /// The app and the port that the mesh calls it on; none for a caller only.
    pub inbound: Option<Inbound>,
    /// Where the app calls the mesh.
    pub outbound: OutboundAddr,
    /// Metrics, readiness, liveness.
    pub admin: AdminAddr,
    /// Where certificates come from.
    pub identity: Identity,
    /// Who may call the app where Consul does not say.
    pub authorization: Authorization,
    /// How upstreams are called.
    pub upstreams: Upstreams,
    /// How to reach the agent: the config, and the `CONSUL_*` variables where it says nothing;
    /// none where `consul.enabled = false`.
    pub consul: Option<consul::Config>,
    /// How long each thing may take.
    pub timeouts: Timeouts,
    /// How much of each thing there may be.
    pub limits: Limits,
    /// How the sidecar leaves.
    pub drain: Drain,
    /// What it says while it runs.
    pub log: Log,
    /// Its threads.
    pub runtime: Runtime,
}

#[cfg(test)]
mod tests;
