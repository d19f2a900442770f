//! Limits that say something about each other. A part that is left out is no more than its whole.

use serde::Serialize;

use super::Resolver;
use crate::config::Count;
use crate::config::keys::Keys;

impl Resolver<'_> {
    /// What limits mean together.
    pub(super) fn limits(&mut self, keys: &mut Keys) {
        let limits = &mut keys.limits;
        let frame = limits.frame.bytes();
        if !(1 << 14..1 << 24).contains(&frame) {
            let found = limits.frame;
            self.problem(
                "limits.frame",
                format!(
                    "found \"{found}\", expected \"16KiB\" or more, below \"16MiB\" (RFC 9113, 4.2)"
                ),
            );
        }
        if limits.header_list.bytes() > 1 << 20 {
            let found = limits.header_list;
            self.problem(
                "limits.header_list",
                format!("found \"{found}\", expected at most \"1MiB\""),
            );
        }
        let (stream, connection) = (limits.stream_window, limits.connection_window);
        if u64::from(connection.bytes()) < 4 * u64::from(stream.bytes()) {
            let key = if self.is_set("limits.connection_window") {
                "limits.connection_window"
            } else {
                "limits.stream_window"
            };
            self.problem(key, format!("a connection_window of \"{connection}\" beside a stream_window of \"{stream}\", expected at least 4 times as much, so that no stream can stall the others"));
        }
        self.within(
            "limits.kept_answer",
            &mut limits.kept_answer,
            "limits.kept_answer_bytes",
            limits.kept_answer_bytes,
        );
        if let Some(body) = &mut keys.retry.body {
            self.within("retry.body", body, "limits.kept_requests", limits.kept_requests);
        }
    }

    /// How many calls wait for one endpoint of an upstream that nobody named. More than `in_flight`
    /// stays for the upstreams that allow more.
    pub(super) fn endpoint_limit(&mut self, keys: &mut Keys) -> Count {
        let limits = &mut keys.limits;
        let whole = limits.in_flight;
        let is_raised = keys.upstreams.values().any(|upstream| {
            upstream.in_flight_per_endpoint.is_none()
                && upstream.in_flight.is_some_and(|own| own > whole)
        });
        if is_raised {
            return limits.in_flight_per_endpoint.min(whole);
        }
        let part = &mut limits.in_flight_per_endpoint;
        self.within("limits.in_flight_per_endpoint", part, "limits.in_flight", whole);
        *part
    }

    /// What is a part of something is no more than that: told where the part is written, followed
    /// where it is not.
    pub(super) fn within<T: PartialOrd + Copy + Serialize>(
        &mut self,
        part_key: &str,
        part: &mut T,
        whole_key: &str,
        whole: T,
    ) {
        if *part <= whole {
            return;
        }
        if self.is_set(part_key) && self.contradicts(part_key, whole_key) {
            let message = beyond(*part, whole_key, whole);
            self.problem(part_key, message);
        }
        *part = whole;
    }
}

/// What is said of a part that is more than its whole.
pub(super) fn beyond<T: Serialize>(part: T, whole_key: &str, whole: T) -> String {
    // A plain JSON value is spelled alike in TOML.
    let shown = |value| serde_json::to_string(&value).unwrap_or_default();
    format!("found {} beside {whole_key} = {}, expected no more", shown(part), shown(whole))
}
