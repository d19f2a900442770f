//! Which route answers which path. A path that ends with a slash takes what follows it as its
//! argument; the longest one wins; a method that a path does not take is refused with those that
//! it does.

use std::time::SystemTime;

use http::{Method, StatusCode};
use tokio::time::Instant;

use super::answer::{ApiError, Body, Reply, Routed};
use super::call::Call;
use super::{catalog, config, connect, health, intentions, local, node};
use crate::agent::state::{Shared, State};

/// What a route is given.
pub(super) struct Context<'a> {
    pub(super) shared: &'a Shared,
    /// What follows the route's path.
    pub(super) rest: &'a str,
}

impl Context<'_> {
    /// Changes the state.
    pub(super) fn write<T>(&self, act: impl FnOnce(&mut State, Instant, SystemTime) -> T) -> T {
        let now = Instant::now();
        self.shared.with(now, |state| act(state, now, SystemTime::now()))
    }
}

type Handler = fn(&Context<'_>, &Call) -> Routed;

const ROUTES: &[(&str, &[Method], Handler)] = &[
    ("/v1/acl/", &[], node::acl),
    ("/v1/agent/check/deregister/", &[Method::PUT], local::deregister_check),
    ("/v1/agent/check/fail/", &[Method::PUT], local::fail),
    ("/v1/agent/check/pass/", &[Method::PUT], local::pass),
    ("/v1/agent/check/register", &[Method::PUT], local::register_check),
    ("/v1/agent/check/update/", &[Method::PUT], local::update),
    ("/v1/agent/check/warn/", &[Method::PUT], local::warn),
    ("/v1/agent/checks", &[Method::GET], local::checks),
    ("/v1/agent/connect/authorize", &[Method::POST], connect::authorize),
    ("/v1/agent/connect/ca/leaf/", &[Method::GET], connect::leaf),
    ("/v1/agent/connect/ca/roots", &[Method::GET], connect::agent_roots),
    ("/v1/agent/health/service/id/", &[Method::GET], local::health_by_id),
    ("/v1/agent/health/service/name/", &[Method::GET], local::health_by_name),
    ("/v1/agent/maintenance", &[Method::PUT], local::node_maintenance),
    ("/v1/agent/members", &[Method::GET], node::members),
    ("/v1/agent/self", &[Method::GET], node::about),
    ("/v1/agent/service/", &[Method::GET], local::service),
    ("/v1/agent/service/deregister/", &[Method::PUT], local::deregister_service),
    ("/v1/agent/service/maintenance/", &[Method::PUT], local::service_maintenance),
    ("/v1/agent/service/register", &[Method::PUT], local::register_service),
    ("/v1/agent/services", &[Method::GET], local::services),
    ("/v1/catalog/connect/", &[Method::GET], catalog::connect),
    ("/v1/catalog/datacenters", &[Method::GET], catalog::datacenters),
    ("/v1/catalog/deregister", &[Method::PUT], catalog::deregister),
    ("/v1/catalog/node-services/", &[Method::GET], catalog::node_services),
    ("/v1/catalog/node/", &[Method::GET], catalog::node),
    ("/v1/catalog/nodes", &[Method::GET], catalog::nodes),
    ("/v1/catalog/register", &[Method::PUT], catalog::register),
    ("/v1/catalog/service/", &[Method::GET], catalog::service),
    ("/v1/catalog/services", &[Method::GET], catalog::services),
    ("/v1/config", &[Method::PUT], config::apply),
    ("/v1/config/", &[Method::GET, Method::DELETE], config::entry),
    ("/v1/connect/ca/configuration", &[Method::GET, Method::PUT], connect::configuration),
    ("/v1/connect/ca/roots", &[Method::GET], connect::roots),
    ("/v1/connect/intentions", &[Method::GET], intentions::list),
    ("/v1/connect/intentions/check", &[Method::GET], intentions::check),
    (
        "/v1/connect/intentions/exact",
        &[Method::GET, Method::PUT, Method::DELETE],
        intentions::exact,
    ),
    ("/v1/connect/intentions/match", &[Method::GET], intentions::matching),
    ("/v1/discovery-chain/", &[Method::GET, Method::POST], config::discovery_chain),
    ("/v1/health/checks/", &[Method::GET], health::checks),
    ("/v1/health/connect/", &[Method::GET], health::connect),
    ("/v1/health/node/", &[Method::GET], health::node),
    ("/v1/health/service/", &[Method::GET], health::service),
    ("/v1/health/state/", &[Method::GET], health::state),
    ("/v1/status/leader", &[Method::GET], node::leader),
    ("/v1/status/peers", &[Method::GET], node::peers),
];

/// Answers a call.
pub(super) fn route(call: &Call, shared: &Shared) -> Routed {
    let path = call.path.as_str();
    let known =
        ROUTES
            .iter()
            .filter(|(pattern, ..)| {
                if pattern.ends_with('/') { path.starts_with(pattern) } else { path == *pattern }
            })
            .max_by_key(|(pattern, ..)| pattern.len());
    let Some((pattern, methods, handler)) = known else { return Routed::Done(unknown(path)) };
    if !methods.is_empty() {
        let allow = || {
            let names = methods.iter().map(Method::as_str);
            std::iter::once("OPTIONS").chain(names).collect::<Vec<_>>().join(",")
        };
        if call.method == Method::OPTIONS {
            return Routed::Done(Reply::empty().with_header("allow", allow()));
        }
        if !methods.contains(&call.method) {
            let text = format!("method {} not allowed", call.method);
            let error = ApiError::new(StatusCode::METHOD_NOT_ALLOWED, text);
            return Routed::Done(Reply::from(error).with_header("allow", allow()));
        }
    }
    let context = Context { shared, rest: &path[pattern.len()..] };
    if let Some(error) = elsewhere(&context, call) {
        return error.into();
    }
    handler(&context, call)
}

/// A call for another datacenter: there is none. The agent's own endpoints do not look.
fn elsewhere(context: &Context<'_>, call: &Call) -> Option<ApiError> {
    if call.path.starts_with("/v1/agent/") {
        return None;
    }
    let wanted = match call.query.first("datacenter") {
        "" => call.query.first("dc"),
        name => name,
    };
    let here = wanted.is_empty() || context.write(|state, _, _| state.datacenter == wanted);
    (!here).then(|| ApiError::internal("No path to datacenter"))
}

fn unknown(path: &str) -> Reply {
    if path == "/" {
        let text = "Outrigger's embedded Consul agent for development: one node, in memory, no UI.";
        return Reply { body: Body::Text(text.to_owned()), is_routed: false, ..Reply::empty() };
    }
    let text = if path.contains("/v1/") {
        "Invalid URL path: not a recognized HTTP API endpoint\n"
    } else {
        "Invalid URL path: if attempting to use the HTTP API, ensure the path starts with '/v1/'\n"
    };
    Reply { is_routed: false, ..ApiError::missing(text).into() }
}
