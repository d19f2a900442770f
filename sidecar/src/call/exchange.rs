//! One call with its callee: the request going up, the answer coming down, and what may end both.
//!
//! Whoever carries the answer to the caller (an HTTP/2 stream, or hyper for HTTP/1.1) polls it.
//! Dropping it ends the call at the callee at once: h2 sends RST_STREAM(CANCEL).

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use h2::client::ResponseFuture;
use http::response::Parts;
use http::{HeaderMap, Response, Version};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::control::Control;
use super::headers::{self, Answered};
use crate::fault::{Code, Fault, REASON_HEADER, Reason};
use crate::outbound::endpoint::Pending;
use crate::resilience::outcome::Outcome;
use crate::transport::body::{Body, BodyError};
use crate::transport::pool::Lease;
use crate::transport::pump::{End, Pump};

/// How long a call may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// When the whole call must have ended.
    pub deadline: Option<Instant>,
    /// From the end of the request to the response head.
    pub response: Option<std::time::Duration>,
    /// Between two pieces, either way.
    pub idle: Option<std::time::Duration>,
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

type H1Response = Pin<Box<dyn Future<Output = hyper::Result<http::Response<Incoming>>>>>;

/// Where the answer comes from.
pub enum Answer {
    /// An HTTP/2 stream, and its place on the connection.
    H2(ResponseFuture, Lease),
    /// An HTTP/1.1 connection, and the pieces of the request that went on it.
    H1(H1Response, Rc<Cell<u64>>),
}

/// A call on its way.
pub struct Exchange {
    whom: Rc<str>,
    upload: Option<Pump>,
    answer: Answer,
    control: Control,
    limits: Limits,
    /// Held until the response head.
    pending: Option<Pending>,
    has_head: bool,
    /// Of its head, once that is there.
    answered: Answered,
    stalled_down: bool,
    /// What the call asked to be woken for.
    timer: Option<Wait>,
    moved: u64,
}

/// What a call is woken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    Deadline,
    Head,
    /// What had moved when it was set.
    Idle(u64),
}

impl Exchange {
    /// A call that was just sent. `upload` is the rest of the request, `whom` the callee in words.
    pub fn new(
        whom: Rc<str>,
        upload: Option<Pump>,
        answer: Answer,
        control: Control,
        limits: Limits,
        pending: Option<Pending>,
    ) -> Self {
        Self {
            whom,
            upload,
            answer,
            control,
            limits,
            pending,
            has_head: false,
            answered: Answered::default(),
            stalled_down: false,
            timer: None,
            moved: 0,
        }
    }

    /// An interim response (1xx) that comes before the head; from HTTP/1.1 there is none.
    pub fn poll_interim(&mut self, cx: &mut Context<'_>) -> Option<Response<()>> {
        match &mut self.answer {
            Answer::H2(response, _) => match response.poll_informational(cx) {
                Poll::Ready(Some(Ok(interim))) => Some(interim),
                // An error is the head's, too.
                _ => None,
            },
            Answer::H1(..) => None,
        }
    }

    /// The response head.
    pub fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<(Parts, Body), Ended>> {
        self.poll_side(cx)?;
        let (parts, body) = match &mut self.answer {
            Answer::H2(response, _) => {
                let response = ready!(Pin::new(response).poll(cx));
                let (parts, stream) = response.map_err(|e| self.lost(e))?.into_parts();
                (parts, Body::from_h2(stream))
            }
            Answer::H1(response, _) => {
                let response = ready!(response.as_mut().poll(cx));
                let response = response.map_err(|e| self.broken(&BodyError::H1(e)))?;
                let (mut parts, incoming) = response.into_parts();
                headers::strip_hop_by_hop(&mut parts.headers);
                parts.version = Version::HTTP_2;
                (parts, Body::H1(incoming))
            }
        };
        self.has_head = true;
        self.timer.take_if(|wait| *wait != Wait::Deadline);
        if let Answer::H2(_, lease) = &mut self.answer {
            lease.settle();
        }
        self.answered = Answered::of(&parts.headers);
        if let Some(pending) = self.pending.take() {
            if failed_at_once(&self.answered, &parts.headers, body.is_empty()) {
                pending.failed();
            } else {
                pending.answered();
            }
        }
        self.check_size(self.answered.size)?;
        Poll::Ready(Ok((parts, body)))
    }

    /// The answer will not come.
    fn lost(&mut self, error: h2::Error) -> Fault {
        // A reset of this call alone may be the method's own way.
        let is_own = error.is_reset() && error.reason() != Some(h2::Reason::REFUSED_STREAM);
        if let Some(pending) = self.pending.take_if(|_| !is_own) {
            pending.failed();
        }
        self.broken(&BodyError::H2(error))
    }

    /// Everything beside the answer: the request's rest, the control, the clock. To be polled
    /// whenever the answer is.
    pub fn poll_side(&mut self, cx: &mut Context<'_>) -> Result<(), Ended> {
        let due = self.control.poll(cx)?;
        if let Some(upload) = &mut self.upload {
            let before = upload.moved();
            let limit = self.limits.header_list;
            if let Answer::H2(_, lease) = &self.answer {
                upload.set_ahead(lease.ahead());
            }
            let polled = upload.poll(cx, &mut |trailers| {
                headers::strip_reserved(trailers);
                headers::check_size(headers::list_size(trailers), limit)
            });
            let moved = upload.moved() - before;
            self.moved += moved;
            if let (Answer::H2(_, lease), false) = (&mut self.answer, self.has_head) {
                lease.owe(moved as usize);
            }
            let stalled = upload.is_stalled();
            match polled {
                Poll::Pending => {}
                Poll::Ready(End::Source(_)) => return Err(Ended::CallerGone),
                Poll::Ready(End::Refused(fault)) => return Err(fault.into()),
                // Whole, or the callee wants no more of it: its answer says why.
                Poll::Ready(End::Whole | End::Sink(_)) => {
                    self.upload = None;
                    // The wait for the head begins now.
                    self.timer.take_if(|wait| *wait != Wait::Deadline);
                }
            }
            self.set_stalled(stalled && self.upload.is_some() || self.stalled_down);
        }
        self.keep_time(due)
    }

    /// Tells that the answer's next piece waits for the caller, or no more.
    pub fn set_stalled_down(&mut self, stalled: bool) {
        if self.stalled_down != stalled {
            self.stalled_down = stalled;
            let up = self.upload.as_ref().is_some_and(Pump::is_stalled);
            self.set_stalled(stalled || up);
        }
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

    /// Tells that something of the answer went on.
    pub fn progressed(&mut self) {
        self.moved += 1;
    }

    /// What a broken answer means.
    pub fn broken(&self, error: &BodyError) -> Fault {
        match error {
            BodyError::H2(e) => Fault::from_h2(format_args!("{}", self.whom), e),
            BodyError::H1(e) => Fault::after_send(
                Reason::UpstreamReset,
                format!("the connection to {} was lost: {e}", self.whom),
            ),
        }
    }

    fn set_stalled(&mut self, stalled: bool) {
        if let Answer::H2(_, lease) = &mut self.answer {
            lease.set_stalled(stalled);
        }
    }

    fn keep_time(&mut self, due: bool) -> Result<(), Ended> {
        if due && let Some(wait) = self.timer.take() {
            match wait {
                Wait::Idle(moved) if moved != self.moved() => {}
                _ => return Err(self.expired(wait).into()),
            }
        }
        if self.timer.is_none()
            && let Some((wait, at)) = self.next_wait()
        {
            self.timer = Some(wait);
            self.control.wake_at(at, !matches!(wait, Wait::Idle(_)));
        }
        Ok(())
    }

    fn next_wait(&self) -> Option<(Wait, Instant)> {
        let deadline = self.limits.deadline.map(|at| (Wait::Deadline, at));
        let waits_for_head = !self.has_head && self.upload.is_none();
        let response = self.limits.response.filter(|_| waits_for_head);
        let head = response.map(|response| (Wait::Head, Instant::now() + response));
        let idle = self.limits.idle;
        let idle = idle.map(|idle| (Wait::Idle(self.moved()), Instant::now() + idle));
        [deadline, head, idle].into_iter().flatten().min_by_key(|(_, at)| *at)
    }

    /// Grows with whatever moves, either way.
    fn moved(&self) -> u64 {
        match &self.answer {
            Answer::H1(_, up) => self.moved + up.get(),
            Answer::H2(..) => self.moved,
        }
    }

    fn expired(&self, wait: Wait) -> Fault {
        let whom = &self.whom;
        let message = match wait {
            Wait::Deadline if self.has_head => format!("the deadline passed while {whom} answered"),
            Wait::Deadline => format!("the deadline passed before {whom} answered"),
            Wait::Head => format!(
                "{whom} did not answer within {:?} (the response timeout; the caller set no deadline)",
                self.limits.response.unwrap_or_default(),
            ),
            Wait::Idle(_) => format!(
                "nothing moved between the caller and {whom} for {:?} (the idle timeout)",
                self.limits.idle.unwrap_or_default(),
            ),
        };
        Fault::after_send(Reason::DeadlineExceeded, message)
    }
}

/// Whether an answer's head is a failure that took no work: what comes quickly because nothing was
/// done says nothing good of the endpoint.
fn failed_at_once(answered: &Answered, head: &HeaderMap, is_all: bool) -> bool {
    let outcome = if answered.has_reason {
        let reason = head.get(&REASON_HEADER).and_then(|name| Reason::named(name.as_bytes()));
        reason.map(Outcome::of_reason)
    } else {
        let status = answered.status.filter(|_| is_all);
        status.map(|status| Outcome::of_status(Code::from(i32::from(status))))
    };
    outcome == Some(Outcome::Down)
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").field("whom", &self.whom).finish_non_exhaustive()
    }
}
