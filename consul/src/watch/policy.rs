//! When a watch asks, and for which index: pure, with time and chance as arguments.
//!
//! The rules are those of Consul's page on blocking queries ("Implementation details").

use std::time::Duration;

use tokio::time::Instant;

/// The index to block on.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Index {
    known: Option<u64>,
    failed: bool,
}

impl Index {
    /// The index of the next question; `None` asks for the state of things at once.
    pub(crate) fn to_send(&self) -> Option<u64> {
        self.known.filter(|_| !self.failed)
    }

    /// Takes a failure. A Consul that comes back without its data would hold a question for an
    /// index that it will not reach soon: the next question must not wait. A connection that broke
    /// is a failure too: what answers the next one may be another Consul.
    pub(crate) fn failed(&mut self) {
        self.failed = true;
    }

    /// Takes an answer's index; true when it went backwards.
    pub(crate) fn answered(&mut self, index: u64) -> bool {
        // Index 0 would not block, and spin.
        let index = index.max(1);
        let backwards = self.known.is_some_and(|known| index < known);
        // The state of things is asked for anew after an index that went backwards.
        self.known = if backwards { None } else { Some(index) };
        self.failed = false;
        backwards
    }
}

/// At most [`Bucket::BURST`] questions at once and [`Bucket::RATE`] a second: an answer that comes
/// at once, again and again, must not become a storm.
#[derive(Debug)]
pub(crate) struct Bucket {
    tokens: f64,
    filled: Option<Instant>,
}

impl Default for Bucket {
    fn default() -> Bucket {
        Bucket { tokens: Bucket::BURST, filled: None }
    }
}

impl Bucket {
    const BURST: f64 = 2.0;
    const RATE: f64 = 4.0;

    /// Takes a token; the time to wait before it counts as taken.
    pub(crate) fn take(&mut self, now: Instant) -> Duration {
        if let Some(filled) = self.filled {
            let gained = now.saturating_duration_since(filled).as_secs_f64() * Bucket::RATE;
            self.tokens = (self.tokens + gained).min(Bucket::BURST);
        }
        self.filled = Some(now);
        self.tokens -= 1.0;
        if self.tokens >= 0.0 {
            Duration::ZERO
        } else {
            Duration::from_secs_f64(-self.tokens / Bucket::RATE)
        }
    }
}

/// Pauses after failures: from 100 ms, doubling, to 30 s, each between its half and its whole.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    const LEAST: Duration = Duration::from_millis(100);
    const MOST: Duration = Duration::from_secs(30);

    /// The next pause, by a chance in `0.0..1.0`.
    pub(crate) fn pause(&mut self, chance: f64) -> Duration {
        let doubled = Backoff::LEAST.saturating_mul(2u32.saturating_pow(self.failures + 1));
        self.failures = (self.failures + 1).min(16);
        doubled.min(Backoff::MOST).mul_f64(0.5 + chance / 2.0)
    }

    /// After a success.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_that_goes_backwards_is_forgotten_and_told_once() {
        let mut index = Index::default();
        assert_eq!(index.to_send(), None);
        assert!(!index.answered(12));
        assert_eq!(index.to_send(), Some(12));
        assert!(!index.answered(12));
        assert!(index.answered(5));
        assert_eq!(index.to_send(), None);
        assert!(!index.answered(5));
        assert_eq!(index.to_send(), Some(5));
    }

    #[test]
    fn an_index_of_zero_is_never_sent() {
        let mut index = Index::default();
        assert!(!index.answered(0));
        assert_eq!(index.to_send(), Some(1));
        assert!(!index.answered(7));
        assert!(index.answered(0));
        assert!(!index.answered(0));
        assert_eq!(index.to_send(), Some(1));
    }

    #[test]
    fn after_a_failure_the_next_question_does_not_wait_and_a_lost_index_is_still_seen() {
        let mut index = Index::default();
        assert!(!index.answered(12));
        index.failed();
        assert_eq!(index.to_send(), None);
        assert!(index.answered(5));
        index.failed();
        assert!(!index.answered(6));
        assert_eq!(index.to_send(), Some(6));
    }

    #[test]
    fn a_burst_of_two_passes_and_the_rest_is_spread() {
        let start = Instant::now();
        let mut bucket = Bucket::default();
        assert_eq!(bucket.take(start), Duration::ZERO);
        assert_eq!(bucket.take(start), Duration::ZERO);
        assert_eq!(bucket.take(start), Duration::from_millis(250));
        assert_eq!(bucket.take(start + Duration::from_millis(250)), Duration::from_millis(250));
        let later = start + Duration::from_secs(60);
        assert_eq!(bucket.take(later), Duration::ZERO);
        assert_eq!(bucket.take(later), Duration::ZERO);
        assert_eq!(
            bucket.take(later),
            Duration::from_millis(250),
            "no more than the burst is kept"
        );
    }

    #[test]
    fn pauses_grow_from_100_ms_to_30_s_and_start_again_after_a_success() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.pause(0.0), Duration::from_millis(100));
        assert_eq!(backoff.pause(0.0), Duration::from_millis(200));
        for _ in 0..1000 {
            assert!(backoff.pause(0.999_999) <= Duration::from_secs(30));
        }
        assert!(backoff.pause(0.0) >= Duration::from_secs(15));
        backoff.reset();
        assert_eq!(backoff.pause(0.0), Duration::from_millis(100));
    }
}
