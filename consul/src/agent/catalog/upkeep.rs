//! What leaves the catalog without being asked to: services that were critical for too long, and
//! what others wrote to the local node.

use std::time::Duration;

use tokio::time::Instant;

use super::{Catalog, Index, SERF_CHECK};
use crate::agent::check::Source;
use crate::agent::service::Origin;

impl Catalog {
    /// Deregisters the instances that were critical for longer than a check of theirs allows.
    /// Returns their ids.
    pub(in crate::agent) fn reap(
        &mut self,
        now: Instant,
        minimum: Duration,
        index: &mut Index,
    ) -> Vec<String> {
        let Some(node) = self.local() else { return Vec::new() };
        let mut ids: Vec<String> = node
            .checks
            .values()
            .filter(|check| {
                let (Some(after), Some(since)) = (check.deregister_after, check.critical_since)
                else {
                    return false;
                };
                now.saturating_duration_since(since) > after.max(minimum)
            })
            .map(|check| check.service_id.clone())
            .filter(|id| !id.is_empty())
            .collect();
        ids.dedup();
        let local = self.local.clone();
        ids.retain(|id| self.remove_service(&local, id, index));
        ids
    }

    /// Drops what others wrote to the local node through `/v1/catalog/register`, as the agent's
    /// anti-entropy does.
    pub(in crate::agent) fn drop_foreign(&mut self, index: &mut Index) {
        let Some(node) = self.local() else { return };
        let ids: Vec<String> = node
            .services
            .values()
            .filter(|service| service.origin == Origin::Catalog)
            .map(|service| service.id.clone())
            .collect();
        let checks: Vec<String> = node
            .checks
            .values()
            .filter(|check| check.source == Source::Given && check.kind.is_empty())
            .filter(|check| check.id != SERF_CHECK)
            .map(|check| check.id.clone())
            .collect();
        let local = self.local.clone();
        for id in ids {
            self.remove_service(&local, &id, index);
        }
        for id in checks {
            self.remove_check(&local, &id, index);
        }
    }
}
