//! Calls that are given up before the other end has looked at them.
//!
//! A process that stood still wakes to all of them at once; a server on h2 that finds more than 20
//! streams cancelled before it has looked at them ends its connection, and with it every other call.
//! So only a few are cancelled until it shows that it looked at them: it answers a call that came
//! after. Where more are given up, it is asked by SETTINGS that change nothing, as some servers take
//! PINGs ill. Their acknowledgement says that it has read what came before, not that it has looked at
//! it: for that it gets as long as it took to acknowledge.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Context;
use std::time::Duration;

use bytes::Bytes;
use h2::SendStream;
use h2::client::{Connection, ResponseFuture};
use tokio::time::{Instant, Sleep, sleep};

use crate::transport::io::{Io, Watched};

/// So many are cancelled before the other end has looked at any of them.
const UNSEEN: usize = 8;

/// So many are held at most; what is given up beyond that is cancelled all the same.
const HELD: usize = 4096;

/// For longer than this nobody has to look at what it has read; timers ring no finer than the least.
const LOOK: Duration = Duration::from_millis(20);
const LEAST: Duration = Duration::from_millis(1);

/// A call that has no answer, after its stream: whoever drops it cancels it.
type GivenUp = (u32, ResponseFuture, Option<SendStream<Bytes>>);

/// Those of one connection.
pub(super) struct Cancels {
    /// The streams of the connection, to which those count that are still to be cancelled.
    streams: Rc<Cell<usize>>,
    /// The last one that was answered: the other end has looked at all before it.
    answered: Cell<u32>,
    /// Those that are cancelled, and that it may not have looked at.
    unseen: RefCell<Vec<u32>>,
    /// In the order in which they were given up.
    held: RefCell<Vec<GivenUp>>,
    has_ended: Cell<bool>,
}

/// Asks the other end; ends with the connection.
pub(super) struct Following {
    cancels: Rc<Cancels>,
    step: Step,
    /// Those of which it was asked.
    asked: Vec<u32>,
    /// How long it got last to look at what it had read.
    look: Duration,
}

enum Step {
    /// It is not asked, or not yet, since then: it has to acknowledge earlier SETTINGS first.
    Asks(Option<Instant>),
    Acknowledges(Instant),
    Looks(Pin<Box<Sleep>>),
}

impl Cancels {
    /// None yet.
    pub(super) fn new(streams: Rc<Cell<usize>>) -> Self {
        let (answered, unseen) = (Cell::default(), RefCell::default());
        Self { streams, answered, unseen, held: RefCell::default(), has_ended: Cell::default() }
    }

    /// Cancels a call, as soon as that does no harm to others.
    pub(super) fn cancel(&self, response: ResponseFuture, mut upload: Option<SendStream<Bytes>>) {
        let stream = response.stream_id().as_u32();
        let mut held = self.held.borrow_mut();
        if stream < self.answered.get() || held.len() == HELD || self.has_ended.get() {
            return;
        }
        if !self.is_full() {
            // The last of a few wakes the connection, as each that is cancelled does.
            self.unseen.borrow_mut().push(stream);
            return;
        }
        // What it has of the connection's window goes to others, at the next poll.
        if let Some(upload) = &mut upload {
            upload.reserve_capacity(0);
        }
        self.streams.set(self.streams.get() + 1);
        held.push((stream, response, upload));
    }

    /// A call was answered: the other end has looked at all that came before it.
    pub(super) fn answered(&self, stream: u32) {
        if stream > self.answered.get() {
            self.answered.set(stream);
            if !self.unseen.borrow().is_empty() {
                self.seen(&[]);
            }
        }
    }

    /// Whether no more are cancelled until the other end has looked at those that are.
    fn is_full(&self) -> bool {
        self.unseen.borrow().len() >= UNSEEN
    }

    /// The other end has looked at these, and at all before the one that was answered: others are
    /// cancelled in their place.
    #[cold]
    fn seen(&self, these: &[u32]) {
        let (answered, mut unseen) = (self.answered.get(), self.unseen.borrow_mut());
        unseen.retain(|stream| *stream >= answered && !these.contains(stream));
        let goes = |(stream, ..): &mut GivenUp| {
            let (is_unseen, has_room) = (*stream >= answered, unseen.len() < UNSEEN);
            if is_unseen && has_room {
                unseen.push(*stream);
            }
            has_room || !is_unseen
        };
        let cancelled = self.held.borrow_mut().extract_if(.., goes).collect();
        self.let_go(cancelled);
    }

    /// These are held no more: with them their streams end.
    fn let_go(&self, cancelled: Vec<GivenUp>) {
        self.streams.set(self.streams.get() - cancelled.len());
    }
}

impl Following {
    /// Follows a connection.
    pub(super) fn new(cancels: Rc<Cancels>) -> Self {
        Self { cancels, step: Step::Asks(None), asked: Vec::new(), look: Duration::ZERO }
    }

    /// Follows each poll of the connection; whether it is to be polled again.
    pub(super) fn follow(
        &mut self,
        cx: &mut Context<'_>,
        http2: &mut Connection<Watched<Box<dyn Io>>>,
        window: u32,
    ) -> bool {
        match &mut self.step {
            Step::Asks(since) => {
                if !self.cancels.is_full() {
                    (*since, self.look) = (None, Duration::ZERO);
                    return false;
                }
                let since = *since.get_or_insert_with(Instant::now);
                // An error until those before are acknowledged.
                if http2.set_initial_window_size(window).is_err() {
                    return false;
                }
                self.asked.clone_from(&self.cancels.unseen.borrow());
                self.step = Step::Acknowledges(since);
            }
            Step::Acknowledges(since) => {
                if http2.set_initial_window_size(window).is_err() {
                    return false;
                }
                self.look = since.elapsed().max(self.look / 2).clamp(LEAST, LOOK);
                self.step = Step::Looks(Box::pin(sleep(self.look)));
            }
            Step::Looks(looks) => {
                if looks.as_mut().poll(cx).is_pending() {
                    return false;
                }
                self.cancels.seen(&self.asked);
                self.step = Step::Asks(None);
            }
        }
        true
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.cancels.has_ended.set(true);
        self.cancels.let_go(self.cancels.held.take());
    }
}
