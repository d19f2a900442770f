//! `/v1/health/…`: instances with the checks that judge them, and checks by node, service, state.

use serde_json::{Value, json};

use super::answer::{Answer, ApiError, Routed};
use super::call::Call;
use super::router::Context;
use super::selector::{self, Wanted};
use crate::agent::catalog::{Node, Topic};
use crate::agent::check::{Check, Status};
use crate::agent::filter::Schema;
use crate::agent::service::Service;
use crate::agent::state::State;

/// `GET /v1/health/service/:name`
pub(super) fn service(context: &Context<'_>, call: &Call) -> Routed {
    let name = context.rest;
    instances(call, name, Topic::Service(name.to_owned())).unwrap_or_else(Routed::from)
}

/// `GET /v1/health/connect/:name`
pub(super) fn connect(context: &Context<'_>, call: &Call) -> Routed {
    let name = context.rest;
    instances(call, name, Topic::Connect(name.to_owned())).unwrap_or_else(Routed::from)
}

fn instances(call: &Call, name: &str, topic: Topic) -> Result<Routed, ApiError> {
    if name.is_empty() {
        return Err(ApiError::bad("Missing service name"));
    }
    let passing = match (call.query.has("passing"), call.query.first("passing")) {
        (false, _) => false,
        (true, "") => true,
        (true, _) => call
            .query
            .boolean("passing")
            .ok_or_else(|| ApiError::bad("Invalid value for ?passing"))?,
    };
    let wanted = Wanted::parse(call);
    let filter = selector::filter(call, Schema::Health)?;
    Ok(Routed::Watch(Box::new(move |state, _| {
        let found = state.catalog.instances(&topic);
        let items = found
            .into_iter()
            .filter(|(node, service)| wanted.node(node) && wanted.service(service))
            .filter(|(node, service)| !passing || node.status_of(&service.id) == Status::Passing)
            .map(|(node, service)| shape(state, node, service))
            .collect();
        let items = selector::keep(filter.as_ref(), items);
        Ok(Answer::new(state.catalog.topic_index(&topic), items))
    })))
}

fn shape(state: &State, node: &Node, service: &Service) -> Value {
    let checks: Vec<Value> =
        node.checks_of(&service.id).map(|check| check.health_json(&node.name)).collect();
    json!({
        "Node": node.json(&state.datacenter),
        "Service": service.node_json(),
        "Checks": checks,
    })
}

/// `GET /v1/health/checks/:service`
pub(super) fn checks(context: &Context<'_>, call: &Call) -> Routed {
    let name = context.rest.to_owned();
    if name.is_empty() {
        return ApiError::bad("Missing service name").into();
    }
    let topic = Topic::Service(name.clone());
    select(
        call,
        move |_, check| check.service_name == name,
        move |state| state.catalog.topic_index(&topic),
    )
}

/// `GET /v1/health/node/:node`
pub(super) fn node(context: &Context<'_>, call: &Call) -> Routed {
    let name = context.rest.to_owned();
    if name.is_empty() {
        return ApiError::bad("Missing node name").into();
    }
    select(call, move |node, _| node.name == name, |state| state.catalog.checks_index())
}

/// `GET /v1/health/state/:state`
pub(super) fn state(context: &Context<'_>, call: &Call) -> Routed {
    let wanted = context.rest.to_owned();
    if wanted.is_empty() {
        return ApiError::bad("Missing check state").into();
    }
    select(
        call,
        move |_, check| wanted == "any" || check.status.as_str() == wanted,
        |state| state.catalog.checks_index(),
    )
}

fn select(
    call: &Call,
    fits: impl Fn(&Node, &Check) -> bool + Send + Sync + 'static,
    index: impl Fn(&State) -> u64 + Send + Sync + 'static,
) -> Routed {
    let wanted = Wanted::parse(call);
    let filter = match selector::filter(call, Schema::Check) {
        Ok(filter) => filter,
        Err(error) => return error.into(),
    };
    Routed::Watch(Box::new(move |state, _| {
        let items = state
            .catalog
            .nodes
            .values()
            .filter(|node| wanted.node(node))
            .flat_map(|node| node.checks.values().map(move |check| (node, check)))
            .filter(|(node, check)| fits(node, check))
            .map(|(node, check)| check.health_json(&node.name))
            .collect();
        Ok(Answer::new(index(state), selector::keep(filter.as_ref(), items)))
    }))
}
