//! Reads a check's definition as Consul does: what it does not accept is refused in its words, and
//! so is what this agent does not run.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::{Source, Status, Target};
use crate::agent::body::{BodyError, Fields};

/// Consul runs no check more often than this.
const MIN_INTERVAL: Duration = Duration::from_secs(1);
/// The timeout of a probe that names none.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
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

/// A check as a caller defines it.
#[derive(Clone, Debug)]
pub(in crate::agent) struct Definition {
    pub(in crate::agent) id: String,
    pub(in crate::agent) name: String,
    pub(in crate::agent) notes: String,
    pub(in crate::agent) service_id: String,
    pub(in crate::agent) status: Option<Status>,
    pub(in crate::agent) source: Source,
    /// As it was written; zero where it was not.
    pub(in crate::agent) interval: Duration,
    pub(in crate::agent) timeout: Duration,
    pub(in crate::agent) thresholds: Thresholds,
    pub(in crate::agent) deregister_after: Option<Duration>,
}

/// After how many results in a row a status changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::agent) struct Thresholds {
    pub(in crate::agent) success: u32,
    pub(in crate::agent) warning: u32,
    pub(in crate::agent) critical: u32,
}

impl Definition {
    /// Reads and validates a definition; the error is what Consul puts behind `Invalid check: `.
    pub(in crate::agent) fn from_fields(fields: Fields<'_>) -> Result<Self, Invalid> {
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
pub(in crate::agent) enum Invalid {
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
}
