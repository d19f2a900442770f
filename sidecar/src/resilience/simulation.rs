//! What the policies do together: whole outages in virtual time, many callers at once.
//!
//! Time passes from event to event, so a minute costs what its calls cost.

mod world;

use std::time::Duration;

use super::breaker::{Breaker, State, Trip};
use super::budget::Allowance;
use super::idempotency::Idempotency;
use world::{Behaviour, Load, World};

/// Calls a second of all callers together, and how many callers they come from.
const LOADS: [Load; 4] = [
    Load { rate: 10, callers: 1 },
    Load { rate: 10, callers: 1_000 },
    Load { rate: 1_000, callers: 1 },
    Load { rate: 1_000, callers: 1_000 },
];

const WELL: Behaviour = Behaviour::Answers(Duration::from_millis(10));

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Breakers that never open, so that the budget alone bounds the retries.
fn never() -> Trip {
    Trip { consecutive: std::num::NonZeroU32::MAX, success_percent: 0, ..Trip::default() }
}

#[test]
fn an_upstream_that_fails_every_call_sees_little_more_than_its_load() {
    for load in LOADS {
        for trip in [never(), Trip::default()] {
            let mut world = World::new(load, 3, |_, _| Behaviour::Fails);
            world.trip = trip;
            world.run(secs(60));
            let floor = u64::from(Allowance::default().floor) * load.callers as u64;
            // Whole tens of seconds: what a budget counts. Retries that wait their backoff at the
            // end of one, at most a quarter of a second's and a few, are sent in the next.
            let most = load.rate * 12 + floor + load.rate / 20 + 3;
            for ten in 0..6 {
                let sent = world.sent(ten * 10..ten * 10 + 10);
                assert!(sent <= most, "{load:?}: {sent} sent in ten seconds, expected {most}");
            }
            assert!(world.sent(0..60) <= load.rate * 72 + floor * 6, "{load:?}");
            if trip == never() {
                let sent = world.sent(0..60);
                assert!(sent >= load.rate * 60 * 118 / 100, "{load:?}: {sent} sent: no retries");
            }
        }
    }
}

/// Callers that call so often that they can know an endpoint: 10 and 1,000 calls a second each.
/// They share nothing, so that ten of the quick ones show what a thousand do.
const KNOWING: [Load; 4] = [
    Load { rate: 10, callers: 1 },
    Load { rate: 1_000, callers: 1 },
    Load { rate: 10_000, callers: 1_000 },
    Load { rate: 10_000, callers: 10 },
];

const SLOW: Behaviour = Behaviour::Answers(Duration::from_millis(200));

/// Until second `until`; from second 5 on the first of ten endpoints is hurt.
fn hurt_first_of_ten(load: Load, hurt: Behaviour, until: u64) -> World {
    let mut world = World::new(
        load,
        10,
        move |endpoint, now| {
            if endpoint == 0 && now >= secs(5) { hurt } else { WELL }
        },
    );
    world.run(secs(until));
    world
}

#[test]
fn a_slow_endpoint_is_avoided_within_five_seconds() {
    for load in KNOWING {
        let world = hurt_first_of_ten(load, SLOW, 14);
        let (slow, all) = (world.sent_to(0, 10..14), world.sent(10..14));
        assert!(slow * 100 < all * 2, "{load:?}: {slow} of {all}");
    }
}

#[test]
fn who_calls_seldom_avoids_a_slow_endpoint_after_one_call() {
    for load in LOADS.into_iter().filter(|load| load.callers > 1) {
        let sent = hurt_first_of_ten(load, SLOW, 30).sent_to(0, 5..30);
        assert!(sent <= load.callers as u64 * 11 / 10, "{load:?}: {sent}");
    }
}

#[test]
fn an_endpoint_that_hangs_is_avoided_before_its_first_call_ends() {
    for load in KNOWING {
        let sent = hurt_first_of_ten(load, Behaviour::Hangs(secs(60)), 7).sent_to(0, 5..7);
        assert!(sent <= load.callers as u64 * 3, "{load:?}: {sent}");
    }
}

#[test]
fn one_dead_endpoint_of_three_costs_no_calls() {
    for load in LOADS {
        let dead = [
            (Behaviour::Refuses(Duration::from_millis(1)), Idempotency::Unknown),
            (Behaviour::Refuses(secs(1)), Idempotency::Unknown),
            (Behaviour::Resets, Idempotency::Declared),
            (Behaviour::Fails, Idempotency::Declared),
        ];
        for (dead, idempotency) in dead {
            let mut world = World::new(load, 3, move |endpoint, now| match endpoint {
                0 if now >= secs(5) => dead,
                _ => WELL,
            });
            world.idempotency = idempotency;
            world.run(secs(65));
            let (failed, calls) = (world.failed(6..65), world.called(6..65));
            assert!(failed * 1_000 < calls, "{load:?}, {dead:?}: {failed} of {calls} failed");
            // Once it rests, a probe goes there every four to five seconds.
            let probes = world.sent_to(0, 25..65);
            assert!(probes <= load.callers as u64 * 11, "{load:?}, {dead:?}: {probes} probes");
        }
    }
}

#[test]
fn after_an_outage_of_all_endpoints_all_is_well_within_six_seconds() {
    for load in LOADS {
        for lasts in [7, 20, 30, 100] {
            let end = 10 + lasts;
            let kinds = [
                Behaviour::Refuses(Duration::from_millis(1)),
                Behaviour::Fails,
                Behaviour::Hangs(secs(end)),
            ];
            for kind in kinds {
                let mut world = World::new(load, 3, move |_, now| {
                    if (secs(10)..secs(end)).contains(&now) { kind } else { WELL }
                });
                world.run(secs(end + 6));
                let case = format!("{load:?}, {kind:?} for {lasts} s");
                // Who calls less often than he has endpoints may not have asked each of them yet.
                let is_asked = load.rate >= 10 * load.callers as u64;
                let is_over = |b: &Breaker| match b.state(world.now()) {
                    State::Closed => true,
                    State::Open(left) => !is_asked && left.is_zero(),
                    State::HalfOpen => !is_asked,
                };
                assert!(world.breakers().all(is_over), "{case}");
                assert_eq!(world.failed(end + 5..end + 6), 0, "{case}");
                for second in end..end + 6 {
                    let sent = world.sent(second..second + 1);
                    assert!(sent * 10 <= load.rate * 15, "{case}: {sent} in second {second}");
                }
            }
        }
    }
}
