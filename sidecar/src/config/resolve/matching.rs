//! Which calls a rule is for; and where one rule of a list is wrong.

use http::{HeaderName, HeaderValue};

use super::Resolver;
use crate::config::keys::MatchKeys;
use crate::config::problem::Problem;
use crate::config::target::{is_well_encoded, normal};
use crate::config::tree::{Node, Value};
use crate::config::{PathMatch, RouteMatch};

/// What a `match` means; each thing that is wrong with it is told, with its key.
pub(super) fn route_match(keys: &MatchKeys, tell: &mut dyn FnMut(&str, String)) -> RouteMatch {
    let path = match (&keys.path, &keys.prefix) {
        (None, None) => PathMatch::Any,
        (Some(path), None) => {
            tell_path("match.path", path, tell);
            PathMatch::Exact(normal(path).unwrap_or_else(|| path.clone()))
        }
        (None, Some(prefix)) => {
            tell_path("match.prefix", prefix, tell);
            PathMatch::Prefix(normal_prefix(prefix))
        }
        (Some(_), Some(_)) => {
            tell("match", "found path and prefix in one match, expected one of them".into());
            PathMatch::Any
        }
    };
    let headers = keys.headers.iter().filter_map(|(name, value)| {
        let key = format!("match.headers.{name}");
        match (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            (Ok(name), Ok(value)) => Some((name, value)),
            (Err(_), _) => {
                tell(&key, format!("found {name:?}, expected a header's name"));
                None
            }
            (_, Err(_)) => {
                tell(&key, format!("found {value:?}, expected a header's value"));
                None
            }
        }
    });
    RouteMatch { headers: headers.collect(), path }
}

fn tell_path(key: &str, path: &str, tell: &mut dyn FnMut(&str, String)) {
    if !path.starts_with('/') {
        tell(key, format!("found {path:?}, expected a path that begins with \"/\""));
    } else if path.contains(['?', '#']) {
        tell(key, format!("found {path:?}, expected a path without a query"));
    } else if !is_well_encoded(path) {
        tell(key, format!("found {path:?}, expected two hexadecimal digits after each \"%\""));
    }
}

/// The last segment goes on: `/.` is how `/.well-known` begins.
fn normal_prefix(prefix: &str) -> String {
    let whole = normal(&format!("{prefix}x"));
    whole.and_then(|whole| Some(whole.strip_suffix('x')?.to_owned())).unwrap_or(prefix.to_owned())
}

/// The rules of a list that are never reached, as one before them is for all that they are for, by
/// their places.
pub(super) fn unreached<'r, R>(
    rules: &'r [R],
    includes: impl Fn(&'r R, &'r R) -> bool,
) -> Vec<(usize, usize)> {
    let first = |at: usize| rules[..at].iter().position(|before| includes(before, &rules[at]));
    (0..rules.len()).filter_map(|at| Some((at, first(at)?))).collect()
}

impl Resolver<'_> {
    /// A problem with a key of one item of a list, or with the item as a whole, at its own line or
    /// else that of what it would stand in.
    pub(super) fn problem_in(&mut self, list: &str, at: usize, key: &str, message: String) {
        let item = match self.find(list).map(|node| &node.value) {
            // What was refused is no longer among the keys, so it does not count.
            Some(Value::List(items)) => {
                let kept = |(_, item): &(usize, &_)| !is_refused(item);
                items.iter().enumerate().filter(kept).nth(at)
            }
            _ => None,
        };
        let (key, node) = match item {
            Some((at, item)) if key.is_empty() => (format!("{list}[{at}]"), Some(item)),
            Some((at, item)) => (format!("{list}[{at}].{key}"), Some(item.nearest(key))),
            None => (list.to_owned(), None),
        };
        let origin = node.and_then(|node| node.origin.clone());
        self.problems.push(Problem { origin, key, message });
    }

    /// Whether nothing is wrong with a list so far, so that what follows from it is true.
    pub(super) fn is_well(&self, list: &str) -> bool {
        !self.problems.iter().any(|problem| problem.key.starts_with(list))
    }

    /// Whether a key of one item of a list is written, even with a wrong value.
    pub(super) fn is_set_in(&self, list: &str, at: usize, key: &str) -> bool {
        self.find_in(list, at, key).is_some()
    }

    /// Whether a key of one item of a list has a wrong value.
    pub(super) fn is_refused_in(&self, list: &str, at: usize, key: &str) -> bool {
        self.find_in(list, at, key).is_some_and(is_refused)
    }

    /// What is written for a key of one item of a list, even if it is wrong.
    pub(super) fn find_in(&self, list: &str, at: usize, key: &str) -> Option<&Node> {
        let Value::List(items) = &self.find(list)?.value else { return None };
        let item = items.iter().filter(|item| !is_refused(item)).nth(at)?;
        item.find(key.split('.'))
    }
}

fn is_refused(node: &Node) -> bool {
    matches!(node.value, Value::Refused)
}
