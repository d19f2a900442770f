//! One call at its upstream: sent, and sent again where that can help, until an answer has begun.
//!
//! Retries of all calls together spend the upstream's budget, and none is made past the deadline,
//! of a call that is a retry already, or where the app may have seen what must not be done twice.

mod going;
mod hedge;
mod place;

use std::cell::{Cell, RefCell};
use std::pin::{Pin, pin};
use std::rc::Rc;

use http::request::Parts;
use http::{HeaderValue, Request};
use tokio::time::{Instant, sleep};

use super::endpoint::Endpoint;
use super::method::Method;
use super::upstream::Upstream;
use crate::call::attempt::{Answer, Attempt};
use crate::call::exchange::{Ended, Exchange, Limits};
use crate::call::headers::{Asked, PREVIOUS_ATTEMPTS};
use crate::call::told::Told;
use crate::call::{carry, deadline};
use crate::config::Calling;
use crate::discovery::snapshot::UpstreamState;
use crate::fault::{Fault, Reason};
use crate::resilience::outcome::Failure;
use crate::resilience::retry::{self, Pushback, Verdict, Why};
use crate::telemetry::labels::RetryOutcome;
use crate::transport::body::Body;
use crate::transport::pump::Pump;
use crate::worker::Worker;
use going::Copy;
use place::Place;

pub(super) use going::Going;

/// One call on its way to an answer.
pub(super) struct Attempts<'a> {
    pub(super) worker: &'a Worker,
    pub(super) upstream: &'a Rc<Upstream>,
    pub(super) state: &'a UpstreamState,
    pub(super) method: &'a Rc<Method>,
    pub(super) calling: &'a Calling,
    pub(super) asked: &'a Asked,
    /// What its route hashes it to.
    pub(super) hash: Option<u64>,
    pub(super) call: retry::Call,
    /// When its caller's time is up.
    pub(super) deadline: Option<Instant>,
    /// When it begins here.
    pub(super) begin: Instant,
    /// So many attempts of a sidecar below came before it.
    pub(super) before: u32,
    /// How often it was sent.
    pub(super) sent: Cell<u32>,
    /// Where it was sent to last …
    pub(super) last: RefCell<Option<Rc<Endpoint>>>,
    /// … and before.
    pub(super) tried: RefCell<Vec<Rc<Endpoint>>>,
}

/// How an attempt failed.
enum Failed {
    /// Before it was sent.
    Unsent(Fault),
    /// Its stream or connection broke.
    Lost(Fault, Box<Exchange>),
    /// Its answer says so.
    Told(Failure, Option<Pushback>, Box<Exchange>),
}

/// What follows a failure.
enum Next {
    /// The call is sent again.
    Again,
    /// It has ended.
    Over(Result<Box<Exchange>, Ended>),
}

impl Attempts<'_> {
    /// Sends the call. The answer has begun where there is one, and nothing of it went on.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) async fn run(&self, going: &mut Going) -> Result<Box<Exchange>, Ended> {
        self.state.budget.call(self.state.clock.moment(self.begin));
        if self.before > 0 {
            going.call.head.headers.insert(PREVIOUS_ATTEMPTS, HeaderValue::from(self.before));
        }
        if self.calling.policy.attempts.get() == 1 || self.call.is_retry_already {
            if going.has_fallback {
                going.call.body.keep(self.calling.body, Some(&self.worker.room));
            }
            return self.once(going, None).await?.or_else(|failed| failed.end(going));
        }
        let copy = Copy::of(&going.call.head, self.asked.size);
        going.call.body.keep(self.calling.body, Some(&self.worker.room));
        let (mut is_retry, mut earlier) = (false, None);
        loop {
            let ended = self.once(going, Some(&copy)).await;
            if is_retry && ended.is_err() {
                self.count(RetryOutcome::Failure);
            }
            let failed = match ended? {
                Ok(exchange) => {
                    if is_retry {
                        self.count(RetryOutcome::Success);
                    }
                    return Ok(exchange);
                }
                Err(failed) => failed,
            };
            let failed = failed.after(&mut earlier);
            if let Next::Over(end) = self.again(going, failed, is_retry).await? {
                return end;
            }
            is_retry = true;
            going.call.head = copy.head(self.before + self.sent.get());
        }
    }

    /// Sends it once, and waits for the answer.
    async fn once(
        &self,
        going: &mut Going,
        copy: Option<&Copy>,
    ) -> Result<Result<Box<Exchange>, Failed>, Ended> {
        // Nothing was waited for before the first.
        let now = if self.sent.get() == 0 { self.begin } else { Instant::now() };
        self.sent.set(self.sent.get() + 1);
        let place = match self.at_hand(now) {
            Ok(place) => place,
            Err(choice) => {
                let mut connecting = self.connect(choice, true, now);
                let connected =
                    going.until(self.deadline, &self.upstream.name, connecting.as_mut());
                match connected.await? {
                    Ok(place) => place,
                    Err(fault) => return Ok(Err(Failed::Unsent(fault))),
                }
            }
        };
        let now = place.now;
        let attempt =
            match self.send(place, carry::take_head(&mut going.call.head), &mut going.call.body) {
                Ok(attempt) => attempt,
                Err(fault) => return Ok(Err(Failed::Unsent(fault))),
            };
        let limits = Limits {
            deadline: self.deadline,
            response: self.calling.timeout.limit().filter(|_| self.deadline.is_none()),
            idle: self.worker.idle_timeout(&self.asked.dialect),
            header_list: self.worker.header_list(),
        };
        let Some(control) = going.call.control.take() else { return Err(Ended::CallerGone) };
        let in_upstream = going.in_upstream.take();
        let mut exchange = Box::new(Exchange::new(attempt, control, limits, in_upstream, now));
        match self.answer(&mut exchange, copy, going.has_fallback).await {
            Ok(()) => {}
            Err(Ended::Fault(fault)) if exchange.is_lost() => {
                return Ok(Err(Failed::Lost(fault, exchange)));
            }
            Err(ended) => {
                if going.has_fallback {
                    going.take_back(*exchange);
                }
                return Err(ended);
            }
        }
        match exchange.told().and_then(|told| Some((told.failure()?, told.pushback))) {
            None => Ok(Ok(exchange)),
            Some((failure, pushback)) => Ok(Err(Failed::Told(failure, pushback, exchange))),
        }
    }

    /// Waits until a call that failed is sent again, where it is.
    #[cold]
    fn again<'f>(
        &'f self,
        going: &'f mut Going,
        mut failed: Failed,
        is_retry: bool,
    ) -> Pin<Box<impl Future<Output = Result<Next, Ended>> + 'f>> {
        // Boxed, as most calls do not come here.
        Box::pin(async move {
            self.leave();
            let (failure, pushback) = failed.failure();
            let attempt = retry::Attempt {
                sent: self.sent.get(),
                failure,
                pushback,
                can_be_replayed: failed.can_be_replayed(),
            };
            let (policy, now) = (&self.calling.policy, self.state.clock.moment(Instant::now()));
            let verdict = self
                .upstream
                .with_rng(|rng| policy.decide(&self.call, &attempt, &self.state.budget, now, rng));
            let wait = match verdict {
                Verdict::Again(wait) => wait,
                Verdict::Stop(Why::Budget) => {
                    self.count(RetryOutcome::NoBudget);
                    return Ok(Next::Over(failed.unpaid(&self.upstream.name, going)));
                }
                Verdict::Stop(_) => {
                    if is_retry {
                        self.count(RetryOutcome::Failure);
                    }
                    return Ok(Next::Over(failed.end(going)));
                }
            };
            if let Failed::Lost(_, exchange) | Failed::Told(.., exchange) = failed {
                going.take_back(*exchange);
            }
            let waiting = pin!(sleep(wait));
            going.until(self.deadline, &self.upstream.name, waiting).await?;
            Ok(Next::Again)
        })
    }

    /// Puts the call on its stream. (Inlined, as what it gives is large and goes into a larger one.)
    #[inline(always)]
    fn send(&self, place: Place, mut head: Parts, body: &mut Body) -> Result<Attempt, Fault> {
        let Place { lease, whom, sent, now } = place;
        if let Some(at) = self.deadline {
            deadline::write(&mut head.headers, at, now);
        }
        let end = body.is_empty();
        match lease.send(Request::from_parts(head, ()), end) {
            Ok((answer, sink)) => {
                let upload = (!end).then(|| Pump::new(std::mem::replace(body, Body::Empty), sink));
                Ok(Attempt::new(whom, upload, Answer::H2(answer, lease), Some(sent)))
            }
            Err(e) => {
                sent.unsent();
                Err(Fault::from_h2(format_args!("{whom}"), &e))
            }
        }
    }

    /// The next endpoint is another one, where there is one.
    fn leave(&self) {
        self.tried.borrow_mut().extend(self.last.take());
    }

    fn count(&self, outcome: RetryOutcome) {
        self.worker.shard.retry(&self.upstream.name, outcome);
    }
}

impl Failed {
    fn failure(&self) -> (Failure, Option<Pushback>) {
        match self {
            Failed::Unsent(fault) | Failed::Lost(fault, _) => (Failure::from(fault), None),
            Failed::Told(failure, pushback, _) => (*failure, *pushback),
        }
    }

    /// Notes what was answered; one that was not sent at all says so beside what was answered
    /// before.
    #[cold]
    fn after(mut self, earlier: &mut Option<String>) -> Self {
        match &mut self {
            Failed::Told(.., exchange) => *earlier = exchange.told().map(Told::words),
            Failed::Lost(fault, _) => *earlier = Some(fault.message.to_string()),
            Failed::Unsent(fault) => {
                if let Some(earlier) = earlier {
                    fault.message = format!("{}; before that: {earlier}", fault.message).into();
                }
            }
        }
        self
    }

    /// Whether the whole request is at hand.
    fn can_be_replayed(&mut self) -> bool {
        match self {
            Failed::Unsent(..) => true,
            Failed::Lost(_, exchange) | Failed::Told(.., exchange) => {
                exchange.attempt().kept().is_none_or(|kept| kept.is_whole())
            }
        }
    }

    /// The end of the call.
    #[cold]
    fn end(self, going: &mut Going) -> Result<Box<Exchange>, Ended> {
        match self {
            Failed::Told(.., exchange) => Ok(exchange),
            Failed::Unsent(fault) => Err(fault.into()),
            Failed::Lost(fault, exchange) => {
                if going.has_fallback {
                    going.take_back(*exchange);
                }
                Err(fault.into())
            }
        }
    }

    /// The end of a call that the upstream's budget would not send again.
    fn unpaid(self, upstream: &str, going: &mut Going) -> Result<Box<Exchange>, Ended> {
        self.end(going).map_err(|ended| match ended {
            Ended::Fault(Fault { message, delivery, .. }) => {
                let message = format!(
                    "{message}; not sent again, as too many calls to \"{upstream}\" were \
                     (retry_budget)"
                );
                let mut fault = Fault::undelivered(Reason::RetryBudgetExhausted, message);
                fault.delivery = delivery;
                Ended::Fault(fault)
            }
            Ended::CallerGone => Ended::CallerGone,
        })
    }
}
