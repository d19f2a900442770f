//! The keys of a config as they are written: what the reference describes, what
//! `outrigger check` prints, and what a [`Config`](super::Config) is made of.

use std::collections::BTreeMap;
use std::path::PathBuf;

use certs::TlsMin;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::amount::whole;
use super::balance::{Balance, HashKeys, Weight};
use super::calling::{BreakerKeys, BudgetKeys, HedgeKeys, RetryKeys};
use super::fallback::RungKeys;
use super::inbound::{InboundFaultKeys, RateKeys, RouteFaultKeys};
use super::{
    AdminAddr, AdvertiseAddr, AgentAddr, AppAddr, AppProtocol, Concurrency, Count, DefaultAction,
    Drain, EndpointAddr, InboundAddr, InstanceId, Limits, Log, OutboundAddr, ServiceName, Timeout,
    Timeouts, UpstreamListenAddr, Wait, Workload,
};

/// Every key of a `sidecar.toml`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Keys {
    /// Who this sidecar stands beside.
    pub(super) service: ServiceKeys,
    /// Where the mesh calls the app.
    pub(super) inbound: InboundKeys,
    /// Where the app calls the mesh.
    pub(super) outbound: OutboundKeys,
    /// Metrics, readiness, liveness.
    pub(super) admin: AdminKeys,
    /// Where certificates come from.
    pub(super) identity: IdentityKeys,
    /// Who may call the app where Consul does not say.
    pub(super) authorization: AuthorizationKeys,
    /// How single upstreams are called. Any service in Consul can be called without
    /// a section here.
    pub(super) upstreams: BTreeMap<ServiceName, UpstreamKeys>,
    /// The Consul agent.
    pub(super) consul: ConsulKeys,
    /// When a call is sent again, where its upstream or route says nothing else.
    pub(super) retry: RetryKeys,
    /// When an idempotent call is sent to a second endpoint, where its upstream or route says
    /// nothing else.
    pub(super) hedge: HedgeKeys,
    /// What retries and hedges of each upstream may cost, where it says nothing else.
    pub(super) retry_budget: BudgetKeys,
    /// When an endpoint rests, where its upstream says nothing else.
    pub(super) breaker: BreakerKeys,
    /// How long each thing may take.
    pub(super) timeouts: Timeouts,
    /// How much of each thing there may be.
    pub(super) limits: Limits,
    /// How calls are spread over endpoints.
    pub(super) balance: Balance,
    /// How the sidecar leaves.
    pub(super) drain: Drain,
    /// What the sidecar says while it runs.
    pub(super) log: Log,
    /// Threads.
    pub(super) runtime: RuntimeKeys,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ServiceKeys {
    /// Its name in Consul. The one key that must be set.
    pub(super) name: Option<ServiceName>,
    /// Where the app listens, on loopback. Left out: a caller only (a job, a
    /// gateway), without an inbound port.
    pub(super) app: Option<AppAddr>,
    /// What the app speaks: gRPC (HTTP/2 without TLS) or HTTP/1.1.
    pub(super) protocol: AppProtocol,
    /// This instance's ID, unique on its agent. Left out: the name and the app's port.
    pub(super) id: Option<InstanceId>,
    /// Its tags in Consul.
    pub(super) tags: Vec<String>,
    /// Its meta data in Consul. `zone` is where it runs: endpoints of the caller's own zone are
    /// called first.
    pub(super) meta: BTreeMap<String, String>,
    /// Its weight beside other instances.
    pub(super) weight: Weight,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct InboundKeys {
    /// Where the mesh calls, with mTLS.
    pub(super) listen: InboundAddr,
    /// What Consul is told. Left out: the listen address, or the agent's own where
    /// that is 0.0.0.0.
    pub(super) advertise: Option<AdvertiseAddr>,
    /// How many calls the app gets at a time.
    pub(super) concurrency: Concurrency,
    /// How many calls callers may make; all rules that match count.
    pub(super) rate: Vec<RateKeys>,
    /// So many pairs of a caller and a rule `per_caller` are told apart; what is one too many shares
    /// a limit with its like. Not without such a rule.
    pub(super) rate_buckets: Count,
    /// Faults that calls meet on purpose; the first match wins.
    pub(super) fault: Vec<InboundFaultKeys>,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct OutboundKeys {
    /// Where the app calls any upstream, by its authority; on loopback.
    pub(super) listen: OutboundAddr,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct AdminKeys {
    /// Where `/metrics`, `/ready` and `/live` are answered; on loopback.
    pub(super) listen: AdminAddr,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct IdentityKeys {
    /// Consul's Connect CA, or PEM files.
    pub(super) source: SourceKey,
    /// With `files`: the certificate and what chains it to a root (PEM). The files
    /// are read again when they change.
    pub(super) cert: Option<PathBuf>,
    /// With `files`: the certificate's key (PEM).
    pub(super) key: Option<PathBuf>,
    /// With `files`: the roots that peers are checked against (PEM).
    pub(super) roots: Option<PathBuf>,
    /// The oldest TLS that is spoken in the mesh.
    pub(super) tls_min: TlsKey,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum SourceKey {
    Consul,
    Files,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(super) enum TlsKey {
    #[serde(rename = "1.2")]
    V1_2,
    #[serde(rename = "1.3")]
    V1_3,
}

impl From<TlsKey> for TlsMin {
    fn from(key: TlsKey) -> Self {
        match key {
            TlsKey::V1_2 => Self::V1_2,
            TlsKey::V1_3 => Self::V1_3,
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct AuthorizationKeys {
    /// What is done where no intention matches and Consul states no default.
    pub(super) default: DefaultAction,
    /// Workloads that may call in addition to what intentions allow.
    pub(super) allow: Vec<Workload>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct UpstreamKeys {
    /// A port of its own, on loopback: every call to it goes to this upstream,
    /// whatever its authority.
    pub(super) listen: Option<UpstreamListenAddr>,
    /// Static addresses, instead of Consul's.
    pub(super) endpoints: Option<Vec<EndpointAddr>>,
    /// The identity expected of static endpoints. Left out: the upstream's name in
    /// our own trust domain.
    pub(super) identity: Option<Workload>,
    /// From the end of a request to its response head, where the caller set no
    /// deadline. Left out: `timeouts.response`.
    pub(super) timeout: Option<Timeout>,
    /// Opening a TCP connection to an endpoint. Left out: `timeouts.connect`.
    pub(super) connect_timeout: Option<Wait>,
    /// Calls that wait for their response head. Left out: `limits.in_flight`.
    pub(super) in_flight: Option<Count>,
    /// Calls to one endpoint that wait for their response head. Left out:
    /// `limits.in_flight_per_endpoint`.
    pub(super) in_flight_per_endpoint: Option<Count>,
    /// Endpoints that this caller takes of many. Left out: `balance.subset`. Not where a route
    /// hashes.
    pub(super) subset: Option<Count>,
    /// How long a new endpoint is spared. Left out: `balance.slow_start`.
    pub(super) slow_start: Option<Timeout>,
    /// When a call is sent again. Left out: as `[retry]`.
    pub(super) retry: RetryKeys,
    /// When an idempotent call is sent to a second endpoint. Left out: as `[hedge]`.
    pub(super) hedge: HedgeKeys,
    /// What retries and hedges may cost. Left out: as `[retry_budget]`.
    pub(super) retry_budget: BudgetKeys,
    /// When an endpoint rests. Left out: as `[breaker]`.
    pub(super) breaker: BreakerKeys,
    /// What its methods and messages are: a `FileDescriptorSet` with all imports, as
    /// `buf build -o user.binpb` writes it. Left out: the upstream's reflection is asked which of
    /// its methods are idempotent.
    pub(super) descriptors: Option<PathBuf>,
    /// What is different for some calls; the first match wins.
    pub(super) route: Vec<RouteKeys>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RouteKeys {
    /// Which calls: all that it names must match.
    #[serde(rename = "match")]
    pub(super) matches: MatchKeys,
    /// As the upstream's `timeout`, which it inherits.
    pub(super) timeout: Option<Timeout>,
    /// Consistent hashing: calls that are alike go to the same endpoint. Left out: to any.
    pub(super) hash: Option<HashKeys>,
    /// As the upstream's `retry`, which it inherits.
    pub(super) retry: RetryKeys,
    /// As the upstream's `hedge`, which it inherits.
    pub(super) hedge: HedgeKeys,
    /// What some of the calls meet on purpose. Left out: nothing.
    pub(super) fault: Option<RouteFaultKeys>,
    /// What callers get once the upstream has failed: the first of these steps that has an answer.
    pub(super) fallback: Vec<RungKeys>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct MatchKeys {
    /// The whole path: `/user.v1.UserService/ListUsers`. Other spellings of it (`//user.v1…`,
    /// `/./user.v1…`, `/%75ser.v1…`) match, too.
    pub(super) path: Option<String>,
    /// How the path begins: `/user.v1.UserService/`.
    pub(super) prefix: Option<String>,
    /// Headers that must be there with exactly this value.
    pub(super) headers: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ConsulKeys {
    /// Whether to register with Consul and discover upstreams through it.
    pub(super) enabled: bool,
    /// The agent's HTTP API: an address, a URL or `unix://` and a path. Left out: as
    /// `CONSUL_HTTP_ADDR` says, else `127.0.0.1:8500`.
    pub(super) address: Option<AgentAddr>,
    /// A file with the ACL token, read again when it changes. Left out: as
    /// `CONSUL_HTTP_TOKEN_FILE` or `CONSUL_HTTP_TOKEN` say.
    pub(super) token_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RuntimeKeys {
    /// Worker threads; 0: two, or one where there is but one core.
    #[serde(deserialize_with = "workers")]
    pub(super) workers: u8,
}

fn workers<'de, D: serde::Deserializer<'de>>(from: D) -> Result<u8, D::Error> {
    let workers = whole(from, 0..=64, "a number of threads from 0 to 64")?;
    Ok(u8::try_from(workers).unwrap_or(0))
}

impl Default for Keys {
    fn default() -> Self {
        Self {
            service: ServiceKeys::default(),
            inbound: InboundKeys::default(),
            outbound: OutboundKeys::default(),
            admin: AdminKeys::default(),
            identity: IdentityKeys::default(),
            authorization: AuthorizationKeys::default(),
            upstreams: BTreeMap::default(),
            consul: ConsulKeys::default(),
            retry: RetryKeys::defaults(),
            hedge: HedgeKeys::defaults(),
            retry_budget: BudgetKeys::defaults(),
            breaker: BreakerKeys::defaults(),
            balance: Balance::default(),
            timeouts: Timeouts::default(),
            limits: Limits::default(),
            drain: Drain::default(),
            log: Log::default(),
            runtime: RuntimeKeys::default(),
        }
    }
}

impl Default for InboundKeys {
    fn default() -> Self {
        Self {
            listen: InboundAddr::DEFAULT,
            advertise: None,
            concurrency: Concurrency::default(),
            rate: Vec::new(),
            rate_buckets: Count::new(10_000),
            fault: Vec::new(),
        }
    }
}

impl Default for OutboundKeys {
    fn default() -> Self {
        Self { listen: OutboundAddr::DEFAULT }
    }
}

impl Default for AdminKeys {
    fn default() -> Self {
        Self { listen: AdminAddr::DEFAULT }
    }
}

impl Default for IdentityKeys {
    fn default() -> Self {
        Self {
            source: SourceKey::Consul,
            cert: None,
            key: None,
            roots: None,
            tls_min: TlsKey::V1_3,
        }
    }
}

impl Default for AuthorizationKeys {
    fn default() -> Self {
        Self { default: DefaultAction::Deny, allow: Vec::new() }
    }
}

impl Default for ConsulKeys {
    fn default() -> Self {
        Self { enabled: true, address: None, token_file: None }
    }
}
