//! Which calls a rule is for; and where one rule of a list is wrong.

use http::{HeaderName, HeaderValue};

use super::Resolver;
use crate::config::keys::MatchKeys;
use crate::config::problem::Problem;
use crate::config::tree::Value;
use crate::config::{PathMatch, RouteMatch};

/// What a `match` means; each thing that is wrong with it is told.
pub(super) fn route_match(keys: &MatchKeys, tell: &mut dyn FnMut(String)) -> RouteMatch {
    let path = match (&keys.path, &keys.prefix) {
        (None, None) => PathMatch::Any,
        (Some(path), None) => PathMatch::Exact(path.clone()),
        (None, Some(prefix)) => PathMatch::Prefix(prefix.clone()),
        (Some(_), Some(_)) => {
            tell("found path and prefix in one match, expected one of them".into());
            PathMatch::Any
        }
    };
    if let PathMatch::Exact(text) | PathMatch::Prefix(text) = &path
        && !text.starts_with('/')
    {
        tell(format!("found the path {text:?}, expected one that begins with \"/\""));
    }
    let headers = keys.headers.iter().filter_map(|(name, value)| {
        match (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            (Ok(name), Ok(value)) => Some((name, value)),
            (Err(_), _) => {
                tell(format!("found {name:?}, expected a header's name"));
                None
            }
            (_, Err(_)) => {
                tell(format!("found {value:?}, expected a header's value"));
                None
            }
        }
    });
    RouteMatch { headers: headers.collect(), path }
}

impl Resolver<'_> {
    /// A problem with a key of one item of a list, at the key's own line or else the item's.
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
            Some((at, item)) => {
                let node = item.find(key.split('.')).or(Some(item));
                (format!("{list}[{at}].{key}"), node)
            }
            None => (list.to_owned(), None),
        };
        let origin = node.and_then(|node| node.origin.clone());
        self.problems.push(Problem { origin, key, message });
    }

    /// Whether a key of one item of a list is written, even with a wrong value.
    pub(super) fn is_set_in(&self, list: &str, at: usize, key: &str) -> bool {
        let Some(Value::List(items)) = self.find(list).map(|node| &node.value) else {
            return false;
        };
        let item = items.iter().filter(|item| !is_refused(item)).nth(at);
        item.is_some_and(|item| item.find(key.split('.')).is_some())
    }
}

fn is_refused(node: &crate::config::tree::Node) -> bool {
    matches!(node.value, Value::Refused)
}
