//! The environment as a layer: `OUTRIGGER_UPSTREAMS__USER_SERVICE__TIMEOUT` is
//! `upstreams.user-service.timeout`.

use std::collections::BTreeMap;

use super::problem::Origin;
use super::tree::Node;

const PREFIX: &str = "OUTRIGGER_";
/// Names the config file; the command line reads it.
const FILE: &str = "OUTRIGGER_CONFIG";

/// Lays every variable of ours over the tree, known or not: reading finds out which.
pub(super) fn lay(tree: &mut Node, variables: &BTreeMap<String, String>) {
    // In order of their names: of two that contradict each other in shape, the same one wins.
    for (name, text) in variables {
        if name.starts_with(PREFIX) && name != FILE {
            tree.lay(&keys(name), text, &Origin::Variable(name.clone()));
        }
    }
}

fn keys(name: &str) -> Vec<String> {
    let mut keys: Vec<String> =
        name[PREFIX.len()..].split("__").map(str::to_ascii_lowercase).collect();
    // A service's name has hyphens, which no variable's name can hold.
    if let [section, upstream, ..] = &mut keys[..]
        && section == "upstreams"
    {
        *upstream = upstream.replace('_', "-");
    }
    keys
}

/// The variable that sets a key.
pub(super) fn name(key: &str) -> String {
    let key = key.replace('.', "__").replace('-', "_");
    format!("{PREFIX}{}", key.to_ascii_uppercase())
}
