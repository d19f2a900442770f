//! When something happened, as the store keeps it and as the wire shows it.

use std::time::{SystemTime, UNIX_EPOCH};

/// A point in time: microseconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(i64);

impl Moment {
    /// The system's time now.
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }

    /// The moment `micros` microseconds after the epoch.
    pub fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the epoch.
    pub fn micros(self) -> i64 {
        self.0
    }
}

impl From<Moment> for prost_types::Timestamp {
    fn from(moment: Moment) -> Self {
        let nanos = moment.0.rem_euclid(1_000_000) * 1_000;
        Self { seconds: moment.0.div_euclid(1_000_000), nanos: nanos as i32 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_has_nanoseconds_from_zero_up_also_before_the_epoch() {
        let stamp = |micros| {
            let stamp = prost_types::Timestamp::from(Moment::from_micros(micros));
            (stamp.seconds, stamp.nanos)
        };
        assert_eq!(stamp(1_500_000), (1, 500_000_000));
        assert_eq!(stamp(-1), (-1, 999_999_000));
    }
}
