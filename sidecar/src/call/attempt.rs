//! One attempt of a call at one callee: the request going up, and the answer that is to come.
//!
//! Dropping it ends the call at the callee at once: h2 sends RST_STREAM(CANCEL). (Of many at a callee
//! that answers nobody, some only when it has looked at the others: `transport/pool/cancels.rs`.)

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use h2::client::ResponseFuture;
use http::response::Parts;
use http::{Response, StatusCode, Version};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::exchange::Ended;
use super::headers;
use crate::fault::{Fault, Reason};
use crate::outbound::endpoint::Sent;
use crate::resilience::outcome::Outcome;
use crate::transport::body::{Body, BodyError, Kept, Pulling};
use crate::transport::pool::Lease;
use crate::transport::pump::{End, Pump};

type H1Response = Pin<Box<dyn Future<Output = hyper::Result<http::Response<Incoming>>>>>;

/// Where the answer comes from.
pub enum Answer {
    /// An HTTP/2 stream, and its place on the connection.
    H2(ResponseFuture, Lease),
    /// An HTTP/1.1 connection, and how far the request is that goes on it.
    H1(H1Response, Rc<Pulling>),
    /// Nowhere: the call was answered without a callee.
    None,
}

/// A call at one callee.
pub struct Attempt {
    whom: Rc<str>,
    upload: Option<Pump>,
    /// A request that went up, while it may have to be sent again.
    spent: Option<Body>,
    answer: Answer,
    /// What its end tells of the endpoint.
    sent: Option<Sent>,
    has_head: bool,
    is_broken: bool,
    stalled_down: bool,
    moved: u64,
    /// When the present poll began, once somebody asked: to read the clock costs.
    now: Option<Instant>,
}

impl Attempt {
    /// A call that was just sent. `upload` is the rest of the request, `whom` the callee in words.
    pub fn new(whom: Rc<str>, upload: Option<Pump>, answer: Answer, sent: Option<Sent>) -> Self {
        Self {
            whom,
            upload,
            spent: None,
            answer,
            sent,
            has_head: false,
            is_broken: false,
            stalled_down: false,
            moved: 0,
            now: None,
        }
    }

    /// Of a call that is answered without a callee.
    pub fn none() -> Self {
        Self::new("no callee".into(), None, Answer::None, None)
    }

    /// A poll begins, at this time where that is known.
    pub fn polled(&mut self, now: Option<Instant>) {
        self.now = now;
    }

    /// When the present poll began.
    pub fn now(&mut self) -> Instant {
        *self.now.get_or_insert_with(Instant::now)
    }

    /// The callee in words.
    pub fn whom(&self) -> &Rc<str> {
        &self.whom
    }

    /// Whether a part of the request is still to go up.
    pub fn is_uploading(&self) -> bool {
        self.upload.is_some()
    }

    /// Whether the answer's head has come.
    pub fn has_head(&self) -> bool {
        self.has_head
    }

    /// Grows with whatever of the request went up.
    pub fn moved(&self) -> u64 {
        match &self.answer {
            Answer::H1(_, up) => self.moved + up.pieces(),
            Answer::H2(..) | Answer::None => self.moved,
        }
    }

    /// Moves of the request what can be moved.
    pub fn poll_upload(&mut self, cx: &mut Context<'_>, header_list: usize) -> Result<(), Ended> {
        let Some(upload) = &mut self.upload else { return Ok(()) };
        let before = upload.moved();
        if let Answer::H2(_, lease) = &self.answer {
            upload.set_ahead(lease.ahead());
        }
        let polled = upload.poll(cx, &mut |trailers| {
            headers::strip_reserved(trailers);
            headers::check_size(headers::list_size(trailers), header_list)
        });
        let moved = upload.moved() - before;
        self.moved += moved;
        if let (Answer::H2(_, lease), false) = (&mut self.answer, self.has_head) {
            lease.owe(moved as usize);
            lease.uploads(polled.is_pending() && !upload.is_stalled());
        }
        match polled {
            Poll::Pending => {}
            Poll::Ready(End::Source(_)) => return Err(Ended::CallerGone),
            Poll::Ready(End::Refused(fault)) => return Err(fault.into()),
            // Whole, or the callee wants no more of it: its answer says why.
            Poll::Ready(End::Whole | End::Sink(_)) => {
                let body = self.upload.take().map(Pump::into_body);
                // Also behind the head: that may be held back, and the call sent again.
                self.spent = body.filter(|body| matches!(body, Body::Kept(_)));
            }
        }
        self.show_stall();
        Ok(())
    }

    /// An interim response (1xx) that comes before the head; from HTTP/1.1 there is none.
    pub fn poll_interim(&mut self, cx: &mut Context<'_>) -> Option<Response<()>> {
        match &mut self.answer {
            Answer::H2(response, _) => match response.poll_informational(cx) {
                Poll::Ready(Some(Ok(interim))) => Some(interim),
                // An error is the head's, too.
                _ => None,
            },
            Answer::H1(..) | Answer::None => None,
        }
    }

    /// The answer's head.
    ///
    /// # Errors
    /// What the loss of it means.
    pub fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<(Parts, Body), Fault>> {
        let head = match &mut self.answer {
            Answer::H2(response, lease) => {
                let head = ready!(Pin::new(&mut *response).poll(cx)).map_err(BodyError::H2);
                if let Ok(head) = &head {
                    // So h2 itself answers what it hands to nobody.
                    let is_taken = head.status() != StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
                    lease.settle(is_taken.then(|| response.stream_id()));
                }
                head.map(|head| {
                    let (parts, stream) = head.into_parts();
                    (parts, Body::from_h2(stream))
                })
            }
            Answer::H1(response, _) => {
                let response = ready!(response.as_mut().poll(cx)).map_err(BodyError::H1);
                response.map(|response| {
                    let (mut parts, incoming) = response.into_parts();
                    headers::strip_hop_by_hop(&mut parts.headers);
                    parts.version = Version::HTTP_2;
                    (parts, Body::H1(incoming))
                })
            }
            Answer::None => return Poll::Pending,
        };
        (self.has_head, self.is_broken) = (head.is_ok(), head.is_err());
        Poll::Ready(head.map_err(|error| self.broken(&error)))
    }

    /// What a broken answer means; the endpoint is judged by it.
    #[cold]
    pub fn broken(&mut self, error: &BodyError) -> Fault {
        let fault = match error {
            BodyError::H2(e) => Fault::from_h2(format_args!("{}", self.whom), e),
            BodyError::H1(e) => Fault::after_send(
                Reason::UpstreamReset,
                format!("the connection to {} was lost: {e}", self.whom),
            ),
        };
        self.judge(Outcome::of_fault(&fault), || fault.message.to_string());
        fault
    }

    /// The answer's head is there; a failure where `failed`.
    pub fn headed(&mut self, failed: bool) {
        if self.sent.is_some() {
            let now = self.now();
            self.sent.iter_mut().for_each(|sent| sent.headed(failed, now));
        }
    }

    /// How the call ended, as far as the endpoint goes; `why` is asked for where it failed.
    pub fn judge(&mut self, outcome: Outcome, why: impl FnOnce() -> String) {
        if let Some(sent) = self.sent.take() {
            sent.judge(outcome, self.now(), why);
        }
    }

    /// A piece of the answer went on: what is asked whether it is well again, is.
    pub fn progressed(&mut self) {
        self.moved += 1;
        if let Some(sent) = self.sent.take_if(|sent| sent.is_probe()) {
            sent.judge(Outcome::Good, self.now(), String::new);
        }
    }

    /// Tells that the answer's next piece waits for the caller, or no more.
    pub fn set_stalled_down(&mut self, stalled: bool) {
        if self.stalled_down != stalled {
            self.stalled_down = stalled;
            self.show_stall();
        }
    }

    fn show_stall(&mut self) {
        let up = self.upload.as_ref().is_some_and(Pump::is_stalled);
        if let Answer::H2(_, lease) = &mut self.answer {
            lease.set_stalled(up || self.stalled_down);
        }
    }

    /// The request, as far as it is kept to be sent again.
    pub fn kept(&mut self) -> Option<&mut Kept> {
        let body = match &mut self.upload {
            Some(upload) => Some(upload.body()),
            None => self.spent.as_mut(),
        };
        match body {
            Some(Body::Kept(kept)) => Some(kept),
            _ => None,
        }
    }

    /// The request's body, to be sent again from its begin; empty where it had none.
    pub fn take_body(&mut self) -> Body {
        let mut body = match self.upload.take() {
            Some(upload) => upload.into_body(),
            None => self.spent.take().unwrap_or(Body::Empty),
        };
        if let Body::Kept(kept) = &mut body {
            kept.rewind();
        }
        body
    }

    /// Another attempt was answered before.
    pub fn overtaken(mut self) {
        if let Some(sent) = self.sent.take() {
            sent.overtaken();
        }
    }

    /// The request is not sent again.
    pub fn forget(&mut self) {
        self.spent = None;
        if let Some(kept) = self.kept() {
            kept.forget();
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.has_head
            && !self.is_broken
            && let Answer::H2(response, lease) = std::mem::replace(&mut self.answer, Answer::None)
        {
            lease.cancel(response, self.upload.take().map(Pump::into_sink));
        }
    }
}
