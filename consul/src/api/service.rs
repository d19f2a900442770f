//! What Consul keeps of an instance: its service, node and checks; and how one is registered.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize, Serializer};

use super::{go_duration, null};

/// How a service is registered at the agent (`PUT /v1/agent/service/register`).
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ServiceRegistration {
    /// Unique on its agent; the name where it is `None`.
    #[serde(rename = "ID", skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The service's name.
    pub name: String,
    /// Tags, which DNS can select by.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// The node's address where it is `None`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The port; 0 for none.
    pub port: u16,
    /// Free text by key.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub meta: BTreeMap<String, String>,
    /// Addresses by purpose (`lan`, `wan`, …).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tagged_addresses: BTreeMap<String, ServiceAddress>,
    /// Weights of DNS answers; Consul's default is 1 and 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<Weights>,
    /// Its checks. For a sidecar, `Some` of an empty list still gets Consul's defaults.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<CheckDefinition>,
    /// Its sidecar, which the agent registers and removes along with it.
    #[serde(
        rename = "Connect",
        skip_serializing_if = "Option::is_none",
        serialize_with = "sidecar"
    )]
    pub sidecar: Option<Box<Sidecar>>,
}

fn sidecar<S: Serializer>(
    sidecar: &Option<Box<Sidecar>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Connect<'s> {
        sidecar_service: &'s Option<Box<Sidecar>>,
    }
    Connect { sidecar_service: sidecar }.serialize(serializer)
}

/// A service's sidecar proxy; the agent names it `<id>-sidecar-proxy`.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Sidecar {
    /// Where the mesh reaches it; the service's address where it is `None`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Its mesh port.
    pub port: u16,
    /// Tags; the service's own are not inherited where these are given.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Free text by key.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub meta: BTreeMap<String, String>,
    /// Weights; Consul's default is 1 and 1, not the service's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<Weights>,
    /// Its checks. Left empty, Consul adds an alias of the service and a TCP check of the mesh
    /// port, which shows there as a failed handshake every 10 s.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<CheckDefinition>,
    /// How it is wired.
    pub proxy: ProxyRegistration,
}

/// How a sidecar is wired.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ProxyRegistration {
    /// Where the app listens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_service_address: Option<String>,
    /// Its port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_service_port: Option<u16>,
    /// What the app calls through it, as Consul's UI and topology show it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub upstreams: Vec<Upstream>,
}

/// A service that the app calls through its sidecar.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Upstream {
    /// The service's name.
    pub destination_name: String,
    /// The port on loopback where the app reaches it.
    #[serde(deserialize_with = "null")]
    pub local_bind_port: u16,
}

/// A check, as it is registered.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct CheckDefinition {
    /// Unique on the agent; Consul makes one up where it is `None`.
    #[serde(rename = "CheckID", skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// For people.
    pub name: String,
    /// The first status; critical where it is `None`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<CheckStatus>,
    /// Removes the service once the check was critical so long. Consul takes no less than a
    /// minute, and looks every 30 s.
    #[serde(
        rename = "DeregisterCriticalServiceAfter",
        skip_serializing_if = "Option::is_none",
        serialize_with = "optional_go_duration"
    )]
    pub deregister_after: Option<Duration>,
    /// What is looked at.
    #[serde(flatten)]
    pub method: CheckMethod,
}

fn optional_go_duration<S: Serializer>(
    duration: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => go_duration(duration, serializer),
        None => serializer.serialize_none(),
    }
}

/// What a check looks at.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum CheckMethod {
    /// Critical unless it is told otherwise within this time, again and again.
    Ttl {
        /// The time.
        #[serde(rename = "TTL", serialize_with = "go_duration")]
        ttl: Duration,
    },
    /// A TCP connection.
    Tcp {
        /// `host:port`.
        #[serde(rename = "TCP")]
        address: String,
        /// How often.
        #[serde(rename = "Interval", serialize_with = "go_duration")]
        interval: Duration,
        /// How long it may take.
        #[serde(rename = "Timeout", serialize_with = "go_duration")]
        timeout: Duration,
    },
    /// A GET: 2xx passes, 429 warns, all else is critical.
    Http {
        /// The URL.
        #[serde(rename = "HTTP")]
        url: String,
        /// How often.
        #[serde(rename = "Interval", serialize_with = "go_duration")]
        interval: Duration,
        /// How long it may take.
        #[serde(rename = "Timeout", serialize_with = "go_duration")]
        timeout: Duration,
    },
    /// `grpc.health.v1.Health/Check`.
    Grpc {
        /// `host:port` or `host:port/service`.
        #[serde(rename = "GRPC")]
        target: String,
        /// How often.
        #[serde(rename = "Interval", serialize_with = "go_duration")]
        interval: Duration,
        /// How long it may take.
        #[serde(rename = "Timeout", serialize_with = "go_duration")]
        timeout: Duration,
    },
    /// The status of another service's checks. Give it a first status: Consul may judge it before
    /// it has stored it, and then looks again only after a minute (seen on 1.22.3).
    Alias {
        /// That service's ID.
        #[serde(rename = "AliasService")]
        service: String,
    },
}

/// A check's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckStatus {
    /// All is well.
    Passing,
    /// Still in DNS; a `passing` query leaves it out.
    Warning,
    /// Not to be called.
    Critical,
}

/// A service, as the agent, the catalog and health answers tell it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Service {
    /// Unique on its node.
    #[serde(rename = "ID")]
    pub id: String,
    /// Its name.
    #[serde(rename = "Service")]
    pub name: String,
    /// Empty, or `connect-proxy`, a gateway's kind, ….
    #[serde(deserialize_with = "null")]
    pub kind: String,
    /// Tags.
    #[serde(deserialize_with = "null")]
    pub tags: Vec<String>,
    /// Free text by key.
    #[serde(deserialize_with = "null")]
    pub meta: BTreeMap<String, String>,
    /// Empty where the node's address counts.
    #[serde(deserialize_with = "null")]
    pub address: String,
    /// The port; 0 for none.
    #[serde(deserialize_with = "null")]
    pub port: u16,
    /// Addresses by purpose.
    #[serde(deserialize_with = "null")]
    pub tagged_addresses: BTreeMap<String, ServiceAddress>,
    /// Weights of DNS answers.
    #[serde(deserialize_with = "null")]
    pub weights: Weights,
    /// A proxy's wiring.
    #[serde(deserialize_with = "null")]
    pub proxy: Proxy,
    /// Where the agent tells it: a hash of the registration.
    pub content_hash: String,
    /// Where it is told: the datacenter.
    pub datacenter: String,
}

/// An address and its port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ServiceAddress {
    /// The address.
    pub address: String,
    /// The port.
    pub port: u16,
}

/// Weights of DNS answers, by health.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Weights {
    /// While passing.
    pub passing: u32,
    /// While warning.
    pub warning: u32,
}

impl Default for Weights {
    fn default() -> Weights {
        Weights { passing: 1, warning: 1 }
    }
}

/// A proxy's wiring, as Consul tells it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Proxy {
    /// The service that it stands before.
    pub destination_service_name: String,
    /// That service's ID.
    #[serde(rename = "DestinationServiceID")]
    pub destination_service_id: String,
    /// Where the app listens.
    pub local_service_address: String,
    /// Its port.
    pub local_service_port: u16,
    /// What the app calls.
    #[serde(deserialize_with = "null")]
    pub upstreams: Vec<Upstream>,
}

/// A node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Node {
    /// A UUID.
    #[serde(rename = "ID", deserialize_with = "null")]
    pub id: String,
    /// Its name.
    #[serde(rename = "Node")]
    pub name: String,
    /// Its address.
    pub address: String,
    /// Its datacenter.
    pub datacenter: String,
    /// Free text by key.
    #[serde(deserialize_with = "null")]
    pub meta: BTreeMap<String, String>,
}

/// A check, as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Check {
    /// The node's name.
    pub node: String,
    /// Unique on its node.
    #[serde(rename = "CheckID")]
    pub id: String,
    /// For people.
    #[serde(default)]
    pub name: String,
    /// How it stands.
    pub status: CheckStatus,
    /// What the check said last.
    #[serde(default)]
    pub output: String,
    /// Empty for a node's check.
    #[serde(rename = "ServiceID", default)]
    pub service_id: String,
    /// Empty for a node's check.
    #[serde(default)]
    pub service_name: String,
}

/// An instance with its node and checks (`GET /v1/health/{service,connect}/…`).
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ServiceEntry {
    /// Where it runs.
    pub node: Node,
    /// The instance, or its proxy.
    pub service: Service,
    /// The node's checks and its own.
    #[serde(default, deserialize_with = "null")]
    pub checks: Vec<Check>,
}

impl ServiceEntry {
    /// The instance's own address, or its node's.
    pub fn address(&self) -> &str {
        if self.service.address.is_empty() { &self.node.address } else { &self.service.address }
    }

    /// The worst of its checks; passing without any.
    pub fn status(&self) -> CheckStatus {
        self.checks.iter().map(|check| check.status).max().unwrap_or(CheckStatus::Passing)
    }
}
