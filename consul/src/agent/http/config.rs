//! `/v1/config…`: config entries; and the discovery chain, which here is always the default one.

use http::Method;
use serde_json::{Value, json};

use super::answer::{Answer, ApiError, Content, Reply, Routed, Version, done};
use super::call::Call;
use super::router::Context;
use super::{intentions, selector};
use crate::agent::body::{self, Fields};
use crate::agent::entries;
use crate::agent::filter::Schema;
use crate::agent::intentions::{Entry, Invalid};

const INTENTIONS: &str = "service-intentions";

/// `PUT /v1/config`
pub(super) fn apply(context: &Context<'_>, call: &Call) -> Routed {
    let run = || -> Result<Reply, ApiError> {
        let undecoded = |text: &dyn std::fmt::Display| {
            ApiError::bad(format!("Request decoding failed: {text}"))
        };
        let map = body::object(&call.body).map_err(|error| undecoded(&error))?;
        let fields = Fields::new(&map, "ConfigEntry");
        let kind = fields.text("Kind").map_err(|error| undecoded(&error))?;
        if kind.is_empty() {
            return Err(undecoded(&"Payload does not contain a kind/Kind key at the top level"));
        }
        if !entries::is_kind(&kind) {
            return Err(undecoded(&format!("invalid config entry kind: {kind}")));
        }
        let cas = match call.query.first("cas") {
            "" => None,
            text => Some(text.parse::<u64>().map_err(|_| {
                ApiError::internal(format!("strconv.ParseUint: parsing {text:?}: invalid syntax"))
            })?),
        };
        let name = match fields.text("Name").map_err(|error| undecoded(&error))? {
            name if name.is_empty() && kind == "proxy-defaults" => "global".to_owned(),
            name if name.is_empty() && kind == "mesh" => "mesh".to_owned(),
            name => name,
        };
        context.write(|state, _, _| {
            let stored = if kind == INTENTIONS {
                state.intentions.entry(&name).map_or(0, Entry::modify_index)
            } else {
                let entry = state.entries.entry(&kind, &name);
                entry.and_then(|entry| entry["ModifyIndex"].as_u64()).unwrap_or(0)
            };
            if cas.is_some_and(|cas| cas != stored) {
                return Ok(Reply::json(json!(false)));
            }
            if kind == INTENTIONS {
                let entry = Entry::from_fields(fields).map_err(|invalid| match invalid {
                    Invalid::Body(error) => undecoded(&error),
                    other => other.into(),
                })?;
                intentions::store(state, entry)?;
            } else {
                if name.is_empty() {
                    return Err(ApiError::internal("Name is required"));
                }
                let mut body = map.clone();
                if kind == "service-defaults" {
                    for name in ["Expose", "MeshGateway", "TransparentProxy"] {
                        body.entry(name).or_insert_with(|| json!({}));
                    }
                }
                if !state.entries.put(&kind, &name, body, &mut state.index) {
                    return Err(ApiError::internal(format!(
                        "the embedded development agent holds at most {} config entries",
                        state.limits.config_entries
                    )));
                }
            }
            Ok(done())
        })
    };
    run().into()
}

/// `GET` and `DELETE /v1/config/:kind[/:name]`
pub(super) fn entry(context: &Context<'_>, call: &Call) -> Routed {
    let (kind, name) = match context.rest.split_once('/') {
        Some((kind, name)) => (kind.to_owned(), Some(name.to_owned())),
        None => (context.rest.to_owned(), None),
    };
    if !entries::is_kind(&kind) {
        let text = format!("invalid config entry kind: {kind}");
        return if call.method == Method::DELETE {
            ApiError::bad(text).into()
        } else {
            ApiError::internal(text).into()
        };
    }
    if call.method == Method::DELETE {
        let Some(name) = name else {
            return ApiError::missing("Must provide both a kind and name to delete").into();
        };
        context.write(|state, _, _| {
            if kind == INTENTIONS {
                state.intentions.remove(&name, &mut state.index);
            } else {
                state.entries.remove(&kind, &name, &mut state.index);
            }
        });
        return Routed::Done(Reply::json(json!({})));
    }
    let filter = match selector::filter(call, Schema::ConfigEntry) {
        Ok(filter) => filter,
        Err(error) => return error.into(),
    };
    Routed::Watch(Box::new(move |state, _| {
        let is_intentions = kind == INTENTIONS;
        let index = if is_intentions { state.intentions.index() } else { state.entries.index() };
        let found: Value = match &name {
            Some(name) => {
                let found = if is_intentions {
                    state.intentions.entry(name).map(Entry::json)
                } else {
                    state.entries.entry(&kind, name).cloned()
                };
                let Some(found) = found else {
                    let text = format!("Config entry not found for {kind:?} / {name:?}");
                    let body = Content::Missing(text);
                    return Ok(Answer { body, version: Version::Plain(index) });
                };
                found
            }
            None if is_intentions => {
                let items = state.intentions.entries().map(Entry::json).collect();
                selector::keep(filter.as_ref(), items).into()
            }
            None => {
                let items = state.entries.of_kind(&kind).cloned().collect();
                selector::keep(filter.as_ref(), items).into()
            }
        };
        Ok(Answer::plain(index, found))
    }))
}

/// `GET /v1/discovery-chain/:service`
pub(super) fn discovery_chain(context: &Context<'_>, _: &Call) -> Routed {
    let service = context.rest.to_owned();
    if service.is_empty() {
        return ApiError::bad("Missing chain name").into();
    }
    Routed::Watch(Box::new(move |state, _| {
        let datacenter = &state.datacenter;
        let target = format!("{service}.default.default.{datacenter}");
        let resolver = format!("resolver:{target}");
        let trust_domain = state.authority.trust_domain();
        let addresses: Vec<String> =
            state.catalog.virtual_ip(&service).iter().map(ToString::to_string).collect();
        let body = json!({ "Chain": {
            "ServiceName": service,
            "Namespace": "default",
            "Partition": "default",
            "Datacenter": datacenter,
            "Protocol": state.entries.protocol(&service),
            "Default": true,
            "AutoVirtualIPs": addresses,
            "ManualVirtualIPs": [],
            "StartNode": resolver,
            "Nodes": { resolver.as_str(): {
                "Type": "resolver",
                "Name": target,
                "Resolver": { "Default": true, "ConnectTimeout": "5s", "Target": target },
            } },
            "Targets": { target.as_str(): {
                "ID": target,
                "Service": service,
                "Namespace": "default",
                "Partition": "default",
                "Datacenter": datacenter,
                "MeshGateway": {},
                "Subset": {},
                "TransparentProxy": {},
                "ConnectTimeout": "5s",
                "SNI": format!("{service}.default.{datacenter}.internal.{trust_domain}"),
                "Name": format!("{service}.default.{datacenter}.internal.{trust_domain}"),
            } },
        } });
        Ok(Answer::new(state.entries.index(), body))
    }))
}
