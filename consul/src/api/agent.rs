//! `/v1/agent/…`: the local agent: registration, checks, leaf certificates.

use std::{collections::BTreeMap, fmt};

use http::Method;
use serde::{Deserialize, Serialize};

use crate::{
    Client, Error, Get,
    api::{Check, CheckStatus, Service, ServiceRegistration, connect::CaRoots, null},
    client::Call,
};

mod default_intention;
pub use default_intention::DefaultIntention;

/// The family; see [`Client::agent`].
#[derive(Clone, Copy, Debug)]
pub struct Agent<'c>(pub(crate) &'c Client);

impl Agent<'_> {
    /// Registers a service, and takes away those of its checks that are not given any more.
    pub async fn register(&self, service: &ServiceRegistration) -> Result<(), Error> {
        let call = Call::new(Method::PUT, &["agent", "service", "register"])
            .with("replace-existing-checks", "true");
        self.0.send_quietly(&call.json(service)?).await
    }

    /// Removes a service and its sidecar.
    pub async fn deregister(&self, id: &str) -> Result<(), Error> {
        self.put(&["agent", "service", "deregister", id]).await
    }

    /// The agent's own record of a service.
    pub async fn service(&self, id: &str) -> Result<Option<Service>, Error> {
        let get: Get<Service> = Get::new(self.0, &["agent", "service", id]);
        Ok(get.send_optional().await?.map(|answer| answer.value))
    }

    /// The agent's services, by ID.
    pub fn services(&self) -> Get<BTreeMap<String, Service>> {
        Get::nullable(self.0, &["agent", "services"])
    }

    /// The agent's checks, by ID.
    pub fn checks(&self) -> Get<BTreeMap<String, Check>> {
        Get::nullable(self.0, &["agent", "checks"])
    }

    /// Tells a TTL check's status, with the reason for people.
    pub async fn update_check(
        &self,
        id: &str,
        status: CheckStatus,
        output: &str,
    ) -> Result<(), Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Update<'s> {
            status: CheckStatus,
            output: &'s str,
        }
        let call = Call::new(Method::PUT, &["agent", "check", "update", id]);
        self.0.send_quietly(&call.json(&Update { status, output })?).await
    }

    /// Puts a service in maintenance, which survives the agent's restart, or ends it.
    pub async fn service_maintenance(
        &self,
        id: &str,
        enable: bool,
        reason: &str,
    ) -> Result<(), Error> {
        let call = Call::new(Method::PUT, &["agent", "service", "maintenance", id])
            .with("enable", enable.to_string())
            .with("reason", reason);
        self.0.send_quietly(&call).await
    }

    /// Gives the agent a token of its own, to use until it is given another.
    pub async fn set_own_token(&self, purpose: OwnToken, secret: &str) -> Result<(), Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Body<'s> {
            token: &'s str,
        }
        let purpose = match purpose {
            OwnToken::Agent => "agent",
            OwnToken::Dns => "dns",
        };
        let call = Call::new(Method::PUT, &["agent", "token", purpose]);
        self.0.send_quietly(&call.json(&Body { token: secret })?).await
    }

    /// The agent's configuration and place; needs `agent:read`, so that least policies refuse it.
    pub fn own(&self) -> Get<Own> {
        Get::new(self.0, &["agent", "self"])
    }

    /// The members of its gossip pool.
    pub fn members(&self) -> Get<Vec<Member>> {
        Get::nullable(self.0, &["agent", "members"])
    }

    /// A leaf certificate of a service, issued by need.
    pub fn leaf(&self, service: &str) -> Get<Leaf> {
        Get::new(self.0, &["agent", "connect", "ca", "leaf", service])
    }

    /// The roots of the mesh's CA, from the agent's cache.
    pub fn roots(&self) -> Get<CaRoots> {
        Get::new(self.0, &["agent", "connect", "ca", "roots"])
    }

    /// Whether a caller may open a connection to `target`. Consul counts every intention with
    /// permissions as deny here.
    pub async fn authorize(&self, target: &str, caller: &str) -> Result<Authorization, Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Question<'s> {
            target: &'s str,
            #[serde(rename = "ClientCertURI")]
            client_cert_uri: &'s str,
            client_cert_serial: &'s str,
        }
        // Consul asks for a serial number, and does not look at it.
        let question = Question { target, client_cert_uri: caller, client_cert_serial: "00:00" };
        let call = Call::new(Method::POST, &["agent", "connect", "authorize"]);
        self.0.send_for(&call.json(&question)?).await
    }

    async fn put(&self, segments: &[&str]) -> Result<(), Error> {
        self.0.send_quietly(&Call::new(Method::PUT, segments)).await
    }
}

/// What an agent uses a token of its own for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnToken {
    /// Its node in the catalog.
    Agent,
    /// The answers of its DNS.
    Dns,
}

/// A leaf certificate and its key.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Leaf {
    /// In hexadecimal, a colon between the bytes.
    pub serial_number: String,
    /// The certificate, and intermediates after it.
    #[serde(rename = "CertPEM")]
    pub cert_pem: String,
    /// The key, SEC1 (`EC PRIVATE KEY`) or PKCS#8. A secret.
    #[serde(rename = "PrivateKeyPEM")]
    pub private_key_pem: String,
    /// The service's name.
    pub service: String,
    /// The SPIFFE ID.
    #[serde(rename = "ServiceURI")]
    pub service_uri: String,
    /// RFC 3339.
    pub valid_after: String,
    /// RFC 3339.
    pub valid_before: String,
}

impl fmt::Debug for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leaf")
            .field("service_uri", &self.service_uri)
            .field("serial_number", &self.serial_number)
            .field("valid_after", &self.valid_after)
            .field("valid_before", &self.valid_before)
            .finish_non_exhaustive()
    }
}

/// What [`Agent::authorize`] says.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Authorization {
    /// Yes or no.
    pub authorized: bool,
    /// Why, in Consul's words.
    #[serde(default)]
    pub reason: String,
}

/// The agent itself.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Own {
    /// The public part of its configuration.
    pub config: OwnConfig,
    /// The whole of it, in no promised shape.
    #[serde(default)]
    pub debug_config: serde_json::Value,
    /// Its place in the gossip pool.
    #[serde(default)]
    pub member: Option<Member>,
}

impl Own {
    /// The default intention policy where it is configured: an empty one follows the ACLs'.
    pub fn default_intention_policy(&self) -> Option<&str> {
        self.debug_config.get("DefaultIntentionPolicy")?.as_str().filter(|text| !text.is_empty())
    }
}

/// The public part of an agent's configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct OwnConfig {
    /// The datacenter.
    pub datacenter: String,
    /// The node's name.
    pub node_name: String,
    /// The node's ID.
    #[serde(rename = "NodeID")]
    pub node_id: String,
    /// Whether it is a server.
    pub server: bool,
    /// `1.22.3`, say.
    pub version: String,
}

/// A member of the gossip pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Member {
    /// The node's name.
    pub name: String,
    /// Its address.
    pub addr: String,
    /// Its gossip port.
    pub port: u16,
    /// Free text by key.
    #[serde(deserialize_with = "null")]
    pub tags: BTreeMap<String, String>,
    /// Serf's status; 1 is alive.
    pub status: i32,
}
