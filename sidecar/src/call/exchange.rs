//! One call with its callee: the request going up, the answer coming down, and what may end both.
//!
//! Until its head has come, another attempt may take the place of the one that failed. Whoever
//! carries the answer to the caller (an HTTP/2 stream, or hyper for HTTP/1.1) polls it.

mod timing;

use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::response::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use tokio::time::Instant;

use super::attempt::Attempt;
use super::control::Control;
use super::headers::{self, Answered, Dialect};
use super::told::Told;
use crate::fault::Fault;
use crate::outbound::endpoint::Count;
use crate::resilience::outcome::Outcome;
use crate::transport::body::{Body, Noted, Piece};
use timing::Wait;

/// How long a head is held back whose call may be sent again, until its first message or its status
/// comes.
const PEEK: Duration = Duration::from_millis(20);

/// How long a call may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// When the whole call must have ended.
    pub deadline: Option<Instant>,
    /// From the end of the request to the response head.
    pub response: Option<Duration>,
    /// Between two pieces, either way.
    pub idle: Option<Duration>,
    /// The largest header list that goes on, in bytes.
    pub header_list: usize,
}

/// Why a call ended before its answer was whole.
#[derive(Debug)]
pub enum Ended {
    /// The callee's fault or ours.
    Fault(Fault),
    /// The caller is gone: there is nobody to answer.
    CallerGone,
}

impl From<Fault> for Ended {
    fn from(fault: Fault) -> Self {
        Ended::Fault(fault)
    }
}

/// A call on its way.
pub struct Exchange {
    attempt: Attempt,
    control: Control,
    limits: Limits,
    /// Held until the response head.
    in_upstream: Option<Count>,
    interim: Option<Box<Response<()>>>,
    head: Option<(Parts, Body)>,
    /// Of its head, once that is there.
    answered: Answered,
    /// What an answer without messages says.
    told: Option<Box<Told>>,
    /// Looks at the first piece behind the head, until then.
    peek: Option<Instant>,
    /// The callee's side broke, and nothing of an answer went on.
    is_lost: bool,
    /// When somebody else is asked, too.
    hedge: Option<Instant>,
    is_hedge_due: bool,
    /// What the call asked to be woken for.
    timer: Option<Wait>,
    /// When it was sent, until its first poll, which comes at once.
    sent: Option<Instant>,
}

impl Exchange {
    /// A call that was just sent.
    pub fn new(
        attempt: Attempt,
        control: Control,
        limits: Limits,
        in_upstream: Option<Count>,
        now: Instant,
    ) -> Self {
        Self {
            attempt,
            control,
            limits,
            in_upstream,
            interim: None,
            head: None,
            answered: Answered::default(),
            told: None,
            peek: None,
            is_lost: false,
            hedge: None,
            is_hedge_due: false,
            timer: None,
            sent: Some(now),
        }
    }

    /// An answer that no callee gives.
    ///
    /// # Errors
    /// `too_large`.
    pub fn made(answer: (Parts, Body), control: Control, limits: Limits) -> Result<Self, Fault> {
        let mut exchange = Self::new(Attempt::none(), control, limits, None, Instant::now());
        exchange.arrived(answer.0, answer.1, false)?;
        Ok(exchange)
    }

    /// Says something of the answer in its head, which has come.
    pub fn mark(&mut self, name: HeaderName, value: HeaderValue) {
        if let Some((head, _)) = &mut self.head {
            head.headers.insert(name, value);
        }
    }

    /// The head that has come, taken off to be passed on another way.
    pub fn take_head(&mut self) -> Option<(Parts, Body)> {
        self.head.take()
    }

    /// Tells of the answer, whose head has come, where it ends with trailers and is no larger than
    /// this.
    pub fn note(
        &mut self,
        limit: usize,
        tell: impl FnOnce(&HeaderMap, &[Bytes], &HeaderMap) + 'static,
    ) {
        if let Some((head, body)) = &mut self.head {
            let headers = head.headers.clone();
            let noted = std::mem::replace(body, Body::Empty);
            let tell =
                move |pieces: &[Bytes], trailers: &HeaderMap| tell(&headers, pieces, trailers);
            *body = Body::Noted(Box::new(Noted::new(noted, limit, tell)));
        }
    }

    /// The attempt that the call is at.
    pub fn attempt(&mut self) -> &mut Attempt {
        &mut self.attempt
    }

    /// What the next attempt needs: the worker's hand, the place in the upstream's count, and the
    /// request from its begin.
    pub fn into_rest(mut self) -> (Control, Option<Count>, Body) {
        let body = self.attempt.take_body();
        (self.control, self.in_upstream, body)
    }

    /// Asks to be told at this time, unless a head has come.
    pub fn hedge_at(&mut self, at: Instant) {
        self.hedge = Some(at);
        self.timer = None;
    }

    /// Whether that time has come; told once.
    pub fn take_hedge_due(&mut self) -> bool {
        std::mem::take(&mut self.is_hedge_due)
    }

    /// An interim response (1xx) that comes before the head.
    pub fn poll_interim(&mut self, cx: &mut Context<'_>) -> Option<Response<()>> {
        self.interim.take().map(|interim| *interim).or_else(|| self.attempt.poll_interim(cx))
    }

    /// Whether an interim response came: the call is not sent again once it goes on.
    pub fn has_interim(&mut self, cx: &mut Context<'_>) -> bool {
        if self.interim.is_none() {
            self.interim = self.attempt.poll_interim(cx).map(Box::new);
        }
        self.interim.is_some()
    }

    /// Waits for the head; it stays here. With `peek`, for what comes behind it, too.
    pub fn poll_arrival(&mut self, cx: &mut Context<'_>, peek: bool) -> Poll<Result<(), Ended>> {
        self.poll_side(cx)?;
        if self.head.is_none() {
            let (parts, body) = ready!(self.attempt.poll_answer(cx)).map_err(|fault| {
                self.is_lost = true;
                fault
            })?;
            self.arrived(parts, body, peek)?;
            if self.peek.is_some() {
                self.keep_time(false)?;
            }
        }
        match self.peek {
            Some(_) => self.poll_peek(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    fn arrived(&mut self, parts: Parts, mut body: Body, peek: bool) -> Result<(), Fault> {
        self.timer.take_if(|wait| *wait != Wait::Deadline);
        (self.hedge, self.is_hedge_due) = (None, false);
        self.answered = Answered::of(&parts.headers);
        let has_status = body.is_empty() && self.answered.status.is_some();
        let told = if has_status || self.answered.has_reason {
            Some(Told::of(&self.answered, &parts.headers).or_http(parts.status))
        } else {
            Told::of_http(parts.status)
        };
        self.attempt.headed(told.as_ref().is_some_and(Told::is_no_answer));
        self.set_told(told);
        let peek = peek && self.told.is_none() && self.answered.status.is_none();
        if peek {
            self.peek = Some(self.attempt.now() + PEEK);
            self.timer = None;
            body.keep(usize::MAX, None);
        }
        self.head = Some((parts, body));
        self.check_size(self.answered.size)
    }

    fn set_told(&mut self, told: Option<Told>) {
        if let Some(told) = &told {
            self.attempt.judge(told.outcome(), || told.words());
        }
        self.told = told.map(Box::new);
    }

    /// What comes behind the head: a status without a message is not passed on yet.
    #[inline(never)]
    fn poll_peek(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        let Some((_, body)) = &mut self.head else { return Poll::Ready(Ok(())) };
        let mut told = None;
        let lost = match body.poll_piece(cx) {
            Poll::Pending if self.peek.is_some_and(|until| Instant::now() < until) => {
                return Poll::Pending;
            }
            Poll::Ready(Some(Ok(Piece::Trailers(trailers)))) => {
                told = Some(Told::of(&Answered::of(&trailers), &trailers));
                None
            }
            Poll::Ready(Some(Err(error))) => Some(error),
            Poll::Ready(Some(Ok(Piece::Data(_))) | None) | Poll::Pending => None,
        };
        if let Body::Kept(kept) = body {
            kept.rewind();
            kept.forget();
        }
        self.peek = None;
        self.timer.take_if(|wait| *wait == Wait::Peek);
        self.set_told(told);
        match lost {
            Some(error) => {
                self.is_lost = true;
                Poll::Ready(Err(self.attempt.broken(&error).into()))
            }
            None => Poll::Ready(Ok(())),
        }
    }

    /// Takes over an attempt whose head came before that of the present one.
    ///
    /// # Errors
    /// `too_large`.
    pub fn answered_by(&mut self, attempt: Attempt, head: (Parts, Body)) -> Result<(), Ended> {
        std::mem::replace(&mut self.attempt, attempt).overtaken();
        (self.told, self.peek, self.is_lost) = (None, None, false);
        let (parts, body) = head;
        Ok(self.arrived(parts, body, false)?)
    }

    /// What an answer without messages says.
    pub fn told(&self) -> Option<&Told> {
        self.told.as_deref()
    }

    /// Whether the callee's side broke before an answer.
    pub fn is_lost(&self) -> bool {
        self.is_lost
    }

    /// The response head, to be passed on: the call is not sent again from here on.
    pub fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        dialect: &Dialect,
    ) -> Poll<Result<(Parts, Body), Ended>> {
        // One that is here already was polled for just now.
        if self.head.is_none() || self.peek.is_some() {
            ready!(self.poll_arrival(cx, false))?;
        } else {
            // What is waited for from here on: the next piece, no more the head.
            self.keep_time(false)?;
        }
        let Some((parts, body)) = self.head.take() else { return Poll::Pending };
        self.in_upstream = None;
        self.attempt.forget();
        if *dialect != Dialect::Grpc || body.is_empty() {
            let outcome = Outcome::of_http(parts.status);
            self.attempt.judge(outcome, || format!("HTTP {}", parts.status));
        }
        Poll::Ready(Ok((parts, body)))
    }

    /// Everything beside the answer: the request's rest, the control, the clock. To be polled
    /// whenever the answer is.
    pub fn poll_side(&mut self, cx: &mut Context<'_>) -> Result<(), Ended> {
        self.attempt.polled(self.sent.take());
        let due = self.control.poll(cx)?;
        if self.attempt.is_uploading() {
            self.attempt.poll_upload(cx, self.limits.header_list)?;
            if !self.attempt.is_uploading() {
                // The wait for the head begins now.
                self.timer.take_if(|wait| *wait != Wait::Deadline);
            }
        }
        self.keep_time(due)
    }

    /// What the head says.
    pub fn answered(&self) -> Answered {
        self.answered
    }

    /// Refuses headers of the answer of a size over the limit.
    ///
    /// # Errors
    /// `too_large`.
    pub fn check_size(&self, size: usize) -> Result<(), Fault> {
        headers::check_size(size, self.limits.header_list)
    }

    /// The trailers of the answer: what they say, and how the call ended with them.
    ///
    /// # Errors
    /// `too_large`.
    pub fn trailed(&mut self, trailers: &HeaderMap) -> Result<Option<u8>, Fault> {
        let answered = Answered::of(trailers);
        let told = Told::of(&answered, trailers);
        self.attempt.judge(told.outcome(), || told.words());
        self.check_size(answered.size)?;
        Ok(answered.status)
    }
}
