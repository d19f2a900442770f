//! The Connect CA over HTTP, and the agent's verdict on a connection.

use std::time::SystemTime;

use http::Method;
use serde_json::{Value, json};

use super::answer::{Answer, ApiError, Content, Reply, Routed, Version};
use super::call::Call;
use super::router::Context;
use crate::agent::authority::CaError;
use crate::agent::body::{self, Fields};
use crate::agent::intentions::Rule;
use crate::agent::state::State;
use crate::api::intention::Action;

impl From<CaError> for ApiError {
    fn from(error: CaError) -> Self {
        Self::internal(error.to_string())
    }
}

/// `GET /v1/agent/connect/ca/leaf/:service`
pub(super) fn leaf(context: &Context<'_>, _: &Call) -> Routed {
    let service = context.rest.to_owned();
    if service.is_empty() {
        let text = "URI must be either service, agent, server, or kind";
        return ApiError::internal(text).into();
    }
    Routed::Watch(Box::new(move |state, now| {
        let State { authority, index, .. } = state;
        let leaf = authority.leaf(&service, now, index)?;
        let version = Version::Cached { index: leaf.index(), meta: false };
        Ok(Answer { body: Content::Found(leaf.json()), version })
    }))
}

/// `GET /v1/agent/connect/ca/roots`
pub(super) fn agent_roots(_: &Context<'_>, _: &Call) -> Routed {
    Routed::Watch(Box::new(|state, _| {
        let version = Version::Cached { index: state.authority.roots_index(), meta: true };
        Ok(Answer { body: Content::Found(state.authority.roots_json()), version })
    }))
}

/// `GET /v1/connect/ca/roots`, as JSON or as a PEM bundle.
pub(super) fn roots(context: &Context<'_>, call: &Call) -> Routed {
    if call.query.first("pem") == "true" {
        let pem = context.write(|state, _, _| state.authority.roots_pem());
        let mut reply = Reply::empty();
        reply.body = super::answer::Body::Pem(pem);
        return Routed::Done(reply);
    }
    Routed::Watch(Box::new(|state, _| {
        Ok(Answer::plain(state.authority.roots_index(), state.authority.roots_json()))
    }))
}

/// `GET` and `PUT /v1/connect/ca/configuration`
pub(super) fn configuration(context: &Context<'_>, call: &Call) -> Routed {
    if call.method == Method::GET {
        let body = context.write(|state, _, _| state.authority.configuration_json());
        return Routed::Done(Reply::json(body));
    }
    let run = || -> Result<Reply, ApiError> {
        let map = body::object(&call.body)?;
        let fields = Fields::new(&map, "CAConfiguration");
        let provider = fields.text("Provider")?;
        if !provider.is_empty() && provider != "consul" {
            return Err(ApiError::internal(format!(
                "unknown CA provider {provider:?}: the embedded development agent has \"consul\" alone"
            )));
        }
        let given = match fields.value("Config") {
            Some(config @ Value::Object(_)) => config.clone(),
            _ => json!({}),
        };
        context.write(|state, _, now: SystemTime| {
            let State { authority, index, .. } = state;
            authority.configure(given, now, index)
        })?;
        Ok(Reply::empty())
    };
    run().into()
}

/// `POST /v1/agent/connect/authorize`
pub(super) fn authorize(context: &Context<'_>, call: &Call) -> Routed {
    let run = || -> Result<Reply, ApiError> {
        let map = body::object(&call.body)?;
        let fields = Fields::new(&map, "ConnectAuthorizeRequest");
        let target = fields.text("Target")?;
        if target.is_empty() {
            return Err(ApiError::bad("Target service must be specified"));
        }
        let uri = fields.text("ClientCertURI")?;
        let source = source_of(&uri)?;
        let (authorized, reason) = context.write(|state, _, _| judge(state, source, &target));
        let reply = Reply::json(json!({ "Authorized": authorized, "Reason": reason }));
        Ok(reply.with_header("x-cache", "MISS".to_owned()))
    };
    run().into()
}

fn judge(state: &State, source: &str, target: &str) -> (bool, String) {
    match state.intentions.deciding(source, target) {
        Some(found) => match found.rule() {
            Rule::L4(action) => {
                let reason = format!("Matched L4 intention: {}", found.describe());
                (*action == Action::Allow, reason)
            }
            Rule::L7(_) => (false, format!("Matched L7 intention: {}", found.describe())),
        },
        None => match state.policy {
            Action::Allow => (true, "Default behavior configured by ACLs".to_owned()),
            Action::Deny => (false, "Default intention policy".to_owned()),
        },
    }
}

/// The service of a SPIFFE ID in Consul's form, the partition left out or not.
fn source_of(uri: &str) -> Result<&str, ApiError> {
    let invalid = || ApiError::bad("ClientCertURI not a valid Connect identifier");
    let not_service = || ApiError::bad("ClientCertURI not a valid Service identifier");
    let path = uri.strip_prefix("spiffe://").ok_or_else(invalid)?;
    let parts: Vec<&str> = path.split('/').collect();
    match parts.as_slice() {
        [_, "ns", _, "dc", _, "svc", service] | [_, "ap", _, "ns", _, "dc", _, "svc", service]
            if !service.is_empty() =>
        {
            Ok(service)
        }
        [_] | [_, "agent", ..] | [_, "gateway", ..] => Err(not_service()),
        _ => Err(invalid()),
    }
}
