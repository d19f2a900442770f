//! The hand by which a worker reaches a call that is open: a refusal, the end of a drain, or the
//! time that the call asked to be woken at.
//!
//! One timer a connection stands for those of all its calls, as most calls end long before their
//! time: to ask for it costs a call a comparison.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use slab::Slab;
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::fault::Fault;
use crate::outbound::endpoint::Count;

/// The open calls of one connection.
#[derive(Debug, Default)]
pub struct Calls {
    open: RefCell<Slab<Slot>>,
    alarm: RefCell<Option<Alarm>>,
    /// Woken when the last call has ended.
    emptied: RefCell<Option<Waker>>,
}

/// What a call was woken for and has not looked at, though its connection was polled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unheard {
    /// Nothing.
    Nothing,
    /// Nothing may have moved for too long.
    Idle,
    /// It is ended, by a fault or by its deadline.
    Fault,
}

#[derive(Debug, Default)]
struct Slot {
    waker: Option<Waker>,
    fault: Option<Fault>,
    told: bool,
    wake_at: Option<Instant>,
    due: bool,
    /// What it is woken for ends it.
    is_last: bool,
}

/// The connection's timer, and the task that waits for it.
#[derive(Debug)]
struct Alarm {
    at: Instant,
    sleep: Pin<Box<Sleep>>,
    task: AbortHandle,
}

/// When no call asks for anything, the timer is set so far ahead.
const FAR: Duration = Duration::from_secs(24 * 60 * 60);

/// The timer rings at most so often, whatever calls ask for.
const GRAIN: Duration = Duration::from_millis(1);

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

    /// Whether none is open; else the task is woken when none is.
    pub fn poll_empty(&self, cx: &mut Context<'_>) -> bool {
        if !self.is_empty() {
            *self.emptied.borrow_mut() = Some(cx.waker().clone());
        }
        self.is_empty()
    }

    /// The weightiest news that a call has not heard.
    pub fn unheard(&self) -> Unheard {
        let mut unheard = Unheard::Nothing;
        for (_, slot) in self.open.borrow().iter() {
            match slot {
                Slot { fault: Some(_), told: false, .. } => return Unheard::Fault,
                Slot { due: true, is_last: true, .. } => return Unheard::Fault,
                Slot { due: true, .. } => unheard = Unheard::Idle,
                _ => {}
            }
        }
        unheard
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

    /// Has the timer ring no later than this.
    fn set_alarm(self: &Rc<Self>, at: Instant) {
        let mut alarm = self.alarm.borrow_mut();
        match &mut *alarm {
            Some(alarm) if alarm.at <= at => {}
            Some(alarm) => {
                alarm.at = at;
                alarm.sleep.as_mut().reset(at);
            }
            None => {
                let calls = Rc::downgrade(self);
                let task = spawn_local(poll_fn(move |cx| Self::poll_alarm(&calls, cx)));
                let (sleep, task) = (Box::pin(sleep_until(at)), task.abort_handle());
                *alarm = Some(Alarm { at, sleep, task });
            }
        }
    }

    /// Wakes the calls whose time has come, whenever it has.
    fn poll_alarm(calls: &Weak<Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(calls) = calls.upgrade() else { return Poll::Ready(()) };
        let mut alarm = calls.alarm.borrow_mut();
        let Some(alarm) = &mut *alarm else { return Poll::Ready(()) };
        while alarm.sleep.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            let mut next = now + FAR;
            for (_, slot) in calls.open.borrow_mut().iter_mut() {
                match slot.wake_at {
                    Some(at) if at <= now => {
                        (slot.wake_at, slot.due) = (None, true);
                        if let Some(waker) = slot.waker.take() {
                            waker.wake();
                        }
                    }
                    Some(at) => next = next.min(at),
                    None => {}
                }
            }
            alarm.at = next.max(now + GRAIN);
            alarm.sleep.as_mut().reset(alarm.at);
        }
        Poll::Pending
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        if let Some(alarm) = self.alarm.get_mut() {
            alarm.task.abort();
        }
    }
}

impl Control {
    /// Keeps the call's place among the open streams until it ends.
    pub fn hold(&mut self, open: Count) {
        self.open = Some(open);
    }

    /// What a call waits for before it is sent; none where its deadline comes first.
    ///
    /// # Errors
    /// The fault that ends the call meanwhile.
    pub fn until<'a, T>(
        &'a self,
        deadline: Option<Instant>,
        // Pinned by who waits: taken itself, it would have a place in each future on its way here.
        mut waiting: Pin<&'a mut impl Future<Output = T>>,
    ) -> impl Future<Output = Result<Option<T>, Fault>> + 'a {
        let mut asked = false;
        poll_fn(move |cx| {
            if let Poll::Ready(done) = waiting.as_mut().poll(cx) {
                return Poll::Ready(Ok(Some(done)));
            }
            if !std::mem::replace(&mut asked, true) {
                // Whatever the call asked for before is over.
                match deadline {
                    Some(deadline) => self.wake_at(deadline, true),
                    None => self.wake_never(),
                }
            }
            match self.poll(cx) {
                Ok(false) => Poll::Pending,
                Ok(true) => Poll::Ready(Ok(None)),
                Err(fault) => Poll::Ready(Err(fault)),
            }
        })
    }

    /// Whether the time has come that the call asked for last; told once. The task is woken when
    /// it comes, and when the call is ended.
    ///
    /// # Errors
    /// The fault that ends the call, once there is one.
    pub fn poll(&self, cx: &mut Context<'_>) -> Result<bool, Fault> {
        let mut open = self.calls.open.borrow_mut();
        let Some(slot) = open.get_mut(self.key) else { return Ok(false) };
        if let Some(fault) = &slot.fault {
            slot.told = true;
            return Err(fault.clone());
        }
        match &mut slot.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Ok(std::mem::take(&mut slot.due))
    }

    /// Asks to be woken no more.
    fn wake_never(&self) {
        if let Some(slot) = self.calls.open.borrow_mut().get_mut(self.key) {
            (slot.wake_at, slot.due) = (None, false);
        }
    }

    /// Asks to be woken at this time instead of the one before; `is_last` where that ends the call.
    pub fn wake_at(&self, at: Instant, is_last: bool) {
        if let Some(slot) = self.calls.open.borrow_mut().get_mut(self.key) {
            (slot.wake_at, slot.due, slot.is_last) = (Some(at), false, is_last);
        }
        self.calls.set_alarm(at);
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.calls.open.borrow_mut().try_remove(self.key);
        if self.calls.is_empty()
            && let Some(waker) = self.calls.emptied.take()
        {
            waker.wake();
        }
    }
}
