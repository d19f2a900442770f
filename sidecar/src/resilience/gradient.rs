//! How many calls an app takes at a time, learned from how long its answers take.
//!
//! While answers take little longer than when nobody waits, the limit grows by its own root with
//! every period; once they take longer, it shrinks by as much (the gradient of Netflix's
//! concurrency-limits). What "nobody waits" means is measured anew every half minute, with half the
//! limit where the limit is in use: else a lasting overload would pass for the normal state, and
//! the limit would follow it up.
//!
//! Shared by all workers: each adds its answers to the sums of the period, the one that ends a
//! period draws the conclusion.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::moment::Moment;

/// The bounds of a limit, and how quick it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Never fewer at a time.
    pub least: NonZeroU32,
    /// Never more.
    pub most: NonZeroU32,
    /// The limit before anything is known; between the two.
    pub first: NonZeroU32,
    /// Answers may take so many percent of what they take when nobody waits; over 100.
    pub tolerance_percent: u32,
    /// A conclusion is drawn after this long …
    pub period: Duration,
    /// … and so many answers.
    pub answers: u32,
    /// What an answer takes when nobody waits is measured so often.
    pub measure: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        const fn number(n: u32) -> NonZeroU32 {
            NonZeroU32::MIN.saturating_add(n - 1)
        }
        Self {
            least: number(8),
            most: number(4096),
            first: number(128),
            tolerance_percent: 150,
            period: Duration::from_millis(100),
            answers: 10,
            measure: Duration::from_secs(30),
        }
    }
}

/// A limit of calls at a time.
#[derive(Debug)]
pub struct Gradient {
    /// The bits of an `f64`.
    limit: AtomicU64,
    /// What an answer takes when nobody waits, in nanoseconds; 0: not known yet.
    unloaded: AtomicU64,
    /// When that was measured, in nanoseconds.
    measured: AtomicU64,
    stage: AtomicU32,
    /// The period: its begin and the sum of its answers' times in nanoseconds, how many they were,
    /// and the most that were in flight.
    begun: AtomicU64,
    sum: AtomicU64,
    answers: AtomicU32,
    peak: AtomicU32,
}

/// Concludes as usual.
const RUNNING: u32 = 0;
/// Waits a period until what was let in before the cut is out.
const DRAINING: u32 = 1;
/// Takes the period's times for those of an app for which nobody waits.
const MEASURING: u32 = 2;

/// How much of the way to its conclusion the limit goes in a period.
const STEP: f64 = 0.2;

impl Gradient {
    /// A limit that nothing is known of but its bounds.
    pub fn new(bounds: &Bounds) -> Self {
        Self {
            limit: AtomicU64::new(f64::from(bounds.first.get()).to_bits()),
            unloaded: AtomicU64::new(0),
            measured: AtomicU64::new(0),
            stage: AtomicU32::new(RUNNING),
            begun: AtomicU64::new(0),
            sum: AtomicU64::new(0),
            answers: AtomicU32::new(0),
            peak: AtomicU32::new(0),
        }
    }

    /// So many calls may be in flight now; half of what was learned while it measures.
    pub fn limit(&self, bounds: &Bounds) -> u32 {
        let limit = self.learned();
        let limit = if self.stage.load(Ordering::Relaxed) == RUNNING { limit } else { limit / 2.0 };
        (limit as u32).clamp(bounds.least.get(), bounds.most.get())
    }

    /// An answer came after `took`; `in_flight` were so, itself counted, when its call began.
    ///
    /// Answers of all kinds that show how long the app takes; not a refusal, which takes no time.
    pub fn record(&self, took: Duration, in_flight: u32, bounds: &Bounds, now: Moment) {
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        // An hour is as bad as forever, and sums of hours do not overflow.
        self.sum.fetch_add(took.min(3_600_000_000_000), Ordering::Relaxed);
        let answers = self.answers.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        self.peak.fetch_max(in_flight, Ordering::Relaxed);
        let begun = self.begun.load(Ordering::Relaxed);
        let is_over = now.since(Moment::from_nanos(begun)) >= bounds.period;
        if answers < bounds.answers || !is_over {
            return;
        }
        let ended =
            self.begun.compare_exchange(begun, now.nanos(), Ordering::AcqRel, Ordering::Relaxed);
        if ended.is_ok() {
            self.conclude(bounds, now);
        }
    }

    fn conclude(&self, bounds: &Bounds, now: Moment) {
        let sum = self.sum.swap(0, Ordering::Relaxed);
        let answers = self.answers.swap(0, Ordering::Relaxed);
        let peak = f64::from(self.peak.swap(0, Ordering::Relaxed));
        let Some(mean) = sum.checked_div(answers.into()) else { return };
        let limit = self.learned();
        let is_in_use = peak >= limit / 2.0;
        let unloaded = self.unloaded.load(Ordering::Relaxed);
        match self.stage.load(Ordering::Relaxed) {
            DRAINING => return self.stage.store(MEASURING, Ordering::Relaxed),
            MEASURING => {
                self.stage.store(RUNNING, Ordering::Relaxed);
                return self.measured(mean, now);
            }
            _ => {}
        }
        let measured = Moment::from_nanos(self.measured.load(Ordering::Relaxed));
        if unloaded == 0 || mean < unloaded {
            self.measured(mean, now);
        } else if now.since(measured) >= bounds.measure {
            if is_in_use {
                return self.stage.store(DRAINING, Ordering::Relaxed);
            }
            self.measured(mean, now);
        }
        let unloaded = self.unloaded.load(Ordering::Relaxed) as f64;
        let tolerated = unloaded * f64::from(bounds.tolerance_percent) / 100.0;
        let gradient = (tolerated / (mean as f64).max(1.0)).clamp(0.5, 1.0);
        let next = limit * gradient + limit.sqrt();
        // What is not used says nothing about whether more would do.
        if next > limit && !is_in_use {
            return;
        }
        let next = (limit * (1.0 - STEP) + next * STEP)
            .clamp(bounds.least.get().into(), bounds.most.get().into());
        self.limit.store(next.to_bits(), Ordering::Relaxed);
    }

    fn measured(&self, mean: u64, now: Moment) {
        self.unloaded.store(mean.max(1), Ordering::Relaxed);
        self.measured.store(now.nanos(), Ordering::Relaxed);
    }

    fn learned(&self) -> f64 {
        f64::from_bits(self.limit.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests;
