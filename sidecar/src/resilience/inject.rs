//! Faults on purpose: which calls meet them, for people who test what their services do then.
//!
//! Nothing is injected that no config asks for, and what is says so.

use std::time::Duration;

use fastrand::Rng;
use tonic::Code;

/// What happens to a part of the calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Injection {
    /// Of a hundred calls, so many; from 1 to 100.
    pub percent: u8,
    /// They wait so long.
    pub delay: Option<Duration>,
    /// They end with this status, after the delay.
    pub abort: Option<Code>,
}

impl Injection {
    /// Whether this call meets it.
    pub fn draw(&self, rng: &mut Rng) -> bool {
        rng.u8(0..100) < self.percent
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop_assert, proptest};

    proptest! {
        #[test]
        fn as_many_calls_meet_it_as_is_asked_for(percent in 1u8..=100, seed in any::<u64>()) {
            let mut rng = Rng::with_seed(seed);
            let injection = Injection { percent, delay: None, abort: Some(Code::Unavailable) };
            let met = (0..10_000).filter(|_| injection.draw(&mut rng)).count();
            // Five times the deviation that chance has.
            prop_assert!(met.abs_diff(usize::from(percent) * 100) <= 250, "{met}");
            prop_assert!(percent < 100 || met == 10_000);
        }
    }
}
