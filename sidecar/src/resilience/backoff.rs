//! How long to wait before a call is sent again: exponential, with full jitter, bounded.

use std::time::Duration;

use fastrand::Rng;

/// The waits of a route's retries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// At most so long before the first retry; doubled for each one after it.
    pub first: Duration,
    /// At most so long before any.
    pub last: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_millis(25), last: Duration::from_millis(250) }
    }
}

impl Backoff {
    /// The wait before a retry; `retries` came before it.
    ///
    /// Anything from nothing to the bound, so that callers that failed together do not return
    /// together.
    pub fn wait(&self, retries: u32, rng: &mut Rng) -> Duration {
        self.bound(retries).mul_f64(rng.f64())
    }

    /// The longest that such a wait can be.
    pub fn bound(&self, retries: u32) -> Duration {
        self.first.saturating_mul(1_u32.checked_shl(retries).unwrap_or(u32::MAX)).min(self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_bound_doubles_up_to_the_last() {
        let bounds = [0, 1, 2, 3, 4, 31, 32, u32::MAX].map(|n| Backoff::default().bound(n));
        assert_eq!(bounds.map(|b| b.as_millis()), [25, 50, 100, 200, 250, 250, 250, 250]);
    }

    #[test]
    fn waits_fill_the_whole_range_evenly() {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut quarters = [0; 4];
        for _ in 0..4_000 {
            let share = Backoff::default().wait(2, &mut rng).as_secs_f64() / 0.1;
            quarters[(share * 4.0) as usize] += 1;
        }
        assert!(quarters.iter().all(|n| (850..1150).contains(n)), "{quarters:?}");
    }

    proptest! {
        #[test]
        fn no_wait_is_over_its_bound(
            first in 0u64..10_000_000_000, last in 0u64..10_000_000_000,
            retries in any::<u32>(), seed in any::<u64>(),
        ) {
            let backoff =
                Backoff { first: Duration::from_nanos(first), last: Duration::from_nanos(last) };
            let wait = backoff.wait(retries, &mut fastrand::Rng::with_seed(seed));
            prop_assert!(wait <= backoff.bound(retries));
            prop_assert!(backoff.bound(retries) <= backoff.last);
        }
    }
}
