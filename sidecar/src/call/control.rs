//! The hand by which a worker reaches a call that is open: a refusal, or the end of a drain.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use slab::Slab;

use crate::fault::Fault;
use crate::outbound::endpoint::Count;

/// The open calls of one connection.
#[derive(Debug, Default)]
pub struct Calls {
    open: RefCell<Slab<Slot>>,
}

#[derive(Debug, Default)]
struct Slot {
    waker: Option<Waker>,
    fault: Option<Fault>,
}

/// One call's place among them.
#[derive(Debug)]
pub struct Control {
    calls: Rc<Calls>,
    key: usize,
    /// Its place among the open streams of the process.
    open: Option<Count>,
}

impl Calls {
    /// Registers a call.
    pub fn register(self: &Rc<Self>) -> Control {
        let key = self.open.borrow_mut().insert(Slot::default());
        Control { calls: self.clone(), key, open: None }
    }

    /// How many are open.
    pub fn len(&self) -> usize {
        self.open.borrow().len()
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.open.borrow().is_empty()
    }

    /// Ends every open call with this fault.
    pub fn end(&self, fault: &Fault) {
        let mut wakers = Vec::new();
        for (_, slot) in self.open.borrow_mut().iter_mut() {
            slot.fault.get_or_insert_with(|| fault.clone());
            wakers.extend(slot.waker.take());
        }
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Control {
    /// Keeps the call's place among the open streams until it ends.
    pub fn hold(&mut self, open: Count) {
        self.open = Some(open);
    }

    /// What a call waits for before it is sent, unless the call is ended first.
    pub async fn unless_ended<T>(&self, waiting: impl Future<Output = T>) -> Result<T, Fault> {
        let mut waiting = pin!(waiting);
        poll_fn(|cx| match waiting.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Ok(done)),
            Poll::Pending => {
                self.poll_fault(cx).map_or(Poll::Pending, |fault| Poll::Ready(Err(fault)))
            }
        })
        .await
    }

    /// The fault that ends the call, once there is one; else the task is woken when it comes.
    pub fn poll_fault(&self, cx: &mut Context<'_>) -> Option<Fault> {
        let mut open = self.calls.open.borrow_mut();
        let slot = open.get_mut(self.key)?;
        if slot.fault.is_some() {
            return slot.fault.clone();
        }
        match &mut slot.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        None
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.calls.open.borrow_mut().try_remove(self.key);
    }
}
