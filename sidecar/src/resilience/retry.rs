//! Whether a call that failed is sent again, and when.
//!
//! Never past its deadline, never more often than it may, never where the app may have seen a call
//! that is not idempotent, and never where a sidecar below retries already: retries must not
//! multiply over hops. The budget is asked last, so that only what is sent again spends it.

use std::num::NonZeroU32;
use std::time::Duration;

use fastrand::Rng;
use tonic::Code;

use super::backoff::Backoff;
use super::budget::{Allowance, Budget};
use super::idempotency::Idempotency;
use super::moment::Moment;
use super::outcome::Failure;

/// Where a caller set no deadline, nobody waits longer because a server asks for it.
const LONGEST: Duration = Duration::from_secs(15);

/// How a route's calls are sent again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How often a call is sent, the first time counted.
    pub attempts: NonZeroU32,
    /// The waits between.
    pub backoff: Backoff,
    /// The statuses after which an idempotent call is sent again.
    pub on: Codes,
    /// The upstream's budget.
    pub budget: Allowance,
}

impl Default for Policy {
    fn default() -> Self {
        const THREE: NonZeroU32 = NonZeroU32::MIN.saturating_add(2);
        Self {
            attempts: THREE,
            backoff: Backoff::default(),
            on: [Code::Unavailable].into_iter().collect(),
            budget: Allowance::default(),
        }
    }
}

/// A set of gRPC statuses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Codes(u32);

impl Codes {
    /// Whether it is among them.
    pub fn contains(self, code: Code) -> bool {
        self.0 & (1 << code as u32) != 0
    }
}

impl FromIterator<Code> for Codes {
    fn from_iter<T: IntoIterator<Item = Code>>(codes: T) -> Self {
        Self(codes.into_iter().fold(0, |set, code| set | (1 << code as u32)))
    }
}

/// What is known of a call, whichever attempt it is at.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// What becomes of it where it is made twice.
    pub idempotency: Idempotency,
    /// It carries the marker of a retry by a sidecar below.
    pub is_retry_already: bool,
    /// When its caller's time is up.
    pub deadline: Option<Moment>,
}

/// What is known of the attempt that failed.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    /// How often the call was sent, this time counted.
    pub sent: u32,
    /// How it failed.
    pub failure: Failure,
    /// What the server asks for, where it does.
    pub pushback: Option<Pushback>,
    /// The whole request is at hand, and nothing of an answer was passed on.
    pub can_be_replayed: bool,
}

/// `grpc-retry-pushback-ms` (gRFC A6, "Pushback").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushback {
    /// Send it again after this long.
    After(Duration),
    /// Do not send it again: a negative number, or what is none.
    Stop,
}

impl Pushback {
    /// Reads the trailer's value.
    pub fn parse(value: &[u8]) -> Self {
        let text = std::str::from_utf8(value).ok();
        match text.and_then(|text| text.parse::<u32>().ok()) {
            Some(millis) => Pushback::After(Duration::from_millis(millis.into())),
            None => Pushback::Stop,
        }
    }
}

/// What is done with a call that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is sent again after this long.
    Again(Duration),
    /// Its failure is the caller's answer.
    Stop(Why),
}

/// Why a call is not sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It would fail in the same way, or its status is not among those that are retried.
    NotRetryable,
    /// The app may have seen it, and it is not idempotent.
    NotIdempotent,
    /// Its body was too large or was not kept whole, or a message was passed on.
    NotReplayable,
    /// It is a retry already.
    RetryAlready,
    /// It was sent as often as it may.
    Attempts,
    /// The server asked for no more.
    Pushback,
    /// Its time would be up.
    Deadline,
    /// The budget is spent.
    Budget,
}

impl Policy {
    /// Whether a failed call is sent again. Where it is, one retry of the budget is spent.
    pub fn decide(
        &self,
        call: &Call,
        attempt: &Attempt,
        budget: &Budget,
        now: Moment,
        rng: &mut Rng,
    ) -> Verdict {
        if let Some(why) = self.obstacle(call, attempt) {
            return Verdict::Stop(why);
        }
        let wait = match attempt.pushback {
            Some(Pushback::After(wait)) if call.deadline.is_none() && wait > LONGEST => {
                return Verdict::Stop(Why::Pushback);
            }
            Some(Pushback::After(wait)) => wait,
            Some(Pushback::Stop) => return Verdict::Stop(Why::Pushback),
            None => self.backoff.wait(attempt.sent.saturating_sub(1), rng),
        };
        if call.deadline.is_some_and(|deadline| now + wait >= deadline) {
            return Verdict::Stop(Why::Deadline);
        }
        if !budget.spend(&self.budget, now) {
            return Verdict::Stop(Why::Budget);
        }
        Verdict::Again(wait)
    }

    /// Whether sending it again could help a call that failed so.
    pub fn is_worth(&self, call: &Call, failure: Failure) -> bool {
        match failure {
            Failure::Undelivered => true,
            Failure::Reset => call.idempotency.may_repeat(),
            Failure::Answered(code) => call.idempotency.may_repeat() && self.on.contains(code),
            Failure::Final => false,
        }
    }

    fn obstacle(&self, call: &Call, attempt: &Attempt) -> Option<Why> {
        let needs_idempotence = match attempt.failure {
            Failure::Undelivered => false,
            Failure::Reset => true,
            Failure::Answered(code) if self.on.contains(code) => true,
            Failure::Answered(_) | Failure::Final => return Some(Why::NotRetryable),
        };
        if needs_idempotence && !call.idempotency.may_repeat() {
            Some(Why::NotIdempotent)
        } else if !attempt.can_be_replayed {
            Some(Why::NotReplayable)
        } else if call.is_retry_already {
            Some(Why::RetryAlready)
        } else if attempt.sent >= self.attempts.get() {
            Some(Why::Attempts)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests;
