//! `/v1/catalog/…`: nodes and instances, and the registration of what no agent keeps.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::answer::{Answer, ApiError, Reply, Routed, done};
use super::call::Call;
use super::router::Context;
use super::selector::{self, Wanted};
use crate::agent::body::{self, Fields};
use crate::agent::catalog::{Node, Topic, texts_or_null};
use crate::agent::check::{Check, Status};
use crate::agent::filter::Schema;
use crate::agent::service::{Origin, Service};
use crate::agent::state::State;

/// `GET /v1/catalog/datacenters`
pub(super) fn datacenters(context: &Context<'_>, _: &Call) -> Routed {
    Routed::Done(Reply::json(context.write(|state, _, _| vec![Value::from(&*state.datacenter)])))
}

/// `GET /v1/catalog/nodes`
pub(super) fn nodes(_: &Context<'_>, call: &Call) -> Routed {
    let wanted = Wanted::parse(call);
    let filter = match selector::filter(call, Schema::Node) {
        Ok(filter) => filter,
        Err(error) => return error.into(),
    };
    Routed::Watch(Box::new(move |state, _| {
        let nodes = state.catalog.nodes.values().filter(|node| wanted.node(node));
        let items = nodes.map(|node| node.json(&state.datacenter)).collect();
        Ok(Answer::new(state.catalog.nodes_index(), selector::keep(filter.as_ref(), items)))
    }))
}

/// `GET /v1/catalog/services`: every name with the tags of its instances.
pub(super) fn services(_: &Context<'_>, call: &Call) -> Routed {
    let wanted = Wanted::parse(call);
    let filter = match selector::filter(call, Schema::CatalogService) {
        Ok(filter) => filter,
        Err(error) => return error.into(),
    };
    Routed::Watch(Box::new(move |state, _| {
        let mut names: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for node in state.catalog.nodes.values().filter(|node| wanted.node(node)) {
            for service in node.services.values() {
                let fits = filter
                    .as_ref()
                    .is_none_or(|filter| filter.matches(&shape(state, node, service)));
                if fits {
                    let tags = names.entry(&service.name).or_default();
                    tags.extend(service.tags.iter().map(String::as_str));
                }
            }
        }
        let body: Map<String, Value> =
            names.into_iter().map(|(name, tags)| (name.to_owned(), json!(tags))).collect();
        Ok(Answer::new(state.catalog.services_index(), body))
    }))
}

/// `GET /v1/catalog/service/:name`
pub(super) fn service(context: &Context<'_>, call: &Call) -> Routed {
    let name = context.rest;
    instances(call, name, Topic::Service(name.to_owned()))
}

/// `GET /v1/catalog/connect/:name`
pub(super) fn connect(context: &Context<'_>, call: &Call) -> Routed {
    let name = context.rest;
    instances(call, name, Topic::Connect(name.to_owned()))
}

fn instances(call: &Call, name: &str, topic: Topic) -> Routed {
    if name.is_empty() {
        return ApiError::bad("Missing service name").into();
    }
    let wanted = Wanted::parse(call);
    let filter = match selector::filter(call, Schema::CatalogService) {
        Ok(filter) => filter,
        Err(error) => return error.into(),
    };
    Routed::Watch(Box::new(move |state, _| {
        let items = state
            .catalog
            .instances(&topic)
            .into_iter()
            .filter(|(node, service)| wanted.node(node) && wanted.service(service))
            .map(|(node, service)| shape(state, node, service))
            .collect();
        let items = selector::keep(filter.as_ref(), items);
        Ok(Answer::new(state.catalog.topic_index(&topic), items))
    }))
}

fn shape(state: &State, node: &Node, service: &Service) -> Value {
    let mut out = service.catalog_json();
    out["ID"] = json!(node.id);
    out["Node"] = json!(node.name);
    out["Address"] = json!(node.address);
    out["Datacenter"] = json!(state.datacenter);
    out["TaggedAddresses"] = texts_or_null(&node.tagged_addresses);
    out["NodeMeta"] = texts_or_null(&node.meta);
    out
}

/// `GET /v1/catalog/node/:node`
pub(super) fn node(context: &Context<'_>, call: &Call) -> Routed {
    by_node(context, call, Value::Null, |state, node, services| {
        let services: Map<String, Value> =
            services.into_iter().map(|(id, shape)| (id.to_owned(), shape)).collect();
        json!({ "Node": node.json(&state.datacenter), "Services": services })
    })
}

/// `GET /v1/catalog/node-services/:node`
pub(super) fn node_services(context: &Context<'_>, call: &Call) -> Routed {
    let unknown = json!({ "Node": null, "Services": null });
    by_node(context, call, unknown, |state, node, services| {
        let services: Vec<Value> = services.into_iter().map(|(_, shape)| shape).collect();
        json!({ "Node": node.json(&state.datacenter), "Services": services })
    })
}

fn by_node(
    context: &Context<'_>,
    call: &Call,
    unknown: Value,
    body: fn(&State, &Node, Vec<(&str, Value)>) -> Value,
) -> Routed {
    let name = context.rest.to_owned();
    if name.is_empty() {
        return ApiError::bad("Missing node name").into();
    }
    let filter = match selector::filter(call, Schema::NodeService) {
        Ok(filter) => filter,
        Err(error) => return error.into(),
    };
    Routed::Watch(Box::new(move |state, _| {
        let index = state.catalog.services_index().max(state.catalog.nodes_index());
        let Some(node) = state.catalog.nodes.get(&name) else {
            return Ok(Answer::new(index, unknown.clone()));
        };
        let services = node
            .services
            .values()
            .map(|service| (service.id.as_str(), service.node_json()))
            .filter(|(_, shape)| filter.as_ref().is_none_or(|filter| filter.matches(shape)))
            .collect();
        Ok(Answer::new(index, body(state, node, services)))
    }))
}

/// `PUT /v1/catalog/register`
pub(super) fn register(context: &Context<'_>, call: &Call) -> Routed {
    registration(context, call).into()
}

fn registration(context: &Context<'_>, call: &Call) -> Result<Reply, ApiError> {
    let map = body::object(&call.body)?;
    let fields = Fields::new(&map, "RegisterRequest");
    let (name, address) = (fields.text("Node")?, fields.text("Address")?);
    let skip_node = fields.boolean("SkipNodeUpdate")?;
    if name.is_empty() {
        return Err(ApiError::internal("Must provide node"));
    }
    if address.is_empty() && !skip_node {
        return Err(ApiError::internal("Must provide address if SkipNodeUpdate is not set"));
    }
    let node = Node {
        id: fields.text("ID")?.to_lowercase(),
        name,
        address,
        tagged_addresses: fields.text_map("TaggedAddresses")?,
        meta: fields.text_map("NodeMeta")?,
        services: BTreeMap::new(),
        checks: BTreeMap::new(),
        create_index: 0,
        modify_index: 0,
    };
    let service = match fields.object("Service")? {
        None => None,
        Some(service) => {
            let service = Service::from_definition(service, Origin::Catalog)?;
            if service.name.is_empty() {
                return Err(ApiError::internal(
                    "Must provide service name (Service.Service) when service ID is provided",
                ));
            }
            Some(service)
        }
    };
    let mut checks = Vec::new();
    let given = fields.object("Check")?.into_iter().chain(fields.objects("Checks")?);
    for check in given {
        checks.push(given_check(check)?);
    }
    context.write(|state, now, _| {
        let State { catalog, index, .. } = state;
        let name = node.name.clone();
        if name != catalog.local_name() && !(skip_node && catalog.nodes.contains_key(&name)) {
            catalog.put_node(node, index)?;
        }
        if let Some(service) = service {
            catalog.put_service(&name, service, index)?;
        }
        for mut check in checks {
            if check.status == Status::Critical {
                check.critical_since = Some(now);
            }
            catalog.put_check(&name, check, index)?;
        }
        Ok(done())
    })
}

/// A check that somebody else runs and writes here.
fn given_check(fields: Fields<'_>) -> Result<Check, ApiError> {
    let name = fields.text("Name")?;
    let id = match fields.text("CheckID")? {
        id if id.is_empty() => name.clone(),
        id => id,
    };
    let status = fields.text("Status")?;
    let status = match status.as_str() {
        "" => Status::Critical,
        text => Status::parse(text)
            .ok_or_else(|| ApiError::internal(format!("Invalid check status: {text:?}")))?,
    };
    let mut check = Check::given(&id, &name, "", status);
    check.notes = fields.text("Notes")?;
    check.output = fields.text("Output")?;
    check.service_id = fields.text("ServiceID")?;
    if let Some(definition @ Value::Object(_)) = fields.value("Definition") {
        check.definition = definition.clone();
    }
    Ok(check)
}

/// `PUT /v1/catalog/deregister`
pub(super) fn deregister(context: &Context<'_>, call: &Call) -> Routed {
    let run = || -> Result<Reply, ApiError> {
        let map = body::object(&call.body)?;
        let fields = Fields::new(&map, "DeregisterRequest");
        let (node, service) = (fields.text("Node")?, fields.text("ServiceID")?);
        let check = fields.text("CheckID")?;
        if node.is_empty() {
            return Err(ApiError::internal("Must provide node"));
        }
        context.write(|state, _, _| {
            let State { catalog, index, .. } = state;
            if !service.is_empty() {
                catalog.remove_service(&node, &service, index);
            } else if !check.is_empty() {
                catalog.remove_check(&node, &check, index);
            } else {
                catalog.remove_node(&node, index);
            }
        });
        Ok(done())
    };
    run().into()
}
