//! The agent's Connect CA: one active root, the roots before it, and a leaf a service name.
//! A leaf handed out always belongs to the active root and has at least a third of its life left.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use certs::TrustDomain;

use super::catalog::Index;

#[path = "authority/issue.rs"]
mod issue;

/// Roots that are still listed after they were rotated out.
const MAX_OLD_ROOTS: usize = 8;

/// Why the CA did not issue.
#[derive(Debug, thiserror::Error)]
pub(super) enum CaError {
    #[error("{0}")]
    Issue(#[from] certs::CaError),
    #[error("{0}")]
    Identity(#[from] certs::SpiffeIdError),
    #[error("no active root")]
    NoRoot,
    #[error("the embedded development agent holds leaves of at most {0} services")]
    Full(usize),
}

/// A root and its place in the list.
struct Root {
    material: issue::RootMaterial,
    create_index: u64,
    modify_index: u64,
    active: bool,
}

/// A leaf as it is handed out. Its key never shows in `Debug`: there is none.
#[derive(Clone)]
pub(super) struct Leaf {
    material: issue::LeafMaterial,
    service: String,
    root: String,
    create_index: u64,
    modify_index: u64,
}

/// The CA.
pub(super) struct Authority {
    trust_domain: TrustDomain,
    datacenter: String,
    leaf_ttl: Duration,
    max_leaves: usize,
    roots: Vec<Root>,
    leaves: BTreeMap<String, Leaf>,
    configuration: Value,
    roots_index: u64,
    configuration_index: u64,
}

impl Authority {
    /// A CA with a trust domain of its own and its first root.
    pub(super) fn new(
        datacenter: &str,
        leaf_ttl: Duration,
        max_leaves: usize,
        now: SystemTime,
        index: &mut Index,
    ) -> Result<Self, CaError> {
        let mut authority = Self {
            trust_domain: format!("{}.consul", uuid::Uuid::new_v4()).parse()?,
            datacenter: datacenter.to_owned(),
            leaf_ttl,
            max_leaves,
            roots: Vec::new(),
            leaves: BTreeMap::new(),
            configuration: json!({
                "IntermediateCertTTL": "8760h",
                "LeafCertTTL": super::duration::format(leaf_ttl).trim_end_matches("0m0s"),
                "RootCertTTL": "87600h",
            }),
            roots_index: 1,
            configuration_index: index.advance(),
        };
        authority.rotate(now, index)?;
        Ok(authority)
    }

    /// Makes a new root the active one; those before stay listed as inactive.
    pub(super) fn rotate(&mut self, now: SystemTime, index: &mut Index) -> Result<(), CaError> {
        let material = issue::root(self.trust_domain.clone(), now)?;
        let at = index.advance();
        for root in self.roots.iter_mut().filter(|root| root.active) {
            root.active = false;
            root.modify_index = at;
        }
        self.roots.push(Root { material, create_index: at, modify_index: at, active: true });
        if self.roots.len() > MAX_OLD_ROOTS + 1 {
            self.roots.remove(0);
        }
        self.roots_index = at;
        self.refresh(now, index)
    }

    /// Takes a new CA configuration; a leaf's life is all of it that changes what is issued.
    /// Consul makes a new root where the key or the root itself would differ; a development CA
    /// has but one kind of key, so every new configuration makes one.
    pub(super) fn configure(
        &mut self,
        configuration: Value,
        now: SystemTime,
        index: &mut Index,
    ) -> Result<(), CaError> {
        let ttl = configuration["LeafCertTTL"].as_str().and_then(super::duration::parse);
        if let Some(ttl) = ttl {
            self.leaf_ttl = ttl;
        }
        self.configuration = configuration;
        self.configuration_index = index.advance();
        self.rotate(now, index)
    }

    /// The index of the last change of roots.
    pub(super) fn roots_index(&self) -> u64 {
        self.roots_index
    }

    /// The trust domain, `<uuid>.consul`.
    pub(super) fn trust_domain(&self) -> &str {
        self.trust_domain.as_str()
    }

    /// The leaf of a service, issued where there is none.
    pub(super) fn leaf(
        &mut self,
        service: &str,
        now: SystemTime,
        index: &mut Index,
    ) -> Result<&Leaf, CaError> {
        let stale = self.leaves.get(service).is_none_or(|leaf| self.is_stale(leaf, now));
        if stale {
            self.issue(service, now, index)?;
        }
        self.leaves.get(service).ok_or(CaError::Full(self.max_leaves))
    }

    /// Issues the leaves again that should not be used any longer.
    pub(super) fn refresh(&mut self, now: SystemTime, index: &mut Index) -> Result<(), CaError> {
        let stale: Vec<String> = self
            .leaves
            .values()
            .filter(|leaf| self.is_stale(leaf, now))
            .map(|leaf| leaf.service.clone())
            .collect();
        stale.iter().try_for_each(|service| self.issue(service, now, index))
    }

    /// How long until the next leaf should be issued again.
    pub(super) fn next_refresh(&self, now: SystemTime) -> Option<Duration> {
        let renewals = self.leaves.values().map(|leaf| leaf.material.renew_at());
        renewals.min().map(|at| at.duration_since(now).unwrap_or_default())
    }

    fn active(&self) -> Option<&Root> {
        self.roots.iter().find(|root| root.active)
    }

    fn is_stale(&self, leaf: &Leaf, now: SystemTime) -> bool {
        let other_root = self.active().is_some_and(|root| root.material.id != leaf.root);
        other_root || now >= leaf.material.renew_at()
    }

    fn issue(&mut self, service: &str, now: SystemTime, index: &mut Index) -> Result<(), CaError> {
        if !self.leaves.contains_key(service) && self.leaves.len() >= self.max_leaves {
            return Err(CaError::Full(self.max_leaves));
        }
        let root = self.active().ok_or(CaError::NoRoot)?;
        let material = issue::leaf(&root.material, &self.datacenter, service, now, self.leaf_ttl)?;
        let at = index.advance();
        let leaf = Leaf {
            material,
            service: service.to_owned(),
            root: root.material.id.clone(),
            create_index: at,
            modify_index: at,
        };
        self.leaves.insert(service.to_owned(), leaf);
        Ok(())
    }

    /// `/v1/connect/ca/roots`.
    pub(super) fn roots_json(&self) -> Value {
        let roots: Vec<Value> = self.roots.iter().map(Root::json).collect();
        json!({
            "ActiveRootID": self.active().map_or("", |root| root.material.id.as_str()),
            "TrustDomain": self.trust_domain.as_str(),
            "Roots": roots,
        })
    }

    /// The PEM bundle of all listed roots.
    pub(super) fn roots_pem(&self) -> String {
        self.roots.iter().map(|root| root.material.pem.as_str()).collect()
    }

    /// `/v1/connect/ca/configuration`.
    pub(super) fn configuration_json(&self) -> Value {
        json!({
            "Provider": "consul",
            "Config": self.configuration,
            "State": null,
            "ForceWithoutCrossSigning": false,
            "CreateIndex": self.configuration_index,
            "ModifyIndex": self.configuration_index,
        })
    }
}

impl Root {
    fn json(&self) -> Value {
        json!({
            "ID": self.material.id,
            "Name": "Consul CA Primary Cert",
            "SerialNumber": self.material.serial,
            "SigningKeyID": self.material.key_id,
            "ExternalTrustDomain": self.material.trust_domain.as_str().trim_end_matches(".consul"),
            "NotBefore": rfc3339(self.material.not_before),
            "NotAfter": rfc3339(self.material.not_after),
            "RootCert": self.material.pem,
            "IntermediateCerts": null,
            "Active": self.active,
            "PrivateKeyType": "ec",
            "PrivateKeyBits": 256,
            "CreateIndex": self.create_index,
            "ModifyIndex": self.modify_index,
        })
    }
}

impl Leaf {
    /// The index that a caller waits on.
    pub(super) fn index(&self) -> u64 {
        self.modify_index
    }

    /// `/v1/agent/connect/ca/leaf`: with the private key.
    pub(super) fn json(&self) -> Value {
        json!({
            "SerialNumber": self.material.serial,
            "CertPEM": self.material.cert_pem,
            "PrivateKeyPEM": self.material.key_pem,
            "Service": self.service,
            "ServiceURI": self.material.uri,
            "ValidAfter": rfc3339(self.material.valid_after),
            "ValidBefore": rfc3339(self.material.valid_before),
            "CreateIndex": self.create_index,
            "ModifyIndex": self.modify_index,
        })
    }
}

/// A time as Go writes it into JSON, in whole seconds.
pub(super) fn rfc3339(time: SystemTime) -> String {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    i64::try_from(seconds)
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| "0001-01-01T00:00:00Z".to_owned())
}

#[cfg(test)]
#[path = "authority/tests.rs"]
mod tests;
