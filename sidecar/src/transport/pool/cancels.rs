//! Calls that are given up before the other end has said anything to them.
//!
//! A process that stood still wakes to all of them at once; a server on h2 that finds more than 20
//! streams cancelled before it has looked at them ends its connection, and with it every other call.
//! So only a few are cancelled until it says something. Where more are given up, it is asked by
//! SETTINGS that change nothing, as some servers take PINGs ill, and for each acknowledgement a few
//! more are cancelled: what was sent before those SETTINGS, it has taken.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use bytes::Bytes;
use h2::SendStream;
use h2::client::{Connection, ResponseFuture};

use crate::transport::io::{Activity, Io, Watched};

/// So many are cancelled before the other end says something.
const UNSEEN: usize = 8;

/// So many are held at most; what is given up beyond that is cancelled all the same.
const HELD: usize = 4096;

/// A call that has no answer: whoever drops both cancels it.
type GivenUp = (ResponseFuture, Option<SendStream<Bytes>>);

/// Those of one connection.
pub(super) struct Cancels {
    activity: Rc<Activity>,
    /// The streams of the connection, to which those count that are still to be cancelled.
    streams: Rc<Cell<usize>>,
    /// How much the other end had said when a call was given up last.
    said: Cell<u64>,
    /// How many were cancelled since it said something, or since it was asked.
    unseen: Cell<usize>,
    is_asked: Cell<bool>,
    held: RefCell<VecDeque<GivenUp>>,
    has_ended: Cell<bool>,
}

/// Ends with the connection.
pub(super) struct Following(Rc<Cancels>);

impl Cancels {
    /// None yet.
    pub(super) fn new(activity: Rc<Activity>, streams: Rc<Cell<usize>>) -> Self {
        Self {
            activity,
            streams,
            said: Cell::default(),
            unseen: Cell::default(),
            is_asked: Cell::default(),
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
        Self(cancels)
    }

    /// Follows each poll of the connection; whether it is to be polled again.
    pub(super) fn follow(&self, http2: &mut Connection<Watched<Box<dyn Io>>>, window: u32) -> bool {
        let cancels = &*self.0;
        if cancels.unseen.get() < UNSEEN {
            return false;
        }
        // An error until those before are acknowledged.
        if http2.set_initial_window_size(window).is_err() {
            return false;
        }
        if cancels.is_asked.replace(true) {
            cancels.unseen.set(cancels.release(UNSEEN));
            cancels.is_asked.set(cancels.unseen.get() == UNSEEN);
        }
        true
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.0.has_ended.set(true);
        self.0.release(usize::MAX);
    }
}
