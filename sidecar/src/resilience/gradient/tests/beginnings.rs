//! How limits begin: what comes before an overload says nothing of it.

use super::conclusion::{Mind, Period};
use super::method::Speed;
use super::*;

#[test]
fn an_app_that_was_hardly_called_before_is_found_out() {
    let mut world = World::new(1);
    // A period lasts until enough was measured: here more than a minute.
    world.run(&[calls(2.0, |_| 100.0)], 110);
    world.run(&[calls(100.0, |_| 100.0)], 20);
    assert!(world.limit.limit() < 1_000, "{}", world.limit.limit());
}

#[test]
fn an_app_that_stood_still_without_a_limit_is_found_out_when_it_goes_on() {
    let mut world = World::new(8);
    world.run(&[calls(400.0, |_| 10.0)], 5);
    world.is_still = true;
    world.run(&[calls(100.0, |_| 10.0)], 6);
    world.is_still = false;
    // It takes more than ten seconds until twice as many calls are in flight.
    world.run(&[calls(850.0, |_| 10.0)], 35);
    assert!(world.limit.limit() <= 80, "{}", world.limit.limit());
}

#[test]
fn a_limit_is_not_lifted_while_an_app_works_on_what_its_callers_gave_up() {
    let mut world = World::new(40);
    world.run(&[calls(2000.0, |_| 10.0)], 3);
    world.run(&[calls(9000.0, |_| 10.0)], 3);
    assert_fits(&world);
    let limited = world.limit.limit();
    let (begun, waited) = (world.at(), Duration::from_secs(1));
    // Whoever got in before goes, and it is busy with that.
    for second in 1..10 {
        world.limit.give_up(1, waited);
        assert_eq!(world.limit.refused(begun + waited * second), None);
        assert_eq!(world.limit.limit(), limited);
    }
    assert!(world.limit.refused(begun + waited * 11).is_some());
    assert_eq!(world.limit.limit(), 10_000);
}

#[test]
fn an_app_that_waits_for_something_slow_and_pauses_at_times_is_not_limited() {
    let mut world = World::new(10_000);
    world.rng = Rng::with_seed(159);
    world.run(&[calls(300.0, |_| 10.0)], 10);
    world.extra = 300.0;
    for step in 0..14 {
        let rate = 300.0 + 40.0 * f64::from(step);
        world.run(&[calls(rate, |rng| 10.0 + 50.0 * rng.f64())], 2);
        if step % 7 == 3 {
            world.is_still = true;
            world.run(&[calls(300.0, |rng| 2.0 * (rng.f64() * 6.0).exp())], 2);
            world.is_still = false;
        }
    }
    assert_eq!((world.refused, world.lowest), (0, 10_000));
}

/// What an app without a limit that gets slow is taken for after periods with so many in flight and
/// so many answers a second.
fn is_limited(periods: &[(u32, u32)]) -> bool {
    let mut mind = Mind::default();
    let speed = Speed { is_slow: true, gradient: 0.5, above: 2.0, took: Duration::from_millis(30) };
    let lasted = Duration::from_secs(1);
    let mut now = Moment::after_origin(lasted);
    for (peak, answers) in periods {
        let (measured, given_up) = (*answers, 0);
        let period = Period { speed, answers: *answers, measured, given_up, peak: *peak, lasted };
        now = now + lasted;
        mind.conclude(&period, 10_000, &bounds(), now);
    }
    !mind.is_open()
}

#[test]
fn more_answers_for_more_calls_in_flight_are_no_overload() {
    assert!(!is_limited(&[(18, 600), (39, 1090), (39, 1300)]));
    assert!(is_limited(&[(18, 600), (39, 600), (60, 610), (80, 600)]));
}
