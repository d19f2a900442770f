//! What each method takes, and what it usually takes.
//!
//! A fixed table, filled as methods are seen: bounded, without a lock, without an allocation. Methods
//! that find no place share the last one: what they take is then told of their mixture, which is
//! less, but an app whose methods are many is spared all the same.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Bounds;

/// So many methods are told apart.
const PLACES: usize = 512;
/// Places that a method may have.
const TRIES: usize = 8;
/// The quickest of so many answers counts; a power of two.
const OF: u64 = 4;
/// Sums of logarithms are kept as whole numbers of this part, above a count in the lowest bits: as
/// many of an hour as can be counted fit.
const PART: f64 = 524_288.0;
const COUNT: u64 = (1 << 20) - 1;
/// How much of the way down, and up, what is usual goes in a period.
const DOWN: f64 = 1.0 / 8.0;
const UP: f64 = 1.0 / 512.0;

/// All methods.
#[derive(Debug)]
pub(super) struct Methods(Box<[Method]>);

#[derive(Debug, Default)]
struct Method {
    /// Whose place it is; 0: nobody's.
    key: AtomicU64,
    /// How many answers of the present four there were, and the quickest one's nanoseconds above.
    four: AtomicU64,
    /// Of the period: the sum of the logarithms, and of how many fours. In one, as a logarithm whose
    /// four is counted in another period makes both wildly wrong.
    logs: AtomicU64,
    /// The bits of two `f64`, logarithms of nanoseconds: what it takes usually, and what it took in
    /// its last period; 0: not known yet.
    usual: AtomicU64,
    last: AtomicU64,
}

/// How quick the methods of a period were.
#[derive(Clone, Copy, Debug)]
pub(super) struct Speed {
    /// Nearly all took more than is tolerated.
    pub(super) is_slow: bool,
    /// What is tolerated, by what they took; where they were slow, of those that were.
    pub(super) gradient: f64,
    /// The logarithm of how many times what is usual they took.
    pub(super) above: f64,
    /// What the slowest of them took.
    pub(super) took: Duration,
}

impl Default for Methods {
    fn default() -> Self {
        Self((0..=PLACES).map(|_| Method::default()).collect())
    }
}

impl Methods {
    /// Whether this was the last of four.
    pub(super) fn record(&self, method: u64, took: Duration) -> bool {
        let method = self.of(method);
        // An hour is as bad as forever.
        let took = took.min(Duration::from_secs(3600)).as_nanos() as u64;
        let step = |four: u64| {
            let (count, least) = (four % OF, four / OF);
            let least = if count == 0 { took } else { took.min(least) };
            Some(least * OF + (count + 1) % OF)
        };
        let before = method.four.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step);
        if let Ok(before) = before
            && before % OF == OF - 1
        {
            let log = (took.min(before / OF).max(1) as f64).ln();
            let one = (log * PART) as u64 * (COUNT + 1) + 1;
            let add = |logs: u64| (logs & COUNT < COUNT).then(|| logs + one);
            // Where they are too many to be counted, one more says nothing new.
            let _ = method.logs.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
            return true;
        }
        false
    }

    fn of(&self, key: u64) -> &Method {
        let (key, first) = (key.max(1), key as usize % PLACES);
        let own = (first..first + TRIES).map(|place| &self.0[place % PLACES]).find(|method| {
            let held = method.key.load(Ordering::Relaxed);
            held == key
                || held == 0
                    && match method.key.compare_exchange(
                        0,
                        key,
                        Ordering::Relaxed,
                        Ordering::Relaxed,
                    ) {
                        Ok(_) => true,
                        Err(other) => other == key,
                    }
        });
        own.unwrap_or(&self.0[PLACES])
    }

    /// Ends a period; none where nothing was measured in it. `may_rise`: what is usual follows up.
    pub(super) fn conclude(&self, bounds: &Bounds, may_rise: bool) -> Option<Speed> {
        let (mut all, mut slow) = (0.0, 0.0);
        let (mut gradient, mut slow_gradient) = (0.0, 0.0);
        let (mut above, mut slowest) = (0.0, 0f64);
        for method in &self.0 {
            // A look first: of most places nobody has anything to say.
            if method.logs.load(Ordering::Relaxed) == 0 {
                continue;
            }
            let logs = method.logs.swap(0, Ordering::Relaxed);
            let fours = (logs & COUNT) as f64;
            let log = (logs / (COUNT + 1)) as f64 / PART / fours;
            method.last.store(log.to_bits(), Ordering::Relaxed);
            let usual = match method.usual.load(Ordering::Relaxed) {
                0 => log,
                known => f64::from_bits(known),
            };
            let within = tolerated(usual, bounds) / log.exp();
            all += fours;
            if within < 1.0 {
                slow += fours;
                slow_gradient += fours * within;
            }
            gradient += fours * within;
            above += fours * (log - usual);
            slowest = slowest.max(log.exp());
            let follow = match log < usual {
                true => DOWN,
                false if may_rise && within >= 1.0 => UP,
                false => 0.0,
            };
            let usual = usual + (log - usual) * follow;
            method.usual.store(usual.to_bits(), Ordering::Relaxed);
        }
        // One method's own trouble is not the app's.
        let is_slow = slow >= all * 0.8;
        (all > 0.0).then(|| Speed {
            is_slow,
            // A quick method has much room beside slow ones, whose trouble is what counts.
            gradient: if is_slow { slow_gradient / slow } else { gradient / all },
            above: above / all,
            took: Duration::from_nanos(slowest as u64),
        })
    }

    /// Whether a call of this method has waited longer than is tolerated.
    pub(super) fn is_late(&self, method: u64, waited: Duration, bounds: &Bounds) -> bool {
        match self.of(method).usual.load(Ordering::Relaxed) {
            0 => false,
            usual => waited.as_nanos() as f64 > tolerated(f64::from_bits(usual), bounds),
        }
    }

    /// What methods took last is what they usually take.
    pub(super) fn accept(&self) {
        for method in &self.0 {
            let last = method.last.load(Ordering::Relaxed);
            if last != 0 {
                method.usual.store(last, Ordering::Relaxed);
            }
        }
    }
}

/// In nanoseconds.
fn tolerated(usual: f64, bounds: &Bounds) -> f64 {
    usual.exp() * f64::from(bounds.tolerance_percent) / 100.0 + bounds.slack.as_nanos() as f64
}
