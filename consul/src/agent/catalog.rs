//! The catalog: nodes, their service instances and their checks, with the index at which each
//! last changed. A service's own index moves only when one of its instances, or a check that
//! judges them, does: this is what blocking queries wait for.

use std::collections::BTreeMap;

use super::check::{Check, Status};
use super::service::{Origin, Service};
use serde_json::{Value, json};

#[path = "catalog/alias.rs"]
mod alias;
#[path = "catalog/checks.rs"]
mod checks;
#[path = "catalog/schedule.rs"]
mod schedule;
#[path = "catalog/upkeep.rs"]
mod upkeep;
#[path = "catalog/virtual_ip.rs"]
mod virtual_ip;
pub(super) use schedule::Due;
pub(super) use virtual_ip::VIRTUAL;
use virtual_ip::VirtualIps;

/// The check that stands for a node's membership.
pub(super) const SERF_CHECK: &str = "serfHealth";
/// The check of a node in maintenance mode.
pub(super) const NODE_MAINTENANCE: &str = "_node_maintenance";
/// The beginning of the check of a service in maintenance mode.
pub(super) const SERVICE_MAINTENANCE: &str = "_service_maintenance:";

/// The one counter of changes; every change takes the next value.
#[derive(Debug)]
pub(super) struct Index(u64);

impl Index {
    /// Starts at 1, the least index that a client may wait on.
    pub(super) fn new() -> Self {
        Self(1)
    }

    /// The index of the latest change.
    pub(super) fn current(&self) -> u64 {
        self.0
    }

    /// The index of a change that happens now.
    pub(super) fn advance(&mut self) -> u64 {
        self.0 += 1;
        self.0
    }
}

/// One node.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) address: String,
    pub(super) tagged_addresses: BTreeMap<String, String>,
    pub(super) meta: BTreeMap<String, String>,
    pub(super) services: BTreeMap<String, Service>,
    pub(super) checks: BTreeMap<String, Check>,
    pub(super) create_index: u64,
    pub(super) modify_index: u64,
}

impl Node {
    /// The node's JSON, as in `/v1/catalog/nodes`.
    pub(super) fn json(&self, datacenter: &str) -> Value {
        json!({
            "ID": self.id,
            "Node": self.name,
            "Address": self.address,
            "Datacenter": datacenter,
            "TaggedAddresses": texts_or_null(&self.tagged_addresses),
            "Meta": texts_or_null(&self.meta),
            "CreateIndex": self.create_index,
            "ModifyIndex": self.modify_index,
        })
    }

    /// The checks that judge an instance: its own, and the node's.
    pub(super) fn checks_of(&self, service_id: &str) -> impl Iterator<Item = &Check> {
        self.checks
            .values()
            .filter(move |check| check.service_id.is_empty() || check.service_id == service_id)
    }

    /// The worst status of the checks that judge an instance.
    pub(super) fn status_of(&self, service_id: &str) -> Status {
        self.checks_of(service_id).map(|check| check.status).max().unwrap_or(Status::Passing)
    }
}

/// Go writes an empty map that nobody made as `null`.
pub(super) fn texts_or_null(map: &BTreeMap<String, String>) -> Value {
    if map.is_empty() { Value::Null } else { json!(map) }
}

/// What the catalog holds at most.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) nodes: usize,
    pub(super) services: usize,
    pub(super) checks: usize,
}

/// Why the catalog did not take a record.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error("the embedded development agent holds at most {0} {1}")]
    Full(usize, &'static str),
    #[error("ServiceID {0:?} does not exist")]
    UnknownService(String),
}

/// All nodes, the local one among them.
#[derive(Debug)]
pub(super) struct Catalog {
    pub(super) nodes: BTreeMap<String, Node>,
    local: String,
    bounds: Bounds,
    generation: u64,
    /// The index of the last change of any node, instance, or check.
    nodes_index: u64,
    services_index: u64,
    checks_index: u64,
    /// By service name, and by the name that mesh callers use.
    service_index: BTreeMap<Topic, u64>,
    /// When the last instance of any service went.
    extinction_index: u64,
    virtual_ips: VirtualIps,
}

/// What a query about a service waits for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Topic {
    /// Instances by the service's own name.
    Service(String),
    /// Mesh endpoints by the name of the service behind them.
    Connect(String),
}

fn topics(service: &Service) -> impl Iterator<Item = Topic> {
    let own = Topic::Service(service.name.clone());
    let mesh = service.connect_name().map(|name| Topic::Connect(name.to_owned()));
    std::iter::once(own).chain(mesh)
}

impl Catalog {
    /// A catalog of the local node alone.
    pub(super) fn new(mut local: Node, bounds: Bounds, index: &mut Index) -> Self {
        let at = index.advance();
        (local.create_index, local.modify_index) = (at, at);
        let mut catalog = Self {
            local: local.name.clone(),
            nodes: BTreeMap::new(),
            bounds,
            generation: 0,
            nodes_index: at,
            services_index: at,
            checks_index: at,
            service_index: BTreeMap::new(),
            extinction_index: 1,
            virtual_ips: VirtualIps::default(),
        };
        for check in local.checks.values_mut() {
            (check.create_index, check.modify_index) = (at, at);
        }
        for service in local.services.values_mut() {
            (service.create_index, service.modify_index) = (at, at);
            catalog.service_index.extend(topics(service).map(|topic| (topic, at)));
        }
        catalog.nodes.insert(local.name.clone(), local);
        catalog
    }

    /// The local node's name.
    pub(super) fn local_name(&self) -> &str {
        &self.local
    }

    /// The local node, which the catalog never drops.
    pub(super) fn local(&self) -> Option<&Node> {
        self.nodes.get(&self.local)
    }

    /// The local instance of this id, if the agent registered it.
    pub(super) fn local_service(&self, id: &str) -> Option<&Service> {
        self.local()?.services.get(id).filter(|service| service.origin == Origin::Agent)
    }

    /// The instances of a topic with their nodes.
    pub(super) fn instances(&self, topic: &Topic) -> Vec<(&Node, &Service)> {
        let fits = |service: &Service| match topic {
            Topic::Service(name) => service.name == *name,
            Topic::Connect(name) => service.connect_name() == Some(name),
        };
        let nodes = self.nodes.values();
        nodes
            .flat_map(|node| node.services.values().map(move |service| (node, service)))
            .filter(|(_, service)| fits(service))
            .collect()
    }

    /// The instances of a topic, whatever the case of its name: as DNS compares.
    pub(super) fn instances_ignoring_case(&self, topic: &Topic) -> Vec<(&Node, &Service)> {
        let fits = |service: &Service| match topic {
            Topic::Service(name) => service.name.eq_ignore_ascii_case(name),
            Topic::Connect(name) => {
                service.connect_name().is_some_and(|own| own.eq_ignore_ascii_case(name))
            }
        };
        let nodes = self.nodes.values();
        nodes
            .flat_map(|node| node.services.values().map(move |service| (node, service)))
            .filter(|(_, service)| fits(service))
            .collect()
    }

    /// The virtual address of a service in the mesh.
    pub(super) fn virtual_ip(&self, service: &str) -> Option<std::net::Ipv4Addr> {
        self.virtual_ips.of(service)
    }

    /// The index that a query about this topic answers with.
    pub(super) fn topic_index(&self, topic: &Topic) -> u64 {
        self.service_index.get(topic).copied().unwrap_or(self.extinction_index)
    }

    /// The index of the last change of a node.
    pub(super) fn nodes_index(&self) -> u64 {
        self.nodes_index
    }

    /// The index of the last change of an instance of any service.
    pub(super) fn services_index(&self) -> u64 {
        self.services_index.max(self.extinction_index)
    }

    /// The index of the last change of a check.
    pub(super) fn checks_index(&self) -> u64 {
        self.checks_index
    }

    /// A number that no check had before: tells the probes of two definitions apart.
    pub(super) fn next_generation(&mut self) -> u64 {
        self.generation += 1;
        self.generation
    }

    /// Adds a node, or changes its address and metadata.
    pub(super) fn put_node(&mut self, node: Node, index: &mut Index) -> Result<(), Refused> {
        if !self.nodes.contains_key(&node.name) {
            if self.nodes.len() >= self.bounds.nodes {
                return Err(Refused::Full(self.bounds.nodes, "nodes"));
            }
            let at = index.advance();
            self.nodes_index = at;
            let node = Node { create_index: at, modify_index: at, ..node };
            self.nodes.insert(node.name.clone(), node);
            return Ok(());
        }
        let Some(known) = self.nodes.get_mut(&node.name) else { return Ok(()) };
        let same = known.address == node.address
            && known.meta == node.meta
            && known.tagged_addresses == node.tagged_addresses
            && (known.id == node.id || node.id.is_empty());
        if same {
            return Ok(());
        }
        let at = index.advance();
        known.address = node.address;
        known.meta = node.meta;
        known.tagged_addresses = node.tagged_addresses;
        if !node.id.is_empty() {
            known.id = node.id;
        }
        known.modify_index = at;
        let touched: Vec<Topic> = known.services.values().flat_map(topics).collect();
        self.nodes_index = at;
        self.service_index.extend(touched.into_iter().map(|topic| (topic, at)));
        Ok(())
    }

    /// Drops a node and all that it has. The local node stays.
    pub(super) fn remove_node(&mut self, name: &str, index: &mut Index) {
        if name == self.local {
            return;
        }
        let ids: Vec<String> = match self.nodes.get(name) {
            None => return,
            Some(node) => node.services.keys().cloned().collect(),
        };
        for id in ids {
            self.remove_service(name, &id, index);
        }
        self.nodes.remove(name);
        let at = index.advance();
        self.nodes_index = at;
        self.checks_index = at;
    }

    /// Adds or changes an instance. What is the same already moves no index.
    pub(super) fn put_service(
        &mut self,
        node: &str,
        mut service: Service,
        index: &mut Index,
    ) -> Result<(), Refused> {
        let held: usize = self.nodes.values().map(|node| node.services.len()).sum();
        let Some(node) = self.nodes.get_mut(node) else { return Ok(()) };
        if let Some(name) = service.connect_name() {
            let address = self.virtual_ips.assign(name).to_string();
            service.tagged_addresses.insert(VIRTUAL.to_owned(), (address, service.port));
        }
        let known = node.services.get(&service.id);
        match known {
            None if held >= self.bounds.services => {
                return Err(Refused::Full(self.bounds.services, "services"));
            }
            None => {}
            Some(known) => {
                service.create_index = known.create_index;
                service.modify_index = known.modify_index;
                if *known == service {
                    return Ok(());
                }
            }
        }
        let at = index.advance();
        let old: Vec<Topic> = known.into_iter().flat_map(topics).collect();
        if known.is_none() {
            service.create_index = at;
        }
        service.modify_index = at;
        for check in node.checks.values_mut().filter(|check| check.service_id == service.id) {
            service.name.clone_into(&mut check.service_name);
            service.tags.clone_into(&mut check.service_tags);
        }
        self.service_index.extend(topics(&service).map(|topic| (topic, at)));
        node.services.insert(service.id.clone(), service);
        self.services_index = at;
        self.forget(&old, at);
        Ok(())
    }

    /// Removes an instance, its checks, and the sidecar that was registered inside of it. Whether
    /// it was there.
    pub(super) fn remove_service(&mut self, node: &str, id: &str, index: &mut Index) -> bool {
        let Some(held) = self.nodes.get_mut(node) else { return false };
        let Some(service) = held.services.remove(id) else { return false };
        let at = index.advance();
        let before = held.checks.len();
        held.checks.retain(|_, check| check.service_id != id);
        if held.checks.len() != before {
            self.checks_index = at;
        }
        let sidecar = format!("{id}{}", super::service::SIDECAR_SUFFIX);
        let nested = held.services.get(&sidecar).is_some_and(|found| found.is_nested_sidecar);
        self.services_index = at;
        self.forget(&topics(&service).collect::<Vec<_>>(), at);
        if nested {
            self.remove_service(node, &sidecar, index);
        }
        true
    }

    /// Moves the index of topics that lost an instance, and drops those that have none left.
    fn forget(&mut self, old: &[Topic], at: u64) {
        for topic in old {
            let alive = self
                .nodes
                .values()
                .flat_map(|node| node.services.values())
                .any(|service| topics(service).any(|own| own == *topic));
            if alive {
                self.service_index.insert(topic.clone(), at);
            } else {
                self.service_index.remove(topic);
                if let Topic::Connect(name) = topic {
                    self.virtual_ips.release(name);
                }
                self.extinction_index = at;
            }
        }
    }
}

#[cfg(test)]
#[path = "catalog/tests.rs"]
mod tests;
