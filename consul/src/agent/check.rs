//! One health check: how it is read from a registration, its JSON shape, and the pure rule by
//! which the results of its probe become its status. What runs the probes is `probe`; this
//! module never asks for the time.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::body::{BodyError, Fields};
use super::duration;

/// Consul runs no check more often than this.
const MIN_INTERVAL: Duration = Duration::from_secs(1);
/// The timeout of a probe that names none.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// What Consul keeps of a check's output.
pub(super) const MAX_OUTPUT: usize = 4 * 1024;

/// The fields of a definition.
const FIELDS: [&str; 42] = [
    "AliasNode",
    "AliasService",
    "Args",
    "Body",
    "CheckID",
    "DeregisterCriticalServiceAfter",
    "DisableRedirects",
    "DockerContainerID",
    "FailuresBeforeCritical",
    "FailuresBeforeWarning",
    "GRPC",
    "GRPCUseTLS",
    "H2PING",
    "H2PingUseTLS",
    "HTTP",
    "Header",
    "ID",
    "Interval",
    "Method",
    "Name",
    "Namespace",
    "Notes",
    "OSService",
    "OutputMaxSize",
    "Partition",
    "ProxyGRPC",
    "ProxyHTTP",
    "ScriptArgs",
    "ServiceID",
    "SessionName",
    "Shell",
    "Status",
    "SuccessBeforePassing",
    "TCP",
    "TCPUseTLS",
    "TLSServerName",
    "TLSSkipVerify",
    "TTL",
    "Timeout",
    "Token",
    "Type",
    "UDP",
];

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

/// A check as a caller defines it.
#[derive(Clone, Debug)]
pub(super) struct Definition {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) notes: String,
    pub(super) service_id: String,
    pub(super) status: Option<Status>,
    pub(super) source: Source,
    /// As it was written; zero where it was not.
    pub(super) interval: Duration,
    pub(super) timeout: Duration,
    pub(super) thresholds: Thresholds,
    pub(super) deregister_after: Option<Duration>,
}

/// After how many results in a row a status changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Thresholds {
    pub(super) success: u32,
    pub(super) warning: u32,
    pub(super) critical: u32,
}

impl Definition {
    /// Reads and validates a definition; the error is what Consul puts behind `Invalid check: `.
    pub(super) fn from_fields(fields: Fields<'_>) -> Result<Self, Invalid> {
        fields.only(&FIELDS)?;
        let interval = fields.duration("Interval")?;
        let timeout = fields.duration("Timeout")?;
        let ttl = fields.duration("TTL")?;
        let source = source(fields, interval, timeout, ttl)?;
        let critical = fields.count("FailuresBeforeCritical")?;
        let warning = match fields.count("FailuresBeforeWarning")? {
            0 => critical,
            count => count,
        };
        if warning > critical {
            return Err(Invalid::Check(
                "FailuresBeforeWarning can't be higher than FailuresBeforeCritical".to_owned(),
            ));
        }
        let status = match fields.text("Status")?.as_str() {
            "" => None,
            text => Some(Status::parse(text).ok_or(Invalid::Status)?),
        };
        let deregister_after = fields.duration("DeregisterCriticalServiceAfter")?;
        let id = match fields.text("CheckID")? {
            id if id.is_empty() => fields.text("ID")?,
            id => id,
        };
        Ok(Self {
            id,
            name: fields.text("Name")?,
            notes: fields.text("Notes")?,
            service_id: fields.text("ServiceID")?,
            status,
            source,
            interval,
            timeout,
            thresholds: Thresholds {
                success: fields.count("SuccessBeforePassing")?,
                warning,
                critical,
            },
            deregister_after: (!deregister_after.is_zero()).then_some(deregister_after),
        })
    }
}

/// Why a check's definition was refused.
#[derive(Debug)]
pub(super) enum Invalid {
    /// The JSON did not decode.
    Body(BodyError),
    /// The fields do not make a check.
    Check(String),
    /// `Status` is none of the three.
    Status,
}

impl From<BodyError> for Invalid {
    fn from(error: BodyError) -> Self {
        Self::Body(error)
    }
}

fn source(
    fields: Fields<'_>,
    interval: Duration,
    timeout: Duration,
    ttl: Duration,
) -> Result<Source, Invalid> {
    let refuse = |text: &str| Err(Invalid::Check(text.to_owned()));
    for unsupported in ["ScriptArgs", "Args"] {
        if !fields.texts(unsupported)?.is_empty() {
            return refuse(
                "Scripts are disabled on this agent from remote calls; to enable, configure 'enable_script_checks' to true",
            );
        }
    }
    for unsupported in ["UDP", "H2PING", "OSService", "DockerContainerID"] {
        if !fields.text(unsupported)?.is_empty() {
            return Err(Invalid::Check(format!(
                "{unsupported} checks are not run by the embedded development agent; it runs TTL, TCP, HTTP, GRPC and alias checks"
            )));
        }
    }
    let tcp = fields.text("TCP")?;
    let http = fields.text("HTTP")?;
    let grpc = fields.text("GRPC")?;
    let alias = (fields.text("AliasNode")?, fields.text("AliasService")?);
    let is_alias = !alias.0.is_empty() || !alias.1.is_empty();
    let is_probe = !(tcp.is_empty() && http.is_empty() && grpc.is_empty());
    if !interval.is_zero() && !ttl.is_zero() {
        return refuse("Interval and TTL cannot both be specified");
    }
    if is_probe && interval.is_zero() {
        return refuse(
            "Interval must be > 0 for Script, HTTP, H2PING, TCP, UDP or OSService checks",
        );
    }
    if is_probe && is_alias {
        return refuse("Interval cannot be set for Alias checks");
    }
    if is_alias && !ttl.is_zero() {
        return refuse("TTL must be not be set for Alias checks");
    }
    if !is_probe && !is_alias && ttl.is_zero() {
        return refuse("TTL must be > 0 for TTL checks");
    }
    if is_alias {
        return Ok(Source::Alias { node: alias.0, service: alias.1 });
    }
    if !ttl.is_zero() {
        return Ok(Source::Ttl(ttl));
    }
    let secure = (!http.is_empty() && http.starts_with("https:"))
        || fields.boolean("GRPCUseTLS")?
        || fields.boolean("TCPUseTLS")?;
    if secure {
        return refuse("checks over TLS are not run by the embedded development agent");
    }
    let target = if !http.is_empty() {
        Target::Http {
            url: http,
            method: match fields.text("Method")? {
                method if method.is_empty() => "GET".to_owned(),
                method => method,
            },
            headers: headers(fields)?,
            body: fields.text("Body")?,
        }
    } else if !tcp.is_empty() {
        Target::Tcp(tcp)
    } else {
        Target::Grpc(grpc)
    };
    Ok(Source::Probe {
        target,
        interval: interval.max(MIN_INTERVAL),
        timeout: if timeout.is_zero() { DEFAULT_TIMEOUT } else { timeout },
    })
}

fn headers(fields: Fields<'_>) -> Result<BTreeMap<String, Vec<String>>, BodyError> {
    let Some(Value::Object(map)) = fields.value("Header") else { return Ok(BTreeMap::new()) };
    let lists = Fields::new(map, "Header");
    map.keys().map(|key| Ok((key.clone(), lists.texts(key)?))).collect()
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
    use crate::agent::body;

    fn definition(text: &str) -> Result<Definition, Invalid> {
        let map = body::object(text.as_bytes()).unwrap();
        Definition::from_fields(Fields::new(&map, "CheckType"))
    }

    #[test]
    fn a_check_that_is_neither_ttl_nor_probe_nor_alias_is_refused() {
        let Err(Invalid::Check(text)) = definition("{}") else { panic!("accepted") };
        assert_eq!(text, "TTL must be > 0 for TTL checks");
        let Err(Invalid::Check(text)) = definition(r#"{"TCP": "127.0.0.1:1"}"#) else {
            panic!("accepted")
        };
        assert!(text.starts_with("Interval must be > 0"));
        assert!(definition(r#"{"TTL": "10s", "Interval": "1s"}"#).is_err());
    }

    #[test]
    fn no_probe_runs_more_often_than_once_a_second() {
        let checked = definition(r#"{"TCP": "127.0.0.1:1", "Interval": "1ms"}"#).unwrap();
        let Source::Probe { interval, .. } = checked.source else { panic!("no probe") };
        assert_eq!(interval, MIN_INTERVAL);
    }

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
