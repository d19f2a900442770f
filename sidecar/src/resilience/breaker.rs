//! The breaker of one endpoint: lets it rest while it fails, and asks with one call whether it is
//! well again.
//!
//! ```text
//!          failures in a row, or too few successes
//!   closed ──────────────────────────────────────▶ open ◀─────────┐
//!     ▲                                              │ time is up  │ the probe failed:
//!     │            the probe succeeded               ▼             │ twice as long
//!     └───────────────────────────────────────── half-open ───────┘
//! ```
//!
//! One per process and endpoint; workers share it without a lock. A result counts only in the
//! phase in which its call was let through: what was in flight when the breaker opened neither
//! closes it nor opens it again.

#[cfg(test)]
mod turns;
mod word;

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use fastrand::Rng;

use super::moment::Moment;
use super::outcome::Outcome;
use super::window::{Kind, Window};
use word::{Phase, Word};

/// When breakers open, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trip {
    /// After so many calls in a row that ended [`Outcome::Down`].
    pub consecutive: NonZeroU32,
    /// Where fewer of a hundred calls succeed over ten seconds …
    pub success_percent: u32,
    /// … and there were at least so many.
    pub calls: u32,
    /// Open for so long at first; doubled with every probe that fails …
    pub first: Duration,
    /// … up to this. A probe that takes longer than this is joined by another.
    pub last: Duration,
    /// For too few successes only while no more of a hundred endpoints rest, for whatever cause.
    pub most_percent: u32,
}

impl Default for Trip {
    fn default() -> Self {
        Self {
            consecutive: NonZeroU32::MIN.saturating_add(4),
            success_percent: 80,
            calls: 20,
            first: Duration::from_secs(1),
            last: Duration::from_secs(5),
            most_percent: 50,
        }
    }
}

impl Trip {
    /// How long a breaker stays open that opened `trips` times before. Up to a fifth less, so that
    /// probes of many callers do not come as one.
    fn pause(&self, trips: u8, rng: &mut Rng) -> Duration {
        self.first.saturating_mul(1 << trips).min(self.last).mul_f64(1.0 - 0.2 * rng.f64())
    }

    /// So many of an upstream's endpoints may rest for too few successes.
    fn most_of(&self, endpoints: usize) -> usize {
        endpoints.saturating_mul(self.most_percent as usize) / 100
    }

    fn is_too_bad(&self, good: u64, bad: u64) -> bool {
        let calls = good + bad;
        calls >= u64::from(self.calls) && good * 100 < calls * u64::from(self.success_percent)
    }
}

#[cfg(test)]
use turns::turn;

/// Comes before each access to what workers share: tests try all orders of them.
#[cfg(not(test))]
#[inline(always)]
fn turn() {}

/// How many breakers of an upstream are not closed.
#[derive(Debug, Default)]
pub struct Resting(AtomicUsize);

impl Resting {
    /// How many.
    pub fn count(&self) -> usize {
        turn();
        self.0.load(Ordering::SeqCst)
    }

    /// One more, where `most` allows it.
    fn add_within(&self, most: usize) -> bool {
        turn();
        let add = |n: usize| (n < most).then_some(n + 1);
        self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, add).is_ok()
    }

    fn add(&self) -> bool {
        turn();
        self.0.fetch_add(1, Ordering::SeqCst);
        true
    }

    fn remove(&self) {
        turn();
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The breaker of one endpoint. First comes what every choice reads.
#[derive(Debug)]
#[repr(C)]
pub struct Breaker {
    word: AtomicU64,
    window: Window,
    resting: Arc<Resting>,
}

/// A call that was let through. Its end must be told, [`Outcome::Unknown`] where nothing is known:
/// a probe that is forgotten holds the breaker half-open for [`Trip::last`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Permit {
    generation: u16,
    is_probe: bool,
}

impl Permit {
    /// Whether it is the one call by which the breaker learns whether the endpoint is well again.
    pub fn is_probe(self) -> bool {
        self.is_probe
    }
}

/// What a breaker does now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Lets calls through.
    Closed,
    /// Lets none through, for so long still; then one.
    Open(Duration),
    /// Waits for the end of one call.
    HalfOpen,
}

/// A change that people want to hear of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It opened, for so long.
    Opened(Cause, Duration),
    /// It closed.
    Closed,
}

/// Why a breaker opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Too many failures in a row.
    Consecutive,
    /// Too few successes.
    SuccessRate,
    /// The probe failed.
    Probe,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Cause::Consecutive => "too many calls failed in a row",
            Cause::SuccessRate => "too few calls succeeded",
            Cause::Probe => "it is not well again",
        })
    }
}

impl Breaker {
    /// The closed breaker of one of the endpoints that share `resting`.
    pub fn new(resting: Arc<Resting>) -> Self {
        Self { word: AtomicU64::new(0), window: Window::default(), resting }
    }

    /// Whether a call would be let through now. Takes nothing.
    pub fn would_admit(&self, now: Moment) -> bool {
        match self.read().phase {
            Phase::Closed { .. } => true,
            Phase::Open { until } | Phase::HalfOpen { until } => until <= now.millis(),
        }
    }

    /// Lets a call through, or not. After the time of rest the first to ask is the probe.
    pub fn admit(&self, trip: &Trip, now: Moment) -> Option<Permit> {
        let mut word = self.read();
        loop {
            match word.phase {
                Phase::Closed { .. } => {
                    return Some(Permit { generation: word.generation, is_probe: false });
                }
                Phase::Open { until } | Phase::HalfOpen { until } if until <= now.millis() => {
                    let until = (now + trip.last).millis();
                    let next = word.then(word.trips, Phase::HalfOpen { until });
                    match self.change(word, next) {
                        Ok(()) => {
                            let generation = next.generation;
                            return Some(Permit { generation, is_probe: true });
                        }
                        Err(found) => word = found,
                    }
                }
                Phase::Open { .. } | Phase::HalfOpen { .. } => return None,
            }
        }
    }

    /// A call that was let through has ended so; `endpoints` are those of the upstream.
    pub fn record(
        &self,
        permit: Permit,
        outcome: Outcome,
        trip: &Trip,
        endpoints: usize,
        now: Moment,
        rng: &mut Rng,
    ) -> Option<Change> {
        let mut word = self.read();
        // Counted once, however often the word has to be read again.
        if word.generation == permit.generation && matches!(word.phase, Phase::Closed { .. }) {
            match outcome {
                Outcome::Good => drop(self.window.add(Kind::Plain, now)),
                Outcome::Bad | Outcome::Down => drop(self.window.add(Kind::Marked, now)),
                Outcome::Unknown => {}
            }
        }
        // Most calls change nothing.
        let is_calm = word.phase == Phase::Closed { failures: 0 };
        if is_calm && matches!(outcome, Outcome::Good | Outcome::Unknown) {
            return None;
        }
        // A probe that took longer than the next one waited shows all the same that it is well.
        let is_well = permit.is_probe && outcome == Outcome::Good;
        let counts = |word: Word| {
            word.generation == permit.generation
                || is_well && matches!(word.phase, Phase::HalfOpen { .. })
        };
        while counts(word) {
            let (next, change) = self.next(word, outcome, trip, endpoints, now, rng)?;
            // Its place is taken before it opens: of two that open at once the second sees it.
            let is_place_taken = match change {
                Some(Change::Opened(Cause::Consecutive, _)) => self.resting.add(),
                Some(Change::Opened(Cause::SuccessRate, _)) => {
                    if !self.resting.add_within(trip.most_of(endpoints)) {
                        // Another endpoint was faster; seen so, this one's failure still counts.
                        continue;
                    }
                    true
                }
                Some(Change::Closed) => {
                    self.window.clear();
                    false
                }
                Some(Change::Opened(Cause::Probe, _)) | None => false,
            };
            match self.change(word, next) {
                Ok(()) => {
                    if change == Some(Change::Closed) {
                        self.resting.remove();
                    }
                    return change;
                }
                Err(found) => {
                    if is_place_taken {
                        self.resting.remove();
                    }
                    word = found;
                }
            }
        }
        None
    }

    /// What it does now.
    pub fn state(&self, now: Moment) -> State {
        match self.read().phase {
            Phase::Closed { .. } => State::Closed,
            Phase::Open { until } => {
                State::Open(Duration::from_millis(until.saturating_sub(now.millis())))
            }
            Phase::HalfOpen { .. } => State::HalfOpen,
        }
    }

    /// The next word after a result that counts; none where it changes nothing.
    fn next(
        &self,
        word: Word,
        outcome: Outcome,
        trip: &Trip,
        endpoints: usize,
        now: Moment,
        rng: &mut Rng,
    ) -> Option<(Word, Option<Change>)> {
        let mut open = |cause, trips| {
            let pause = trip.pause(trips, rng);
            let until = (now + pause).millis();
            let next = word.then(trips + 1, Phase::Open { until });
            (next, Some(Change::Opened(cause, pause)))
        };
        match (word.phase, outcome) {
            (Phase::Closed { failures: 0 }, Outcome::Good) => None,
            (Phase::Closed { .. }, Outcome::Good) => {
                Some((Word { phase: Phase::Closed { failures: 0 }, ..word }, None))
            }
            (Phase::Closed { failures }, Outcome::Down)
                if failures.saturating_add(1) >= trip.consecutive.get() =>
            {
                Some(open(Cause::Consecutive, 0))
            }
            (Phase::Closed { failures }, Outcome::Bad | Outcome::Down) => {
                let counts = self.window.total(now);
                let has_place = self.resting.count() < trip.most_of(endpoints);
                if has_place && trip.is_too_bad(counts.plain, counts.marked) {
                    return Some(open(Cause::SuccessRate, 0));
                }
                let failures = match outcome {
                    Outcome::Down => failures + 1,
                    _ => return None,
                };
                Some((Word { phase: Phase::Closed { failures }, ..word }, None))
            }
            (Phase::HalfOpen { .. }, Outcome::Good) => {
                Some((word.then(0, Phase::Closed { failures: 0 }), Some(Change::Closed)))
            }
            (Phase::HalfOpen { .. }, Outcome::Bad | Outcome::Down) => {
                Some(open(Cause::Probe, word.trips))
            }
            // The next call is the probe.
            (Phase::HalfOpen { .. }, Outcome::Unknown) => {
                let until = now.millis();
                Some((word.then(word.trips, Phase::Open { until }), None))
            }
            (Phase::Closed { .. }, Outcome::Unknown) | (Phase::Open { .. }, _) => None,
        }
    }

    fn read(&self) -> Word {
        turn();
        Word::unpack(self.word.load(Ordering::SeqCst))
    }

    fn change(&self, from: Word, to: Word) -> Result<(), Word> {
        turn();
        self.word
            .compare_exchange(from.pack(), to.pack(), Ordering::SeqCst, Ordering::SeqCst)
            .map(drop)
            .map_err(Word::unpack)
    }
}

impl Drop for Breaker {
    fn drop(&mut self) {
        // An endpoint that goes while it rests leaves its place to others.
        if !matches!(self.read().phase, Phase::Closed { .. }) {
            self.resting.remove();
        }
    }
}

#[cfg(test)]
mod orders;
#[cfg(test)]
mod tests;
