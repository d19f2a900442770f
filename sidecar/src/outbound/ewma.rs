//! Peak EWMA: an endpoint's expected response time, quick to rise and slow to fall.
//!
//! A time above the average replaces it at once; one below moves it by how long ago the last one
//! was (Finagle's rule). Pure: the caller brings the time.

use std::time::Duration;

use crate::resilience::moment::Moment;

/// How long a peak is remembered: after this long a third of it is left.
const DECAY: f64 = 10.0;

/// Floor at 1 ms: a zero seed makes a new endpoint look free.
const SEED: f64 = 0.001;

/// An average in seconds.
#[derive(Clone, Copy, Debug)]
pub struct PeakEwma {
    seconds: f64,
    at: Moment,
}

impl PeakEwma {
    /// Of an endpoint that nothing is known of.
    pub fn new(now: Moment) -> Self {
        Self { seconds: SEED, at: now }
    }

    /// Takes a response time in.
    pub fn observe(&mut self, took: Duration, now: Moment) {
        let took = took.as_secs_f64();
        self.seconds = if took >= self.seconds {
            took
        } else {
            let kept = self.kept(now);
            self.seconds * kept + took * (1.0 - kept)
        };
        self.at = now;
    }

    /// The expected response time, in seconds; a peak fades while no call goes there.
    pub fn cost(&self, now: Moment) -> f64 {
        (self.seconds * self.kept(now)).max(1e-6)
    }

    /// The average as it was when the last response came.
    pub fn seconds(&self) -> f64 {
        self.seconds
    }

    fn kept(&self, now: Moment) -> f64 {
        (-now.since(self.at).as_secs_f64() / DECAY).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_peak_counts_at_once_and_fades() {
        let start = Moment::default();
        let mut ewma = PeakEwma::new(start);
        ewma.observe(Duration::from_secs(2), start);
        assert!((ewma.cost(start) - 2.0).abs() < 1e-9);
        let later = start + Duration::from_secs(30);
        assert!(ewma.cost(later) < 0.1);
        ewma.observe(Duration::from_millis(5), later);
        assert!(ewma.cost(later) < 0.11);
    }

    proptest! {
        #[test]
        fn the_average_stays_between_what_was_seen(
            times in prop::collection::vec((0u64..10_000, 0u64..10_000), 1..50),
        ) {
            let mut now = Moment::default();
            let mut ewma = PeakEwma::new(now);
            let mut highest = SEED;
            for (gap, took) in times {
                now = now + Duration::from_millis(gap);
                highest = highest.max(took as f64 / 1000.0);
                ewma.observe(Duration::from_millis(took), now);
                prop_assert!(ewma.cost(now) <= highest + 1e-9);
                prop_assert!(ewma.cost(now) >= took as f64 / 1000.0 - 1e-9);
            }
        }
    }
}
