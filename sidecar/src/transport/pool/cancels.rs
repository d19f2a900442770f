//! Calls that are given up before the other end has said anything to them.
//!
//! A process that stood still wakes to all of them at once; a server on h2 that finds more than 20
//! streams cancelled before it has looked at them ends its connection, and with it every other call.
//! So only a few are cancelled until it says something. Where more are given up, it is asked by
//! SETTINGS that change nothing, as some servers take PINGs ill. Their acknowledgement says that it has
//! read what came before, not that it has looked at it: it gets as long for that as it took to
//! acknowledge, and then a few more are cancelled.

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

use crate::transport::io::{Activity, Io, Watched};

/// So many are cancelled before the other end says something.
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
    activity: Rc<Activity>,
    /// The streams of the connection, to which those count that are still to be cancelled.
    streams: Rc<Cell<usize>>,
    /// How much the other end had said when a call was given up last.
    said: Cell<u64>,
    /// How many were cancelled since it said something; all others are held from `UNSEEN` on, until
    /// it has taken those.
    unseen: Cell<usize>,
    held: RefCell<VecDeque<GivenUp>>,
    has_ended: Cell<bool>,
}

/// Asks the other end; ends with the connection.
pub(super) struct Following {
    cancels: Rc<Cancels>,
    /// Since when it is to acknowledge what was cancelled.
    since: Option<Instant>,
    /// Whether the SETTINGS that say so are on their way.
    is_asked: bool,
    /// How long it got last to look at what it has read, and the end of that.
    look: Duration,
    looks: Option<Pin<Box<Sleep>>>,
    /// Some were cancelled since it was asked last.
    has_more: bool,
}

impl Cancels {
    /// None yet.
    pub(super) fn new(activity: Rc<Activity>, streams: Rc<Cell<usize>>) -> Self {
        Self {
            activity,
            streams,
            said: Cell::default(),
            unseen: Cell::default(),
            held: RefCell::default(),
            has_ended: Cell::default(),
        }
    }

    /// Cancels a call, as soon as that does no harm to others.
    pub(super) fn cancel(&self, response: ResponseFuture, upload: Option<SendStream<Bytes>>) {
        let reads = self.activity.reads();
        if self.said.replace(reads) != reads && self.unseen.get() < UNSEEN {
            self.unseen.set(0);
        }
        let mut held = self.held.borrow_mut();
        if self.unseen.get() < UNSEEN || held.len() == HELD || self.has_ended.get() {
            // The last of a few wakes the connection, as each that is cancelled does.
            self.unseen.set((self.unseen.get() + 1).min(UNSEEN));
        } else {
            self.streams.set(self.streams.get() + 1);
            held.push_back((response, upload));
        }
    }

    fn release(&self, most: usize) -> usize {
        let mut held = self.held.borrow_mut();
        let few = held.len().min(most);
        let released: Vec<_> = held.drain(..few).collect();
        drop(held);
        self.streams.set(self.streams.get() - released.len());
        released.len()
    }
}

impl Following {
    /// Follows a connection.
    pub(super) fn new(cancels: Rc<Cancels>) -> Self {
        Self {
            cancels,
            since: None,
            is_asked: false,
            look: Duration::ZERO,
            looks: None,
            has_more: true,
        }
    }

    /// Follows each poll of the connection; whether it is to be polled again.
    pub(super) fn follow(
        &mut self,
        cx: &mut Context<'_>,
        http2: &mut Connection<Watched<Box<dyn Io>>>,
        window: u32,
    ) -> bool {
        let cancels = &*self.cancels;
        if cancels.unseen.get() < UNSEEN {
            return false;
        }
        if let Some(looks) = &mut self.looks {
            if looks.as_mut().poll(cx).is_pending() {
                return false;
            }
            self.looks = None;
            if !self.has_more {
                // It has taken all.
                self.has_more = true;
                cancels.said.set(cancels.activity.reads());
                cancels.unseen.set(cancels.release(UNSEEN));
                return true;
            }
        }
        let now = Instant::now();
        let since = *self.since.get_or_insert(now);
        // An error until those before are acknowledged.
        if http2.set_initial_window_size(window).is_err() {
            return false;
        }
        self.is_asked = !self.is_asked;
        if !self.is_asked {
            // What is cancelled now goes out behind these SETTINGS: it is asked again.
            self.has_more = cancels.release(UNSEEN) > 0;
            let took = now.saturating_duration_since(since);
            self.since = None;
            self.look = took.max(self.look / 2).min(LOOK);
            let look = if self.look < LEAST { Duration::ZERO } else { self.look };
            self.looks = Some(Box::pin(sleep(look)));
        }
        true
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.cancels.has_ended.set(true);
        self.cancels.release(usize::MAX);
    }
}
