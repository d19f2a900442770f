//! `/v1/connect/intentions…`

use http::{Method, StatusCode};
use serde_json::{Map, Value, json};

use super::answer::{Answer, ApiError, Content, Reply, Routed, Version, done};
use super::call::Call;
use super::router::Context;
use super::selector;
use crate::agent::body::{self, Fields};
use crate::agent::filter::Schema;
use crate::agent::intentions::{Entry, Intention, Invalid, Rule};
use crate::agent::state::State;
use crate::api::intention::Action;

impl From<Invalid> for ApiError {
    fn from(error: Invalid) -> Self {
        match error {
            Invalid::Body(error) => error.into(),
            other => Self::internal(other.to_string()),
        }
    }
}

/// `GET /v1/connect/intentions`
pub(super) fn list(_: &Context<'_>, call: &Call) -> Routed {
    let filter = match selector::filter(call, Schema::Intention) {
        Ok(filter) => filter,
        Err(error) => return error.into(),
    };
    Routed::Watch(Box::new(move |state, _| {
        let items = state.intentions.all().iter().map(Intention::json).collect();
        let items = selector::keep(filter.as_ref(), items);
        Ok(Answer::plain(state.intentions.index(), items))
    }))
}

/// `GET /v1/connect/intentions/match`
pub(super) fn matching(_: &Context<'_>, call: &Call) -> Routed {
    let read = || -> Result<(bool, Vec<String>), ApiError> {
        let by_source = match call.query.all("by").collect::<Vec<_>>().as_slice() {
            ["source"] => true,
            ["destination"] => false,
            [_] => {
                return Err(ApiError::internal(
                    "'by' parameter must be one of 'source' or 'destination'",
                ));
            }
            _ => return Err(ApiError::internal("required query parameter 'by' not set")),
        };
        let names: Vec<String> = call.query.all("name").map(str::to_owned).collect();
        if names.is_empty() {
            return Err(ApiError::internal("required query parameter 'name' not set"));
        }
        Ok((by_source, names))
    };
    let (by_source, names) = match read() {
        Ok(read) => read,
        Err(error) => return error.into(),
    };
    Routed::Watch(Box::new(move |state, _| {
        let mut body = Map::new();
        for name in &names {
            let bare = service_name(name);
            let found = if by_source {
                state.intentions.of_source(bare)
            } else {
                state.intentions.of_destination(bare)
            };
            let shapes: Vec<Value> = found.iter().map(Intention::json).collect();
            // Go writes a list that nobody made as `null`.
            let shapes = if shapes.is_empty() { Value::Null } else { shapes.into() };
            body.insert(name.clone(), shapes);
        }
        Ok(Answer::new(state.intentions.index(), body))
    }))
}

/// `GET /v1/connect/intentions/check`
pub(super) fn check(context: &Context<'_>, call: &Call) -> Routed {
    let run = || -> Result<Reply, ApiError> {
        let (source, destination) = pair(call)?;
        let allowed = context.write(|state, _, _| {
            match state.intentions.deciding(source, destination).map(|found| found.rule()) {
                Some(Rule::L4(action)) => *action == Action::Allow,
                // Requests are not known here, so what depends on them is refused.
                Some(Rule::L7(_)) => false,
                // The default of ACLs, whatever `default_intention_policy` says: as Consul.
                None => true,
            }
        });
        Ok(Reply::json(json!({ "Allowed": allowed })))
    };
    run().into()
}

/// `GET`, `PUT`, `DELETE /v1/connect/intentions/exact`
pub(super) fn exact(context: &Context<'_>, call: &Call) -> Routed {
    let (source, destination) = match pair(call) {
        Ok(pair) => pair,
        Err(error) => return error.into(),
    };
    if call.method == Method::GET {
        let (source, destination) = (source.to_owned(), destination.to_owned());
        return Routed::Watch(Box::new(move |state, _| {
            let found = state.intentions.exact(&source, &destination);
            let found = found.ok_or_else(|| ApiError::missing("Intention not found"))?;
            let version = Version::Bare(state.intentions.index());
            Ok(Answer { body: Content::Found(found.json()), version })
        }));
    }
    if call.method == Method::DELETE {
        context.write(|state, _, _| {
            state.intentions.remove_source(source, destination, &mut state.index);
        });
        return Routed::Done(done());
    }
    let run = || -> Result<Reply, ApiError> {
        let map = body::object(&call.body)?;
        let fields = Fields::new(&map, "Intention");
        context.write(|state, _, _| {
            let entry = state.intentions.with_source(source, destination, fields)?;
            store(state, entry)
        })?;
        Ok(done())
    };
    run().into()
}

/// Stores an entry, if its destination speaks what its permissions judge by.
pub(super) fn store(state: &mut State, entry: Entry) -> Result<(), ApiError> {
    if entry.has_permissions() {
        let protocol = state.entries.protocol(&entry.name);
        if !matches!(protocol.as_str(), "http" | "http2" | "grpc") {
            return Err(ApiError::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                format!(
                    "service {:?} has protocol {protocol:?}, which is incompatible with L7 intentions permissions",
                    entry.name
                ),
            ));
        }
    }
    state.intentions.put(entry, &mut state.index)?;
    Ok(())
}

fn pair(call: &Call) -> Result<(&str, &str), ApiError> {
    let one = |name: &'static str| match call.query.all(name).collect::<Vec<_>>().as_slice() {
        [text] if !text.is_empty() => Ok(*text),
        _ => Err(ApiError::internal(format!("required query parameter '{name}' not set"))),
    };
    Ok((service_name(one("source")?), service_name(one("destination")?)))
}

/// The name without a namespace or partition: `default/default/web` is `web`.
fn service_name(text: &str) -> &str {
    text.rsplit('/').next().unwrap_or(text)
}
