//! Two counts over the last ten seconds, shared by all workers.
//!
//! Ten slots of a second each. A slot says in the same word which second it counts, so that an old
//! one is known as such and overwritten: nothing is ever subtracted for its age, and nothing
//! drifts. The window thus covers the present second, begun, and the nine before it.

use std::sync::atomic::{AtomicU64, Ordering};

use super::moment::Moment;

/// How many seconds count.
pub(super) const SECONDS: u64 = 10;

const COUNT: u64 = (1 << 20) - 1;
const SECOND: u64 = (1 << 24) - 1;

/// What is counted, one of two kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Calls of the upstream's callers; good answers of an endpoint.
    Plain,
    /// Retries; bad answers.
    Marked,
}

impl Kind {
    const fn shift(self) -> u32 {
        match self {
            Kind::Plain => 0,
            Kind::Marked => 20,
        }
    }
}

/// The two counts of a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) plain: u64,
    pub(super) marked: u64,
}

/// The counts; a second in which more than a million were counted stays at that.
#[derive(Debug, Default)]
pub(super) struct Window {
    slots: [AtomicU64; SECONDS as usize],
}

/// One that was counted, so that it can be taken back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    kind: Kind,
    second: u64,
    /// How many of its kind its second had before it.
    rank: u64,
}

impl Window {
    /// Counts one.
    pub(super) fn add(&self, kind: Kind, now: Moment) -> Entry {
        let second = second(now);
        let slot = self.slot(second);
        let mut word = slot.load(Ordering::SeqCst);
        loop {
            let base = if is_newer(second, of(word)) { second << 40 } else { word };
            let rank = count(base, kind);
            let next = if rank == COUNT { base } else { base + (1 << kind.shift()) };
            match slot.compare_exchange_weak(word, next, Ordering::SeqCst, Ordering::SeqCst) {
                // One whose clock was read ten seconds ago counts in the second that is there.
                Ok(_) => return Entry { kind, second: of(base), rank },
                Err(found) => word = found,
            }
        }
    }

    /// Takes one back, unless its second is over and forgotten.
    pub(super) fn take_back(&self, entry: Entry) {
        let slot = self.slot(entry.second);
        let _ = slot.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |word| {
            (of(word) == entry.second && count(word, entry.kind) > 0)
                .then(|| word - (1 << entry.kind.shift()))
        });
    }

    /// What was counted up to now.
    pub(super) fn total(&self, now: Moment) -> Counts {
        self.sum(now, |word| count(word, Kind::Marked))
    }

    /// What was counted up to now; of the marked ones in `entry`'s second only those before it,
    /// so that of two who look at the same time the first does not see the second.
    pub(super) fn total_before(&self, entry: Entry, now: Moment) -> Counts {
        self.sum(now, |word| {
            let marked = count(word, Kind::Marked);
            if of(word) == entry.second { marked.min(entry.rank) } else { marked }
        })
    }

    /// Forgets everything.
    pub(super) fn clear(&self) {
        for slot in &self.slots {
            slot.store(0, Ordering::SeqCst);
        }
    }

    fn sum(&self, now: Moment, marked: impl Fn(u64) -> u64) -> Counts {
        let now = second(now);
        let words = self.slots.iter().map(|slot| slot.load(Ordering::SeqCst));
        words.filter(|word| is_within(of(*word), now)).fold(Counts::default(), |sum, word| Counts {
            plain: sum.plain + count(word, Kind::Plain),
            marked: sum.marked + marked(word),
        })
    }

    fn slot(&self, second: u64) -> &AtomicU64 {
        &self.slots[(second % SECONDS) as usize]
    }
}

/// The second that a word counts.
const fn of(word: u64) -> u64 {
    word >> 40
}

const fn count(word: u64, kind: Kind) -> u64 {
    (word >> kind.shift()) & COUNT
}

/// The present second. It comes round after 194 days, when nothing of the first round is left.
const fn second(now: Moment) -> u64 {
    (now.millis() / 1000) & SECOND
}

const fn is_newer(second: u64, than: u64) -> bool {
    let ahead = second.wrapping_sub(than) & SECOND;
    ahead != 0 && ahead <= SECOND / 2
}

/// Whether a second still counts. One that is ahead does: another worker's clock was read later.
const fn is_within(second: u64, now: u64) -> bool {
    is_newer(second, now) || (now.wrapping_sub(second) & SECOND) < SECONDS
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn at(millis: u64) -> Moment {
        Moment::after_origin(Duration::from_millis(millis))
    }

    #[test]
    fn what_is_ten_seconds_old_no_longer_counts() {
        let window = Window::default();
        window.add(Kind::Plain, at(500));
        window.add(Kind::Marked, at(900));
        assert_eq!(window.total(at(9_999)), Counts { plain: 1, marked: 1 });
        assert_eq!(window.total(at(10_000)), Counts::default());
    }

    #[test]
    fn one_that_is_taken_back_never_was() {
        let window = Window::default();
        let entry = window.add(Kind::Marked, at(0));
        window.take_back(entry);
        assert_eq!(window.total(at(0)), Counts::default());
        let old = window.add(Kind::Marked, at(0));
        window.add(Kind::Marked, at(10_000));
        window.take_back(old);
        assert_eq!(window.total(at(10_000)).marked, 1);
    }

    #[test]
    fn the_seconds_may_come_round() {
        let window = Window::default();
        let last = (SECOND + 1) * 1000 - 1;
        window.add(Kind::Plain, at(last));
        window.add(Kind::Plain, at(last + 1));
        assert_eq!(window.total(at(last + 1)).plain, 2);
        assert_eq!(window.total(at(last + 20_000)).plain, 0);
    }

    #[test]
    fn four_threads_lose_no_count() {
        let window = Window::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for i in 0..20_000 {
                        // Over the edge of a second, so that slots are begun under contention.
                        let entry = window.add(Kind::Marked, at(5_000 + i / 10));
                        if i % 2 == 0 {
                            window.take_back(entry);
                        } else {
                            window.add(Kind::Plain, at(5_000 + i / 10));
                        }
                    }
                });
            }
        });
        assert_eq!(window.total(at(7_000)), Counts { plain: 40_000, marked: 40_000 });
    }

    proptest! {
        #[test]
        fn the_window_counts_what_a_list_of_times_counts(
            steps in prop::collection::vec((0u64..4_000, any::<bool>()), 1..200),
        ) {
            let window = Window::default();
            let mut now = 0;
            let mut seen: Vec<(u64, bool)> = Vec::new();
            for (gap, is_marked) in steps {
                now += gap;
                window.add(if is_marked { Kind::Marked } else { Kind::Plain }, at(now));
                seen.push((now / 1000, is_marked));
                let within = seen.iter().filter(|(second, _)| now / 1000 - second < SECONDS);
                let marked = within.clone().filter(|(_, is_marked)| *is_marked).count() as u64;
                let plain = within.count() as u64 - marked;
                prop_assert_eq!(window.total(at(now)), Counts { plain, marked });
            }
        }
    }
}
