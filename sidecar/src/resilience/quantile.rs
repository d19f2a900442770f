//! What 95 of a hundred answers take, followed from answer to answer in one number.
//!
//! Each answer that took longer moves it up by much, each that took less moves it down by little, so
//! that it rests where one of twenty takes longer (Frugal streaming; Ma, Muthukrishnan, Sandler
//! 2013), with steps that are a part of it. It only guides a choice: one per worker and method.

use std::time::Duration;

/// How far an answer that took longer moves it. One that took less moves it by a nineteenth of that.
const UP: f64 = 0.19;
const DOWN: f64 = UP / 19.0;

/// No time is told below this: timers ring no finer.
const LEAST: f64 = 0.001;

/// After so many answers it is worth something.
const ANSWERS: u8 = 20;

/// The 95th of a hundred.
#[derive(Clone, Copy, Debug, Default)]
pub struct P95 {
    seconds: f64,
    answers: u8,
}

impl P95 {
    /// Takes an answer's time in.
    pub fn observe(&mut self, took: Duration) {
        let took = took.as_secs_f64().max(LEAST);
        if self.answers < ANSWERS {
            self.answers += 1;
            self.seconds = self.seconds.max(took);
        } else if took > self.seconds {
            // An outlier among outliers moves it no further than itself.
            self.seconds = (self.seconds * (1.0 + UP)).min(took);
        } else {
            self.seconds = (self.seconds * (1.0 - DOWN)).max(LEAST);
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

    #[test]
    fn nothing_is_told_before_twenty_answers() {
        let mut p95 = P95::default();
        (0..19).for_each(|_| p95.observe(Duration::from_millis(7)));
        assert_eq!(p95.get(), None);
        p95.observe(Duration::from_millis(5));
        assert_eq!(p95.get(), Some(Duration::from_millis(7)));
    }

    proptest! {
        #[test]
        fn about_one_of_twenty_takes_longer(seed in any::<u64>(), scale in 0.002f64..2.0) {
            let (mut rng, mut p95) = (fastrand::Rng::with_seed(seed), P95::default());
            // Of an exponential distribution: its 95th of a hundred is three times its mean.
            let mut answer = || Duration::from_secs_f64(0.001 - rng.f64().max(1e-9).ln() * scale);
            (0..2_000).for_each(|_| p95.observe(answer()));
            let mut longer = 0;
            for _ in 0..4_000 {
                let took = answer();
                longer += u32::from(p95.get().is_some_and(|p95| took > p95));
                p95.observe(took);
            }
            prop_assert!((120..320).contains(&longer), "{longer} of 4000");
        }
    }
}
