//! One call at its upstream: sent, and sent again where that can help, until an answer has begun.
//!
//! Retries of all calls together spend the upstream's budget, and none is made past the deadline,
//! of a call that is a retry already, or where the app may have seen what must not be done twice.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;

use http::request::Parts;
use http::response::Parts as Head;
use http::{HeaderMap, HeaderName, HeaderValue, Method as Verb, Request, Uri};
use tokio::time::{Instant, sleep};

use super::endpoint::{Count, Endpoint, Sent};
use super::expired;
use super::method::Method;
use super::upstream::Upstream;
use crate::call::attempt::{Answer, Attempt};
use crate::call::control::Control;
use crate::call::deadline;
use crate::call::exchange::{Ended, Exchange, Limits};
use crate::call::headers::{Answered, Asked, Dialect};
use crate::call::told::Told;
use crate::config::Calling;
use crate::discovery::snapshot::UpstreamState;
use crate::fault::{Fault, Reason};
use crate::resilience::outcome::{Failure, Outcome};
use crate::resilience::retry::{self, Pushback, Verdict, Why};
use crate::telemetry::labels::RetryOutcome;
use crate::transport::body::Body;
use crate::transport::pool::{ConnectStage, Lease};
use crate::transport::pump::Pump;
use crate::worker::Worker;

/// How many attempts came before this one (gRFC A6, "Exposed Retry Metadata").
pub const PREVIOUS_ATTEMPTS: HeaderName = HeaderName::from_static("grpc-previous-rpc-attempts");

/// One call goes to so many endpoints that cannot be connected before it is given up.
const PASSED_OVER: usize = 3;

/// One call looks at so many endpoints, those whose connections are full among them.
const LOOKED_AT: usize = 16;

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
    /// When it came.
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

/// What of a call goes to whichever endpoint it is sent to.
pub(super) struct Going {
    pub(super) head: Parts,
    pub(super) body: Body,
    /// None while an exchange has it.
    pub(super) control: Option<Control>,
    pub(super) in_upstream: Option<Count>,
    /// Another answer is looked for where the upstream fails: what it takes is kept.
    pub(super) has_fallback: bool,
}

/// A request's head, kept to be sent again.
struct Copy {
    verb: Verb,
    uri: Uri,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// A call's place at an endpoint.
struct Place {
    lease: Lease,
    whom: Rc<str>,
    sent: Sent,
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

type Hedge<'h> = Pin<Box<dyn Future<Output = Result<(Attempt, (Head, Body)), Fault>> + 'h>>;

impl Attempts<'_> {
    /// Sends the call. The answer has begun where there is one, and nothing of it went on.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) async fn run(&self, going: &mut Going) -> Result<Box<Exchange>, Ended> {
        self.state.budget.call(self.state.clock.moment(self.begin));
        if self.before > 0 {
            going.head.headers.insert(PREVIOUS_ATTEMPTS, HeaderValue::from(self.before));
        }
        if self.calling.policy.attempts.get() == 1 || self.call.is_retry_already {
            if going.has_fallback {
                going.body.keep(self.calling.body, Some(&self.worker.room));
            }
            return self.once(going, None).await?.or_else(|failed| failed.end(going));
        }
        let copy = Copy::of(&going.head);
        going.body.keep(self.calling.body, Some(&self.worker.room));
        let mut is_retry = false;
        loop {
            let failed = match self.once(going, Some(&copy)).await? {
                Ok(exchange) => {
                    if is_retry {
                        self.count(RetryOutcome::Success);
                    }
                    return Ok(exchange);
                }
                Err(failed) => failed,
            };
            // Boxed, as most calls do not come here.
            if let Next::Over(end) = Box::pin(self.again(going, failed, is_retry)).await? {
                return end;
            }
            is_retry = true;
            going.head = copy.head(self.before + self.sent.get());
        }
    }

    /// Sends it once, and waits for the answer.
    async fn once(
        &self,
        going: &mut Going,
        copy: Option<&Copy>,
    ) -> Result<Result<Box<Exchange>, Failed>, Ended> {
        let now = if self.sent.get() == 0 { self.begin } else { Instant::now() };
        self.sent.set(self.sent.get() + 1);
        let connecting = pin!(self.connect(true, now));
        let place = match going.until(self.deadline, &self.upstream.name, connecting).await? {
            Ok(place) => place,
            Err(fault) => return Ok(Err(Failed::Unsent(fault))),
        };
        let attempt = match self.send(place, &mut going.head, &mut going.body) {
            Ok(attempt) => attempt,
            Err(fault) => return Ok(Err(Failed::Unsent(fault))),
        };
        let limits = Limits {
            deadline: self.deadline,
            response: self.calling.timeout.limit().filter(|_| self.deadline.is_none()),
            idle: self.worker.idle_timeout(&self.asked.dialect),
            header_list: self.worker.header_list(),
            is_http: self.asked.dialect == Dialect::Http,
        };
        let Some(control) = going.control.take() else { return Err(Ended::CallerGone) };
        let in_upstream = going.in_upstream.take();
        let mut exchange = Box::new(Exchange::new(attempt, control, limits, in_upstream));
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
    async fn again(
        &self,
        going: &mut Going,
        mut failed: Failed,
        is_retry: bool,
    ) -> Result<Next, Ended> {
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
    }

    /// Waits for the answer; where it takes long, asks a second endpoint too.
    async fn answer(
        &self,
        exchange: &mut Exchange,
        copy: Option<&Copy>,
        has_fallback: bool,
    ) -> Result<(), Ended> {
        let copy = copy.filter(|_| self.call.is_idempotent);
        let peek = (copy.is_some() || has_fallback) && self.asked.dialect == Dialect::Grpc;
        if let Some(after) = copy.and_then(|_| self.method.hedge_after(self.calling.hedge)) {
            exchange.hedge_at(Instant::now() + after);
        }
        let is_http = self.asked.dialect == Dialect::Http;
        let mut hedges: Vec<Hedge<'_>> = Vec::new();
        let mut first = None;
        poll_fn(|cx| {
            loop {
                let ended = hedges.iter_mut().enumerate().find_map(|(at, hedge)| {
                    match hedge.as_mut().poll(cx) {
                        Poll::Ready(ended) => Some((at, ended)),
                        Poll::Pending => None,
                    }
                });
                match ended {
                    Some((_, Ok((attempt, head)))) => {
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
                        let has_failed = match &ended {
                            Ok(()) => exchange.told().is_some_and(|told| told.failure().is_some()),
                            Err(_) => exchange.is_lost(),
                        };
                        if !has_failed || hedges.is_empty() {
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
        .await
    }

    /// The same call at another endpoint, where it may go there.
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
            && let Some(after) = self.method.hedge_after(self.calling.hedge)
        {
            exchange.hedge_at(now + after);
        }
        let mut head = copy.head(self.before + sent);
        Some(Box::pin(async move {
            let place = self.connect(false, now).await?;
            let mut attempt = self.send(place, &mut head, &mut body)?;
            let limit = self.worker.header_list();
            let (head, body) = poll_fn(|cx| {
                if let Err(Ended::Fault(fault)) = attempt.poll_upload(cx, limit) {
                    return Poll::Ready(Err(fault));
                }
                attempt.poll_answer(cx)
            })
            .await?;
            let answered = Answered::of(&head.headers);
            if answered.has_reason || (body.is_empty() && answered.status.is_some()) {
                let told = Told::of(&answered, &head.headers);
                if told.failure().is_some() {
                    attempt.judge(told.outcome(), || told.words());
                    return Err(Fault::after_send(Reason::UpstreamReset, told.words()));
                }
            }
            Ok((attempt, (head, body)))
        }))
    }

    /// A place on a connection to an endpoint. Those that cannot be connected are passed over:
    /// nothing was sent to them, so this is no retry.
    async fn connect(&self, may_repeat: bool, now: Instant) -> Result<Place, Fault> {
        let upstream = self.upstream;
        let mut avoided = self.tried.borrow().clone();
        let earlier = avoided.len();
        let (mut failed, mut full) = (0, None);
        while avoided.len() - earlier < LOOKED_AT && failed < PASSED_OVER {
            let repeated = || match may_repeat && earlier > 0 {
                true => upstream.pick(&avoided[earlier..], self.hash, now),
                false => None,
            };
            let picked = upstream.pick(&avoided, self.hash, now).or_else(repeated);
            let Some((endpoint, permit)) = picked else { break };
            // Another worker may have taken the last place since the choice.
            let Some(count) = upstream.admit(&endpoint) else {
                upstream.record(&endpoint, permit, Outcome::Unknown, now);
                avoided.push(endpoint);
                continue;
            };
            // From here on it counts in the endpoint's load: one that is slow to connect is slow.
            let sent = Sent::new(
                (upstream.clone(), endpoint.clone(), self.method.clone()),
                (permit, count),
                now,
                self.deadline,
            );
            let leased = match endpoint.pool.ready(now) {
                Some(lease) => Ok(lease),
                // Boxed: a call's own future stays small without the way to a new connection.
                None => Box::pin(endpoint.pool.lease()).await,
            };
            match leased {
                Ok(lease) => {
                    *self.last.borrow_mut() = Some(endpoint.clone());
                    return Ok(Place { lease, whom: endpoint.whom.clone(), sent });
                }
                Err(fault) if fault.stage == ConnectStage::Full => {
                    sent.unsent();
                    full = Some(fault);
                }
                // The pool has told the upstream, which took the endpoint out.
                Err(fault) => {
                    let outcome = if sent.is_probe() { Outcome::Down } else { Outcome::Unknown };
                    sent.judge(outcome, || fault.message.to_string());
                    failed += 1;
                }
            }
            avoided.push(endpoint);
        }
        Err(upstream.none_left(full, now))
    }

    /// Puts the call on its stream.
    fn send(&self, place: Place, head: &mut Parts, body: &mut Body) -> Result<Attempt, Fault> {
        let Place { lease, whom, sent } = place;
        if let Some(at) = self.deadline {
            deadline::write(&mut head.headers, at, Instant::now());
        }
        let end = body.is_empty();
        let (nothing, ()) = Request::new(()).into_parts();
        let head = std::mem::replace(head, nothing);
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

impl Going {
    /// What an attempt had of it that has ended.
    pub(super) fn take_back(&mut self, exchange: Exchange) {
        let (control, in_upstream, body) = exchange.into_rest();
        (self.control, self.in_upstream, self.body) = (Some(control), in_upstream, body);
    }

    /// What a call to `upstream` waits for before it is sent.
    pub(super) async fn until<T>(
        &self,
        deadline: Option<Instant>,
        upstream: &str,
        waiting: Pin<&mut impl Future<Output = T>>,
    ) -> Result<T, Ended> {
        let Some(control) = &self.control else { return Ok(waiting.await) };
        let waited = control.until(deadline, waiting).await?;
        waited.ok_or_else(|| expired(&format!("before \"{upstream}\" was connected")).into())
    }
}

impl Failed {
    fn failure(&self) -> (Failure, Option<Pushback>) {
        match self {
            Failed::Unsent(fault) | Failed::Lost(fault, _) => (Failure::from(fault), None),
            Failed::Told(failure, pushback, _) => (*failure, *pushback),
        }
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

impl Copy {
    fn of(head: &Parts) -> Self {
        let mut headers = Vec::with_capacity(head.headers.len());
        for (name, value) in &head.headers {
            headers.push((name.clone(), value.clone()));
        }
        Self { verb: head.method.clone(), uri: head.uri.clone(), headers }
    }

    /// The head of a further attempt, before which so many came.
    fn head(&self, before: u32) -> Parts {
        let (mut head, ()) = Request::new(()).into_parts();
        head.method = self.verb.clone();
        head.uri = self.uri.clone();
        head.version = http::Version::HTTP_2;
        head.headers = HeaderMap::with_capacity(self.headers.len() + 2);
        for (name, value) in &self.headers {
            head.headers.append(name, value.clone());
        }
        head.headers.insert(PREVIOUS_ATTEMPTS, HeaderValue::from(before));
        head
    }
}
