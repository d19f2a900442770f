//! How the app is, from what probes find: pure.
//!
//! An app that is slow once is warned of and goes on taking calls; one that refuses, or stays slow,
//! is critical.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use consul::api::CheckStatus;

/// Slow answers in a row that only warn, of an app that was well before.
const FORGIVEN: u32 = 2;

/// What one probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// `grpc.health.v1` says SERVING.
    Serving,
    /// The app speaks gRPC and knows no health service; its port connects.
    NoHealthService,
    /// Its port connects: all that is asked of an app that speaks HTTP/1.1.
    Connects,
    /// `grpc.health.v1` says something else.
    NotServing(&'static str),
    /// The probe was answered with this error.
    Error(String),
    /// No connection.
    Unreachable(SocketAddr, String),
    /// No answer within this time.
    Slow(Duration),
}

/// What Consul is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) status: CheckStatus,
    pub(super) output: String,
}

/// How the app was.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// Whether the last verdict let it take calls.
    is_well: bool,
    /// Slow answers in a row.
    slow: u32,
}

impl Health {
    /// Takes a finding in.
    pub(super) fn judge(&mut self, finding: &Finding) -> Verdict {
        let is_slow = matches!(finding, Finding::Slow(_));
        self.slow = if is_slow { self.slow.saturating_add(1) } else { 0 };
        let status = match finding {
            Finding::Serving | Finding::NoHealthService | Finding::Connects => CheckStatus::Passing,
            Finding::Slow(_) if self.is_well && self.slow <= FORGIVEN => CheckStatus::Warning,
            _ => CheckStatus::Critical,
        };
        self.is_well = status != CheckStatus::Critical;
        Verdict { status, output: finding.to_string() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Serving => f.write_str("grpc.health.v1: SERVING"),
            Self::NoHealthService => f.write_str(
                "the app answers gRPC; it has no grpc.health.v1, so that is all that is asked",
            ),
            Self::Connects => f.write_str("the app's port connects"),
            Self::NotServing(word) => write!(f, "grpc.health.v1: {word}"),
            Self::Error(why) => write!(f, "grpc.health.v1 failed: {why}"),
            Self::Unreachable(address, why) => write!(f, "the app at {address}: {why}"),
            Self::Slow(limit) => write!(f, "the app gave no answer within {limit:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOW: Finding = Finding::Slow(Duration::from_secs(2));

    #[test]
    fn an_app_without_a_health_service_is_well() {
        let verdict = Health::default().judge(&Finding::NoHealthService);
        assert_eq!(verdict.status, CheckStatus::Passing);
    }

    #[test]
    fn an_app_that_was_well_and_is_slow_is_warned_of_before_it_is_critical() {
        let mut health = Health::default();
        health.judge(&Finding::Serving);
        let mut status = || health.judge(&SLOW).status;
        assert_eq!([status(), status()], [CheckStatus::Warning; 2]);
        assert_eq!(status(), CheckStatus::Critical);
        assert_eq!(status(), CheckStatus::Critical);
    }

    #[test]
    fn an_app_that_never_was_well_is_critical_until_it_answers() {
        let mut health = Health::default();
        assert_eq!(health.judge(&SLOW).status, CheckStatus::Critical);
        assert_eq!(health.judge(&Finding::Connects).status, CheckStatus::Passing);
    }

    #[test]
    fn an_app_that_refuses_is_critical_at_once_and_the_output_says_why() {
        let mut health = Health::default();
        health.judge(&Finding::Serving);
        let address = "127.0.0.1:50051".parse().unwrap();
        let verdict = health.judge(&Finding::Unreachable(address, "connection refused".into()));
        assert_eq!(verdict.status, CheckStatus::Critical);
        assert_eq!(verdict.output, "the app at 127.0.0.1:50051: connection refused");
        assert_eq!(health.judge(&Finding::NotServing("NOT_SERVING")).status, CheckStatus::Critical);
    }
}
