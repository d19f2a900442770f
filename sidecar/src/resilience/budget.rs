//! The retry budget of an upstream: retries are a share of its calls, however many of them fail.
//!
//! Shared by all workers. However they race, no more retries are granted than the share of the
//! calls of the last ten seconds and the floor allow; where two race for the last place one of
//! them may be refused that could have had it.

use super::moment::Moment;
use super::window::{Entry, Kind, Window};

/// How much a budget gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Retries per hundred calls over ten seconds.
    pub percent: u32,
    /// Retries in ten seconds beside that, so that who calls seldom can retry at all.
    pub floor: u32,
}

impl Default for Allowance {
    fn default() -> Self {
        Self { percent: 20, floor: 3 }
    }
}

impl Allowance {
    /// How many retries `calls` calls allow.
    fn of(&self, calls: u64) -> u64 {
        u64::from(self.floor) + calls.saturating_mul(u64::from(self.percent)) / 100
    }
}

/// The retries and the calls of the last ten seconds.
#[derive(Debug, Default)]
pub struct Budget {
    window: Window,
}

impl Budget {
    /// A call came; not one of its retries.
    pub fn call(&self, now: Moment) {
        self.window.add(Kind::Plain, now);
    }

    /// Spends one retry, where one is left.
    pub fn spend(&self, allowance: &Allowance, now: Moment) -> bool {
        // Looked at before it is counted: who is refused over and over disturbs nobody.
        if self.left(allowance, now) == 0 {
            return false;
        }
        self.settle(self.window.add(Kind::Marked, now), allowance, now)
    }

    /// Grants a retry that was counted, or takes it back: another worker may have been faster.
    fn settle(&self, entry: Entry, allowance: &Allowance, now: Moment) -> bool {
        let before = self.window.total_before(entry, now);
        let is_granted = before.marked < allowance.of(before.plain);
        if !is_granted {
            self.window.take_back(entry);
        }
        is_granted
    }

    /// How many retries are left now.
    pub fn left(&self, allowance: &Allowance, now: Moment) -> u64 {
        let counts = self.window.total(now);
        allowance.of(counts.plain).saturating_sub(counts.marked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    const DEFAULT: Allowance = Allowance { percent: 20, floor: 3 };

    fn at(millis: u64) -> Moment {
        Moment::after_origin(Duration::from_millis(millis))
    }

    #[test]
    fn who_seldom_calls_has_three_retries_in_ten_seconds() {
        let budget = Budget::default();
        let granted = (0..10).filter(|_| budget.spend(&DEFAULT, at(0))).count();
        assert_eq!(granted, 3);
        assert!(!budget.spend(&DEFAULT, at(9_999)));
        assert!(budget.spend(&DEFAULT, at(10_000)));
    }

    #[test]
    fn a_fifth_of_the_calls_may_be_sent_again() {
        let budget = Budget::default();
        (0..1000).for_each(|i| budget.call(at(i)));
        assert_eq!(budget.left(&DEFAULT, at(1000)), 203);
        assert_eq!((0..1000).filter(|_| budget.spend(&DEFAULT, at(1000))).count(), 203);
        // Calls are forgotten with the retries that they paid for.
        assert_eq!(budget.left(&DEFAULT, at(12_000)), 3);
    }

    #[test]
    fn of_two_that_race_for_the_last_retry_one_gets_it() {
        for seconds in [[0, 0], [0, 1_000], [1_000, 0]] {
            let budget = Budget::default();
            assert!(budget.spend(&DEFAULT, at(0)) && budget.spend(&DEFAULT, at(0)));
            // Both have seen it free, and both have counted themselves.
            let entries = seconds.map(|now| budget.window.add(Kind::Marked, at(now)));
            let granted = entries.map(|entry| budget.settle(entry, &DEFAULT, at(1_000)));
            assert!(!(granted[0] && granted[1]), "{granted:?}");
            if seconds[0] == seconds[1] {
                assert!(granted[0] || granted[1]);
            }
            // Who was refused left no trace.
            let spent = 2 + granted.iter().filter(|is_granted| **is_granted).count() as u64;
            assert_eq!(budget.left(&DEFAULT, at(1_000)), 3 - spent);
        }
    }

    #[test]
    fn four_workers_together_spend_no_more_than_one() {
        for edge in [0, 1] {
            let budget = Budget::default();
            let granted = AtomicU64::new(0);
            std::thread::scope(|scope| {
                for worker in 0..4 {
                    let (budget, granted) = (&budget, &granted);
                    scope.spawn(move || {
                        for i in 0..5_000u64 {
                            // With `edge`, two workers' clocks are in the next second already.
                            let now = at(999 + edge * (worker % 2));
                            if i % 10 == 0 {
                                budget.call(now);
                            }
                            if budget.spend(&DEFAULT, now) {
                                granted.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                    });
                }
            });
            // Who was refused in a race asks again.
            while budget.spend(&DEFAULT, at(1_000)) {
                granted.fetch_add(1, Ordering::Relaxed);
            }
            assert_eq!(granted.load(Ordering::Relaxed), 2_000 / 5 + 3);
        }
    }

    proptest! {
        #[test]
        fn in_any_ten_seconds_retries_are_within_the_budget(
            steps in prop::collection::vec((0u64..700, any::<bool>()), 1..400),
        ) {
            let budget = Budget::default();
            let mut now = 0;
            let (mut calls, mut retries) = (Vec::new(), Vec::new());
            for (gap, is_call) in steps {
                now += gap;
                if is_call {
                    budget.call(at(now));
                    calls.push(now);
                } else if budget.spend(&DEFAULT, at(now)) {
                    retries.push(now);
                    let since = |times: &[u64], from: u64| {
                        times.iter().filter(|t| **t + from > now).count()
                    };
                    prop_assert!(since(&retries, 9_000) <= 3 + since(&calls, 10_000) / 5);
                }
            }
        }
    }
}
