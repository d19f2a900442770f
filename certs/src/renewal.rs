//! When a leaf is renewed, and how much of its life is left. Pure: time is an argument.

use std::time::{Duration, SystemTime};

use crate::leaf::Leaf;

/// How much of its life a leaf has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// In its first two thirds.
    Fresh,
    /// Past two thirds: by now it should have been renewed.
    Due,
    /// In its last tenth.
    Expiring,
    /// Over: every peer refuses it.
    Expired,
}

/// When to renew: between a half and two thirds of the life, by `jitter` (0.0 to 1.0, clamped),
/// so that the instances of a service that started together do not ask together.
#[must_use]
pub fn renew_at(not_before: SystemTime, not_after: SystemTime, jitter: f64) -> SystemTime {
    let life = life(not_before, not_after);
    let jitter = if jitter.is_nan() { 1.0 } else { jitter.clamp(0.0, 1.0) };
    let (earliest, latest) = (life / 2, life * 2 / 3);
    let wait = earliest + (latest - earliest).mul_f64(jitter);
    not_before.checked_add(wait.min(latest)).unwrap_or(not_before)
}

impl Standing {
    /// Where a leaf stands at a time.
    #[must_use]
    pub fn of(leaf: &Leaf, now: SystemTime) -> Self {
        Self::between(leaf.not_before(), leaf.not_after(), now)
    }

    /// Where a validity stands at a time.
    #[must_use]
    pub fn between(not_before: SystemTime, not_after: SystemTime, now: SystemTime) -> Self {
        let life = life(not_before, not_after);
        let age = now.duration_since(not_before).unwrap_or_default();
        if now > not_after {
            Self::Expired
        } else if age >= life - life / 10 {
            Self::Expiring
        } else if age >= life * 2 / 3 {
            Self::Due
        } else {
            Self::Fresh
        }
    }
}

fn life(not_before: SystemTime, not_after: SystemTime) -> Duration {
    // Whoever issues for a thousand years does not ask for exact thirds; multiplying must not
    // overflow.
    not_after.duration_since(not_before).unwrap_or_default().min(Duration::from_secs(u64::MAX / 8))
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_leaf_is_renewed_between_a_half_and_two_thirds_of_its_life() {
        assert_eq!(renew_at(at(0), at(300), 0.0), at(150));
        assert_eq!(renew_at(at(0), at(300), 1.0), at(200));
        assert_eq!(renew_at(at(0), at(300), 7.0), at(200));
        assert_eq!(renew_at(at(0), at(300), f64::NAN), at(200));
    }

    #[test]
    fn a_standing_changes_at_two_thirds_nine_tenths_and_the_end() {
        let standing = |now| Standing::between(at(1_000), at(1_300), at(now));
        assert_eq!(standing(0), Standing::Fresh);
        assert_eq!(standing(1_199), Standing::Fresh);
        assert_eq!(standing(1_200), Standing::Due);
        assert_eq!(standing(1_269), Standing::Due);
        assert_eq!(standing(1_270), Standing::Expiring);
        assert_eq!(standing(1_300), Standing::Expiring);
        assert_eq!(standing(1_301), Standing::Expired);
    }

    proptest! {
        #[test]
        fn renewal_never_waits_past_two_thirds(
            start in 0u64..1 << 40, life in 0u64..1 << 40, jitter in any::<f64>(),
        ) {
            let (from, to) = (at(start), at(start + life));
            let renew = renew_at(from, to, jitter);
            prop_assert!(renew >= from && renew <= from + (to.duration_since(from).unwrap() * 2 / 3));
        }

        #[test]
        fn a_standing_never_improves_with_time(
            life in 0u64..1 << 40, one in 0u64..1 << 41, two in 0u64..1 << 41,
        ) {
            let standing = |now| Standing::between(at(0), at(life), at(now));
            prop_assert!(standing(one.min(two)) <= standing(one.max(two)));
        }
    }
}
