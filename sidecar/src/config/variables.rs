//! The environment as a layer: `OUTRIGGER_UPSTREAMS__USER_SERVICE__TIMEOUT` is
//! `upstreams.user-service.timeout`.

use super::problem::Origin;
use super::tree::Node;

const PREFIX: &str = "OUTRIGGER_";
/// Names the config file; read with the flags.
pub(crate) const FILE: &str = "OUTRIGGER_CONFIG";

/// Lays every variable of ours over the tree, known or not: reading finds out which.
pub(super) fn lay(tree: &mut Node, variables: impl IntoIterator<Item = (String, String)>) {
    let mut ours: Vec<_> = variables
        .into_iter()
        .filter(|(name, _)| name.starts_with(PREFIX) && name != FILE)
        .collect();
    // Of two that contradict each other in shape, always the same one wins.
    ours.sort();
    for (name, text) in ours {
        let keys = keys(&name);
        tree.lay(&keys, &text, &Origin::Variable(name));
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
