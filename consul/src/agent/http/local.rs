//! `/v1/agent/…`: what the agent registered itself, its checks, and maintenance modes.

use http::StatusCode;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::answer::{Answer, ApiError, Body, Content, Reply, Routed, Version};
use super::call::Call;
use super::router::Context;
use super::selector;
use crate::agent::body::{self, BodyError, Fields};
use crate::agent::catalog::{NODE_MAINTENANCE, Refused, SERF_CHECK, SERVICE_MAINTENANCE};
use crate::agent::check::{Check, Definition, Invalid, Source, Status, Target, Thresholds, cut};
use crate::agent::filter::Schema;
use crate::agent::service::{Origin, SIDECAR_SUFFIX, Service};
use crate::agent::state::State;

#[path = "local/registration.rs"]
mod registration;

impl From<BodyError> for ApiError {
    fn from(error: BodyError) -> Self {
        Self::bad(format!("Request decode failed: {error}"))
    }
}

impl From<Refused> for ApiError {
    fn from(error: Refused) -> Self {
        Self::internal(error.to_string())
    }
}

/// `PUT /v1/agent/service/register`
pub(super) fn register_service(context: &Context<'_>, call: &Call) -> Routed {
    registration::register(context, call).into()
}

/// `PUT /v1/agent/service/deregister/:id`
pub(super) fn deregister_service(context: &Context<'_>, _: &Call) -> Routed {
    context
        .write(|state, _, _| {
            if state.catalog.local_service(context.rest).is_none() {
                return Err(ApiError::missing(format!(
                    "Unknown service ID {:?}. Ensure that the service ID is passed, not the service name.",
                    context.rest
                )));
            }
            let local = state.catalog.local_name().to_owned();
            state.catalog.remove_service(&local, context.rest, &mut state.index);
            Ok(Reply::empty())
        })
        .into()
}

/// `GET /v1/agent/services`
pub(super) fn services(context: &Context<'_>, call: &Call) -> Routed {
    let answer = context.write(|state, _, _| {
        let services = state.catalog.local().into_iter().flat_map(|node| node.services.values());
        let mine = services.filter(|service| service.origin == Origin::Agent);
        let shapes = mine
            .map(|service| (service.id.clone(), service.agent_json(&state.datacenter)))
            .collect::<Map<_, _>>();
        selector::filter_map(call, Schema::AgentService, shapes)
    });
    answer.map(Reply::json).into()
}

/// `GET /v1/agent/service/:id`, which blocks on the content's hash.
pub(super) fn service(context: &Context<'_>, _: &Call) -> Routed {
    let id = context.rest.to_owned();
    Routed::Watch(Box::new(move |state, _| {
        let Some(service) = state.catalog.local_service(&id) else {
            return Err(ApiError::missing(format!("unknown service ID: {id}")));
        };
        let mut body = service.agent_json(&state.datacenter);
        let hash = content_hash(&body.to_string());
        body["ContentHash"] = json!(hash);
        Ok(Answer { body: Content::Found(body), version: Version::Hash(hash) })
    }))
}

/// FNV-1a in 64 bits. Callers compare it with itself alone.
fn content_hash(text: &str) -> String {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{hash:x}")
}

/// `GET /v1/agent/checks`
pub(super) fn checks(context: &Context<'_>, call: &Call) -> Routed {
    let answer = context.write(|state, _, _| {
        let shapes = state
            .catalog
            .local()
            .into_iter()
            .flat_map(|node| node.checks.values().map(move |check| (node, check)))
            .filter(|(_, check)| is_mine(check))
            .map(|(node, check)| (check.id.clone(), check.agent_json(&node.name)))
            .collect::<Map<_, _>>();
        selector::filter_map(call, Schema::Check, shapes)
    });
    answer.map(Reply::json).into()
}

/// Whether the agent's local state knows the check: not serf's, not what others wrote.
fn is_mine(check: &Check) -> bool {
    check.id != SERF_CHECK && (check.source != Source::Given || check.kind == "maintenance")
}

/// `PUT /v1/agent/check/register`
pub(super) fn register_check(context: &Context<'_>, call: &Call) -> Routed {
    registration::register_check(context, call).into()
}

/// `PUT /v1/agent/check/deregister/:id`
pub(super) fn deregister_check(context: &Context<'_>, _: &Call) -> Routed {
    context
        .write(|state, _, _| {
            let known = state.catalog.local().and_then(|node| node.checks.get(context.rest));
            if !known.is_some_and(is_mine) {
                return Err(unknown_check(context.rest));
            }
            let local = state.catalog.local_name().to_owned();
            state.catalog.remove_check(&local, context.rest, &mut state.index);
            Ok(Reply::empty())
        })
        .into()
}

fn unknown_check(id: &str) -> ApiError {
    ApiError::missing(format!(
        "Unknown check ID {id:?}. Ensure that the check ID is passed, not the check name."
    ))
}

/// `PUT /v1/agent/check/pass/:id`
pub(super) fn pass(context: &Context<'_>, call: &Call) -> Routed {
    report(context, Status::Passing, call.query.first("note")).into()
}

/// `PUT /v1/agent/check/warn/:id`
pub(super) fn warn(context: &Context<'_>, call: &Call) -> Routed {
    report(context, Status::Warning, call.query.first("note")).into()
}

/// `PUT /v1/agent/check/fail/:id`
pub(super) fn fail(context: &Context<'_>, call: &Call) -> Routed {
    report(context, Status::Critical, call.query.first("note")).into()
}

/// `PUT /v1/agent/check/update/:id`
pub(super) fn update(context: &Context<'_>, call: &Call) -> Routed {
    let read = || -> Result<Reply, ApiError> {
        let map = body::object(&call.body)?;
        let fields = Fields::new(&map, "checkUpdate");
        let text = fields.text("Status")?;
        let Some(status) = Status::parse(&text) else {
            return Err(ApiError::bad(format!("Invalid check status: '{text}'")));
        };
        report(context, status, &fields.text("Output")?)
    };
    read().into()
}

fn report(context: &Context<'_>, status: Status, output: &str) -> Result<Reply, ApiError> {
    let id = context.rest;
    let output = cut(output);
    context.write(|state, now, _| {
        if state.catalog.local().is_none_or(|node| !node.checks.contains_key(id)) {
            return Err(unknown_check(id));
        }
        let State { catalog, index, .. } = state;
        if catalog.reported(id, status, &output, now, index) {
            return Ok(Reply::empty());
        }
        Err(ApiError::internal(format!("CheckID {id:?} does not have associated TTL")))
    })
}

/// `PUT /v1/agent/service/maintenance/:id`
pub(super) fn service_maintenance(context: &Context<'_>, call: &Call) -> Routed {
    let id = context.rest;
    let run = || -> Result<Reply, ApiError> {
        if id.is_empty() {
            return Err(ApiError::bad("Missing service ID"));
        }
        let enable = enable(call)?;
        context.write(|state, now, _| {
            if state.catalog.local_service(id).is_none() {
                return Err(ApiError::missing(format!(
                    "Unknown service ID {id:?}. Ensure that the service ID is passed, not the service name."
                )));
            }
            let mut check = Check::given(
                &format!("{SERVICE_MAINTENANCE}{id}"),
                "Service Maintenance Mode",
                "maintenance",
                Status::Critical,
            );
            id.clone_into(&mut check.service_id);
            maintain(state, enable, check, call.query.first("reason"), "service", now)
        })
    };
    run().into()
}

/// `PUT /v1/agent/maintenance`
pub(super) fn node_maintenance(context: &Context<'_>, call: &Call) -> Routed {
    let run = || -> Result<Reply, ApiError> {
        let enable = enable(call)?;
        context.write(|state, now, _| {
            let name = "Node Maintenance Mode";
            let check = Check::given(NODE_MAINTENANCE, name, "maintenance", Status::Critical);
            maintain(state, enable, check, call.query.first("reason"), "node", now)
        })
    };
    run().into()
}

fn enable(call: &Call) -> Result<bool, ApiError> {
    if !call.query.has("enable") {
        return Err(ApiError::bad("Missing value for enable"));
    }
    call.query.boolean("enable").ok_or_else(|| {
        ApiError::bad(format!("Invalid value for enable: {:?}", call.query.first("enable")))
    })
}

fn maintain(
    state: &mut State,
    enable: bool,
    mut check: Check,
    reason: &str,
    what: &str,
    now: Instant,
) -> Result<Reply, ApiError> {
    let local = state.catalog.local_name().to_owned();
    let known = state.catalog.local().is_some_and(|node| node.checks.contains_key(&check.id));
    match (enable, known) {
        (true, false) => {
            check.notes = match reason {
                "" => format!(
                    "Maintenance mode is enabled for this {what}, but no reason was provided. This is a default message."
                ),
                reason => reason.to_owned(),
            };
            check.critical_since = Some(now);
            state.catalog.put_check(&local, check, &mut state.index)?;
        }
        (false, true) => {
            state.catalog.remove_check(&local, &check.id, &mut state.index);
        }
        (true, true) | (false, false) => {}
    }
    Ok(Reply::empty())
}

/// `GET /v1/agent/health/service/id/:id`
pub(super) fn health_by_id(context: &Context<'_>, call: &Call) -> Routed {
    let id = context.rest;
    if id.is_empty() {
        return ApiError::bad("Missing serviceID").into();
    }
    context
        .write(|state, _, _| {
            let Some((status, shape)) = health_of(state, id) else {
                let text = format!("ServiceId {id} not found");
                let shape =
                    json!({ "AggregatedStatus": "critical", "Service": null, "Checks": null });
                return Ok(health_reply(call, StatusCode::NOT_FOUND, text, shape));
            };
            Ok(health_reply(call, status_code(status), status.as_str().to_owned(), shape))
        })
        .into()
}

/// `GET /v1/agent/health/service/name/:name`
pub(super) fn health_by_name(context: &Context<'_>, call: &Call) -> Routed {
    let name = context.rest;
    if name.is_empty() {
        return ApiError::bad("Missing service Name").into();
    }
    context
        .write(|state, _, _| {
            let ids: Vec<String> = state
                .catalog
                .local()
                .into_iter()
                .flat_map(|node| node.services.values())
                .filter(|service| service.name == name && service.origin == Origin::Agent)
                .map(|service| service.id.clone())
                .collect();
            let found: Vec<(Status, Value)> =
                ids.iter().filter_map(|id| health_of(state, id)).collect();
            let worst = found.iter().map(|(status, _)| *status).max();
            let shapes: Vec<Value> = found.into_iter().map(|(_, shape)| shape).collect();
            let (code, text) = match worst {
                None => (StatusCode::NOT_FOUND, format!("ServiceName {name} Not Found")),
                Some(status) => (status_code(status), status.as_str().to_owned()),
            };
            Ok(health_reply(call, code, text, shapes.into()))
        })
        .into()
}

fn health_of(state: &State, id: &str) -> Option<(Status, Value)> {
    let service = state.catalog.local_service(id)?;
    let node = state.catalog.local()?;
    let mut checks: Vec<&Check> = node.checks_of(id).filter(|check| is_mine(check)).collect();
    let status = checks.iter().map(|check| check.status).max().unwrap_or(Status::Passing);
    let maintained = checks
        .iter()
        .any(|check| check.id == NODE_MAINTENANCE || check.id.starts_with(SERVICE_MAINTENANCE));
    // The service's own checks first, then the node's.
    checks.sort_by_key(|check| check.service_id.is_empty());
    let shapes: Vec<Value> = checks.iter().map(|check| check.copied_json(&node.name)).collect();
    let text = if maintained { "maintenance" } else { status.as_str() };
    let shape = json!({
        "AggregatedStatus": text,
        "Service": service.agent_json(&state.datacenter),
        "Checks": shapes,
    });
    Some((status, shape))
}

fn status_code(status: Status) -> StatusCode {
    match status {
        Status::Passing => StatusCode::OK,
        Status::Warning => StatusCode::TOO_MANY_REQUESTS,
        Status::Critical => StatusCode::SERVICE_UNAVAILABLE,
    }
}

fn health_reply(call: &Call, status: StatusCode, reason: String, shape: Value) -> Reply {
    let text = shape["AggregatedStatus"].as_str().unwrap_or(&reason).to_owned();
    let reason = if status == StatusCode::NOT_FOUND { reason } else { text };
    let body = if call.plain { Body::Bare(reason.clone()) } else { Body::Json(shape) };
    Reply { status, body, headers: Vec::new(), is_routed: true }
        .with_header("x-consul-reason", reason)
}
