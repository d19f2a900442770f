//! What an answer's status says, where no message came with it: whether the endpoint is well, and
//! whether the call may be sent again.

use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderName, StatusCode};
use tonic::Code;

use super::headers::Answered;
use crate::fault::{DELIVERED_HEADER, REASON_HEADER, Reason};
use crate::resilience::outcome::{Failure, Outcome};
use crate::resilience::retry::Pushback;

const PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// A status, and who gave it.
#[derive(Clone, Debug)]
pub struct Told {
    /// None where it is no gRPC.
    code: Option<Code>,
    /// Where a sidecar gave it.
    reason: Option<Reason>,
    /// What the server asks for.
    pub pushback: Option<Pushback>,
    /// Whether the app may have seen the call, where that is said.
    delivered: Option<bool>,
    message: Option<Box<str>>,
}

impl Told {
    /// Of these headers or trailers, that were looked through already.
    pub fn of(answered: &Answered, headers: &HeaderMap) -> Self {
        let code = answered.status.map(|status| Code::from(i32::from(status)));
        if code == Some(Code::Ok) && !answered.has_reason {
            return Self { code, reason: None, pushback: None, delivered: None, message: None };
        }
        let reason = headers.get(&REASON_HEADER).filter(|_| answered.has_reason);
        let reason = reason.and_then(|name| Reason::named(name.as_bytes()));
        // What a caller over its rate is told where it is no gRPC.
        let is_rate = reason == Some(Reason::Overloaded) && headers.contains_key(RETRY_AFTER);
        let code = code.or(is_rate.then_some(Code::ResourceExhausted));
        let message = headers.get(&MESSAGE).and_then(|message| message.to_str().ok());
        Self {
            code,
            reason,
            pushback: headers.get(&PUSHBACK).map(|value| Pushback::parse(value.as_bytes())),
            delivered: headers.get(&DELIVERED_HEADER).map(|told| told != "no"),
            message: message.map(Box::from),
        }
    }

    /// Of an HTTP status that means the same as UNAVAILABLE ("HTTP to gRPC Status Code Mapping").
    pub fn of_http(status: StatusCode) -> Option<Self> {
        (Outcome::of_http(status) == Outcome::Down).then(|| Self {
            code: Some(Code::Unavailable),
            reason: None,
            pushback: None,
            delivered: None,
            message: Some(format!("HTTP {status}").into()),
        })
    }

    /// The same, where it is no gRPC with what its HTTP status means.
    pub fn or_http(mut self, status: StatusCode) -> Self {
        if self.code.is_none() && Outcome::of_http(status) == Outcome::Down {
            self.code = Some(Code::Unavailable);
        }
        self
    }

    /// What it says of the endpoint.
    pub fn outcome(&self) -> Outcome {
        Outcome::of_answer(self.code, self.reason)
    }

    /// Whether it came quickly because nothing was done: it is no sign of speed.
    pub fn is_no_answer(&self) -> bool {
        self.reason == Some(Reason::Overloaded)
            || matches!(self.outcome(), Outcome::Bad | Outcome::Down)
    }

    /// How the call failed; none where it did not.
    pub fn failure(&self) -> Option<Failure> {
        match (self.code, self.reason) {
            (None, None) | (Some(Code::Ok), None) => None,
            (code, reason) => {
                let code = code.unwrap_or(Code::Unknown);
                Some(Failure::of_answer(code, reason, self.delivered))
            }
        }
    }

    /// For people.
    pub fn words(&self) -> String {
        let code = self.code.unwrap_or(Code::Unknown);
        match &self.message {
            Some(message) => format!("{code:?}: {message}"),
            None => format!("{code:?}"),
        }
    }
}
