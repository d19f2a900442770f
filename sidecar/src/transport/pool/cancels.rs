//! Calls that are given up before the other end has said anything to them.
//!
//! A process that stood still wakes to all of them at once; a server on h2 that finds more than 20
//! streams cancelled before it has looked at them ends its connection, and with it every other call.
//! So only a few are cancelled until it says something, and the rest when it does: then it has looked
//! at them. It is asked to, by SETTINGS that change nothing, as some servers take PINGs ill.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use bytes::Bytes;
use h2::SendStream;
use h2::client::{Connection, ResponseFuture};

use crate::transport::io::{Activity, Io, Watched};

/// So many are cancelled before the other end says something.
const UNSEEN: usize = 8;

/// A call that has no answer: whoever drops both cancels it.
pub(super) type GivenUp = (ResponseFuture, Option<SendStream<Bytes>>);

/// Those of one connection.
pub(super) struct Cancels {
    activity: Rc<Activity>,
    /// The streams of the connection, to which those count that are still to be cancelled.
    streams: Rc<Cell<usize>>,
    /// How much the other end had said when it was looked at last.
    said: Cell<u64>,
    /// How many were given up since.
    unseen: Cell<usize>,
    is_asked: Cell<bool>,
    held: RefCell<Vec<GivenUp>>,
}

impl Cancels {
    /// None yet.
    pub(super) fn new(activity: Rc<Activity>, streams: Rc<Cell<usize>>) -> Self {
        let (said, unseen, is_asked) = (Cell::default(), Cell::default(), Cell::default());
        Self { activity, streams, said, unseen, is_asked, held: RefCell::default() }
    }

    /// Cancels a call, as soon as that does no harm to others.
    pub(super) fn cancel(&self, call: GivenUp) {
        self.look();
        self.unseen.set(self.unseen.get() + 1);
        if self.unseen.get() > UNSEEN {
            self.streams.set(self.streams.get() + 1);
            self.held.borrow_mut().push(call);
        }
    }

    /// Follows each poll of the connection; whether it is to be polled again. (The last call that is
    /// cancelled at once wakes it.)
    pub(super) fn follow(&self, http2: &mut Connection<Watched<Box<dyn Io>>>, window: u32) -> bool {
        if self.unseen.get() == 0 {
            return false;
        }
        if self.look() {
            return true;
        }
        // An error: SETTINGS are on their way already.
        self.unseen.get() >= UNSEEN
            && !self.is_asked.replace(true)
            && http2.set_initial_window_size(window).is_ok()
    }

    /// Whether the other end has said something: what is held is cancelled then.
    fn look(&self) -> bool {
        let reads = self.activity.reads();
        if self.said.replace(reads) == reads {
            return false;
        }
        self.unseen.set(0);
        self.is_asked.set(false);
        let held = self.held.take();
        self.streams.set(self.streams.get() - held.len());
        true
    }
}
