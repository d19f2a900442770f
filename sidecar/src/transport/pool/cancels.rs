//! Calls that are given up before the other end has looked at them.
//!
//! A process that stood still wakes to all of them at once; a server on h2 that finds more than 20
//! streams cancelled before it has looked at them ends its connection, and with it every other call.
//! So only a few are cancelled until it shows that it looked at them: it answers a call that came
//! after. Where more are given up, it is asked by SETTINGS that change nothing, as some servers take
//! PINGs ill. Their acknowledgement says that it has read what came before, not that it has looked at
//! it: for that it gets as long as it took to acknowledge.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
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

/// For longer than this nobody has to look at what it has read. Timers ring no finer than the least.
const LOOK: Duration = Duration::from_millis(20);
const LEAST: Duration = Duration::from_millis(1);

/// A call that has no answer: whoever drops both cancels it.
type GivenUp = (ResponseFuture, Option<SendStream<Bytes>>);

/// Those of one connection.
pub(super) struct Cancels {
    /// The streams of the connection, to which those count that are still to be cancelled.
    streams: Rc<Cell<usize>>,
    /// Those that are cancelled, and that the other end may not have looked at.
    unseen: RefCell<Vec<u32>>,
    held: RefCell<VecDeque<GivenUp>>,
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
        let (unseen, held) = (RefCell::default(), RefCell::default());
        Self { streams, unseen, held, has_ended: Cell::default() }
    }

    /// Cancels a call, as soon as that does no harm to others.
    pub(super) fn cancel(&self, response: ResponseFuture, upload: Option<SendStream<Bytes>>) {
        let mut held = self.held.borrow_mut();
        if self.is_full() && held.len() < HELD && !self.has_ended.get() {
            self.streams.set(self.streams.get() + 1);
            held.push_back((response, upload));
        } else if !self.is_full() {
            // The last of a few wakes the connection, as each that is cancelled does.
            self.unseen.borrow_mut().push(response.stream_id().as_u32());
        }
    }

    /// A call was answered: the other end has looked at all that came before it.
    pub(super) fn answered(&self, stream: u32) {
        if !self.unseen.borrow().is_empty() {
            self.seen(|unseen| unseen < stream);
        }
    }

    /// Whether no more are cancelled until the other end has looked at those that are.
    fn is_full(&self) -> bool {
        self.unseen.borrow().len() >= UNSEEN
    }

    /// The other end has looked at some of those that are cancelled: as many others are.
    #[cold]
    fn seen(&self, is_seen: impl Fn(u32) -> bool) {
        let mut unseen = self.unseen.borrow_mut();
        unseen.retain(|stream| !is_seen(*stream));
        let released = self.release(UNSEEN - unseen.len());
        unseen.extend(released.iter().map(|(response, _)| response.stream_id().as_u32()));
    }

    fn release(&self, most: usize) -> Vec<GivenUp> {
        let mut held = self.held.borrow_mut();
        let few = held.len().min(most);
        self.streams.set(self.streams.get() - few);
        held.drain(..few).collect()
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
                self.look = since.elapsed().max(self.look / 2).min(LOOK);
                if self.look < LEAST {
                    self.looked();
                } else {
                    self.step = Step::Looks(Box::pin(sleep(self.look)));
                }
            }
            Step::Looks(looks) => {
                if looks.as_mut().poll(cx).is_pending() {
                    return false;
                }
                self.looked();
            }
        }
        true
    }

    fn looked(&mut self) {
        self.cancels.seen(|unseen| self.asked.contains(&unseen));
        self.step = Step::Asks(None);
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.cancels.has_ended.set(true);
        self.cancels.release(usize::MAX);
    }
}
