//! A point in time that fits into an atomic.
//!
//! Whatever workers share has one origin ([`Clock`]), so that all of them speak of the same time.

use std::ops::Add;
use std::time::Duration;

use tokio::time::Instant;

/// Where moments are counted from.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// Counts from this time on.
    pub fn new(origin: Instant) -> Self {
        Self(origin)
    }

    /// This time; the origin where it is earlier.
    pub fn moment(self, at: Instant) -> Moment {
        Moment::after_origin(at.saturating_duration_since(self.0))
    }
}

/// Nanoseconds since an origin; lasts 584 years.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

impl Moment {
    /// So long after the origin.
    pub fn after_origin(since: Duration) -> Self {
        Self(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }

    /// Time from `earlier` to this; zero where that is no earlier.
    pub fn since(self, earlier: Moment) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    pub(super) const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    pub(super) const fn nanos(self) -> u64 {
        self.0
    }

    pub(super) const fn millis(self) -> u64 {
        self.0 / 1_000_000
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    /// Saturates at the end of time.
    fn add(self, after: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX)))
    }
}
