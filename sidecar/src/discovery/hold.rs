//! The time after Consul was in doubt, in which what is known is not removed. Pure: time is an
//! argument.
//!
//! A Consul that comes back without its data answers "nothing" with 200 until the services have
//! registered again, and one that restarts may call all of them critical for a moment.

use std::time::Duration;

use tokio::time::Instant;

/// Open or not, since when and until when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hold(Option<Span>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    began: Instant,
    until: Instant,
}

impl Hold {
    /// How long what is known is kept. Long enough for every sidecar to notice that Consul is back
    /// (a watch pauses for at most 30 s) and to register again.
    pub const LENGTH: Duration = Duration::from_secs(60);

    /// Opens it, or holds it open for longer.
    pub fn open(&mut self, now: Instant) {
        self.0 = Some(Span { began: self.began(now).unwrap_or(now), until: now + Self::LENGTH });
    }

    /// Whether what is known must be kept.
    #[must_use]
    pub fn is_open(&self, now: Instant) -> bool {
        self.began(now).is_some()
    }

    /// When it began, while it is open: the first doubt, whichever prolonged it.
    #[must_use]
    pub fn began(&self, now: Instant) -> Option<Instant> {
        self.0.filter(|span| now < span.until).map(|span| span.began)
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
        assert_eq!(hold.began(start), Some(start));
        hold.open(start + Duration::from_secs(30));
        assert!(hold.is_open(start + Duration::from_secs(89)));
        assert!(!hold.is_open(start + Duration::from_secs(90)));
        assert_eq!(hold.began(start + Duration::from_secs(89)), Some(start));
        assert_eq!(hold.began(start + Duration::from_secs(90)), None);
    }
}
