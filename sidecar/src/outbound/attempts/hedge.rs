//! The wait for an answer, and the second endpoint that is asked where it takes long.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use http::response::Parts as Head;
use tokio::time::{Instant, timeout};

use super::Attempts;
use super::going::Copy;
use crate::call::attempt::Attempt;
use crate::call::exchange::{Ended, Exchange};
use crate::call::headers::{Answered, Dialect};
use crate::call::told::Told;
use crate::fault::{Fault, Reason};
use crate::resilience::outcome::Failure;
use crate::telemetry::labels::RetryOutcome;
use crate::transport::body::Body;

/// The same call at another endpoint, until the head of an answer that is no failure.
type Hedge<'h> = Pin<Box<dyn Future<Output = Result<(Attempt, (Head, Body)), Fault>> + 'h>>;

impl Attempts<'_> {
    /// Waits for the answer; where it takes long, asks a second endpoint too.
    pub(super) async fn answer(
        &self,
        exchange: &mut Exchange,
        copy: Option<&Copy>,
        has_fallback: bool,
    ) -> Result<(), Ended> {
        let copy = copy.filter(|_| self.call.idempotency.may_repeat());
        let peek = (copy.is_some() || has_fallback) && self.asked.dialect == Dialect::Grpc;
        if copy.is_some()
            && let Some(after) = self.hedge_after()
        {
            exchange.hedge_at(Instant::now() + after);
        }
        let is_http = self.asked.dialect == Dialect::Http;
        let mut hedges: Vec<Hedge<'_>> = Vec::new();
        let mut first = None;
        let ended = poll_fn(|cx| {
            loop {
                let ended = hedges.iter_mut().enumerate().find_map(|(at, hedge)| {
                    match hedge.as_mut().poll(cx) {
                        Poll::Ready(ended) => Some((at, ended)),
                        Poll::Pending => None,
                    }
                });
                match ended {
                    Some((at, Ok((attempt, head)))) => {
                        drop(hedges.swap_remove(at));
                        self.count(RetryOutcome::HedgeWon);
                        return Poll::Ready(exchange.answered_by(attempt, head));
                    }
                    Some((at, Err(_))) => {
                        self.count(RetryOutcome::HedgeLost);
                        drop(hedges.swap_remove(at));
                        continue;
                    }
                    None => {}
                }
                if hedges.is_empty()
                    && let Some(first) = first.take()
                {
                    return Poll::Ready(first);
                }
                if first.is_some() {
                    return exchange
                        .poll_side(cx)
                        .map_or_else(|e| Poll::Ready(Err(e)), |()| Poll::Pending);
                }
                if is_http && exchange.has_interim(cx) {
                    return Poll::Ready(Ok(()));
                }
                match exchange.poll_arrival(cx, peek) {
                    Poll::Ready(ended) => {
                        let failure = match &ended {
                            Ok(()) => exchange.told().and_then(Told::failure),
                            Err(Ended::Fault(fault)) if exchange.is_lost() => Some(fault.into()),
                            Err(_) => None,
                        };
                        // A third endpoint is better than one that may hang, too.
                        let is_last = self.sent.get() >= self.calling.policy.attempts.get();
                        if hedges.is_empty() || !is_last || !self.is_worth(failure) {
                            return Poll::Ready(ended);
                        }
                        first = Some(ended);
                    }
                    Poll::Pending => {
                        let hedge = if exchange.take_hedge_due() {
                            copy.and_then(|copy| self.hedge(exchange, copy))
                        } else {
                            None
                        };
                        let Some(hedge) = hedge else { return Poll::Pending };
                        hedges.push(hedge);
                    }
                }
            }
        })
        .await;
        hedges.iter().for_each(|_| self.count(RetryOutcome::HedgeLost));
        ended
    }

    fn hedge_after(&self) -> Option<Duration> {
        self.method.hedge_after(self.calling.hedge, self.call.idempotency)
    }

    /// Whether a failure is one that another endpoint may not have.
    fn is_worth(&self, failure: Option<Failure>) -> bool {
        failure.is_some_and(|failure| self.calling.policy.is_worth(&self.call, failure))
    }

    /// The same call at another endpoint, where it may go there.
    #[cold]
    fn hedge<'h>(&'h self, exchange: &mut Exchange, copy: &Copy) -> Option<Hedge<'h>> {
        let now = Instant::now();
        // What has a body has one that is kept.
        let mut body = match exchange.attempt().kept() {
            Some(kept) => kept.copy()?,
            None => Body::Empty,
        };
        self.leave();
        let sent = self.sent.get();
        let most = self.calling.hedge.attempts.get();
        let allowance = &self.calling.policy.budget;
        if sent >= most
            || !self.upstream.has_other(&self.tried.borrow(), now)
            || !self.state.budget.spend(allowance, self.state.clock.moment(now))
        {
            return None;
        }
        self.sent.set(sent + 1);
        if sent + 1 < most
            && let Some(after) = self.hedge_after()
        {
            exchange.hedge_at(now + after);
        }
        let head = copy.head(self.before + sent);
        Some(Box::pin(async move {
            let place = self.connect(None, false, now).await?;
            let mut attempt = self.send(place, head, &mut body)?;
            let limit = self.worker.header_list();
            let answer = poll_fn(|cx| {
                if let Err(Ended::Fault(fault)) = attempt.poll_upload(cx, limit) {
                    return Poll::Ready(Err(fault));
                }
                attempt.poll_answer(cx)
            });
            // Where the caller set no deadline, no attempt waits for ever.
            let patience = self.calling.timeout.limit().filter(|_| self.deadline.is_none());
            let (head, body) = match patience {
                Some(patience) => timeout(patience, answer).await.unwrap_or_else(|_| {
                    Err(Fault::after_send(Reason::DeadlineExceeded, "a hedge had no answer"))
                })?,
                None => answer.await?,
            };
            let answered = Answered::of(&head.headers);
            if answered.has_reason || (body.is_empty() && answered.status.is_some()) {
                let told = Told::of(&answered, &head.headers);
                if self.is_worth(told.failure()) {
                    attempt.judge(told.outcome(), || told.words());
                    return Err(Fault::after_send(Reason::UpstreamReset, told.words()));
                }
            }
            Ok((attempt, (head, body)))
        }))
    }
}
