//! Calls over the limit, for a moment each.
//!
//! A passing burst is served in its order. Once the oldest has waited half of its time, the newest
//! is served first: the oldest would hardly be answered in time, and with it everyone after it.
//! A call that is sent again is served after all that are not, then, and refused before them: it is
//! new in no way but by its place here, and were it first, whoever asks once would be refused for
//! those who ask again, and each such refusal makes one more of these.
//! Invariant: bounded; who is refused, served or gone is no longer in it.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::Instant;

use super::Gate;

/// All that wait.
#[derive(Debug)]
pub(super) struct Queue {
    /// How many; changed under the lock alone.
    len: AtomicUsize,
    most: usize,
    /// The newest is first where the oldest has waited for so long.
    burst: Duration,
    calls: Mutex<Calls>,
}

#[derive(Debug, Default)]
struct Calls {
    next: u64,
    /// In the order in which they came; those that are sent again, apart.
    first: BTreeMap<u64, Call>,
    again: BTreeMap<u64, Call>,
}

#[derive(Debug)]
struct Call {
    since: Instant,
    waker: Waker,
    standing: Arc<AtomicU8>,
}

/// It waits.
const WAITS: u8 = 0;
/// It has a place.
const ADMITTED: u8 = 1;
/// It gets none.
const REFUSED: u8 = 2;

impl Queue {
    pub(super) fn new(most: usize, burst: Duration) -> Self {
        Self { len: AtomicUsize::new(0), most, burst, calls: Mutex::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.len.load(Ordering::SeqCst)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Lets calls in while there is room.
    pub(super) fn admit(&self, has_room: impl Fn() -> bool) {
        let mut wakers = Vec::new();
        let mut calls = self.lock();
        while calls.len() > 0 && has_room() {
            let is_burst = calls.oldest().is_some_and(|call| call.since.elapsed() < self.burst);
            let next = if is_burst { calls.pop_oldest() } else { calls.pop_newest() };
            wakers.extend(next.map(|call| call.end(ADMITTED)));
        }
        self.len.store(calls.len(), Ordering::SeqCst);
        drop(calls);
        wakers.into_iter().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Calls {
    fn len(&self) -> usize {
        self.first.len() + self.again.len()
    }

    fn of(&mut self, is_repeated: bool) -> &mut BTreeMap<u64, Call> {
        if is_repeated { &mut self.again } else { &mut self.first }
    }

    fn oldest(&self) -> Option<&Call> {
        let ends = [self.first.first_key_value(), self.again.first_key_value()];
        ends.into_iter().flatten().min_by_key(|(key, _)| **key).map(|(_, call)| call)
    }

    fn pop_oldest(&mut self) -> Option<Call> {
        let key = |calls: &BTreeMap<u64, Call>| calls.first_key_value().map(|(key, _)| *key);
        let is_repeated = match (key(&self.first), key(&self.again)) {
            (Some(first), Some(again)) => again < first,
            (first, _) => first.is_none(),
        };
        self.of(is_repeated).pop_first().map(|(_, call)| call)
    }

    fn pop_newest(&mut self) -> Option<Call> {
        let first = self.first.pop_last();
        first.or_else(|| self.again.pop_last()).map(|(_, call)| call)
    }

    /// The one that gets no place where there are too many.
    fn pop_surplus(&mut self) -> Option<Call> {
        let again = self.again.pop_first();
        again.or_else(|| self.first.pop_first()).map(|(_, call)| call)
    }
}

impl Call {
    fn end(self, standing: u8) -> Waker {
        self.standing.store(standing, Ordering::Release);
        self.waker
    }
}

/// One call that waits: whether it got a place. Dropped, it leaves.
pub(super) struct Waiting<'g> {
    gate: &'g Gate,
    since: Instant,
    is_repeated: bool,
    /// Once it was polled: its place in the queue.
    place: Option<(u64, Arc<AtomicU8>)>,
}

impl<'g> Waiting<'g> {
    pub(super) fn new(gate: &'g Gate, since: Instant, is_repeated: bool) -> Self {
        Self { gate, since, is_repeated, place: None }
    }
}

impl Future for Waiting<'_> {
    type Output = bool;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<bool> {
        let (queue, is_repeated) = (&self.gate.queue, self.is_repeated);
        let mut calls = queue.lock();
        if let Some((key, standing)) = &self.place {
            if let Some(call) = calls.of(is_repeated).get_mut(key) {
                call.waker.clone_from(cx.waker());
                return Poll::Pending;
            }
            let is_admitted = standing.load(Ordering::Acquire) == ADMITTED;
            drop(calls);
            self.place = None;
            return Poll::Ready(is_admitted);
        }
        // Counted before it looks for room once more: who leaves meanwhile sees it.
        queue.len.fetch_add(1, Ordering::SeqCst);
        if self.gate.enter().is_some() {
            queue.len.fetch_sub(1, Ordering::SeqCst);
            return Poll::Ready(true);
        }
        let key = calls.next;
        calls.next += 1;
        let standing = Arc::new(AtomicU8::new(WAITS));
        let call =
            Call { since: self.since, waker: cx.waker().clone(), standing: standing.clone() };
        calls.of(is_repeated).insert(key, call);
        let refused = if calls.len() > queue.most { calls.pop_surplus() } else { None };
        queue.len.store(calls.len(), Ordering::SeqCst);
        drop(calls);
        if let Some(refused) = refused {
            // Which may be this one: it is woken and looks again.
            refused.end(REFUSED).wake();
        }
        self.place = Some((key, standing));
        Poll::Pending
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let Some((key, standing)) = self.place.take() else { return };
        let mut calls = self.gate.queue.lock();
        calls.of(self.is_repeated).remove(&key);
        self.gate.queue.len.store(calls.len(), Ordering::SeqCst);
        drop(calls);
        if standing.load(Ordering::Acquire) == ADMITTED {
            // It went away with a place that it never took.
            self.gate.leave();
        }
    }
}
