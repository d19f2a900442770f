//! How many calls from the mesh wait for the app's response head at a time: the limit, and the
//! queue of those that are over it.
//!
//! One limit and one queue a process. A call that finds room costs a few atomics; only one that does
//! not takes the queue's lock. Invariant: whatever enters leaves, answered, given up or never sent.

mod queue;

use std::cell::Cell;
use std::hash::BuildHasher;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use foldhash::fast::RandomState;
use tokio::time::Instant;

use self::queue::{Queue, Waiting};
use crate::config::Concurrency;
use crate::fault::{Fault, Reason};
use crate::resilience::gradient::{Bounds, Gradient};
use crate::resilience::moment::Clock;

/// While few calls are in flight, one of so many is measured; a power of two.
const SAMPLED: u32 = 8;

/// The way to the app, as all workers of a process share it.
#[derive(Debug)]
pub struct Gate {
    /// Calls that wait for their response head.
    in_flight: AtomicU32,
    most: u32,
    learned: Option<Gradient>,
    queue: Queue,
    queue_timeout: Duration,
    /// Tells methods apart; of the process, as what is learned of them is.
    hash: RandomState,
    clock: Clock,
}

impl Gate {
    /// An open way with this limit.
    pub fn new(config: &Concurrency) -> Self {
        let bounds = Bounds {
            least: config.least.number(),
            most: config.most.number(),
            tolerance_percent: config.tolerance_percent,
            slack: config.slack.duration(),
        };
        Self {
            in_flight: AtomicU32::new(0),
            most: config.most.as_u32(),
            learned: config.adaptive.then(|| Gradient::new(bounds)),
            queue: Queue::new(config.queue.get(), config.queue_timeout.duration() / 2),
            queue_timeout: config.queue_timeout.duration(),
            hash: RandomState::default(),
            clock: Clock::new(Instant::now()),
        }
    }

    fn limit(&self) -> u32 {
        self.learned.as_ref().map_or(self.most, Gradient::limit)
    }

    /// How many are in flight, itself counted; none at the limit.
    fn enter(&self) -> Option<u32> {
        let limit = self.limit();
        let more = |in_flight: u32| (in_flight < limit).then_some(in_flight + 1);
        // In one order with the queue's own count: of one that leaves and one that comes to wait,
        // one sees the other.
        let before = self.in_flight.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more);
        before.ok().map(|before| before + 1)
    }

    fn leave(&self) {
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
        if !self.queue.is_empty() {
            self.queue.admit(|| self.enter().is_some());
        }
    }
}

/// One worker's side of the way to the app.
#[derive(Debug)]
pub struct Admission {
    gate: Arc<Gate>,
    calls: Cell<u32>,
}

impl Admission {
    /// To this way.
    pub fn new(gate: Arc<Gate>) -> Rc<Self> {
        Rc::new(Self { gate, calls: Cell::new(0) })
    }

    /// A place for a call of this method, at once where there is room; else after a wait.
    ///
    /// # Errors
    /// `overloaded` where there is none in time.
    pub async fn enter(self: &Rc<Self>, method: &str, begin: Instant) -> Result<Place, Fault> {
        if let Some(in_flight) = self.gate.enter() {
            return Ok(self.place(method, in_flight, begin));
        }
        // Boxed: a call's own future stays small, and few wait.
        Box::pin(self.wait(method)).await
    }

    async fn wait(self: &Rc<Self>, method: &str) -> Result<Place, Fault> {
        let gate = &*self.gate;
        let within = gate.queue_timeout;
        let waiting = Waiting::new(gate, Instant::now());
        let in_time = tokio::time::timeout(within, waiting).await;
        let limit = gate.limit();
        let refused = |why: String| {
            if let Some(learned) = &gate.learned {
                learned.refused(gate.clock.moment(Instant::now()));
            }
            let message = format!("{limit} calls at a time are what the app takes now, and {why}");
            Err(Fault::undelivered(Reason::Overloaded, message))
        };
        match in_time {
            Ok(true) => {
                let in_flight = gate.in_flight.load(Ordering::Relaxed);
                Ok(self.place(method, in_flight, Instant::now()))
            }
            Ok(false) => refused("too many newer ones wait".to_owned()),
            Err(_) => refused(format!("this one waited for {within:?}")),
        }
    }

    fn place(self: &Rc<Self>, method: &str, in_flight: u32, begin: Instant) -> Place {
        let calls = self.calls.get().wrapping_add(1);
        self.calls.set(calls);
        let learned = self.gate.learned.as_ref();
        let measures =
            |learned: &&Gradient| calls.is_multiple_of(SAMPLED) || learned.is_keen(in_flight);
        let method = learned.filter(measures).map(|_| self.gate.hash.hash_one(method));
        Place { admission: self.clone(), method, begin, is_sent: false }
    }
}

/// A call's place among those in flight to the app, until its response head.
#[derive(Debug)]
pub struct Place {
    admission: Rc<Admission>,
    /// Where it is measured.
    method: Option<u64>,
    begin: Instant,
    is_sent: bool,
}

impl Place {
    /// When the call got it.
    pub fn begin(&self) -> Instant {
        self.begin
    }

    /// The call is on its way: the app is asked.
    pub fn sent(mut self) -> Self {
        self.is_sent = true;
        self
    }

    /// The head came.
    pub fn answered(mut self) {
        self.is_sent = false;
        let gate = &self.admission.gate;
        if let (Some(method), Some(learned)) = (self.method, &gate.learned) {
            let now = Instant::now();
            let took = now.saturating_duration_since(self.begin);
            let in_flight = gate.in_flight.load(Ordering::Relaxed);
            learned.record(method, took, in_flight, gate.clock.moment(now));
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let gate = &self.admission.gate;
        if let (true, Some(method), Some(learned)) = (self.is_sent, self.method, &gate.learned) {
            learned.give_up(method, self.begin.elapsed());
        }
        gate.leave();
    }
}
