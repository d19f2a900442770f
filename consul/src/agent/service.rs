//! One service instance of the catalog: how it is read from a registration, and its three JSON
//! shapes (the agent's, the catalog's, health's). A record here has passed Consul's validation.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::body::{BodyError, Fields};
use super::catalog::VIRTUAL;

#[path = "service/proxy.rs"]
mod proxy;

pub(super) use proxy::Proxy;

/// What Consul appends to a service's name and id for its sidecar.
pub(super) const SIDECAR_SUFFIX: &str = "-sidecar-proxy";

/// Who wrote an instance into the catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// The local agent: it lists it and keeps its checks.
    Agent,
    /// `/v1/catalog/register`.
    Catalog,
    /// The agent's own `consul` service, as a server lists itself.
    Server,
}

/// One instance of a service.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Service {
    pub(super) kind: String,
    pub(super) id: String,
    pub(super) name: String,
    pub(super) tags: Vec<String>,
    pub(super) meta: BTreeMap<String, String>,
    pub(super) address: String,
    pub(super) tagged_addresses: BTreeMap<String, (String, u16)>,
    pub(super) port: u16,
    pub(super) socket_path: String,
    pub(super) weights: (i64, i64),
    pub(super) enable_tag_override: bool,
    pub(super) proxy: Option<Proxy>,
    pub(super) native: bool,
    /// Registered through its parent's `SidecarService`: goes when the parent goes.
    pub(super) is_nested_sidecar: bool,
    pub(super) origin: Origin,
    pub(super) create_index: u64,
    pub(super) modify_index: u64,
}

impl Service {
    /// Reads a service definition (`/v1/agent/service/register`, or a nested sidecar's); an empty
    /// id becomes the name.
    pub(super) fn from_definition(fields: Fields<'_>, origin: Origin) -> Result<Self, BodyError> {
        // The catalog's own endpoint calls the name `Service`, the agent's `Name`.
        let name = match fields.text("Name")? {
            name if name.is_empty() => fields.text("Service")?,
            name => name,
        };
        let id = match fields.text("ID")? {
            id if id.is_empty() => name.clone(),
            id => id,
        };
        let weights = match fields.object("Weights")? {
            None => (1, 1),
            Some(weights) => (weights.integer("Passing")?, weights.integer("Warning")?),
        };
        let mut tagged_addresses = BTreeMap::new();
        if let Some(Value::Object(map)) = fields.value("TaggedAddresses") {
            for (label, value) in map {
                if let Value::Object(entry) = value {
                    let entry = Fields::new(entry, "TaggedAddresses");
                    tagged_addresses
                        .insert(label.clone(), (entry.text("Address")?, entry.port("Port")?));
                }
            }
        }
        let native = match fields.object("Connect")? {
            None => false,
            Some(connect) => connect.boolean("Native")?,
        };
        let kind = fields.text("Kind")?;
        let proxy = match fields.object("Proxy")? {
            Some(proxy) => Some(Proxy::from_fields(proxy)?),
            None if kind == "connect-proxy" => Some(Proxy::default()),
            None => None,
        };
        Ok(Self {
            kind,
            id,
            name,
            tags: fields.texts("Tags")?,
            meta: fields.text_map("Meta")?,
            address: fields.text("Address")?,
            tagged_addresses,
            port: fields.port("Port")?,
            socket_path: fields.text("SocketPath")?,
            weights,
            enable_tag_override: fields.boolean("EnableTagOverride")?,
            proxy,
            native,
            is_nested_sidecar: false,
            origin,
            create_index: 0,
            modify_index: 0,
        })
    }

    /// Turns a nested `SidecarService` into the instance that Consul registers beside `parent`.
    pub(super) fn into_sidecar_of(mut self, parent: &Service) -> Self {
        self.id = format!("{}{SIDECAR_SUFFIX}", parent.id);
        self.is_nested_sidecar = true;
        if self.meta.is_empty() {
            self.meta = parent.meta.clone();
        }
        if self.tags.is_empty() {
            self.tags = parent.tags.clone();
        }
        if self.kind.is_empty() {
            "connect-proxy".clone_into(&mut self.kind);
        }
        if self.name.is_empty() {
            self.name = format!("{}{SIDECAR_SUFFIX}", parent.name);
        }
        if self.address.is_empty() {
            self.address = parent.address.clone();
        }
        let proxy = self.proxy.get_or_insert_default();
        if proxy.destination.is_empty() {
            proxy.destination = parent.name.clone();
        }
        if proxy.destination_id.is_empty() {
            proxy.destination_id = parent.id.clone();
        }
        if proxy.local_socket.is_empty() {
            if !parent.socket_path.is_empty() && proxy.local_port == 0 {
                proxy.local_socket = parent.socket_path.clone();
            } else {
                if proxy.local_address.is_empty() {
                    "127.0.0.1".clone_into(&mut proxy.local_address);
                }
                if proxy.local_port == 0 {
                    proxy.local_port = parent.port;
                }
            }
        }
        self
    }

    /// The tagged addresses that the agent adds where the address is an IP address.
    pub(super) fn with_default_tagged_addresses(mut self) -> Self {
        let labels: &[&str] = match self.address.parse::<IpAddr>() {
            Ok(IpAddr::V4(_)) => &["lan_ipv4", "wan_ipv4"],
            Ok(IpAddr::V6(_)) => &["lan_ipv6", "wan_ipv6"],
            Err(_) => &[],
        };
        for label in labels {
            self.tagged_addresses
                .entry((*label).to_owned())
                .or_insert_with(|| (self.address.clone(), self.port));
        }
        self
    }

    /// What Consul would not accept; empty where it would. `needs_port` is false for a nested
    /// sidecar, whose port the agent may choose.
    pub(super) fn violations(&self, needs_port: bool) -> Vec<String> {
        let mut found = Vec::new();
        let is_proxy = self.kind == "connect-proxy";
        if is_proxy && needs_port && self.port == 0 && self.socket_path.is_empty() {
            found.push("Port or SocketPath must be set for a connect-proxy".to_owned());
        }
        if is_proxy {
            let destination = self.proxy.as_ref().map_or("", |proxy| proxy.destination.trim());
            if destination.is_empty() {
                found.push(
                    "Proxy.DestinationServiceName must be non-empty for Connect proxy services"
                        .to_owned(),
                );
            }
            if destination == "*" {
                found.push(
                    "Proxy.DestinationServiceName must not be a wildcard for Connect proxy services"
                        .to_owned(),
                );
            }
            if self.native {
                found.push(
                    "A Proxy cannot also be Connect Native, only typical services".to_owned(),
                );
            }
        }
        found
    }

    /// The service that a caller means who asks for this instance over the mesh.
    pub(super) fn connect_name(&self) -> Option<&str> {
        if self.kind == "connect-proxy" {
            return self.proxy.as_ref().map(|proxy| proxy.destination.as_str());
        }
        self.native.then_some(self.name.as_str())
    }

    /// The shape of `/v1/agent/services`.
    pub(super) fn agent_json(&self, datacenter: &str) -> Value {
        let mut out = json!({
            "ID": self.id,
            "Service": self.name,
            "Tags": self.tags,
            "Meta": self.meta,
            "Port": self.port,
            "Address": self.address,
            "Weights": self.weights_json(),
            "EnableTagOverride": self.enable_tag_override,
            "Datacenter": datacenter,
        });
        put_text(&mut out, "Kind", &self.kind);
        put_text(&mut out, "SocketPath", &self.socket_path);
        // The agent does not know the virtual address that the catalog gives.
        let mut local = self.tagged_addresses_json();
        if let Some(addresses) = local.as_object_mut() {
            addresses.remove(VIRTUAL);
            if !addresses.is_empty() {
                out["TaggedAddresses"] = local;
            }
        }
        if let (true, Some(proxy)) = (self.kind == "connect-proxy", &self.proxy) {
            out["Proxy"] = proxy.json(false);
        }
        if self.native {
            out["Connect"] = json!({ "Native": true });
        }
        out
    }

    /// The shape inside of `/v1/health/service` and `/v1/catalog/node`.
    pub(super) fn node_json(&self) -> Value {
        let mut out = json!({
            "ID": self.id,
            "Service": self.name,
            "Tags": self.tags,
            "Address": self.address,
            "Meta": if self.meta.is_empty() { Value::Null } else { json!(self.meta) },
            "Weights": self.weights_json(),
            "EnableTagOverride": self.enable_tag_override,
            "Proxy": self.proxy.clone().unwrap_or_default().json(true),
            "Connect": self.connect_json(),
            "PeerName": "",
            "CreateIndex": self.create_index,
            "ModifyIndex": self.modify_index,
        });
        if self.port != 0 {
            out["Port"] = json!(self.port);
        }
        put_text(&mut out, "Kind", &self.kind);
        put_text(&mut out, "SocketPath", &self.socket_path);
        if !self.tagged_addresses.is_empty() {
            out["TaggedAddresses"] = self.tagged_addresses_json();
        }
        out
    }

    /// The shape of `/v1/catalog/service`, without the node's fields.
    pub(super) fn catalog_json(&self) -> Value {
        let mut out = json!({
            "ServiceKind": self.kind,
            "ServiceID": self.id,
            "ServiceName": self.name,
            "ServiceTags": self.tags,
            "ServiceAddress": self.address,
            "ServiceWeights": self.weights_json(),
            "ServiceMeta": self.meta,
            "ServicePort": self.port,
            "ServicePorts": null,
            "ServiceSocketPath": self.socket_path,
            "ServiceEnableTagOverride": self.enable_tag_override,
            "ServiceProxy": self.proxy.clone().unwrap_or_default().json(true),
            "ServiceConnect": self.connect_json(),
            "ServiceLocality": null,
            "CreateIndex": self.create_index,
            "ModifyIndex": self.modify_index,
        });
        if !self.tagged_addresses.is_empty() {
            out["ServiceTaggedAddresses"] = self.tagged_addresses_json();
        }
        out
    }

    fn weights_json(&self) -> Value {
        json!({ "Passing": self.weights.0, "Warning": self.weights.1 })
    }

    fn connect_json(&self) -> Value {
        if self.native { json!({ "Native": true }) } else { json!({}) }
    }

    fn tagged_addresses_json(&self) -> Value {
        self.tagged_addresses
            .iter()
            .map(|(label, (address, port))| {
                (label.clone(), json!({ "Address": address, "Port": port }))
            })
            .collect::<Map<_, _>>()
            .into()
    }
}

/// Sets a text that Consul leaves out where it is empty.
fn put_text(out: &mut Value, name: &str, text: &str) {
    if !text.is_empty() {
        out[name] = json!(text);
    }
}
