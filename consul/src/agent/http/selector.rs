//! The parameters that choose among results: `filter`, `tag`, `node-meta`.

use serde_json::{Map, Value};

use super::answer::ApiError;
use super::call::Call;
use crate::agent::catalog::Node;
use crate::agent::filter::{Filter, Schema};
use crate::agent::service::Service;

/// The filter of a call to the servers, who refuse one with 500; none where the call names none.
pub(super) fn filter(call: &Call, schema: Schema) -> Result<Option<Filter>, ApiError> {
    match call.query.first("filter") {
        "" => Ok(None),
        text => Filter::parse(text, schema)
            .map(Some)
            .map_err(|error| ApiError::internal(error.to_string())),
    }
}

/// Keeps what the filter matches.
pub(super) fn keep(filter: Option<&Filter>, items: Vec<Value>) -> Vec<Value> {
    match filter {
        None => items,
        Some(filter) => items.into_iter().filter(|item| filter.matches(item)).collect(),
    }
}

/// Filters a map by its values, by the filter of a call.
pub(super) fn filter_map(
    call: &Call,
    schema: Schema,
    items: Map<String, Value>,
) -> Result<Map<String, Value>, ApiError> {
    // The agent itself refuses with 400.
    let refused = |error: ApiError| ApiError::bad(error.text);
    let Some(filter) = filter(call, schema).map_err(refused)? else { return Ok(items) };
    Ok(items.into_iter().filter(|(_, item)| filter.matches(item)).collect())
}

/// The tags that an instance must have, whatever their case, and the node's metadata.
pub(super) struct Wanted {
    tags: Vec<String>,
    node_meta: Vec<(String, String)>,
}

impl Wanted {
    /// Reads `tag` and `node-meta`.
    pub(super) fn parse(call: &Call) -> Self {
        let pair = |text: &str| match text.split_once(':') {
            Some((key, value)) => (key.to_owned(), value.to_owned()),
            None => (text.to_owned(), String::new()),
        };
        Self {
            tags: call.query.all("tag").map(str::to_owned).collect(),
            node_meta: call.query.all("node-meta").map(pair).collect(),
        }
    }

    /// Whether the node fits.
    pub(super) fn node(&self, node: &Node) -> bool {
        self.node_meta.iter().all(|(key, value)| node.meta.get(key) == Some(value))
    }

    /// Whether the instance fits.
    pub(super) fn service(&self, service: &Service) -> bool {
        self.tags
            .iter()
            .filter(|tag| !tag.is_empty())
            .all(|tag| service.tags.iter().any(|own| own.eq_ignore_ascii_case(tag)))
    }
}
