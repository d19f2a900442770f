//! Whether two keys that make no sense together are told of.
//!
//! Both in one file are a mistake. A variable or a flag over a file is somebody who switches
//! something off while it hurts: the sidecar starts, and what the file says beside it has no effect.

use std::mem::discriminant;

use super::Resolver;
use crate::config::tree::{Node, Value};

impl Resolver<'_> {
    /// Whether what is written for a key is told as a contradiction to another key.
    pub(super) fn contradicts(&self, key: &str, other: &str) -> bool {
        is_told(self.find(key), self.find(other))
    }
}

/// The same of what is written. Where the other is not written, its default is what counts; of a
/// wrong value nothing follows.
pub(super) fn is_told(key: Option<&Node>, other: Option<&Node>) -> bool {
    let is_wrong = |node: &&Node| matches!(node.value, Value::Refused);
    if key.iter().chain(&other).any(is_wrong) {
        return false;
    }
    match (key.and_then(|node| node.origin.as_ref()), other.and_then(|node| node.origin.as_ref())) {
        (Some(key), Some(other)) => discriminant(key) == discriminant(other),
        _ => true,
    }
}
