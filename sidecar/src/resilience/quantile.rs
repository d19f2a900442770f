//! What 95 of a hundred answers take, followed from answer to answer in one number.
//!
//! Each answer that took longer moves it up by much, each that took less moves it down by little, so
//! that it rests where one of twenty takes longer (Frugal streaming; Ma, Muthukrishnan, Sandler
//! 2013), with steps that are a part of it. Where a process or its machine stood still, hundreds
//! come late at once; they tell of one time, so that in a moment it rises by no more than two would
//! raise it. It only guides a choice: one per worker and method.

use std::time::Duration;

use super::moment::Moment;

/// How far an answer that took longer moves it. One that took less moves it by a nineteenth of that.
const UP: f64 = 0.19;
const DOWN: f64 = UP / 19.0;

/// No time is told below this: timers ring no finer.
const LEAST: f64 = 0.001;

/// After so many answers it is worth something.
const ANSWERS: u8 = 20;

/// Within this time it rises by two such steps at most above where it was. (Not by one: of calls that
/// begin together the longest come last, and it would rest too low.)
const TOGETHER: Duration = Duration::from_millis(30);

/// The 95th of a hundred.
#[derive(Clone, Copy, Debug, Default)]
pub struct P95 {
    seconds: f64,
    /// Since when answers come together, and what the estimate was then.
    together: (Moment, f64),
    answers: u8,
}

impl P95 {
    /// An answer came now, after this time.
    pub fn observe(&mut self, took: Duration, now: Moment) {
        let took = took.as_secs_f64().max(LEAST);
        if self.answers < ANSWERS {
            self.answers += 1;
            self.seconds = self.seconds.max(took);
            self.together = (now, self.seconds);
            return;
        }
        if now.since(self.together.0) >= TOGETHER {
            self.together = (now, self.seconds);
        }
        if took <= self.seconds {
            self.seconds = (self.seconds * (1.0 - DOWN)).max(LEAST);
        } else {
            // An outlier among outliers moves it no further than itself.
            let two = self.together.1 * (1.0 + UP) * (1.0 + UP);
            self.seconds = (self.seconds * (1.0 + UP)).min(two).min(took);
        }
    }

    /// The time, once enough answers have come.
    pub fn get(&self) -> Option<Duration> {
        (self.answers == ANSWERS).then(|| Duration::from_secs_f64(self.seconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// One answer after the other, so far apart.
    struct Answers {
        p95: P95,
        now: Moment,
    }

    impl Answers {
        fn new() -> Self {
            Self { p95: P95::default(), now: Moment::default() }
        }

        fn observe(&mut self, took: Duration, after: Duration) {
            self.now = self.now + after;
            self.p95.observe(took, self.now);
        }
    }

    #[test]
    fn nothing_is_told_before_twenty_answers() {
        let mut seen = Answers::new();
        (0..19).for_each(|_| seen.observe(Duration::from_millis(7), Duration::ZERO));
        assert_eq!(seen.p95.get(), None);
        seen.observe(Duration::from_millis(5), Duration::ZERO);
        assert_eq!(seen.p95.get(), Some(Duration::from_millis(7)));
    }

    #[test]
    fn a_standstill_is_not_the_speed_of_the_calls_that_waited_for_its_end() {
        for more in 0..30 {
            let mut seen = Answers::new();
            let (usual, every) = (Duration::from_millis(8), Duration::from_millis(2));
            (0..1_000 + more).for_each(|_| seen.observe(usual, every));
            let before = seen.p95.get().unwrap();
            // Half a second of calls ends within 25 ms.
            (0..250).for_each(|at| seen.observe(every * (250 - at), Duration::from_micros(100)));
            let after = seen.p95.get().unwrap();
            assert!(after < before * 2, "{before:?}, then {after:?}");
        }
    }

    #[test]
    fn what_became_slow_is_known_within_a_quarter_of_a_second() {
        let mut seen = Answers::new();
        let every = Duration::from_millis(2);
        (0..1_000).for_each(|_| seen.observe(Duration::from_millis(8), every));
        (0..125).for_each(|_| seen.observe(Duration::from_millis(160), every));
        assert!(seen.p95.get().unwrap() > Duration::from_millis(150));
    }

    /// The mean of the 95ths when calls begin, in milliseconds, where `next` says how long after the
    /// last one each answer comes, what it took, and whether calls begin before it.
    fn mean(mut next: impl FnMut(&mut fastrand::Rng) -> (Duration, Duration, bool)) -> f64 {
        let (mut rng, mut seen) = (fastrand::Rng::with_seed(7), Answers::new());
        let (mut sum, mut begun) = (0.0, 0.0);
        for n in 0..60_000 {
            let (after, took, begin) = next(&mut rng);
            if begin && n >= 10_000 {
                sum += seen.p95.get().unwrap().as_secs_f64() * 1000.0;
                begun += 1.0;
            }
            seen.observe(took, after);
        }
        sum / begun
    }

    #[test]
    fn when_answers_come_does_not_decide_what_they_take() {
        let micros = |rng: &mut fastrand::Rng, range| Duration::from_micros(rng.u64(range));
        // Each comes when the one before has ended: what takes longer comes later.
        let sequential = mean(|rng| {
            let took = if rng.u8(..100) == 0 { 50_000..51_000 } else { 2_000..9_000 };
            let took = micros(rng, took);
            (took, took, true)
        });
        assert!((7.0..11.0).contains(&sequential), "{sequential}");
        // So many begin at once, again and again: what takes longer ends after all others.
        for together in [20, 100, 500] {
            let (mut burst, mut before) = (Vec::new(), Duration::ZERO);
            let bursts = mean(|rng| {
                let begin = burst.is_empty();
                if begin {
                    burst.extend((0..together).map(|_| micros(rng, 2_000..9_000)));
                    burst.sort_unstable_by(|a, b| b.cmp(a));
                }
                let took = burst.pop().unwrap();
                let after = took.saturating_sub(std::mem::replace(&mut before, took));
                (after + Duration::from_millis(if begin { 40 } else { 0 }), took, begin)
            });
            assert!((7.0..11.0).contains(&bursts), "{together}: {bursts}");
        }
    }

    #[test]
    fn late_answers_of_one_endpoint_among_quick_ones_of_others_are_together_too() {
        for more in 0..30 {
            let mut seen = Answers::new();
            let (usual, every) = (Duration::from_millis(8), Duration::from_millis(1));
            (0..1_000 + more).for_each(|_| seen.observe(usual, every));
            for _ in 0..25 {
                seen.observe(Duration::from_millis(500), every / 2);
                seen.observe(usual, every / 2);
            }
            assert!(seen.p95.get().unwrap() < usual * 2, "{:?}", seen.p95.get());
        }
    }

    proptest! {
        #[test]
        fn about_one_of_twenty_takes_longer(
            seed in any::<u64>(),
            scale in 0.002f64..2.0,
            every in 10u64..50_000,
        ) {
            let (mut rng, mut seen) = (fastrand::Rng::with_seed(seed), Answers::new());
            let every = Duration::from_micros(every);
            // Of an exponential distribution: its 95th of a hundred is three times its mean.
            let mut answer = || Duration::from_secs_f64(0.001 - rng.f64().max(1e-9).ln() * scale);
            (0..2_000).for_each(|_| seen.observe(answer(), every));
            let mut longer = 0;
            for _ in 0..4_000 {
                let took = answer();
                longer += u32::from(seen.p95.get().is_some_and(|p95| took > p95));
                seen.observe(took, every);
            }
            prop_assert!((120..320).contains(&longer), "{longer} of 4000");
        }
    }
}
