//! What callers get once an upstream has failed: the steps of the call's route, the first that has
//! an answer.
//!
//! An upstream has failed where no attempt brought an answer, or where the answer is a status that
//! says that the callee is not well: UNAVAILABLE, INTERNAL, UNKNOWN, DATA_LOSS, DEADLINE_EXCEEDED.
//! What the caller did wrong is its own answer, what it may not do too, and past its deadline there
//! is nobody to answer. Each answer that is not the upstream's own is marked as such.

pub mod answers;

use std::future::poll_fn;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AGE, CONTENT_TYPE};
use http::request::Parts;
use http::response::Parts as Head;
use http::{HeaderName, HeaderValue, Response};
use tokio::time::Instant;
use tonic::Code;

use super::attempts::Going;
use super::route::Way;
use super::{Asking, Outbound};
use crate::call::carry::Call;
use crate::call::exchange::{Ended, Exchange, Limits};
use crate::config::Rung;
use crate::fault::{self, Delivery, Fault, Reason};
use crate::resilience::outcome::{Failure, Outcome};
use crate::telemetry::labels::FallbackKind;
use crate::transport::body::{Body, Kept, Piece};
use answers::{Kept as KeptAnswer, Question};

/// Marks an answer that is not the upstream's own; its value is the kind.
pub const FALLBACK: HeaderName = HeaderName::from_static("outrigger-fallback");

/// How long the rest of a request is waited for that tells which answer was given to it before.
const WHOLE: Duration = Duration::from_secs(1);

/// A call whose route has a fallback.
pub(super) struct Ladder<'a> {
    pub(super) screen: &'a Outbound,
    pub(super) asking: Asking<'a>,
    pub(super) way: Way<'a>,
    pub(super) is_idempotent: bool,
}

/// How an upstream has failed.
struct Failed {
    /// What the caller gets where no step has an answer.
    end: Result<(Head, Body), Ended>,
    /// An app may have seen the call.
    was_delivered: bool,
}

impl Ladder<'_> {
    /// Sends the call; where its upstream fails, looks for another answer.
    pub(super) async fn run(&self, going: &mut Going) -> Result<Box<Exchange>, Ended> {
        let asked = going.call.head.clone();
        going.has_fallback = true;
        let mut failed = match self.at(&self.asking, self.way, going).await? {
            Ok(mut exchange) => {
                self.note(&asked, &mut exchange);
                return Ok(exchange);
            }
            Err(failed) => failed,
        };
        for rung in self.way.fallback() {
            let found = match rung {
                Rung::Upstream(name) => {
                    self.elsewhere(name.as_str(), &asked, going, &mut failed).await?
                }
                Rung::Stale(age) => {
                    let kept = self.kept(&asked, going, *age).await?;
                    kept.map(|kept| self.made(stale(kept), going)).transpose()?
                }
                Rung::Answer(message) => {
                    let answer = fixed(&asked, message);
                    answer.map(|answer| self.made(answer, going)).transpose()?
                }
                Rung::Status(code, message) => {
                    Some(self.made((status(*code, message), Body::Empty), going)?)
                }
            };
            if let Some(mut exchange) = found {
                let kind = kind(rung);
                self.screen.worker.shard.fallback(&self.way.upstream.name, kind);
                exchange.mark(FALLBACK, HeaderValue::from_static(kind.label()));
                return Ok(exchange);
            }
        }
        match failed.end {
            Ok(answer) => self.made(answer, going),
            Err(ended) => Err(ended),
        }
    }

    /// Sends the call to an upstream: its answer, or how the upstream failed.
    ///
    /// # Errors
    /// An end for which there is no fallback.
    async fn at(
        &self,
        asking: &Asking<'_>,
        way: Way<'_>,
        going: &mut Going,
    ) -> Result<Result<Box<Exchange>, Failed>, Ended> {
        let ended = self.screen.at(asking, way, going).await;
        let now = Instant::now();
        let in_time = asking.deadline.is_none_or(|deadline| now < deadline);
        match ended {
            Ok(mut exchange) => {
                let told = exchange.told().filter(|told| {
                    in_time && matches!(told.outcome(), Outcome::Down | Outcome::Bad)
                });
                let Some(failure) = told.and_then(|told| told.failure()) else {
                    return Ok(Ok(exchange));
                };
                let was_delivered = failure != Failure::Undelivered;
                let Some(answer) = exchange.take_head() else { return Err(Ended::CallerGone) };
                going.take_back(*exchange);
                Ok(Err(Failed { end: Ok(answer), was_delivered }))
            }
            Err(Ended::Fault(fault))
                if in_time && going.call.control.is_some() && is_upstreams(&fault) =>
            {
                let was_delivered = fault.delivery != Delivery::No;
                Ok(Err(Failed { end: Err(fault.into()), was_delivered }))
            }
            Err(ended) => Err(ended),
        }
    }

    /// The answer of another service to the same call, where it may be sent again.
    async fn elsewhere(
        &self,
        name: &str,
        asked: &Parts,
        going: &mut Going,
        failed: &mut Failed,
    ) -> Result<Option<Box<Exchange>>, Ended> {
        let can_be_replayed = match &going.call.body {
            Body::Empty => true,
            Body::Kept(kept) => kept.is_whole(),
            // Not a piece of it was read.
            Body::H2(_) => true,
            _ => false,
        };
        let Ok(other) = self.screen.worker.upstream(name) else { return Ok(None) };
        if !can_be_replayed || (failed.was_delivered && !self.is_idempotent) {
            return Ok(None);
        }
        (going.call.head, going.in_upstream) = (asked.clone(), None);
        let method = self.screen.method(&other, asked);
        let way = Way::of(&other, &method, asked);
        // A retry of the call, not to be multiplied by retries of its own.
        let before = self.asking.before.saturating_add(1);
        let asking = Asking { before, now: Instant::now(), ..self.asking };
        Ok(match self.at(&asking, way, going).await? {
            Ok(exchange) => Some(exchange),
            Err(still) => {
                failed.was_delivered |= still.was_delivered;
                None
            }
        })
    }

    /// The last good answer to the same question.
    async fn kept(
        &self,
        asked: &Parts,
        going: &mut Going,
        age: Duration,
    ) -> Result<Option<KeptAnswer>, Ended> {
        let Call { body, control: Some(control), .. } = &mut *going.call else { return Ok(None) };
        if !self.is_idempotent {
            return Ok(None);
        }
        let limit = self.screen.worker.config.limits.kept_answer.bytes() as usize;
        body.keep(limit, Some(&self.screen.worker.room));
        let latest = Instant::now() + WHOLE;
        let until = self.asking.deadline.map_or(latest, |deadline| deadline.min(latest));
        let is_whole = control.until(Some(until), pin!(read_whole(body))).await?;
        if let Body::Kept(kept) = body {
            // For the next step.
            kept.rewind();
        }
        let (Some(true), Body::Kept(kept)) = (is_whole, &*body) else { return Ok(None) };
        let question = self.question(asked, kept);
        Ok(self.screen.worker.answers.find(&question, age, Instant::now()))
    }

    /// Keeps the answer for later once it has ended well, where the route asks for it.
    fn note(&self, asked: &Parts, exchange: &mut Exchange) {
        let is_kept = self.way.fallback().iter().any(|rung| matches!(rung, Rung::Stale(_)));
        // One with a status has ended, and not with a message.
        if !is_kept || !self.is_idempotent || exchange.answered().status.is_some() {
            return;
        }
        let Some(kept) = exchange.attempt().kept().filter(|kept| kept.is_complete()) else {
            return;
        };
        let question = self.question(asked, kept);
        let worker = &self.screen.worker;
        let limit = worker.config.limits.kept_answer.bytes() as usize;
        let answers = worker.answers.clone();
        exchange.note(limit, move |head, pieces, trailers| {
            let is_ok = trailers.get("grpc-status").is_some_and(|status| status == "0");
            let message = pieces.concat();
            if is_ok && is_one_message(&message) {
                let (head, trailers) = (head.clone(), trailers.clone());
                // A copy: a piece may hold on to all that was read from a socket with it.
                let message = Bytes::from(message);
                answers.keep(question, KeptAnswer { head, message, trailers, at: Instant::now() });
            }
        });
    }

    fn question(&self, asked: &Parts, body: &Kept) -> Question {
        Question::new(&self.way.upstream.name, asked.uri.path(), &asked.headers, body.pieces())
    }

    /// An answer that no callee gives.
    fn made(&self, answer: (Head, Body), going: &mut Going) -> Result<Box<Exchange>, Ended> {
        let Some(control) = going.call.control.take() else { return Err(Ended::CallerGone) };
        let limits = Limits {
            deadline: self.asking.deadline,
            response: None,
            idle: None,
            header_list: self.screen.worker.header_list(),
        };
        Ok(Box::new(Exchange::made(answer, control, limits)?))
    }
}

/// Whether a fault is the upstream's, or of the way to it.
fn is_upstreams(fault: &Fault) -> bool {
    if fault.is_injected() {
        return matches!(Outcome::of_status(fault.code()), Outcome::Bad | Outcome::Down);
    }
    match fault.reason {
        Reason::NoRoute | Reason::Denied | Reason::TooLarge | Reason::Malformed => false,
        Reason::NoEndpoints
        | Reason::BreakerOpen
        | Reason::ConnectFailed
        | Reason::TlsFailed
        | Reason::IdentityMismatch
        | Reason::DeadlineExceeded
        | Reason::RetryBudgetExhausted
        | Reason::Overloaded
        | Reason::UpstreamReset
        | Reason::AppUnreachable
        | Reason::Draining => true,
    }
}

/// Reads a body to its end; false where not all of it could be kept.
async fn read_whole(body: &mut Body) -> bool {
    loop {
        match body {
            Body::Kept(kept) if kept.is_complete() => return true,
            Body::Kept(kept) if kept.is_whole() => {}
            _ => return false,
        }
        match poll_fn(|cx| body.poll_piece(cx)).await {
            Some(Ok(Piece::Data(data))) => body.release(data.len()),
            Some(Ok(_)) | None => {}
            Some(Err(_)) => return false,
        }
    }
}

/// Whether these are the bytes of one message (gRPC over HTTP/2, "Length-Prefixed-Message").
fn is_one_message(bytes: &[u8]) -> bool {
    let Some((prefix, message)) = bytes.split_first_chunk::<5>() else { return false };
    let [_, length @ ..] = prefix;
    u32::from_be_bytes(*length) as usize == message.len()
}

fn kind(rung: &Rung) -> FallbackKind {
    match rung {
        Rung::Upstream(_) => FallbackKind::Upstream,
        Rung::Stale(_) => FallbackKind::Stale,
        Rung::Answer(_) => FallbackKind::Answer,
        Rung::Status(..) => FallbackKind::Status,
    }
}

fn head() -> Head {
    Response::new(()).into_parts().0
}

fn stale(kept: KeptAnswer) -> (Head, Body) {
    let mut head = head();
    head.headers = kept.head;
    head.headers.insert(AGE, HeaderValue::from(kept.at.elapsed().as_secs()));
    (head, Body::made(kept.message, kept.trailers))
}

/// The fixed answer; none where the caller reads another encoding than protobuf.
fn fixed(asked: &Parts, message: &Bytes) -> Option<(Head, Body)> {
    let content_type = asked.headers.get(CONTENT_TYPE)?;
    if content_type != "application/grpc" && content_type != "application/grpc+proto" {
        return None;
    }
    let mut head = head();
    head.headers.insert(CONTENT_TYPE, content_type.clone());
    let trailers = fault::status_trailers(Code::Ok, "");
    Some((head, Body::made(message.clone(), trailers)))
}

fn status(code: Code, message: &str) -> Head {
    let mut head = head();
    head.headers = fault::status_trailers(code, message);
    head.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    head
}
