//! A token bucket: so many calls in a time, so many of them at once.
//!
//! Shared by all workers, one word each: the time at which the bucket would be full again (GCRA,
//! ITU-T I.371). Never grants more than the rate and the burst; a rate that does not divide its
//! time evenly is rounded down by less than a nanosecond a token.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::moment::Moment;

/// How fast a bucket fills, and how much it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// So many tokens …
    pub tokens: NonZeroU32,
    /// … in this time.
    pub per: Duration,
    /// At most so many are kept.
    pub burst: NonZeroU32,
}

impl Rate {
    /// Nanoseconds that a token takes; at least one.
    fn interval(&self) -> u64 {
        let per = u64::try_from(self.per.as_nanos()).unwrap_or(u64::MAX);
        per.div_ceil(self.tokens.get().into()).max(1)
    }
}

/// The tokens of one caller, method or whatever is limited; full at first.
#[derive(Debug, Default)]
pub struct Bucket {
    /// When it is full again, in nanoseconds.
    full: AtomicU64,
}

impl Bucket {
    /// Takes one token.
    ///
    /// # Errors
    /// Where there is none: the time until there is one, if nobody else takes it.
    pub fn take(&self, rate: &Rate, now: Moment) -> Result<(), Duration> {
        let (interval, now) = (rate.interval(), now.nanos());
        // One that is short of full by this has no whole token left.
        let span = interval.saturating_mul(u64::from(rate.burst.get()) - 1);
        let taken = self.full.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full| {
            let full = full.max(now);
            (full - now <= span).then(|| full.saturating_add(interval))
        });
        let none = |full: u64| Duration::from_nanos(full.saturating_sub(now).saturating_sub(span));
        taken.map(drop).map_err(none)
    }

    /// Puts one token back that was taken for nothing.
    pub fn give_back(&self, rate: &Rate) {
        let back = |full: u64| Some(full.saturating_sub(rate.interval()));
        let _ = self.full.fetch_update(Ordering::Relaxed, Ordering::Relaxed, back);
    }

    /// Whether it is full: nobody took any for so long that it can be forgotten.
    pub fn is_full(&self, now: Moment) -> bool {
        self.full.load(Ordering::Relaxed) <= now.nanos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::atomic::AtomicU32;

    fn at(millis: u64) -> Moment {
        Moment::after_origin(Duration::from_millis(millis))
    }

    fn rate(tokens: u32, per: Duration, burst: u32) -> Rate {
        let number = |n| NonZeroU32::new(n).unwrap();
        Rate { tokens: number(tokens), per, burst: number(burst) }
    }

    #[test]
    fn a_full_bucket_gives_its_burst_and_then_its_rate() {
        let (bucket, rate) = (Bucket::default(), rate(10, Duration::from_secs(1), 5));
        assert_eq!((0..20).filter(|_| bucket.take(&rate, at(1000)).is_ok()).count(), 5);
        assert_eq!(bucket.take(&rate, at(1000)), Err(Duration::from_millis(100)));
        assert_eq!(bucket.take(&rate, at(1060)), Err(Duration::from_millis(40)));
        assert_eq!(bucket.take(&rate, at(1100)), Ok(()));
        assert!(!bucket.is_full(at(1599)));
        assert!(bucket.is_full(at(1600)));
    }

    #[test]
    fn what_is_put_back_can_be_taken_again_and_nothing_more() {
        let (bucket, rate) = (Bucket::default(), rate(10, Duration::from_secs(1), 2));
        assert!(bucket.take(&rate, at(1000)).is_ok() && bucket.take(&rate, at(1000)).is_ok());
        bucket.give_back(&rate);
        assert!(bucket.take(&rate, at(1000)).is_ok());
        assert!(bucket.take(&rate, at(1000)).is_err());
    }

    #[test]
    fn four_workers_take_no_more_than_one() {
        let (bucket, rate) = (Bucket::default(), rate(1000, Duration::from_secs(1), 100));
        let taken = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for millis in 0..2_000 {
                        for _ in 0..3 {
                            if bucket.take(&rate, at(millis)).is_ok() {
                                taken.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                    }
                });
            }
        });
        while bucket.take(&rate, at(1_999)).is_ok() {
            taken.fetch_add(1, Ordering::Relaxed);
        }
        assert_eq!(taken.load(Ordering::Relaxed), 100 + 1_999);
    }

    proptest! {
        #[test]
        fn no_stretch_of_time_sees_more_than_burst_and_rate(
            tokens in 1u32..2_000, burst in 1u32..50,
            gaps in prop::collection::vec(0u64..50_000_000, 1..300),
        ) {
            let (bucket, rate) = (Bucket::default(), rate(tokens, Duration::from_secs(1), burst));
            let (mut now, mut granted) = (0, Vec::new());
            for gap in gaps {
                now += gap;
                match bucket.take(&rate, Moment::from_nanos(now)) {
                    Ok(()) => granted.push(now),
                    Err(wait) => {
                        // What it says is true, and to the nanosecond.
                        now += wait.as_nanos() as u64 - 1;
                        prop_assert!(bucket.take(&rate, Moment::from_nanos(now)).is_err());
                        now += 1;
                        prop_assert!(bucket.take(&rate, Moment::from_nanos(now)).is_ok());
                        granted.push(now);
                    }
                }
                let first = granted[0];
                let most = f64::from(burst) + (now - first) as f64 * f64::from(tokens) / 1e9;
                prop_assert!(granted.len() as f64 <= most + 1e-6);
            }
        }
    }
}
