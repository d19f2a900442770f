//! Alias checks: each says what the checks of another service, or of a node, say. Settled after
//! every change, in a bounded number of passes, so that aliases of aliases cannot loop.

use tokio::time::Instant;

use super::{Catalog, Index, Node, SERF_CHECK, Status};
use crate::agent::check::Source;

/// As many aliases as are followed one behind the other in one change.
const MAX_DEPTH: usize = 8;

impl Catalog {
    /// Brings all alias checks of the local node up to date.
    pub(in crate::agent) fn settle_aliases(&mut self, now: Instant, index: &mut Index) {
        for _ in 0..MAX_DEPTH {
            let changes = self.alias_changes();
            if changes.is_empty() {
                return;
            }
            let local = self.local_name().to_owned();
            for (id, status, output) in changes {
                self.set_check(&local, &id, status, &output, now, index);
            }
        }
    }

    fn alias_changes(&self) -> Vec<(String, Status, String)> {
        let Some(local) = self.local() else { return Vec::new() };
        local
            .checks
            .values()
            .filter_map(|check| {
                let Source::Alias { node, service } = &check.source else { return None };
                let (status, output) = self.judge_alias(local, &check.id, node, service);
                (check.status != status || check.output != output)
                    .then(|| (check.id.clone(), status, output))
            })
            .collect()
    }

    fn judge_alias(
        &self,
        local: &Node,
        own_id: &str,
        node_name: &str,
        service: &str,
    ) -> (Status, String) {
        let node = if node_name.is_empty() { Some(local) } else { self.nodes.get(node_name) };
        let mut worst = Status::Passing;
        let mut output = "No checks found.".to_owned();
        let mut found = service.is_empty();
        for check in node.into_iter().flat_map(|node| node.checks.values()) {
            // The local state, which an alias without a node reads, does not know serf's check.
            if check.id == own_id || (node_name.is_empty() && check.id == SERF_CHECK) {
                continue;
            }
            if !check.service_id.is_empty() && check.service_id != service {
                continue;
            }
            found |= check.service_id == service;
            if check.status > worst {
                worst = check.status;
                output = format!("Aliased check {:?} failing: {}", check.name, check.output);
            } else if worst == Status::Passing {
                "All checks passing.".clone_into(&mut output);
            }
        }
        let exists = node.is_some_and(|node| node.services.contains_key(service));
        if !found && !exists {
            let output = format!("Service {service} could not be found on node {node_name}");
            return (Status::Critical, output);
        }
        (worst, output)
    }
}
