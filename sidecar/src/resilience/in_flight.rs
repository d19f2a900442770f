//! The calls that wait for an endpoint's answer, and how long they have waited already.
//!
//! An endpoint that hangs answers nothing, and so no average of its answers rises: the age of what
//! is in flight must count. Kept as the sum of the times at which the calls began, so that no
//! number of them costs more than one. It only guides a choice: one per worker.

use std::time::Duration;

use super::moment::Moment;

/// What is in flight to one endpoint.
#[derive(Clone, Copy, Debug, Default)]
pub struct InFlight {
    calls: u32,
    /// Nanoseconds, modulo 2⁶⁴: only differences of it are used, and they are exact.
    begun: u64,
}

impl InFlight {
    /// A call goes out.
    pub fn begin(&mut self, now: Moment) {
        self.calls += 1;
        self.begun = self.begun.wrapping_add(now.nanos());
    }

    /// A call that began then waits no more.
    pub fn end(&mut self, begun: Moment) {
        self.calls = self.calls.saturating_sub(1);
        self.begun = self.begun.wrapping_sub(begun.nanos());
    }

    /// How many wait.
    pub fn calls(&self) -> u32 {
        self.calls
    }

    /// How long they have waited on average.
    pub fn mean_age(&self, now: Moment) -> Duration {
        if self.calls == 0 {
            return Duration::ZERO;
        }
        let calls = u64::from(self.calls);
        let sum = now.nanos().wrapping_mul(calls).wrapping_sub(self.begun);
        // A clock that was read before another call began would make it "negative".
        let sum = if sum > u64::MAX / 2 { 0 } else { sum };
        Duration::from_nanos(sum / calls)
    }

    /// What one more call is expected to cost where an answer takes `expected` seconds: those that
    /// are older than that show that it takes longer. An endpoint that weighs `weight` times what is
    /// usual bears so many times the calls.
    pub fn load(&self, expected: f64, weight: f64, now: Moment) -> f64 {
        expected.max(self.mean_age(now).as_secs_f64()) * (f64::from(self.calls) / weight + 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(millis: u64) -> Moment {
        Moment::after_origin(Duration::from_millis(millis))
    }

    #[test]
    fn an_endpoint_that_hangs_costs_more_with_every_moment() {
        let mut hung = InFlight::default();
        hung.begin(at(1_000));
        assert!((hung.load(0.01, 1.0, at(1_001)) - 0.02).abs() < 1e-9);
        assert!((hung.load(0.01, 1.0, at(3_000)) - 4.0).abs() < 1e-9);
        hung.end(at(1_000));
        assert!((hung.load(0.01, 1.0, at(3_000)) - 0.01).abs() < 1e-9);
    }

    proptest! {
        #[test]
        fn the_mean_age_is_that_of_a_list(
            steps in prop::collection::vec((0u64..1_000, any::<u8>()), 1..200),
            origin in 0u64..10_000_000_000_000,
        ) {
            let (mut in_flight, mut list, mut now) = (InFlight::default(), Vec::new(), origin);
            for (gap, which) in steps {
                now += gap;
                if which % 3 == 0 && !list.is_empty() {
                    let begun = list.swap_remove(usize::from(which) % list.len());
                    in_flight.end(at(begun));
                } else {
                    in_flight.begin(at(now));
                    list.push(now);
                }
                let sum: u64 = list.iter().map(|begun| (now - begun) * 1_000_000).sum();
                let mean = sum.checked_div(list.len() as u64).unwrap_or(0);
                prop_assert_eq!(in_flight.mean_age(at(now)), Duration::from_nanos(mean));
                prop_assert_eq!(in_flight.calls() as usize, list.len());
            }
        }
    }
}
