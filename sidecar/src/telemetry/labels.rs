//! Every label value that a metric may carry.
//!
//! Sets are closed and stand here, so that a dashboard can rely on them. Strings from the wire
//! pass [`name`] or [`grpc_path`] first, then a cap on how many there are
//! ([`Bounds`](super::metrics::Bounds)); what does not pass is counted as [`OTHER`].

use certs::PeerFault;

/// The value of a label whose own value is not allowed, or one too many.
pub const OTHER: &str = "other";

/// Which of the two sides of a sidecar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// From the mesh to the app.
    Inbound,
    /// From the app to the mesh.
    Outbound,
}

impl Direction {
    /// Both, in the order of their discriminants.
    pub const ALL: [Self; 2] = [Self::Inbound, Self::Outbound];

    /// The label `direction`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

/// Why an endpoint of an upstream does or does not take calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EndpointStanding {
    /// It takes calls.
    Available,
    /// It could not be connected and stays out until a connection in the background succeeds.
    Unreachable,
    /// Consul's health checks say that it must not be called.
    Critical,
}

impl EndpointStanding {
    /// The label `state`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Available => "available",
            Self::Unreachable => "unreachable",
            Self::Critical => "critical",
        }
    }
}

/// What a watch on Consul keeps up to date.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SnapshotKind {
    /// The roots of the mesh's certificate authority.
    Roots,
    /// This service's own leaf certificate.
    Leaf,
    /// The intentions that name this service as their destination.
    Intentions,
    /// The endpoints of one upstream.
    Endpoints,
}

impl SnapshotKind {
    /// The label `kind`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Roots => "roots",
            Self::Leaf => "leaf",
            Self::Intentions => "intentions",
            Self::Endpoints => "endpoints",
        }
    }
}

/// The label `outcome` of calls that were sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryOutcome {
    /// One that was answered then.
    Success,
    /// One that failed all the same.
    Failure,
    /// One that failed, and would have been sent again had the budget not been spent.
    NoBudget,
    /// One that a second endpoint answered first.
    HedgeWon,
    /// One sent to a second endpoint for nothing.
    HedgeLost,
}

impl RetryOutcome {
    /// All, in the order of their discriminants.
    pub const ALL: [Self; 5] =
        [Self::Success, Self::Failure, Self::NoBudget, Self::HedgeWon, Self::HedgeLost];

    /// The label `outcome`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::NoBudget => "no_budget",
            Self::HedgeWon => "hedge_won",
            Self::HedgeLost => "hedge_lost",
        }
    }
}

/// The label `kind` of answers that are not the upstream's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FallbackKind {
    /// Another upstream's.
    Upstream,
    /// An earlier one.
    Stale,
    /// The config's.
    Answer,
    /// The config's status.
    Status,
}

impl FallbackKind {
    /// All, in the order of their discriminants.
    pub const ALL: [Self; 4] = [Self::Upstream, Self::Stale, Self::Answer, Self::Status];

    /// The label `kind`, and the value of `outrigger-fallback`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Upstream => "upstream",
            Self::Stale => "stale",
            Self::Answer => "answer",
            Self::Status => "status",
        }
    }
}

/// The label `cause` of calls from the mesh that were refused to spare the app or this sidecar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shed {
    /// Over a rate of the config.
    Rate,
    /// Over the calls at a time, and too many others waited.
    QueueFull,
    /// Over the calls at a time for as long as a call may wait.
    QueueTimeout,
    /// Over the calls at a time until its deadline.
    Deadline,
    /// Over the open streams of the sidecar.
    OpenStreams,
    /// No connection to the app has room.
    Connections,
}

impl Shed {
    /// All, in the order of their discriminants.
    pub const ALL: [Self; 6] = [
        Self::Rate,
        Self::QueueFull,
        Self::QueueTimeout,
        Self::Deadline,
        Self::OpenStreams,
        Self::Connections,
    ];

    /// The label `cause`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::QueueFull => "queue_full",
            Self::QueueTimeout => "queue_timeout",
            Self::Deadline => "deadline",
            Self::OpenStreams => "open_streams",
            Self::Connections => "connections",
        }
    }
}

/// The label `kind` of faults on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Injected {
    /// The call waited.
    Delay,
    /// The call ended with the config's status.
    Abort,
}

impl Injected {
    /// Both, in the order of their discriminants.
    pub const ALL: [Self; 2] = [Self::Delay, Self::Abort];

    /// The label `kind`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Delay => "delay",
            Self::Abort => "abort",
        }
    }
}

/// The label `reason`: the reasons of the sidecar's own answers (`outrigger-reason`).
pub const REASONS: [&str; 16] = [
    "no_route",
    "no_endpoints",
    "breaker_open",
    "connect_failed",
    "tls_failed",
    "identity_mismatch",
    "denied",
    "deadline_exceeded",
    "retry_budget_exhausted",
    "overloaded",
    "upstream_reset",
    "app_unreachable",
    "draining",
    "too_large",
    "malformed",
    OTHER,
];

/// The label `outcome` of TLS handshakes: `ok`, one that took too long, or what was wrong with the
/// peer ([`PeerFault::label`]).
pub const HANDSHAKE_OUTCOMES: [&str; PeerFault::LABELS.len() + 3] = {
    let mut all = [OTHER; PeerFault::LABELS.len() + 3];
    all[0] = "ok";
    all[1] = "timeout";
    let mut i = 0;
    while i < PeerFault::LABELS.len() {
        all[i + 2] = PeerFault::LABELS[i];
        i += 1;
    }
    all
};

/// The label `grpc_status`: the names of gRPC's status codes by number, then the one for a call
/// that ended without any (plain HTTP, or a stream that was reset).
pub const GRPC_STATUSES: [&str; 18] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
    "NONE",
];

/// Where in [`GRPC_STATUSES`] a call's outcome stands. A number that gRPC does not know is
/// `UNKNOWN`, as its clients treat it ("Status codes and their use in gRPC").
pub const fn grpc_status_index(code: Option<u8>) -> usize {
    match code {
        None => GRPC_STATUSES.len() - 1,
        Some(code) if code < 17 => code as usize,
        Some(_) => 2,
    }
}

/// Where in `set` a value stands; the last one, [`OTHER`], where it is not in it.
pub(super) fn index_in(set: &'static [&'static str], value: &str) -> usize {
    set.iter().position(|known| *known == value).unwrap_or(set.len() - 1)
}

/// The longest string from outside that may become a label, in bytes.
pub const MAX_LEN: usize = 128;

/// A string from outside, if it may become a label: `[A-Za-z0-9_.-/]{1,128}`.
pub fn name(value: &str) -> Option<&str> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-' | b'/');
    let fits = (1..=MAX_LEN).contains(&value.len());
    (fits && value.bytes().all(allowed)).then_some(value)
}

/// The service and the method of a path in gRPC's form, `/pkg.Service/Method`, if both may become
/// labels (gRPC over HTTP/2, "Path").
pub fn grpc_path(path: &str) -> Option<(&str, &str)> {
    if path.len() > 2 * MAX_LEN + 2 {
        return None;
    }
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    if method.contains('/') {
        return None;
    }
    Some((name(service)?, name(method)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_named_as_grpc_names_them() {
        let named = |code| GRPC_STATUSES[grpc_status_index(code)];
        assert_eq!(named(Some(0)), "OK");
        assert_eq!(named(Some(5)), "NOT_FOUND");
        assert_eq!(named(Some(16)), "UNAUTHENTICATED");
        assert_eq!(named(Some(17)), "UNKNOWN");
        assert_eq!(named(Some(255)), "UNKNOWN");
        assert_eq!(named(None), "NONE");
    }

    #[test]
    fn a_grpc_path_has_a_service_and_a_method() {
        assert_eq!(
            grpc_path("/user.v1.UserService/GetUser"),
            Some(("user.v1.UserService", "GetUser"))
        );
        assert_eq!(grpc_path("/Greeter/SayHello"), Some(("Greeter", "SayHello")));
        let long = format!("/{}/m", "s".repeat(MAX_LEN + 1));
        for path in
            ["", "/", "//", "/a", "/a/", "//b", "a/b", "/a/b/c", "/a/b?c", "/ü/b", "*", &long]
        {
            assert_eq!(grpc_path(path), None, "{path}");
        }
    }

    #[test]
    fn a_closed_set_takes_no_other_value() {
        assert_eq!(
            HANDSHAKE_OUTCOMES[index_in(&HANDSHAKE_OUTCOMES, "wrong_identity")],
            "wrong_identity"
        );
        assert_eq!(REASONS[index_in(&REASONS, "draining")], "draining");
        assert_eq!(REASONS[index_in(&REASONS, "made_up")], OTHER);
    }
}
