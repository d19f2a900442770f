//! The breaker's transitions, in every order in which two workers can reach what they share.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;

use super::turns::in_every_order;
use super::*;

/// When a breaker that opened at 0 lets a probe through.
const DUE: u64 = 1_000;

fn at(millis: u64) -> Moment {
    Moment::after_origin(Duration::from_millis(millis))
}

fn trip(consecutive: u32) -> Trip {
    Trip { consecutive: NonZeroU32::new(consecutive).unwrap(), ..Trip::default() }
}

/// One breaker of an upstream of one.
struct One {
    breaker: Breaker,
    resting: Arc<Resting>,
    trip: Trip,
}

impl One {
    fn closed(consecutive: u32) -> Self {
        let resting = Arc::new(Resting::default());
        Self { breaker: Breaker::new(resting.clone()), resting, trip: trip(consecutive) }
    }

    fn open() -> Self {
        let one = Self::closed(1);
        let permit = one.admit(0).unwrap();
        assert!(matches!(one.end(permit, Outcome::Down, 0), Some(Change::Opened(..))));
        one
    }

    fn admit(&self, now: u64) -> Option<Permit> {
        self.breaker.admit(&self.trip, at(now))
    }

    fn end(&self, permit: Permit, outcome: Outcome, now: u64) -> Option<Change> {
        self.breaker.record(permit, outcome, &self.trip, 1, at(now), &mut Rng::with_seed(1))
    }

    fn is_closed(&self) -> bool {
        let is_closed = self.breaker.state(at(0)) == State::Closed;
        assert_eq!(self.resting.count(), usize::from(!is_closed), "its place is kept");
        is_closed
    }
}

/// A call that asks for leave once the rest is over, and ends so.
fn calls(one: &One, outcome: Outcome) -> (Option<Permit>, Option<Change>) {
    let permit = one.admit(DUE);
    (permit, permit.and_then(|permit| one.end(permit, outcome, DUE)))
}

fn probes(ended: &[(Option<Permit>, Option<Change>); 2]) -> usize {
    ended.iter().filter(|(permit, _)| permit.is_some_and(Permit::is_probe)).count()
}

fn changes(ended: &[(Option<Permit>, Option<Change>); 2]) -> Vec<Change> {
    ended.iter().filter_map(|(_, change)| *change).collect()
}

#[test]
fn of_two_failures_that_open_it_together_one_does_and_one_place_is_taken() {
    let fails = |one: &One| {
        let permit = one.admit(0);
        (permit, permit.and_then(|permit| one.end(permit, Outcome::Down, 0)))
    };
    for (consecutive, opened) in [(1, 1), (2, 1), (3, 0)] {
        let orders = in_every_order(
            || One::closed(consecutive),
            [&fails, &fails],
            |one, ended| {
                assert_eq!((probes(&ended), changes(&ended).len()), (0, opened));
                assert_eq!(one.is_closed(), opened == 0);
            },
        );
        assert!(orders > 10, "{orders}");
    }
}

#[test]
fn one_probe_goes_through_and_closes_it_once() {
    let well = |one: &One| calls(one, Outcome::Good);
    let orders = in_every_order(One::open, [&well, &well], |one, ended| {
        assert_eq!((probes(&ended), changes(&ended)), (1, vec![Change::Closed]));
        assert!(one.is_closed());
    });
    assert!(orders > 10, "{orders}");
}

#[test]
fn one_probe_goes_through_and_opens_it_again_once() {
    let fails = |one: &One| calls(one, Outcome::Down);
    let orders = in_every_order(One::open, [&fails, &fails], |one, ended| {
        let [Change::Opened(Cause::Probe, _)] = changes(&ended)[..] else { panic!("{ended:?}") };
        assert_eq!(ended.iter().filter(|(permit, _)| permit.is_some()).count(), 1);
        assert!(probes(&ended) == 1 && !one.is_closed());
    });
    assert!(orders > 10, "{orders}");
}

#[test]
fn a_probe_that_nothing_is_known_of_makes_way_for_one_other() {
    let unknown = |one: &One| calls(one, Outcome::Unknown);
    let well = |one: &One| calls(one, Outcome::Good);
    in_every_order(One::open, [&unknown, &well], |one, ended| {
        let [(first, none), (second, closed)] = ended;
        assert_eq!(none, None);
        assert_eq!(closed.is_some(), second.is_some_and(Permit::is_probe));
        assert_eq!(one.is_closed(), closed == Some(Change::Closed));
        assert!(first.or(second).is_some());
    });
}

#[test]
fn what_was_in_flight_when_it_opened_neither_closes_it_nor_opens_it_again() {
    for late in [Outcome::Good, Outcome::Down, Outcome::Bad] {
        let make = || {
            let one = One::closed(1);
            let early = one.admit(0).unwrap();
            let permit = one.admit(0).unwrap();
            assert!(one.end(permit, Outcome::Down, 0).is_some());
            (one, early)
        };
        in_every_order(
            make,
            [&|(one, _)| calls(one, Outcome::Good), &|(one, early)| {
                (None, one.end(*early, late, DUE))
            }],
            |(one, _), ended| {
                assert_eq!((probes(&ended), changes(&ended)), (1, vec![Change::Closed]));
                assert!(one.is_closed());
            },
        );
    }
}

#[test]
fn of_two_probes_the_one_that_hung_may_close_it_and_none_is_counted_twice() {
    let later = DUE + Trip::default().last.as_millis() as u64;
    for outcomes in [Outcome::Good, Outcome::Down].map(|hung| (hung, Outcome::Good)) {
        let make = || {
            let one = One::open();
            let hung = one.admit(DUE).unwrap();
            (one, hung)
        };
        in_every_order(
            make,
            [&|(one, hung)| (Some(*hung), one.end(*hung, outcomes.0, later)), &|(one, _)| {
                let permit = one.admit(later);
                (permit, permit.and_then(|permit| one.end(permit, outcomes.1, later)))
            }],
            |(one, _), ended| {
                let changes = changes(&ended);
                assert_eq!(changes.len(), 1, "{ended:?}");
                assert_eq!(one.is_closed(), changes == [Change::Closed]);
            },
        );
    }
}

#[test]
fn of_two_endpoints_that_are_too_bad_one_rests() {
    let make = || {
        let resting = Arc::new(Resting::default());
        let both = [(); 2].map(|()| Breaker::new(resting.clone()));
        let calls = Trip::default().calls;
        for breaker in &both {
            for _ in 1..calls {
                let permit = breaker.admit(&trip(100), at(0)).unwrap();
                let rng = &mut Rng::with_seed(1);
                assert_eq!(breaker.record(permit, Outcome::Bad, &trip(100), 2, at(0), rng), None);
            }
        }
        (both, resting)
    };
    let fails = |breaker: &Breaker| {
        let permit = breaker.admit(&trip(100), at(0))?;
        breaker.record(permit, Outcome::Bad, &trip(100), 2, at(0), &mut Rng::with_seed(1))
    };
    let orders = in_every_order(
        make,
        [&|(both, _)| fails(&both[0]), &|(both, _)| fails(&both[1])],
        |(_, resting), changes| {
            assert_eq!(changes.iter().flatten().count(), 1, "{changes:?}");
            assert_eq!(resting.count(), 1);
        },
    );
    assert!(orders > 10, "{orders}");
}
