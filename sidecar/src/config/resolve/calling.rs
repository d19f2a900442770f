//! What retries, hedges and breakers say together that makes no sense.

use std::time::Duration;

use super::limits::beyond;
use crate::config::calling::{BreakerKeys, HedgeKeys, RetryKeys};
use crate::config::{Calling, HedgeAfter, Size};
use crate::resilience::backoff::Backoff;
use crate::resilience::breaker::Trip;

/// What one place says of its calls.
pub(super) struct Said<'k> {
    pub(super) retry: &'k RetryKeys,
    pub(super) hedge: &'k HedgeKeys,
    /// None: a place that says nothing of endpoints.
    pub(super) breaker: Option<(&'k BreakerKeys, &'k Trip)>,
    /// What all requests that are kept share.
    pub(super) kept_requests: Size,
}

impl Said<'_> {
    /// What is wrong with it; `calling` is what it comes to.
    pub(super) fn contradictions(&self, calling: &Calling) -> Vec<Contradiction> {
        let mut found: Vec<_> = [self.waits(calling), self.rests(), self.body()].into();
        found.extend([self.retries(calling), self.hedges(calling), self.no_hedges()]);
        found.into_iter().flatten().collect()
    }

    fn waits(&self, calling: &Calling) -> Option<Contradiction> {
        let (said, Backoff { first, last }) = (self.retry, calling.policy.backoff);
        let first = ("retry.backoff", said.backoff.is_some(), first);
        let last = ("retry.backoff_max", said.backoff_max.is_some(), last);
        turned("wait", first, last)
    }

    fn rests(&self) -> Option<Contradiction> {
        let (said, trip) = self.breaker?;
        let first = ("breaker.rest", said.rest.is_some(), trip.first);
        let last = ("breaker.rest_max", said.rest_max.is_some(), trip.last);
        turned("rest", first, last)
    }

    fn body(&self) -> Option<Contradiction> {
        let body = self.retry.body.filter(|body| *body > self.kept_requests)?;
        let (key, other) = ("retry.body", "limits.kept_requests");
        Some(Contradiction { key, other, message: beyond(body, other, self.kept_requests) })
    }

    fn retries(&self, calling: &Calling) -> Option<Contradiction> {
        let is_told = self.retry.on.is_some() && calling.policy.attempts.get() == 1;
        let message = "set beside attempts = 1, with which nothing is sent again";
        is_told.then(|| Contradiction::of("retry.on", "retry.attempts", message))
    }

    fn hedges(&self, calling: &Calling) -> Option<Contradiction> {
        self.hedge.after.filter(|after| *after != HedgeAfter::Never)?;
        let (other, message) = if calling.policy.attempts.get() == 1 {
            ("retry.attempts", "set beside retry.attempts = 1, with which nothing is sent twice")
        } else if calling.hedge.attempts.get() == 1 {
            ("hedge.attempts", "set beside attempts = 1, expected 2 or more")
        } else {
            return None;
        };
        Some(Contradiction::of("hedge.after", other, message))
    }

    fn no_hedges(&self) -> Option<Contradiction> {
        self.hedge.attempts?;
        self.hedge.after.filter(|after| *after == HedgeAfter::Never)?;
        let message =
            "set beside after = \"never\", with which nothing is sent to a second endpoint";
        Some(Contradiction::of("hedge.attempts", "hedge.after", message))
    }
}

/// A first time that is longer than the longest. Each is its key, whether this place says it, and
/// what it comes to.
fn turned(
    what: &str,
    first: (&'static str, bool, Duration),
    last: (&'static str, bool, Duration),
) -> Option<Contradiction> {
    let (key, other) = match (first.1, last.1) {
        (true, _) => (first.0, last.0),
        (false, true) => (last.0, first.0),
        (false, false) => return None,
    };
    let (first, last) = (first.2, last.2);
    let message = format!(
        "a first {what} of {first:?} beside a longest of {last:?}, expected no more than that"
    );
    (first > last).then(|| Contradiction::of(key, other, &message))
}

/// A key that another one, here or one level up, makes pointless.
pub(super) struct Contradiction {
    pub(super) key: &'static str,
    pub(super) other: &'static str,
    pub(super) message: String,
}

impl Contradiction {
    fn of(key: &'static str, other: &'static str, message: &str) -> Self {
        Self { key, other, message: message.to_owned() }
    }
}
