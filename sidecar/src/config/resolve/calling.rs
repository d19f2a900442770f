//! What retries, hedges and breakers say together that makes no sense.

use super::limits::beyond;
use crate::config::calling::{BreakerKeys, HedgeKeys, RetryKeys};
use crate::config::{Calling, HedgeAfter, Size};
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
    /// What is wrong with it, by key; `calling` is what it comes to.
    pub(super) fn contradictions(&self, calling: &Calling) -> Vec<(&'static str, String)> {
        let mut found: Vec<_> = [self.waits(calling), self.rests(), self.body()].into();
        found.extend([self.retries(calling), self.hedges(calling), self.no_hedges()]);
        found.into_iter().flatten().collect()
    }

    fn waits(&self, calling: &Calling) -> Contradiction {
        let (first, last) = (self.retry.backoff.is_some(), self.retry.backoff_max.is_some());
        let backoff = calling.policy.backoff;
        if backoff.first <= backoff.last || !(first || last) {
            return None;
        }
        let key = if first { "retry.backoff" } else { "retry.backoff_max" };
        let (first, last) = (backoff.first, backoff.last);
        let message = format!(
            "a first wait of {first:?} beside a longest of {last:?}, expected no more than that"
        );
        Some((key, message))
    }

    fn rests(&self) -> Contradiction {
        let (breaker, trip) = self.breaker?;
        let (rest, most) = (breaker.rest.is_some(), breaker.rest_max.is_some());
        if trip.first <= trip.last || !(rest || most) {
            return None;
        }
        let key = if rest { "breaker.rest" } else { "breaker.rest_max" };
        let (first, last) = (trip.first, trip.last);
        let message = format!(
            "a first rest of {first:?} beside a longest of {last:?}, expected no more than that"
        );
        Some((key, message))
    }

    fn body(&self) -> Contradiction {
        let body = self.retry.body.filter(|body| *body > self.kept_requests)?;
        Some(("retry.body", beyond(body, "limits.kept_requests", self.kept_requests)))
    }

    fn retries(&self, calling: &Calling) -> Contradiction {
        let is_told = self.retry.on.is_some() && calling.policy.attempts.get() == 1;
        let message = "set beside attempts = 1, with which nothing is sent again";
        is_told.then(|| ("retry.on", message.to_owned()))
    }

    fn hedges(&self, calling: &Calling) -> Contradiction {
        self.hedge.after.filter(|after| *after != HedgeAfter::Never)?;
        let message = if calling.policy.attempts.get() == 1 {
            "set beside retry.attempts = 1, with which nothing is sent twice"
        } else if calling.hedge.attempts.get() == 1 {
            "set beside attempts = 1, expected 2 or more"
        } else {
            return None;
        };
        Some(("hedge.after", message.to_owned()))
    }

    fn no_hedges(&self) -> Contradiction {
        self.hedge.attempts?;
        self.hedge.after.filter(|after| *after == HedgeAfter::Never)?;
        let message =
            "set beside after = \"never\", with which nothing is sent to a second endpoint";
        Some(("hedge.attempts", message.to_owned()))
    }
}

/// A key, and what is wrong with it.
type Contradiction = Option<(&'static str, String)>;
