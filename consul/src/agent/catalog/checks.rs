//! The checks of nodes and of their instances. A change moves the index of those whose health it
//! judges, and of no other.

use tokio::time::Instant;

use super::{Catalog, Index, Refused, topics};
use crate::agent::check::{Check, Status};

impl Catalog {
    /// Adds or replaces a check; its service must exist on the node.
    pub(in crate::agent) fn put_check(
        &mut self,
        node: &str,
        mut check: Check,
        index: &mut Index,
    ) -> Result<(), Refused> {
        let held: usize = self.nodes.values().map(|node| node.checks.len()).sum();
        let Some(node) = self.nodes.get_mut(node) else { return Ok(()) };
        if !check.service_id.is_empty() {
            let Some(service) = node.services.get(&check.service_id) else {
                return Err(Refused::UnknownService(check.service_id));
            };
            service.name.clone_into(&mut check.service_name);
            service.tags.clone_into(&mut check.service_tags);
        }
        let known = node.checks.get(&check.id);
        if known.is_none() && held >= self.bounds.checks {
            return Err(Refused::Full(self.bounds.checks, "checks"));
        }
        let at = index.advance();
        check.create_index = known.map_or(at, |known| known.create_index);
        check.modify_index = at;
        let (name, id) = (node.name.clone(), check.service_id.clone());
        node.checks.insert(check.id.clone(), check);
        self.touch_checks(&name, &id, at);
        Ok(())
    }

    /// Removes a check; whether it was there.
    pub(in crate::agent) fn remove_check(
        &mut self,
        node: &str,
        id: &str,
        index: &mut Index,
    ) -> bool {
        let Some(held) = self.nodes.get_mut(node) else { return false };
        let Some(check) = held.checks.remove(id) else { return false };
        let at = index.advance();
        self.touch_checks(node, &check.service_id, at);
        true
    }

    /// Sets what a check says.
    pub(in crate::agent) fn set_check(
        &mut self,
        node: &str,
        id: &str,
        status: Status,
        output: &str,
        now: Instant,
        index: &mut Index,
    ) {
        let Some(check) = self.nodes.get_mut(node).and_then(|node| node.checks.get_mut(id)) else {
            return;
        };
        if !check.set(status, output, now) {
            return;
        }
        let at = index.advance();
        check.modify_index = at;
        let service = check.service_id.clone();
        self.touch_checks(node, &service, at);
    }

    /// A check changed: so did the health of its service, or of all of the node's.
    fn touch_checks(&mut self, node: &str, service_id: &str, at: u64) {
        self.checks_index = at;
        let Some(node) = self.nodes.get(node) else { return };
        let judged = node
            .services
            .values()
            .filter(|service| service_id.is_empty() || service.id == service_id);
        self.service_index.extend(judged.flat_map(topics).map(|topic| (topic, at)));
    }
}
