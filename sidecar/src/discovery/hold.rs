//! The time after Consul was in doubt, in which what is known is not removed. Pure: time is an
//! argument.
//!
//! A Consul that comes back without its data answers "nothing" with 200 until the services have
//! registered again, and one that restarts may call all of them critical for a moment.

use std::time::Duration;

use tokio::time::Instant;

/// Open or not, and until when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hold {
    until: Option<Instant>,
}

impl Hold {
    /// How long what is known is kept. Long enough for every sidecar to notice that Consul is back
    /// (a watch pauses for at most 30 s) and to register again.
    pub const LENGTH: Duration = Duration::from_secs(60);

    /// Opens it, or holds it open for longer.
    pub fn open(&mut self, now: Instant) {
        self.until = Some(now + Self::LENGTH);
    }

    /// Whether what is known must be kept.
    #[must_use]
    pub fn is_open(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// Its end, while it is open.
    #[must_use]
    pub fn end(&self, now: Instant) -> Option<Instant> {
        self.until.filter(|until| now < *until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hold_ends_after_its_length_and_a_second_doubt_prolongs_it() {
        let start = Instant::now();
        let mut hold = Hold::default();
        assert!(!hold.is_open(start));
        hold.open(start);
        assert!(hold.is_open(start + Duration::from_secs(59)));
        assert_eq!(hold.end(start), Some(start + Hold::LENGTH));
        hold.open(start + Duration::from_secs(30));
        assert!(hold.is_open(start + Duration::from_secs(89)));
        assert!(!hold.is_open(start + Duration::from_secs(90)));
        assert_eq!(hold.end(start + Duration::from_secs(90)), None);
    }
}
