//! The sections of a [`Config`](super::Config), save the upstreams.
//! Those that need no check beyond their own types are also what the file holds.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use certs::{SpiffeId, TlsMin};
use clap::ValueEnum;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    AdvertiseAddr, AppAddr, Concurrency, Count, FaultRule, InboundAddr, InstanceId, RateRule,
    ServiceName, Size, Timeout, Wait, Weight,
};

/// Who this sidecar stands beside.
#[derive(Debug, Clone)]
pub struct Service {
    /// Its name in Consul.
    pub name: ServiceName,
    /// This instance's ID in Consul.
    pub id: InstanceId,
    /// Its tags in Consul.
    pub tags: Vec<String>,
    /// Its meta data in Consul.
    pub meta: BTreeMap<String, String>,
    /// Its weight beside other instances.
    pub weight: Weight,
}

impl Service {
    /// Where it runs; none where nobody said.
    pub fn zone(&self) -> Option<&str> {
        self.meta.get(ZONE).map(String::as_str).filter(|zone| !zone.is_empty())
    }
}

/// The key in an instance's meta data that says where it runs.
pub const ZONE: &str = "zone";

/// The app and the port that the mesh calls it on.
#[derive(Debug, Clone)]
pub struct Inbound {
    /// Where the app listens.
    pub app: AppAddr,
    /// What the app speaks.
    pub protocol: AppProtocol,
    /// Where the mesh calls.
    pub listen: InboundAddr,
    /// What Consul is told.
    pub advertise: Advertise,
    /// How many calls the app gets at a time.
    pub concurrency: Concurrency,
    /// How many calls callers may make; all rules that match count.
    pub rates: Vec<RateRule>,
    /// So many pairs of a caller and a rule `per_caller` are told apart.
    pub rate_buckets: Count,
    /// The faults that calls meet on purpose; the first match wins.
    pub faults: Vec<FaultRule>,
}

/// What an app speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AppProtocol {
    /// gRPC: HTTP/2 without TLS.
    #[default]
    Grpc,
    /// HTTP/1.1.
    Http1,
}

/// The address that Consul gives to callers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advertise {
    /// The address that the inbound listener is bound to.
    Bound,
    /// The agent's own address, with the port that the inbound listener is bound to.
    Agent,
    /// This one.
    Address(AdvertiseAddr),
}

/// Where certificates come from, and the oldest TLS that is spoken with them.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Where certificates come from.
    pub source: IdentitySource,
    /// The oldest TLS.
    pub tls_min: TlsMin,
}

/// Where certificates come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdentitySource {
    /// The Connect CA of the Consul agent.
    Consul,
    /// PEM files, read again when they change.
    Files {
        /// The leaf and what chains it to a root.
        cert: PathBuf,
        /// The leaf's key.
        key: PathBuf,
        /// The roots that peers are checked against.
        roots: PathBuf,
    },
}

/// Who may call the app where Consul does not say.
#[derive(Debug, Clone)]
pub struct Authorization {
    /// Where no intention matches and Consul states no default.
    pub default: DefaultAction,
    /// Allowed besides what intentions allow.
    pub allow: Vec<SpiffeId>,
}

/// What is done with a caller that nothing names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DefaultAction {
    /// It may call.
    Allow,
    /// It may not.
    Deny,
}

/// How long each thing may take.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Timeouts {
    /// Opening a TCP connection to an endpoint or to the app.
    pub connect: Wait,
    /// A TLS handshake, on either side.
    pub tls_handshake: Wait,
    /// From the end of a request to its response head, where the caller set no deadline.
    pub response: Timeout,
    /// A gRPC stream on which no frame goes either way; ended between one and two of this.
    pub grpc_idle: Timeout,
    /// A stream of anything but gRPC on which no frame goes either way; ended between one and two
    /// of this.
    pub http_idle: Timeout,
    /// A connection with streams open is sent a PING after so much silence.
    pub ping_interval: Wait,
    /// The first bytes of an accepted connection, and the whole head of an HTTP/1.1 request.
    pub head: Wait,
    /// A connection that does not answer a PING in this time is dead, its calls with it.
    pub ping: Wait,
    /// The first call to a name waits so long for its first endpoints.
    pub discovery: Wait,
    /// A name that is called no more is watched for so long.
    pub upstream_idle: Wait,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Wait::secs(1),
            tls_handshake: Wait::secs(2),
            response: Timeout::secs(15),
            grpc_idle: Timeout::NONE,
            http_idle: Timeout::secs(5 * 60),
            ping_interval: Wait::secs(10),
            head: Wait::secs(30),
            ping: Wait::secs(5),
            discovery: Wait::secs(1),
            upstream_idle: Wait::secs(10 * 60),
        }
    }
}

/// How much of each thing there may be.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// The headers of one message, names and values, as HTTP/2 counts them.
    pub header_list: Size,
    /// One HTTP/2 frame (16 KiB to 16 MiB).
    pub frame: Size,
    /// What one stream may have on its way to us unread.
    pub stream_window: Size,
    /// What one connection may have on its way to us unread; at least 4 stream windows.
    pub connection_window: Size,
    /// Streams at a time on one connection from the mesh.
    pub mesh_streams: Count,
    /// Streams at a time on one connection from or to this machine.
    pub loopback_streams: Count,
    /// Connections from the mesh.
    pub inbound_connections: Count,
    /// Connections from this machine, on each outbound port.
    pub loopback_connections: Count,
    /// TLS handshakes at a time on each worker.
    pub handshakes: Count,
    /// Connections and news of the control thread that wait for one worker; further ones wait where
    /// they come from.
    pub worker_queue: Count,
    /// Connections to the admin port; further ones wait.
    pub admin_connections: Count,
    /// Calls to one upstream that wait for their response head.
    pub in_flight: Count,
    /// Calls to one endpoint that wait for their response head; at most `in_flight`.
    pub in_flight_per_endpoint: Count,
    /// Streams open in the whole sidecar.
    pub open_streams: Count,
    /// Good answers that are kept for routes whose fallback is `stale`.
    pub kept_answers: Count,
    /// Bytes of all answers that are kept.
    pub kept_answer_bytes: Size,
    /// A larger answer is not kept; at most `kept_answer_bytes`.
    pub kept_answer: Size,
    /// Names that are watched in Consul.
    pub upstreams: Count,
    /// What is kept of requests over their first KiB, so that they can be sent again.
    pub kept_requests: Size,
    /// Connections that each worker keeps to one endpoint, or to the app.
    pub connections_per_endpoint: Count,
    /// Peers that metrics tell apart; one more is counted as `other`.
    pub metric_peers: Count,
    /// gRPC methods that metrics tell apart; one more is counted as `other`.
    pub metric_methods: Count,
    /// Pairs of peer and method that metrics tell apart.
    pub metric_series: Count,
    /// Endpoints that metrics tell apart; one more is not told of.
    pub metric_endpoints: Count,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_list: Size::kib(64),
            frame: Size::kib(64),
            stream_window: Size::kib(256),
            connection_window: Size::kib(4096),
            mesh_streams: Count::new(256),
            loopback_streams: Count::new(4_096),
            inbound_connections: Count::new(10_000),
            loopback_connections: Count::new(10_000),
            handshakes: Count::new(64),
            worker_queue: Count::new(1_024),
            admin_connections: Count::new(64),
            in_flight: Count::new(1_024),
            in_flight_per_endpoint: Count::new(256),
            open_streams: Count::new(10_000),
            kept_answers: Count::new(1_024),
            kept_answer_bytes: Size::kib(8 * 1024),
            kept_answer: Size::kib(64),
            upstreams: Count::new(128),
            kept_requests: Size::kib(16 * 1024),
            connections_per_endpoint: Count::new(16),
            metric_peers: Count::new(256),
            metric_methods: Count::new(512),
            metric_series: Count::new(1_024),
            metric_endpoints: Count::new(1_024),
        }
    }
}

/// How the sidecar leaves.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Drain {
    /// Calls may end within this time.
    pub timeout: Timeout,
}

impl Default for Drain {
    fn default() -> Self {
        Self { timeout: Timeout::secs(30) }
    }
}

/// What the sidecar says while it runs.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// The least that is worth a line.
    pub level: LogLevel,
    /// For people or for machines.
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: LogLevel::Info, format: LogFormat::Human }
    }
}

/// The least that is worth a line in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ValueEnum)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the words are their own description")]
pub enum LogLevel {
    Off,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

/// Threads.
#[derive(Debug, Clone)]
pub struct Runtime {
    /// Worker threads, already resolved where the config said 0.
    pub workers: NonZeroUsize,
}
