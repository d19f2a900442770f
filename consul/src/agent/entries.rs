//! Config entries other than intentions: stored and returned as they were written, with their
//! indexes; of their content only a service's protocol is looked at.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::catalog::Index;

/// The kinds that Consul knows, intentions left out.
const KINDS: [&str; 17] = [
    "api-gateway",
    "bound-api-gateway",
    "exported-services",
    "file-system-certificate",
    "http-route",
    "ingress-gateway",
    "inline-certificate",
    "jwt-provider",
    "mesh",
    "proxy-defaults",
    "rate-limit",
    "sameness-group",
    "service-defaults",
    "service-resolver",
    "service-router",
    "service-splitter",
    "tcp-route",
];

/// Whether Consul knows the kind.
pub(super) fn is_kind(kind: &str) -> bool {
    kind == "service-intentions" || kind == "terminating-gateway" || KINDS.contains(&kind)
}

/// The store.
#[derive(Debug)]
pub(super) struct Entries {
    entries: BTreeMap<(String, String), Value>,
    bound: usize,
    index: u64,
}

impl Entries {
    /// None yet, and never more than `bound`.
    pub(super) fn new(bound: usize) -> Self {
        Self { entries: BTreeMap::new(), bound, index: 1 }
    }

    /// The index of the last change.
    pub(super) fn index(&self) -> u64 {
        self.index
    }

    /// Stores an entry; false where the store is full.
    pub(super) fn put(
        &mut self,
        kind: &str,
        name: &str,
        mut body: Map<String, Value>,
        index: &mut Index,
    ) -> bool {
        let key = (kind.to_owned(), name.to_owned());
        if !self.entries.contains_key(&key) && self.entries.len() >= self.bound {
            return false;
        }
        let at = index.advance();
        let created = self.entries.get(&key).map_or(json!(at), |old| old["CreateIndex"].clone());
        body.insert("Kind".to_owned(), json!(kind));
        body.insert("Name".to_owned(), json!(name));
        body.insert("CreateIndex".to_owned(), created);
        body.insert("ModifyIndex".to_owned(), json!(at));
        self.index = at;
        self.entries.insert(key, body.into());
        true
    }

    /// The entry of this kind and name.
    pub(super) fn entry(&self, kind: &str, name: &str) -> Option<&Value> {
        self.entries.get(&(kind.to_owned(), name.to_owned()))
    }

    /// All entries of a kind.
    pub(super) fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.entries.iter().filter(move |((own, _), _)| own == kind).map(|(_, entry)| entry)
    }

    /// Removes an entry.
    pub(super) fn remove(&mut self, kind: &str, name: &str, index: &mut Index) {
        if self.entries.remove(&(kind.to_owned(), name.to_owned())).is_some() {
            self.index = index.advance();
        }
    }

    /// The protocol of a service: its own, the proxies' default, or `tcp`.
    pub(super) fn protocol(&self, service: &str) -> String {
        let own = self.entry("service-defaults", service).map(|entry| &entry["Protocol"]);
        let global =
            self.entry("proxy-defaults", "global").map(|entry| &entry["Config"]["protocol"]);
        own.into_iter()
            .chain(global)
            .find_map(|value| value.as_str().filter(|text| !text.is_empty()))
            .unwrap_or("tcp")
            .to_owned()
    }
}
