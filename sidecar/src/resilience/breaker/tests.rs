//! When a breaker opens, what closes it, and that workers may share it.

use std::sync::atomic::AtomicU32;

use fastrand::Rng;
use proptest::prelude::*;

use super::*;

fn at(millis: u64) -> Moment {
    Moment::after_origin(Duration::from_millis(millis))
}

fn trip() -> Trip {
    Trip::default()
}

/// An upstream's breakers with a clock and a generator.
struct Upstream {
    breakers: Vec<Breaker>,
    resting: Arc<Resting>,
    rng: Rng,
}

impl Upstream {
    fn of(endpoints: usize) -> Self {
        let resting = Arc::new(Resting::default());
        let breakers = (0..endpoints).map(|_| Breaker::new(resting.clone())).collect();
        Self { breakers, resting, rng: Rng::with_seed(7) }
    }

    fn end(&mut self, which: usize, permit: Permit, outcome: Outcome, now: u64) -> Option<Change> {
        let endpoints = self.breakers.len();
        self.breakers[which].record(permit, outcome, &trip(), endpoints, at(now), &mut self.rng)
    }

    fn call(&mut self, which: usize, outcome: Outcome, now: u64) -> Option<Change> {
        let permit = self.breakers[which].admit(&trip(), at(now)).unwrap();
        self.end(which, permit, outcome, now)
    }

    /// Opens one by failures in a row and returns when it is due.
    fn open(&mut self, which: usize, now: u64) -> u64 {
        let change = (0..5).filter_map(|_| self.call(which, Outcome::Down, now)).last();
        let Some(Change::Opened(Cause::Consecutive, pause)) = change else { panic!("{change:?}") };
        now + pause.as_millis() as u64
    }

    fn is_closed(&self, which: usize) -> bool {
        self.breakers[which].state(at(0)) == State::Closed
    }
}

#[test]
fn five_failures_in_a_row_open_it_and_four_do_not() {
    let mut up = Upstream::of(1);
    for _ in 0..10 {
        (0..4).for_each(|_| assert_eq!(up.call(0, Outcome::Down, 0), None));
        assert_eq!(up.call(0, Outcome::Good, 0), None);
    }
    let due = up.open(0, 0);
    assert!((800..=1000).contains(&due), "{due}");
    assert!(up.breakers[0].admit(&trip(), at(due - 1)).is_none());
    assert_eq!(up.resting.count(), 1);
}

#[test]
fn one_probe_goes_through_and_its_success_closes() {
    let mut up = Upstream::of(1);
    let due = up.open(0, 0);
    let probe = up.breakers[0].admit(&trip(), at(due)).unwrap();
    assert!(probe.is_probe());
    assert!(!up.breakers[0].would_admit(at(due)));
    assert!(up.breakers[0].admit(&trip(), at(due)).is_none());
    assert_eq!(up.end(0, probe, Outcome::Good, due), Some(Change::Closed));
    assert!(up.is_closed(0));
    assert_eq!(up.resting.count(), 0);
    // Nothing of before counts against it.
    assert_eq!(up.call(0, Outcome::Down, due), None);
}

#[test]
fn pauses_double_up_to_the_last_and_begin_anew_once_it_was_closed() {
    let mut up = Upstream::of(1);
    let mut now = up.open(0, 0);
    let mut pauses = Vec::new();
    for _ in 0..20 {
        let Some(Change::Opened(Cause::Probe, pause)) = up.call(0, Outcome::Down, now) else {
            panic!("it stays open");
        };
        pauses.push(pause.as_millis());
        now += pause.as_millis() as u64 + 1;
    }
    let bounds = [2000, 4000, 5000, 5000].into_iter().chain(std::iter::repeat(5000));
    for (pause, bound) in pauses.iter().zip(bounds) {
        assert!((bound * 4 / 5 - 1..=bound).contains(pause), "{pauses:?}");
    }
    assert_eq!(up.call(0, Outcome::Good, now), Some(Change::Closed));
    assert!(up.open(0, now) <= now + 1000);
}

#[test]
fn what_was_in_flight_when_it_opened_counts_no_more() {
    let mut up = Upstream::of(1);
    let early = up.breakers[0].admit(&trip(), at(0)).unwrap();
    let due = up.open(0, 0);
    assert_eq!(up.end(0, early, Outcome::Good, 10), None);
    let probe = up.breakers[0].admit(&trip(), at(due)).unwrap();
    assert_eq!(up.end(0, early, Outcome::Good, due), None);
    assert_eq!(up.end(0, early, Outcome::Down, due), None);
    assert_eq!(up.end(0, probe, Outcome::Good, due), Some(Change::Closed));
    for _ in 0..10 {
        assert_eq!(up.end(0, early, Outcome::Down, due), None);
    }
    assert!(up.is_closed(0));
}

#[test]
fn a_probe_whose_caller_gave_up_makes_way_for_the_next() {
    let mut up = Upstream::of(1);
    let due = up.open(0, 0);
    assert_eq!(up.call(0, Outcome::Unknown, due), None);
    assert_eq!(up.resting.count(), 1);
    assert_eq!(up.call(0, Outcome::Good, due), Some(Change::Closed));
}

#[test]
fn a_probe_that_hangs_is_joined_by_another() {
    let mut up = Upstream::of(1);
    let due = up.open(0, 0);
    let hung = up.breakers[0].admit(&trip(), at(due)).unwrap();
    assert!(up.breakers[0].admit(&trip(), at(due + 4_999)).is_none());
    let next = up.breakers[0].admit(&trip(), at(due + 5_000)).unwrap();
    assert_eq!(up.end(0, hung, Outcome::Down, due + 5_001), None);
    assert_eq!(up.end(0, next, Outcome::Good, due + 5_001), Some(Change::Closed));
}

#[test]
fn too_few_successes_open_it_once_there_were_twenty_calls() {
    let mut up = Upstream::of(2);
    for i in 0..19 {
        let outcome = if i < 14 { Outcome::Good } else { Outcome::Bad };
        assert_eq!(up.call(0, outcome, i), None, "{i}");
    }
    let change = up.call(0, Outcome::Bad, 19);
    assert!(matches!(change, Some(Change::Opened(Cause::SuccessRate, _))), "{change:?}");
}

#[test]
fn a_breaker_that_closed_has_forgotten_what_opened_it() {
    let mut up = Upstream::of(2);
    let opened = (0..20).filter_map(|_| up.call(0, Outcome::Bad, 0)).count();
    assert_eq!(opened, 1);
    assert_eq!(up.call(0, Outcome::Good, 1_000), Some(Change::Closed));
    assert_eq!(up.call(0, Outcome::Bad, 1_000), None);
}

#[test]
fn a_bug_of_one_method_takes_down_no_more_than_half() {
    for (endpoints, most) in [(1, 0), (2, 1), (3, 1), (10, 5)] {
        let mut up = Upstream::of(endpoints);
        for i in 0..1000 {
            for which in 0..endpoints {
                if up.is_closed(which) {
                    up.call(which, if i % 2 == 0 { Outcome::Good } else { Outcome::Bad }, 0);
                }
            }
        }
        assert_eq!(up.resting.count(), most);
    }
}

#[test]
fn a_bad_endpoint_stays_where_half_of_the_others_are_dead() {
    let mut up = Upstream::of(4);
    up.open(0, 0);
    up.open(1, 0);
    (0..100).for_each(|_| assert_eq!(up.call(2, Outcome::Bad, 0), None));
    // Dead is dead, whatever the others are.
    up.open(2, 0);
    up.open(3, 0);
}

#[test]
fn an_endpoint_that_goes_while_it_rests_leaves_its_place() {
    let mut up = Upstream::of(2);
    up.open(0, 0);
    assert_eq!(up.resting.count(), 1);
    up.breakers.clear();
    assert_eq!(up.resting.count(), 0);
}

#[test]
fn four_workers_open_it_after_as_many_failures_as_one() {
    for _ in 0..200 {
        let resting = Arc::new(Resting::default());
        let breaker = Breaker::new(resting.clone());
        let permits: Vec<_> = (0..5).map(|_| breaker.admit(&trip(), at(0)).unwrap()).collect();
        let opened = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for permit in &permits[..4] {
                scope.spawn(|| fail(&breaker, *permit, &opened));
            }
        });
        assert_eq!(opened.load(Ordering::Relaxed), 0);
        fail(&breaker, permits[4], &opened);
        assert_eq!((opened.load(Ordering::Relaxed), resting.count()), (1, 1));
        // Of four that ask at once one is the probe.
        let probes = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    if breaker.admit(&trip(), at(1_000)).is_some() {
                        probes.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(probes.load(Ordering::Relaxed), 1);
    }
}

fn fail(breaker: &Breaker, permit: Permit, opened: &AtomicU32) {
    let mut rng = Rng::with_seed(7);
    if breaker.record(permit, Outcome::Down, &trip(), 1, at(0), &mut rng).is_some() {
        opened.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn four_workers_together_eject_no_more_than_half() {
    let resting = Arc::new(Resting::default());
    let breakers: Vec<_> = (0..10).map(|_| Breaker::new(resting.clone())).collect();
    let most = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let (breakers, resting, most) = (&breakers, &resting, &most);
            scope.spawn(move || {
                let mut rng = Rng::with_seed(worker);
                // Opened, probed and closed again, many times.
                for step in 0..40_000_u64 {
                    let (now, which) = (at(step / 4), rng.usize(..10));
                    let outcome = if rng.u8(..) < 60 { Outcome::Good } else { Outcome::Bad };
                    if let Some(permit) = breakers[which].admit(&trip(), now) {
                        let _ = breakers[which].record(permit, outcome, &trip(), 10, now, &mut rng);
                    }
                    most.fetch_max(resting.count(), Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(most.load(Ordering::Relaxed), 5);
    let resting_now = breakers.iter().filter(|b| b.state(at(0)) != State::Closed).count();
    assert_eq!(resting.count(), resting_now);
}

fn outcomes() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        3 => Just(Outcome::Good),
        2 => Just(Outcome::Down),
        1 => Just(Outcome::Bad),
        1 => Just(Outcome::Unknown),
    ]
}

proptest! {
    #[test]
    fn a_breaker_always_comes_back(
        steps in prop::collection::vec((0u64..2_000, 0usize..3, outcomes(), any::<bool>()), 1..300),
    ) {
        let mut up = Upstream::of(3);
        let (mut now, mut held) = (0, Vec::new());
        for (gap, which, outcome, is_held) in steps {
            now += gap;
            if let Some(permit) = up.breakers[which].admit(&trip(), at(now)) {
                if is_held {
                    held.push((which, permit, outcome));
                } else {
                    up.end(which, permit, outcome, now);
                }
            }
            if held.len() > 4 {
                let (which, permit, outcome) = held.remove(0);
                up.end(which, permit, outcome, now);
            }
            let resting = up.breakers.iter().filter(|b| b.state(at(now)) != State::Closed).count();
            prop_assert_eq!(resting, up.resting.count());
        }
        // Whatever came before: five seconds later a call goes through, and its success closes.
        for which in 0..3 {
            up.call(which, Outcome::Good, now + 5_000);
            prop_assert!(up.is_closed(which));
        }
        prop_assert_eq!(up.resting.count(), 0);
    }

    #[test]
    fn a_word_is_what_was_packed(
        generation in any::<u16>(), trips in 0u8..16, value in 0u64..1 << 42, tag in 0..3,
    ) {
        let phase = match tag {
            0 => Phase::Closed { failures: value as u32 },
            1 => Phase::Open { until: value },
            _ => Phase::HalfOpen { until: value },
        };
        let word = Word { generation, trips, phase };
        prop_assert_eq!(Word::unpack(word.pack()), word);
    }
}
