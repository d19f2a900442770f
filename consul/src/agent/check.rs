//! One health check: its JSON shapes, and the pure rule by which the results of its probe become
//! its status. What runs the probes is `probe`; this module never asks for the time.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::duration;

#[path = "check/definition.rs"]
mod definition;

pub(super) use definition::{Definition, Invalid, Thresholds};

/// What Consul keeps of a check's output.
pub(super) const MAX_OUTPUT: usize = 4 * 1024;

/// What a check says. Ordered: what is worse is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Status {
    Passing,
    Warning,
    Critical,
}

impl Status {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Passing => "passing",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }

    /// The status that `text` names.
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text {
            "passing" => Some(Self::Passing),
            "warning" => Some(Self::Warning),
            "critical" => Some(Self::Critical),
            _ => None,
        }
    }
}

/// What decides a check's status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// Somebody else says it: a maintenance check, serf, or one written to the catalog.
    Given,
    /// Its owner reports in time, or it turns critical.
    Ttl(Duration),
    /// The state of a service's other checks, or of a node's.
    Alias { node: String, service: String },
    /// A probe that the agent runs.
    Probe { target: Target, interval: Duration, timeout: Duration },
}

/// What a probe asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// `host:port` that must accept a connection.
    Tcp(String),
    /// A request that must be answered with 2xx (429: a warning).
    Http { url: String, method: String, headers: BTreeMap<String, Vec<String>>, body: String },
    /// `host:port[/service]` that must serve by `grpc.health.v1`.
    Grpc(String),
}

/// One check of a node, with the state of whatever drives it.
#[derive(Clone, Debug)]
pub(super) struct Check {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) status: Status,
    pub(super) notes: String,
    pub(super) output: String,
    pub(super) service_id: String,
    pub(super) service_name: String,
    pub(super) service_tags: Vec<String>,
    pub(super) kind: &'static str,
    /// As the definition names it; of a check registered by itself always, else where it is set.
    pub(super) interval: String,
    pub(super) timeout: String,
    pub(super) source: Source,
    /// The `Definition` of a check that was written to the catalog.
    pub(super) definition: Value,
    pub(super) deregister_after: Option<Duration>,
    /// Since when it is critical without a break.
    pub(super) critical_since: Option<Instant>,
    pub(super) driver: Driver,
    pub(super) create_index: u64,
    pub(super) modify_index: u64,
}

/// Where a check stands in time: when it is due, and its results in a row.
#[derive(Clone, Debug)]
pub(super) struct Driver {
    /// When the next probe is due, or a TTL runs out. None: nothing is due, or a probe runs.
    pub(super) due: Option<Instant>,
    /// Tells results of a probe of an earlier definition from those of this one.
    pub(super) generation: u64,
    thresholds: Thresholds,
    successes: u32,
    failures: u32,
    last_report: String,
}

impl Driver {
    /// A driver whose first result counts at once, as in Consul.
    pub(super) fn new(thresholds: Thresholds, due: Option<Instant>, generation: u64) -> Self {
        Self {
            due,
            generation,
            thresholds,
            successes: thresholds.success,
            failures: thresholds.critical,
            last_report: String::new(),
        }
    }

    /// A driver of a check that nothing drives.
    pub(super) fn idle() -> Self {
        Self::new(Thresholds::default(), None, 0)
    }

    /// Takes the result of a probe; the status that the check now has, if it has a new one.
    pub(super) fn judge(&mut self, result: Status) -> Option<Status> {
        if result == Status::Critical {
            self.failures = self.failures.saturating_add(1);
            self.successes = 0;
            if self.failures >= self.thresholds.critical {
                return Some(Status::Critical);
            }
            return (self.failures >= self.thresholds.warning).then_some(Status::Warning);
        }
        self.successes = self.successes.saturating_add(1);
        self.failures = 0;
        (self.successes >= self.thresholds.success).then_some(result)
    }

    /// Notes a report of a TTL check's owner.
    pub(super) fn report(&mut self, output: &str, due: Instant) {
        output.clone_into(&mut self.last_report);
        self.due = Some(due);
    }

    /// What a TTL check says once nobody reported in time.
    pub(super) fn expired_output(&self) -> String {
        if self.last_report.is_empty() {
            return "TTL expired".to_owned();
        }
        format!("TTL expired (last output before timeout follows): {}", self.last_report)
    }
}

impl Check {
    /// A check by `definition`; `id` and `name` have their defaults already.
    pub(super) fn new(
        definition: &Definition,
        id: String,
        name: String,
        now: Instant,
        generation: u64,
    ) -> Self {
        let due = match &definition.source {
            Source::Ttl(ttl) => now.checked_add(*ttl),
            Source::Probe { .. } => Some(now),
            Source::Alias { .. } | Source::Given => None,
        };
        let status = definition.status.unwrap_or(Status::Critical);
        Self {
            id,
            name,
            status,
            notes: definition.notes.clone(),
            output: String::new(),
            service_id: String::new(),
            service_name: String::new(),
            service_tags: Vec::new(),
            kind: kind(&definition.source),
            interval: shown(definition.interval),
            timeout: shown(definition.timeout),
            source: definition.source.clone(),
            definition: json!({}),
            deregister_after: definition.deregister_after,
            critical_since: (status == Status::Critical).then_some(now),
            driver: Driver::new(definition.thresholds, due, generation),
            create_index: 0,
            modify_index: 0,
        }
    }

    /// A check whose status is given, as maintenance modes are.
    pub(super) fn given(id: &str, name: &str, kind: &'static str, status: Status) -> Self {
        Self {
            id: id.to_owned(),
            name: name.to_owned(),
            status,
            notes: String::new(),
            output: String::new(),
            service_id: String::new(),
            service_name: String::new(),
            service_tags: Vec::new(),
            kind,
            interval: String::new(),
            timeout: String::new(),
            source: Source::Given,
            definition: json!({}),
            deregister_after: None,
            critical_since: None,
            driver: Driver::idle(),
            create_index: 0,
            modify_index: 0,
        }
    }

    /// Sets status and output; whether that changed anything.
    pub(super) fn set(&mut self, status: Status, output: &str, now: Instant) -> bool {
        match status {
            Status::Critical => {
                self.critical_since.get_or_insert(now);
            }
            _ => self.critical_since = None,
        }
        let changed = self.status != status || self.output != output;
        self.status = status;
        output.clone_into(&mut self.output);
        changed
    }

    /// The shape of `/v1/health/…`.
    pub(super) fn health_json(&self, node: &str) -> Value {
        json!({
            "Node": node,
            "CheckID": self.id,
            "Name": self.name,
            "Status": self.status.as_str(),
            "Notes": self.notes,
            "Output": self.output,
            "ServiceID": self.service_id,
            "ServiceName": self.service_name,
            "ServiceTags": self.service_tags,
            "Type": self.kind,
            "Interval": self.interval,
            "Timeout": self.timeout,
            "ExposedPort": 0,
            "Definition": self.definition,
            "CreateIndex": self.create_index,
            "ModifyIndex": self.modify_index,
        })
    }

    /// The shape of `/v1/agent/health/service/…`, which copies the first nine fields of a check
    /// and shows the rest as nothing.
    pub(super) fn copied_json(&self, node: &str) -> Value {
        let tags =
            if self.service_tags.is_empty() { Value::Null } else { json!(self.service_tags) };
        json!({
            "Node": node,
            "CheckID": self.id,
            "Name": self.name,
            "Status": self.status.as_str(),
            "Notes": self.notes,
            "Output": self.output,
            "ServiceID": self.service_id,
            "ServiceName": self.service_name,
            "ServiceTags": tags,
            "Type": "",
            "ExposedPort": 0,
            "Definition": {
                "Body": "",
                "DeregisterCriticalServiceAfter": "0s",
                "GRPC": "",
                "GRPCUseTLS": false,
                "HTTP": "",
                "Header": null,
                "Interval": "0s",
                "Method": "",
                "OSService": "",
                "TCP": "",
                "TCPUseTLS": false,
                "TLSServerName": "",
                "TLSSkipVerify": false,
                "Timeout": "0s",
                "UDP": "",
            },
            "CreateIndex": 0,
            "ModifyIndex": 0,
        })
    }

    /// The shape of `/v1/agent/checks`: the local record, which knows no indexes.
    pub(super) fn agent_json(&self, node: &str) -> Value {
        let mut out = self.health_json(node);
        out["CreateIndex"] = json!(0);
        out["ModifyIndex"] = json!(0);
        out
    }
}

/// A duration, empty where there is none.
fn shown(duration: Duration) -> String {
    if duration.is_zero() { String::new() } else { duration::format(duration) }
}

fn kind(source: &Source) -> &'static str {
    match source {
        Source::Given => "",
        Source::Ttl(_) => "ttl",
        Source::Alias { .. } => "alias",
        Source::Probe { target: Target::Tcp(_), .. } => "tcp",
        Source::Probe { target: Target::Http { .. }, .. } => "http",
        Source::Probe { target: Target::Grpc(_), .. } => "grpc",
    }
}

/// Cuts an output to what Consul keeps, on a character's boundary.
pub(super) fn cut(output: &str) -> String {
    if output.len() <= MAX_OUTPUT {
        return output.to_owned();
    }
    let end = output.floor_char_boundary(MAX_OUTPUT);
    format!("{} ... (captured {end} of {} bytes)", &output[..end], output.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_result_counts_and_later_ones_by_their_thresholds() {
        let thresholds = Thresholds { success: 2, warning: 2, critical: 3 };
        let mut driver = Driver::new(thresholds, None, 0);
        assert_eq!(driver.judge(Status::Passing), Some(Status::Passing));
        assert_eq!(driver.judge(Status::Critical), None);
        assert_eq!(driver.judge(Status::Critical), Some(Status::Warning));
        assert_eq!(driver.judge(Status::Critical), Some(Status::Critical));
        assert_eq!(driver.judge(Status::Passing), None);
        assert_eq!(driver.judge(Status::Passing), Some(Status::Passing));
    }
}
