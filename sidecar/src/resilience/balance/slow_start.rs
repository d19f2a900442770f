//! How much of its share a new endpoint gets while its caches, pools and code warm up.

use std::time::Duration;

/// What it begins with: enough to warm up by.
const FIRST: f64 = 0.1;

/// The part of its share that an endpoint gets which is in for so long, where it warms up over
/// `over`; grows evenly. None once that is all of it.
pub fn part(since: Duration, over: Duration) -> Option<f64> {
    (since < over).then(|| FIRST + (1.0 - FIRST) * since.as_secs_f64() / over.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEN: Duration = Duration::from_secs(10);

    #[test]
    fn it_begins_with_a_tenth_and_ends_with_all() {
        assert_eq!(part(Duration::ZERO, TEN), Some(FIRST));
        assert!((part(TEN / 2, TEN).unwrap() - 0.55).abs() < 1e-9);
        assert_eq!(part(TEN, TEN), None);
        assert_eq!(part(Duration::ZERO, Duration::ZERO), None, "0 is off");
    }

    proptest! {
        #[test]
        fn it_only_grows(a in 0u64..20_000, b in 0u64..20_000) {
            let part = |at: u64| part(Duration::from_millis(at), TEN).unwrap_or(1.0);
            prop_assert!(part(a.min(b)) <= part(a.max(b)));
        }
    }
}
