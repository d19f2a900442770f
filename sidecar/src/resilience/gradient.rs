//! How many calls an app takes at a time, learned from how long its answers take.
//!
//! A false limit is worse than none, so there is none (but the most) until three things come
//! together for some periods: nearly all methods take several times what they usually take; calls
//! pile up; and no more answers come for it, or many callers give up. An app that is merely slow,
//! whose methods differ a thousandfold, or that waits for something that became slow and keeps up
//! all the same, shows one or two of them.
//!
//! ```text
//! open ── slow, calls pile up, no more answers ──▶ limiting: down by the gradient while slow, else up
//!   ▲                                                 │
//!   ├──── not reached for 10 s ───────────────────────┤
//!   └──── half the calls, and no quicker for it ──────┘  (that is how long it takes now)
//! ```
//!
//! What a method takes is the mean logarithm of the quickest of each four answers: where calls wait
//! for each other even the quickest do, and slow ones among quick ones do not show. What it usually
//! takes follows down at once and up slowly, and not at all while the limit holds: else a lasting
//! overload would pass for the normal state.
//!
//! All answers are counted, and of some it is measured how long they took. Shared by all workers:
//! each adds its own to the sums, the one that ends a period draws the conclusion. Nobody waits for it.

mod conclusion;
mod method;
mod turn;

use std::num::NonZeroU32;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use self::conclusion::{Mind, Period};
use self::method::Methods;
pub use self::turn::{Ending, Turn};
use super::moment::Moment;

/// The bounds of a limit, and what it tolerates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Never fewer at a time.
    pub least: NonZeroU32,
    /// Never more.
    pub most: NonZeroU32,
    /// Answers may take so many percent of what they usually take …
    pub tolerance_percent: u32,
    /// … and this.
    pub slack: Duration,
}

/// A conclusion is drawn after this long …
const PERIOD: Duration = Duration::from_millis(100);
/// … and so many times four measured answers. Where none comes, none is drawn: who waits for events
/// looks like that.
const FOURS: u32 = 5;

/// A limit under which no answer that could be measured came for so long is lifted …
const STUCK: Duration = Duration::from_secs(2);
/// … and where calls were given up late since the last conclusion, after this: the app may be busy
/// with what it was sent before, and more calls would not help it.
const BUSY: Duration = Duration::from_secs(10);

/// What a measured call's answer tells.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    /// Tells methods apart: any number that is always the same for one.
    pub method: u64,
    /// How long the app took; none where that cannot be told.
    pub took: Option<Duration>,
    /// How many answers came since the last one that was told of, itself counted.
    pub answers: u32,
    /// So many calls are in flight, itself counted.
    pub in_flight: u32,
}

/// A limit of calls at a time.
#[derive(Debug)]
pub struct Gradient {
    bounds: Bounds,
    limit: AtomicU32,
    methods: Methods,
    /// The period: its begin in nanoseconds, its answers and how many fours of them were measured, the
    /// measured calls that were given up late, and the most that were in flight.
    begun: AtomicU64,
    answers: AtomicU32,
    fours: AtomicU32,
    given_up: AtomicU32,
    peak: AtomicU32,
    /// When the last answer came that tells how long it took, in nanoseconds.
    answered: AtomicU64,
    /// Whoever finds it locked leaves the conclusion to whoever has locked it.
    mind: Mutex<Mind>,
}

impl Gradient {
    /// A limit that nothing is known of but its bounds.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            limit: AtomicU32::new(bounds.most.get()),
            methods: Methods::default(),
            begun: AtomicU64::new(0),
            answers: AtomicU32::new(0),
            fours: AtomicU32::new(0),
            given_up: AtomicU32::new(0),
            peak: AtomicU32::new(0),
            answered: AtomicU64::new(0),
            mind: Mutex::default(),
        }
    }

    /// So many calls may be in flight now.
    pub fn limit(&self) -> u32 {
        self.limit.load(Ordering::Relaxed)
    }

    /// Whether a call that finds so many in flight is to be measured whatever happens: below that,
    /// some of them tell enough.
    pub fn is_keen(&self, in_flight: u32) -> bool {
        in_flight >= self.bounds.least.get()
    }

    /// A call got in; so many are in flight, itself counted.
    pub fn entered(&self, in_flight: u32) {
        // A look first: most calls change nothing, and a write is one that other workers wait for.
        if in_flight > self.peak.load(Ordering::Relaxed) {
            self.peak.fetch_max(in_flight, Ordering::Relaxed);
        }
    }

    /// A call that is measured was answered.
    pub fn record(&self, answer: Answer, now: Moment) -> Option<Turn> {
        // Of what cannot be measured nothing is ever concluded, however many answers come.
        if answer.took.is_some() {
            self.answered.store(now.nanos(), Ordering::Relaxed);
        }
        self.answers.fetch_add(answer.answers, Ordering::Relaxed);
        let is_four = answer.took.is_some_and(|took| self.methods.record(answer.method, took));
        let fours = match is_four {
            true => self.fours.fetch_add(1, Ordering::Relaxed).saturating_add(1),
            false => self.fours.load(Ordering::Relaxed),
        };
        let lasted = now.since(Moment::from_nanos(self.begun.load(Ordering::Relaxed)));
        if fours >= FOURS
            && lasted >= PERIOD
            && let Ok(mut mind) = self.mind.try_lock()
        {
            return self.conclude(&mut mind, answer.in_flight, now);
        }
        None
    }

    /// A call was given up after it had waited so long for its answer.
    pub fn give_up(&self, method: u64, waited: Duration) {
        // Who does not wait as long as it usually takes says nothing of the app.
        if self.methods.is_late(method, waited, &self.bounds) {
            self.given_up.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A call was refused. Where no answer came for long, calls that wait for something else than
    /// the app have all places, and without an answer nothing would ever be concluded.
    pub fn refused(&self, now: Moment) -> Option<Turn> {
        let answered = Moment::from_nanos(self.answered.load(Ordering::Relaxed));
        let are_given_up = self.given_up.load(Ordering::Relaxed) > 0;
        if now.since(answered) >= if are_given_up { BUSY } else { STUCK }
            && let Ok(mut mind) = self.mind.try_lock()
            && let Some(turn) = mind.lift(self.limit(), now)
        {
            self.limit.store(self.bounds.most.get(), Ordering::Relaxed);
            return Some(turn);
        }
        None
    }

    fn conclude(&self, mind: &mut Mind, in_flight: u32, now: Moment) -> Option<Turn> {
        let begun = Moment::from_nanos(self.begun.load(Ordering::Relaxed));
        // Another may have done so just before.
        if now.since(begun) < PERIOD {
            return None;
        }
        let speed = self.methods.conclude(&self.bounds, mind.is_open())?;
        self.begun.store(now.nanos(), Ordering::Relaxed);
        let period = Period {
            speed,
            answers: self.answers.swap(0, Ordering::Relaxed),
            measured: self.fours.swap(0, Ordering::Relaxed).saturating_mul(4),
            given_up: self.given_up.swap(0, Ordering::Relaxed),
            // Who is in flight now is so in the next period as well.
            peak: self.peak.swap(in_flight, Ordering::Relaxed).max(in_flight),
            lasted: now.since(begun),
        };
        let limit = self.limit.load(Ordering::Relaxed);
        let next = mind.conclude(&period, limit, &self.bounds, now);
        if next.is_usual_now {
            self.methods.accept();
        }
        self.limit.store(next.limit, Ordering::Relaxed);
        next.turn
    }
}

#[cfg(test)]
mod tests;
