//! How many calls from the mesh wait for the app's response head at a time: the limit, and the
//! queue of those that are over it.
//!
//! One limit and one queue a process. A call that finds room costs a few atomics; only one that does
//! not takes the queue's lock. Invariant: whatever enters leaves, answered, given up or never sent.

mod queue;

use std::cell::Cell;
use std::future::Future;
use std::hash::BuildHasher;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use foldhash::fast::RandomState;
use tokio::time::Instant;

use self::queue::{Queue, Waiting};
use crate::config::Concurrency;
use crate::fault::{Fault, Reason};
use crate::resilience::gradient::{self, Bounds, Gradient, Turn};
use crate::resilience::moment::Clock;
use crate::telemetry::labels::Shed;
use crate::telemetry::metrics::Shard;
use crate::transport::body::Pulling;

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

    /// So many calls may be in flight now.
    pub fn limit(&self) -> u32 {
        self.learned.as_ref().map_or(self.most, Gradient::limit)
    }

    /// How many calls wait for a place.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// How many are in flight, itself counted; none at the limit.
    fn enter(&self) -> Option<u32> {
        let limit = self.limit();
        let more = |in_flight: u32| (in_flight < limit).then_some(in_flight + 1);
        // In one order with the queue's own count: of one that leaves and one that comes to wait,
        // one sees the other.
        let before = self.in_flight.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more);
        let in_flight = before.ok()? + 1;
        if let Some(learned) = &self.learned {
            learned.entered(in_flight);
        }
        Some(in_flight)
    }

    /// A call got no place in time.
    fn refused(&self) {
        if let Some(learned) = &self.learned
            && let Some(turn) = learned.refused(self.clock.moment(Instant::now()))
        {
            tell(&turn);
            // No call leaves that would let in those that wait.
            self.queue.admit(|| self.enter().is_some());
        }
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
    shard: Rc<Shard>,
    calls: Cell<u32>,
    /// Answers that the gate was not told of yet.
    answers: Cell<u32>,
}

/// What a place is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Asking<'a> {
    /// Its path.
    pub method: &'a str,
    /// When its caller gives up.
    pub deadline: Option<Instant>,
    /// Whether it is sent again, or to a second instance, as the caller's side says.
    pub is_repeated: bool,
}

/// What a wait came to.
type Waited = Result<Place, Fault>;

impl Admission {
    /// To this way.
    pub fn new(gate: Arc<Gate>, shard: Rc<Shard>) -> Rc<Self> {
        Rc::new(Self { gate, shard, calls: Cell::new(0), answers: Cell::new(0) })
    }

    /// A place for a call, where there is room.
    pub fn enter(self: &Rc<Self>, call: Asking<'_>, begin: Instant) -> Option<Place> {
        self.gate.enter().map(|in_flight| self.place(call, in_flight, begin))
    }

    /// A place for a call, after a wait.
    ///
    /// # Errors
    /// `overloaded` where there is none in time.
    #[cold]
    pub fn wait(self: &Rc<Self>, call: Asking<'_>) -> Pin<Box<impl Future<Output = Waited>>> {
        // Boxed: a call's own future stays small, and few wait.
        Box::pin(self.in_queue(call))
    }

    /// A call's deadline passed while it waited for a place.
    pub fn expired(&self) {
        self.shard.shed(Shed::Deadline);
        self.gate.refused();
    }

    async fn in_queue(self: &Rc<Self>, call: Asking<'_>) -> Waited {
        let gate = &*self.gate;
        let within = gate.queue_timeout;
        let waiting = Waiting::new(gate, Instant::now(), call.is_repeated);
        let in_time = tokio::time::timeout(within, waiting).await;
        let limit = gate.limit();
        let refused = |shed: Shed, why: String| {
            self.shard.shed(shed);
            gate.refused();
            let message = format!("{limit} calls at a time are what the app takes now, and {why}");
            Err(Fault::undelivered(Reason::Overloaded, message))
        };
        match in_time {
            Ok(true) => {
                let in_flight = gate.in_flight.load(Ordering::Relaxed);
                Ok(self.place(call, in_flight, Instant::now()))
            }
            Ok(false) => refused(Shed::QueueFull, "too many others wait".to_owned()),
            Err(_) => refused(Shed::QueueTimeout, format!("this one waited for {within:?}")),
        }
    }

    fn place(self: &Rc<Self>, call: Asking<'_>, in_flight: u32, begin: Instant) -> Place {
        let calls = self.calls.get().wrapping_add(1);
        self.calls.set(calls);
        let learned = self.gate.learned.as_ref();
        let measures =
            |learned: &&Gradient| calls.is_multiple_of(SAMPLED) || learned.is_keen(in_flight);
        let method = learned.filter(measures).map(|_| self.gate.hash.hash_one(call.method));
        let patience = match (call.deadline, call.is_repeated) {
            (Some(deadline), _) => Patience::Until(deadline),
            (None, false) => Patience::Unknown,
            (None, true) => Patience::None,
        };
        let upload = Upload::Whole;
        Place { admission: self.clone(), method, begin, upload, patience, is_sent: false }
    }
}

/// A call's place among those in flight to the app, until its response head.
#[derive(Debug)]
pub struct Place {
    admission: Rc<Admission>,
    /// Where it is measured.
    method: Option<u64>,
    /// Since when the app can work on it, as far as its caller goes.
    begin: Instant,
    upload: Upload,
    patience: Patience,
    is_sent: bool,
}

/// What of a request the app has.
#[derive(Debug)]
enum Upload {
    /// All of it since the begin, or as much as it takes.
    Whole,
    /// Its rest is still to come from the caller.
    Coming,
    /// As the one says who pulls it.
    Pulled(Rc<Pulling>),
}

/// How long a caller waits who then gives up for the app's slowness.
#[derive(Clone, Copy, Debug)]
enum Patience {
    /// Until its deadline, or nearly. Who goes before that is cancelled by somebody, or has asked
    /// another instance as well and has its answer.
    Until(Instant),
    /// It said nothing: any time may be the end of it.
    Unknown,
    /// It is asked beside others, of whom one may have answered.
    None,
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

    /// The same, with a request that the app's connection pulls.
    pub fn pulled(mut self, pulling: Rc<Pulling>) -> Self {
        self.upload = Upload::Pulled(pulling);
        self.sent()
    }

    /// Whether the app waits for the caller's next piece of the request. To be told whenever something
    /// of it was moved.
    pub fn uploads(&mut self, is_coming: bool) {
        if is_coming {
            self.upload = Upload::Coming;
        } else if matches!(self.upload, Upload::Coming) {
            self.upload = Upload::Whole;
            // Only of the few that are measured and were not whole at once.
            if self.method.is_some() {
                self.begin = Instant::now();
            }
        }
    }

    /// Since when the app has had the whole request; none while it has not.
    fn whole_since(&self) -> Option<Instant> {
        match &self.upload {
            Upload::Whole => Some(self.begin),
            Upload::Coming => None,
            Upload::Pulled(pulling) => pulling.whole_since(self.begin),
        }
    }

    /// The head came.
    pub fn answered(mut self) {
        self.is_sent = false;
        let Admission { gate, answers, .. } = &*self.admission;
        // Told with the next one that is measured.
        answers.set(answers.get().saturating_add(1));
        if let (Some(method), Some(learned)) = (self.method, &gate.learned) {
            let now = Instant::now();
            let answer = gradient::Answer {
                method,
                took: self.whole_since().map(|since| now.saturating_duration_since(since)),
                answers: answers.take(),
                in_flight: gate.in_flight.load(Ordering::Relaxed),
            };
            if let Some(turn) = learned.record(answer, gate.clock.moment(now)) {
                tell(&turn);
            }
        }
    }
}

impl Patience {
    /// Whether it is at its end.
    fn is_over(self, since: Instant, now: Instant) -> bool {
        match self {
            Self::Until(deadline) => {
                now + deadline.saturating_duration_since(since) / 20 >= deadline
            }
            Self::Unknown => true,
            Self::None => false,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let gate = &self.admission.gate;
        if let (true, Some(method), Some(learned)) = (self.is_sent, self.method, &gate.learned)
            && let Some(since) = self.whole_since()
        {
            let now = Instant::now();
            if self.patience.is_over(since, now) {
                learned.give_up(method, now.saturating_duration_since(since));
            }
        }
        gate.leave();
    }
}

/// Says that a limit begins or ends.
fn tell(turn: &Turn) {
    match *turn {
        Turn::Begins { limit, in_flight, rate, slower, given_up } => tracing::warn!(
            limit,
            in_flight_before = in_flight.0,
            in_flight = in_flight.1,
            answers_per_second_before = rate.0.round(),
            answers_per_second = rate.1.round(),
            given_up,
            "the app is overloaded: its answers take {slower:.1} times what they usually take and \
             calls pile up, so the calls at a time are limited"
        ),
        Turn::Ends { limit, lasted, because } => tracing::info!(
            limit,
            ?lasted,
            "the calls to the app at a time are limited no more: {because}"
        ),
    }
}

#[cfg(test)]
mod tests;
