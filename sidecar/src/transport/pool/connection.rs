//! One open connection of a pool, and a call's place on it.
//!
//! Invariant: whatever a call added to its connection's counts is taken off when its lease ends.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{SendStream, StreamId};
use http::Request;
use tokio::time::Instant;

use super::cancels::Cancels;
use crate::inbound::admission::Place;

/// A call that waits for flow control for less is not stalled yet: a busy peer's windows come late.
const STALLED_AFTER: Duration = Duration::from_millis(10);

/// Where calls without an answer have sent as much on a connection, the next call gets another one:
/// half of the window that HTTP/2 gives a connection (RFC 9113 §6.9.2), as nobody tells whether the
/// other end has read it.
const SHARED: usize = 32 * 1024;

/// While calls without an answer have sent less than this on a connection, small last pieces go on
/// without a look at its window; above it, calls that wait for the window are to be seen.
const AHEAD: usize = 16 * 1024;

/// An open connection.
pub(super) struct Connection {
    sender: RefCell<SendRequest<Bytes>>,
    streams: Rc<Cell<usize>>,
    /// Since when which calls wait for flow control.
    waiting: RefCell<BTreeSet<(Instant, u64)>>,
    /// Tells apart those that began to wait at the same time.
    waits: Cell<u64>,
    /// Bytes of calls that have no answer yet.
    unanswered: Cell<usize>,
    cancels: Rc<Cancels>,
}

/// A place for one call on a connection.
pub struct Lease {
    connection: Rc<Connection>,
    waiting: Option<(Instant, u64)>,
    unanswered: usize,
    /// What else counts the call until it is answered.
    place: Option<Place>,
}

impl Connection {
    /// A connection without calls.
    pub(super) fn new(sender: SendRequest<Bytes>) -> Rc<Self> {
        let streams = Rc::<Cell<usize>>::default();
        Rc::new(Self {
            cancels: Rc::new(Cancels::new(streams.clone())),
            sender: RefCell::new(sender),
            streams,
            waiting: RefCell::default(),
            waits: Cell::new(0),
            unanswered: Cell::new(0),
        })
    }

    /// How many streams are open on it, as it changes.
    pub(super) fn streams(&self) -> &Rc<Cell<usize>> {
        &self.streams
    }

    /// Its calls that are given up without an answer.
    pub(super) fn cancels(&self) -> &Rc<Cancels> {
        &self.cancels
    }

    /// How many calls wait for flow control.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.borrow().len()
    }

    /// Whether a call can be sent on it without fear of those that are on it already.
    pub(super) fn is_free(&self, now: Instant) -> bool {
        self.has_room() && self.is_light() && !self.is_stalled(now)
    }

    /// Whether the other end still takes calls.
    pub(super) fn is_open(&self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        !matches!(self.sender.borrow_mut().poll_ready(&mut cx), Poll::Ready(Err(_)))
    }

    /// Whether the other end lets another stream be opened.
    pub(super) fn has_room(&self) -> bool {
        self.streams.get() < self.sender.borrow().current_max_send_streams()
    }

    /// Whether what nobody has answered leaves some of the smallest window that peers have.
    fn is_light(&self) -> bool {
        self.unanswered.get() < SHARED
    }

    fn is_stalled(&self, now: Instant) -> bool {
        let waiting = self.waiting.borrow();
        waiting.first().is_some_and(|(since, _)| now.duration_since(*since) >= STALLED_AFTER)
    }
}

impl Lease {
    /// One more call on this connection.
    pub(super) fn new(connection: Rc<Connection>) -> Self {
        connection.streams.set(connection.streams.get() + 1);
        Self { connection, waiting: None, unanswered: 0, place: None }
    }

    /// Opens a stream.
    ///
    /// # Errors
    /// h2's, before anything was sent.
    pub fn send(
        &self,
        request: Request<()>,
        end: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        // A clone each time: one that has queued a stream in h2 refuses every further one.
        let mut sender = self.connection.sender.borrow().clone();
        sender.send_request(request, end)
    }

    /// How many bytes may go on without a look at the window.
    pub fn ahead(&self) -> usize {
        AHEAD.saturating_sub(self.connection.unanswered.get())
    }

    /// So many bytes went on; they count until the call is answered.
    pub fn owe(&mut self, bytes: usize) {
        self.unanswered += bytes;
        self.connection.unanswered.set(self.connection.unanswered.get() + bytes);
    }

    /// Keeps its place among the calls to the app until it is answered.
    pub fn hold(&mut self, place: Place) {
        self.place = Some(place);
    }

    /// Whether the callee waits for the caller's next piece of the request.
    pub fn uploads(&mut self, is_coming: bool) {
        if let Some(place) = &mut self.place {
            place.uploads(is_coming);
        }
    }

    /// The call is answered; on this stream where the callee has taken it.
    pub fn settle(&mut self, stream: Option<StreamId>) {
        if let Some(stream) = stream {
            self.connection.cancels.answered(stream.as_u32());
        }
        if let Some(place) = self.place.take() {
            place.answered();
        }
        self.pay();
    }

    fn pay(&mut self) {
        let owed = std::mem::take(&mut self.unanswered);
        self.connection.unanswered.set(self.connection.unanswered.get() - owed);
    }

    /// Gives the call up that has no answer: cancels it, as soon as that does no harm to others.
    pub fn cancel(&self, response: ResponseFuture, upload: Option<SendStream<Bytes>>) {
        self.connection.cancels.cancel(response, upload);
    }

    /// Says whether this call waits for flow control.
    pub fn set_stalled(&mut self, stalled: bool) {
        if stalled == self.waiting.is_some() {
            return;
        }
        let mut waiting = self.connection.waiting.borrow_mut();
        if let Some(ended) = self.waiting.take() {
            waiting.remove(&ended);
            return;
        }
        let key = (Instant::now(), self.connection.waits.get());
        self.connection.waits.set(key.1 + 1);
        waiting.insert(key);
        self.waiting = Some(key);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.set_stalled(false);
        self.pay();
        self.connection.streams.set(self.connection.streams.get() - 1);
    }
}
