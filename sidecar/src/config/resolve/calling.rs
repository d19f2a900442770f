//! What retries, hedges and breakers say together that makes no sense.

use crate::config::calling::{BreakerKeys, HedgeKeys, RetryKeys};
use crate::config::{Calling, HedgeAfter};
use crate::resilience::breaker::Trip;

/// What is wrong with what one place says of its calls, by key; `calling` is what it comes to.
pub(super) fn contradictions(
    retry: &RetryKeys,
    hedge: &HedgeKeys,
    calling: &Calling,
) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    let backoff = calling.policy.backoff;
    let (first, last) = (retry.backoff.is_some(), retry.backoff_max.is_some());
    if backoff.first > backoff.last && (first || last) {
        let key = if first { "retry.backoff" } else { "retry.backoff_max" };
        let (first, last) = (backoff.first, backoff.last);
        found.push((
            key,
            format!(
                "a first wait of {first:?} beside a longest of {last:?}, expected no more than that"
            ),
        ));
    }
    let is_never_again = calling.policy.attempts.get() == 1;
    if is_never_again && retry.on.is_some() {
        let message = "set beside attempts = 1, with which nothing is sent again";
        found.push(("retry.on", message.to_owned()));
    }
    if hedge.after.is_some_and(|after| after != HedgeAfter::Never) {
        let message = if is_never_again {
            Some("set beside retry.attempts = 1, with which nothing is sent twice")
        } else if calling.hedge.attempts.get() == 1 {
            Some("set beside attempts = 1, expected 2 or more")
        } else {
            None
        };
        found.extend(message.map(|message| ("hedge.after", message.to_owned())));
    }
    found
}

/// What is wrong with what one place says of its endpoints' rest; `trip` is what it comes to.
pub(super) fn contradiction(keys: &BreakerKeys, trip: &Trip) -> Option<(&'static str, String)> {
    let (rest, most) = (keys.rest.is_some(), keys.rest_max.is_some());
    if trip.first <= trip.last || !(rest || most) {
        return None;
    }
    let key = if rest { "breaker.rest" } else { "breaker.rest_max" };
    let (first, last) = (trip.first, trip.last);
    Some((
        key,
        format!(
            "a first rest of {first:?} beside a longest of {last:?}, expected no more than that"
        ),
    ))
}
