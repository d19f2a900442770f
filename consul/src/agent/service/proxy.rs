//! The proxy part of an instance: what it stands before, and which upstreams it offers.

use serde_json::{Map, Value, json};

use super::put_text;
use crate::agent::body::{BodyError, Fields};

/// The proxy part of an instance of kind `connect-proxy`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::agent) struct Proxy {
    pub(in crate::agent) destination: String,
    pub(in crate::agent) destination_id: String,
    pub(in crate::agent) local_address: String,
    pub(in crate::agent) local_port: u16,
    pub(in crate::agent) local_socket: String,
    pub(in crate::agent) mode: String,
    pub(in crate::agent) config: Map<String, Value>,
    pub(in crate::agent) upstreams: Vec<Value>,
    pub(in crate::agent) mesh_gateway: Map<String, Value>,
    pub(in crate::agent) expose: Map<String, Value>,
}

impl Proxy {
    pub(super) fn from_fields(fields: Fields<'_>) -> Result<Self, BodyError> {
        let map = |name| match fields.value(name) {
            Some(Value::Object(map)) => map.clone(),
            _ => Map::new(),
        };
        let upstreams =
            fields.objects("Upstreams")?.into_iter().map(upstream).collect::<Result<_, _>>()?;
        Ok(Self {
            destination: fields.text("DestinationServiceName")?,
            destination_id: fields.text("DestinationServiceID")?,
            local_address: fields.text("LocalServiceAddress")?,
            local_port: fields.port("LocalServicePort")?,
            local_socket: fields.text("LocalServiceSocketPath")?,
            mode: fields.text("Mode")?,
            config: map("Config"),
            upstreams,
            mesh_gateway: map("MeshGateway"),
            expose: map("Expose"),
        })
    }

    /// The catalog writes `Mode` and an upstream's `Datacenter` always, the agent where it is set.
    pub(super) fn json(&self, in_catalog: bool) -> Value {
        let mut out = json!({ "MeshGateway": self.mesh_gateway, "Expose": self.expose });
        if in_catalog || !self.mode.is_empty() {
            out["Mode"] = json!(self.mode);
        }
        put_text(&mut out, "DestinationServiceName", &self.destination);
        put_text(&mut out, "DestinationServiceID", &self.destination_id);
        put_text(&mut out, "LocalServiceAddress", &self.local_address);
        put_text(&mut out, "LocalServiceSocketPath", &self.local_socket);
        if self.local_port != 0 {
            out["LocalServicePort"] = json!(self.local_port);
        }
        if !self.config.is_empty() {
            out["Config"] = json!(self.config);
        }
        if !self.upstreams.is_empty() {
            let mut upstreams = self.upstreams.clone();
            for upstream in upstreams.iter_mut().filter_map(Value::as_object_mut) {
                if !in_catalog && upstream.get("Datacenter").is_some_and(|name| name == "") {
                    upstream.remove("Datacenter");
                }
            }
            out["Upstreams"] = upstreams.into();
        }
        out
    }
}

fn upstream(fields: Fields<'_>) -> Result<Value, BodyError> {
    let kind = match fields.text("DestinationType")? {
        kind if kind.is_empty() => "service".to_owned(),
        kind => kind,
    };
    let mut out = json!({
        "DestinationType": kind,
        "DestinationName": fields.text("DestinationName")?,
        "Datacenter": fields.text("Datacenter")?,
        "MeshGateway": {},
    });
    for name in ["DestinationNamespace", "DestinationPartition", "DestinationPeer"] {
        put_text(&mut out, name, &fields.text(name)?);
    }
    for name in ["LocalBindAddress", "LocalBindSocketPath", "LocalBindSocketMode"] {
        put_text(&mut out, name, &fields.text(name)?);
    }
    if fields.port("LocalBindPort")? != 0 {
        out["LocalBindPort"] = json!(fields.port("LocalBindPort")?);
    }
    if let Some(config @ Value::Object(_)) = fields.value("Config") {
        out["Config"] = config.clone();
    }
    Ok(out)
}
