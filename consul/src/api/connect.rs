//! `/v1/connect/…`: the mesh's CA and its intentions; `/v1/discovery-chain/…`.

use http::Method;
use serde::{Deserialize, Serialize};

use crate::{
    Client, Error, Get,
    api::{Intention, Rule, null},
    client::Call,
};

/// The family; see [`Client::connect`].
#[derive(Clone, Copy, Debug)]
pub struct Connect<'c>(pub(crate) &'c Client);

impl Connect<'_> {
    /// The roots of the mesh's CA, from the servers.
    pub fn roots(&self) -> Get<CaRoots> {
        Get::new(self.0, &["connect", "ca", "roots"])
    }

    /// The CA's provider and its configuration.
    pub fn ca_configuration(&self) -> Get<serde_json::Value> {
        Get::new(self.0, &["connect", "ca", "configuration"])
    }

    /// Reconfigures the CA; another key or provider rotates the root.
    pub async fn set_ca_configuration(&self, config: &serde_json::Value) -> Result<(), Error> {
        let call = Call::new(Method::PUT, &["connect", "ca", "configuration"]);
        self.0.send_quietly(&call.json(config)?).await
    }

    /// The intentions that concern calls to a service, in order of precedence: the first that
    /// matches a caller decides.
    pub fn intentions_to(&self, destination: &str) -> Get<Vec<Intention>> {
        // Consul answers with a map from the names asked for; one is asked for.
        let mut get = Get::nullable(self.0, &["connect", "intentions", "match"])
            .with("by", "destination")
            .with("name", destination);
        get.decode = |call, body| {
            use std::collections::BTreeMap;
            type Matches = BTreeMap<String, Option<Vec<Intention>>>;
            let matches = crate::client::decode::<Option<Matches>>(call, body)?;
            Ok(matches.into_iter().flatten().filter_map(|(_, list)| list).flatten().collect())
        };
        get
    }

    /// All intentions.
    pub fn intentions(&self) -> Get<Vec<Intention>> {
        Get::nullable(self.0, &["connect", "intentions"])
    }

    /// Whether one service may call another. Blind to `default_intention_policy`: see
    /// [`crate::api::agent::Agent::default_intention`].
    pub async fn check(&self, source: &str, destination: &str) -> Result<bool, Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Allowed {
            allowed: bool,
        }
        let get: Get<Allowed> = Get::new(self.0, &["connect", "intentions", "check"])
            .with("source", source)
            .with("destination", destination);
        Ok(get.send().await?.value.allowed)
    }

    /// The intention of exactly this pair of names.
    pub async fn intention(
        &self,
        source: &str,
        destination: &str,
    ) -> Result<Option<Intention>, Error> {
        let get: Get<Intention> = Get::new(self.0, &["connect", "intentions", "exact"])
            .with("source", source)
            .with("destination", destination);
        Ok(get.send_optional().await?.map(|answer| answer.value))
    }

    /// Writes the intention of exactly this pair of names; `*` is any service.
    pub async fn set_intention(
        &self,
        source: &str,
        destination: &str,
        rule: &Rule,
    ) -> Result<(), Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Body<'r> {
            source_type: &'static str,
            #[serde(flatten)]
            rule: &'r Rule,
        }
        let call = Self::exact(Method::PUT, source, destination);
        self.0.send_quietly(&call.json(&Body { source_type: "consul", rule })?).await
    }

    /// Removes the intention of exactly this pair of names; none is no error.
    pub async fn delete_intention(&self, source: &str, destination: &str) -> Result<(), Error> {
        self.0.send_quietly(&Self::exact(Method::DELETE, source, destination)).await
    }

    /// The compiled discovery chain of a service, as Consul tells it.
    pub fn discovery_chain(&self, service: &str) -> Get<serde_json::Value> {
        Get::new(self.0, &["discovery-chain", service])
    }

    fn exact(method: Method, source: &str, destination: &str) -> Call {
        Call::new(method, &["connect", "intentions", "exact"])
            .with("source", source)
            .with("destination", destination)
    }
}

/// The roots of the mesh's CA.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CaRoots {
    /// The root that signs now.
    #[serde(rename = "ActiveRootID")]
    pub active_root_id: String,
    /// `<uuid>.consul`.
    pub trust_domain: String,
    /// All that are to be trusted.
    #[serde(deserialize_with = "null")]
    pub roots: Vec<CaRoot>,
}

/// One root.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CaRoot {
    /// Its fingerprint.
    #[serde(rename = "ID")]
    pub id: String,
    /// For people.
    pub name: String,
    /// The certificate.
    #[serde(rename = "RootCert")]
    pub cert_pem: String,
    /// Intermediates, where Consul tells them.
    #[serde(rename = "IntermediateCerts", deserialize_with = "null")]
    pub intermediates_pem: Vec<String>,
    /// Whether it signs now.
    pub active: bool,
    /// RFC 3339.
    pub not_before: String,
    /// RFC 3339.
    pub not_after: String,
}
