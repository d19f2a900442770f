//! When checks are due: expires TTLs, hands out probes, takes their results. Time is an argument;
//! the task around it sleeps.

use std::time::Duration;

use tokio::time::Instant;

use super::{Catalog, Index, Status};
use crate::agent::check::{Source, Target};

/// A probe to run now.
#[derive(Debug)]
pub(in crate::agent) struct Due {
    pub(in crate::agent) id: String,
    pub(in crate::agent) generation: u64,
    pub(in crate::agent) target: Target,
    pub(in crate::agent) timeout: Duration,
}

impl Catalog {
    /// Expires the TTLs that ran out and takes the probes that are due. A probe that was taken is
    /// not due again before its result came back.
    pub(in crate::agent) fn take_due(&mut self, now: Instant, index: &mut Index) -> Vec<Due> {
        let mut due = Vec::new();
        let mut expired = Vec::new();
        let local = self.local_name().to_owned();
        let Some(node) = self.nodes.get_mut(&local) else { return due };
        for check in node.checks.values_mut() {
            if check.driver.due.is_none_or(|at| at > now) {
                continue;
            }
            check.driver.due = None;
            match &check.source {
                Source::Ttl(_) => expired.push((check.id.clone(), check.driver.expired_output())),
                Source::Probe { target, timeout, .. } => due.push(Due {
                    id: check.id.clone(),
                    generation: check.driver.generation,
                    target: target.clone(),
                    timeout: *timeout,
                }),
                Source::Alias { .. } | Source::Given => {}
            }
        }
        for (id, output) in expired {
            self.set_check(&local, &id, Status::Critical, &output, now, index);
        }
        due
    }

    /// When the next check is due.
    pub(in crate::agent) fn next_due(&self) -> Option<Instant> {
        self.local()?.checks.values().filter_map(|check| check.driver.due).min()
    }

    /// Takes the result of a probe, if its check still is the one that asked.
    pub(in crate::agent) fn probed(
        &mut self,
        id: &str,
        generation: u64,
        status: Status,
        output: &str,
        now: Instant,
        index: &mut Index,
    ) {
        let local = self.local_name().to_owned();
        let Some(check) = self.nodes.get_mut(&local).and_then(|node| node.checks.get_mut(id))
        else {
            return;
        };
        let Source::Probe { interval, .. } = &check.source else { return };
        if check.driver.generation != generation {
            return;
        }
        check.driver.due = now.checked_add(*interval);
        if let Some(status) = check.driver.judge(status) {
            self.set_check(&local, id, status, output, now, index);
        }
    }

    /// Takes a report of a TTL check's owner; false where there is no such TTL check.
    pub(in crate::agent) fn reported(
        &mut self,
        id: &str,
        status: Status,
        output: &str,
        now: Instant,
        index: &mut Index,
    ) -> bool {
        let local = self.local_name().to_owned();
        let Some(check) = self.nodes.get_mut(&local).and_then(|node| node.checks.get_mut(id))
        else {
            return false;
        };
        let Source::Ttl(ttl) = check.source else { return false };
        let Some(due) = now.checked_add(ttl) else { return false };
        check.driver.report(output, due);
        self.set_check(&local, id, status, output, now, index);
        true
    }
}
