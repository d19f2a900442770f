//! What the end of a call says about the endpoint that it went to, and whether it may be sent
//! again.
//!
//! Judged from the gRPC status and, where a sidecar made the answer, from its reason.

use http::StatusCode;
use tonic::Code;

use crate::fault::{Delivery, Fault, Reason};

/// What a call's end says about its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It works, whatever it said: a wrong request is the caller's fault.
    Good,
    /// It answers, and says that it failed; or it took too long. One method's bug looks like this.
    Bad,
    /// It takes no calls: the transport failed, UNAVAILABLE, or a sidecar's own reason.
    Down,
    /// Nothing: the caller gave up, or the fault is our own.
    Unknown,
}

impl Outcome {
    /// Of a status that the app gave.
    pub fn of_status(code: Code) -> Self {
        match code {
            Code::Unavailable => Outcome::Down,
            Code::Internal | Code::Unknown | Code::DataLoss | Code::DeadlineExceeded => {
                Outcome::Bad
            }
            Code::Cancelled => Outcome::Unknown,
            Code::Ok
            | Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::ResourceExhausted
            | Code::FailedPrecondition
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::Unauthenticated => Outcome::Good,
        }
    }

    /// Of an answer: a status, and a reason where the peer's sidecar made it.
    pub fn of_answer(code: Option<Code>, reason: Option<Reason>) -> Self {
        match (code, reason) {
            // It refuses this caller, and works.
            (Some(Code::ResourceExhausted), Some(Reason::Overloaded)) => Outcome::Good,
            // The status says whether it was one call's stream or the connection.
            (Some(code), None | Some(Reason::UpstreamReset)) => Self::of_status(code),
            (_, Some(reason)) => Self::of_reason(reason),
            (None, None) => Outcome::Unknown,
        }
    }

    /// Of an HTTP status; those of gateways are UNAVAILABLE ("HTTP to gRPC Status Code Mapping").
    pub fn of_http(status: StatusCode) -> Self {
        match status.as_u16() {
            502..=504 => Outcome::Down,
            500..=599 => Outcome::Bad,
            _ => Outcome::Good,
        }
    }

    /// Of this sidecar's own fault.
    pub fn of_fault(fault: &Fault) -> Self {
        Self::of_answer(Some(fault.code()), Some(fault.reason))
    }

    /// Of a sidecar's own reason, this one's or its peer's.
    pub fn of_reason(reason: Reason) -> Self {
        match reason {
            Reason::ConnectFailed
            | Reason::TlsFailed
            | Reason::IdentityMismatch
            | Reason::UpstreamReset
            | Reason::AppUnreachable
            | Reason::Draining => Outcome::Down,
            Reason::DeadlineExceeded => Outcome::Bad,
            // Whoever sheds works as well as it can: to let it rest would halve what it does.
            Reason::Denied | Reason::Overloaded => Outcome::Good,
            Reason::NoRoute
            | Reason::NoEndpoints
            | Reason::BreakerOpen
            | Reason::RetryBudgetExhausted
            | Reason::TooLarge
            | Reason::Malformed => Outcome::Unknown,
        }
    }
}

/// How an attempt failed, as far as sending it again goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The app saw nothing of it: always safe to send again.
    Undelivered,
    /// The stream or its connection ended before the answer: the app may have seen it.
    Reset,
    /// The app, or a sidecar for it, gave this status.
    Answered(Code),
    /// It would fail in the same way again.
    Final,
}

impl Failure {
    /// Of an answer with a status; `reason` where the peer's sidecar made it. The peer's sidecar
    /// strips its app's own, so the reason can be believed.
    /// `delivered` is what it says of that by itself.
    pub fn of_answer(code: Code, reason: Option<Reason>, delivered: Option<bool>) -> Self {
        match (reason, delivered) {
            (Some(_), Some(false)) => return Failure::Undelivered,
            (Some(_), Some(true)) => return Failure::Answered(code),
            _ => {}
        }
        match reason {
            // A caller over its rate would be so anywhere else, too.
            Some(Reason::Overloaded) if code == Code::ResourceExhausted => Failure::Answered(code),
            Some(Reason::AppUnreachable | Reason::Overloaded | Reason::Draining) => {
                Failure::Undelivered
            }
            _ => Failure::Answered(code),
        }
    }
}

impl From<&Fault> for Failure {
    /// Of this sidecar's own fault.
    fn from(fault: &Fault) -> Self {
        let code = fault.code();
        match (fault.reason, fault.delivery) {
            _ if fault.is_injected() => Failure::Answered(code),
            (Reason::Overloaded, _) if code == Code::ResourceExhausted => Failure::Answered(code),
            (
                Reason::NoRoute
                | Reason::NoEndpoints
                | Reason::BreakerOpen
                | Reason::RetryBudgetExhausted
                // Whom we met, or how they prove it, changes by no second look.
                | Reason::TlsFailed
                | Reason::IdentityMismatch
                | Reason::Denied
                | Reason::DeadlineExceeded
                | Reason::TooLarge
                | Reason::Malformed,
                Delivery::No,
            ) => Failure::Final,
            (_, Delivery::No) => Failure::Undelivered,
            (Reason::UpstreamReset, Delivery::Maybe | Delivery::Yes) => Failure::Reset,
            (_, Delivery::Maybe | Delivery::Yes) => Failure::Answered(code),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_caller_did_wrong_never_counts_against_an_endpoint() {
        let good = [3, 5, 6, 7, 8, 9, 10, 11, 12, 16];
        assert!(good.iter().all(|n| Outcome::of_status(Code::from(*n)) == Outcome::Good));
        let bad = [2, 4, 13, 15];
        assert!(bad.iter().all(|n| Outcome::of_status(Code::from(*n)) == Outcome::Bad));
        assert_eq!(Outcome::of_status(Code::Unavailable), Outcome::Down);
        assert_eq!(Outcome::of_status(Code::Cancelled), Outcome::Unknown);
    }

    #[test]
    fn a_fault_is_undelivered_only_where_sending_it_again_can_help() {
        let of = |fault: Fault| Failure::from(&fault);
        assert_eq!(of(Fault::undelivered(Reason::ConnectFailed, "")), Failure::Undelivered);
        assert_eq!(of(Fault::undelivered(Reason::UpstreamReset, "")), Failure::Undelivered);
        assert_eq!(of(Fault::undelivered(Reason::NoRoute, "")), Failure::Final);
        assert_eq!(of(Fault::undelivered(Reason::IdentityMismatch, "")), Failure::Final);
        assert_eq!(of(Fault::after_send(Reason::UpstreamReset, "")), Failure::Reset);
        assert_eq!(
            of(Fault::after_send(Reason::DeadlineExceeded, "")),
            Failure::Answered(Code::DeadlineExceeded)
        );
    }

    #[test]
    fn what_a_peer_says_of_the_delivery_beats_its_reason() {
        let of = |reason, delivered| {
            Failure::of_answer(Code::Unavailable, Some(reason), Some(delivered))
        };
        let answered = Failure::Answered(Code::Unavailable);
        assert_eq!(of(Reason::Draining, true), answered);
        assert_eq!(of(Reason::UpstreamReset, false), Failure::Undelivered);
    }

    #[test]
    fn a_peers_refusal_for_its_app_was_not_delivered() {
        let of = |reason| Failure::of_answer(Code::Unavailable, reason, None);
        assert_eq!(of(Some(Reason::Draining)), Failure::Undelivered);
        assert_eq!(of(Some(Reason::UpstreamReset)), Failure::Answered(Code::Unavailable));
        assert_eq!(of(None), Failure::Answered(Code::Unavailable));
    }

    #[test]
    fn a_caller_over_its_rate_is_neither_sent_elsewhere_nor_held_against_the_endpoint() {
        let (code, reason) = (Code::ResourceExhausted, Some(Reason::Overloaded));
        assert_eq!(Failure::of_answer(code, reason, None), Failure::Answered(code));
        assert_eq!(Outcome::of_answer(Some(code), reason), Outcome::Good);
        let fault = Fault::rate_limited("", std::time::Duration::from_secs(1));
        assert_eq!(Failure::from(&fault), Failure::Answered(code));
        assert_eq!(Outcome::of_fault(&fault), Outcome::Good);
    }

    #[test]
    fn an_injected_fault_is_judged_as_the_apps_own() {
        let fault = Fault::injected(Code::Internal, "");
        assert_eq!(Failure::from(&fault), Failure::Answered(Code::Internal));
        assert_eq!(Outcome::of_fault(&fault), Outcome::of_status(Code::Internal));
    }
}
