//! How limits end: none outlives its reason, and none ends before it.

use super::*;

#[test]
fn a_limit_ends_when_the_overload_has() {
    let mut world = narrow();
    world.run(&[calls(6000.0, |_| 10.0)], 20);
    assert_fits(&world);
    world.run(&[calls(3000.0, |_| 10.0)], 15);
    assert_eq!(world.limit.limit(), 10_000);
    // Also where it was in use until the end: the app has become wide.
    world.run(&[calls(6000.0, |_| 10.0)], 20);
    world.width = 10_000;
    let before = world.refused;
    world.run(&[calls(60_000.0, |_| 10.0)], 30);
    world.run(&[calls(60_000.0, |_| 10.0)], 30);
    assert_eq!(world.limit.limit(), 10_000, "{}", world.refused - before);
}

#[test]
fn where_fewer_calls_are_no_quicker_the_limit_is_lifted() {
    let mut world = World::new(10_000);
    // What it waits for becomes slower step by step, and so calls pile up.
    for step in 0..20 {
        world.extra = f64::from(step) * 50.0;
        world.run(&[calls(300.0, |_| 10.0)], 1);
    }
    assert!(world.lowest < 10_000, "the test shows nothing");
    world.run(&[calls(300.0, |_| 10.0)], 10);
    let before = world.refused;
    world.run(&[calls(300.0, |_| 10.0)], 30);
    assert_eq!((world.refused - before, world.limit.limit()), (0, 10_000));
}

#[test]
fn a_limit_that_lets_nothing_through_is_lifted() {
    let mut world = narrow();
    world.run(&[calls(6000.0, |_| 10.0)], 20);
    assert_fits(&world);
    // All places are held by calls that wait for events: no answer comes any more.
    let after =
        |seconds| Moment::after_origin(Duration::from_secs_f64(world.now / 1000.0 + seconds));
    world.limit.refused(after(1.0));
    assert_fits(&world);
    world.limit.refused(after(2.1));
    assert_eq!(world.limit.limit(), 10_000);
}

#[test]
fn a_limit_that_lets_only_through_what_cannot_be_measured_is_lifted() {
    let mut world = narrow();
    world.run(&[calls(6000.0, |_| 10.0)], 20);
    assert_fits(&world);
    // Answers that begin before their requests end.
    for tenth in 1..=21 {
        let now = Duration::from_secs_f64(world.now / 1000.0 + f64::from(tenth) / 10.0);
        let (now, in_flight) = (Moment::after_origin(now), world.limit.limit());
        world.limit.record(Answer { method: 9, took: None, answers: 50, in_flight }, now);
        world.limit.refused(now);
    }
    assert_eq!(world.limit.limit(), 10_000);
}

#[test]
fn a_limit_that_begins_and_ends_is_told_with_what_decided_it() {
    let mut world = narrow();
    world.run(&[calls(6000.0, |_| 10.0)], 10);
    world.run(&[calls(1000.0, |_| 10.0)], 15);
    let [(begun, begin), (ended, end)] = world.turns[..] else { panic!("{:?}", world.turns) };
    let Turn::Begins { limit, in_flight, rate, slower, given_up: 0 } = begin else {
        panic!("{begin:?}")
    };
    assert!(limit <= in_flight.1 && in_flight.1 >= 2 * in_flight.0, "{begin:?}");
    assert!((3_000.0..5_000.0).contains(&rate.1) && slower > 3.0, "{begin:?}");
    let Turn::Ends { limit, lasted, because: Ending::NotReached } = end else { panic!("{end:?}") };
    assert!((60..=400).contains(&limit), "{end:?}");
    assert!((lasted.as_secs_f64() * 1000.0 - (ended - begun)).abs() < 1.0, "{end:?}");
}

#[test]
fn a_limit_that_has_helped_is_lifted_when_the_app_is_slow_for_another_reason() {
    // What it waits for takes half a second; or each call takes 100 ms from then on.
    for (rate, work) in [(300.0, (|_| 510.0) as fn(&mut Rng) -> f64), (1000.0, |_| 100.0)] {
        let mut world = narrow();
        world.run(&[calls(6000.0, |_| 10.0)], 20);
        assert_fits(&world);
        world.width = 10_000;
        world.run(&[calls(rate, work)], 60);
        let before = world.refused;
        world.run(&[calls(rate, work)], 30);
        assert_eq!((world.refused - before, world.limit.limit()), (0, 10_000), "{rate}");
    }
}

#[test]
fn an_app_that_becomes_narrower_under_its_limit_stays_limited() {
    let mut world = narrow();
    world.patience = 15_000.0;
    world.run(&[calls(6000.0, |_| 10.0)], 20);
    world.width = 10;
    for _ in 0..6 {
        world.run(&[calls(6000.0, |_| 10.0)], 10);
        assert!(world.limit.limit() <= 400, "{} {:?}", world.limit.limit(), world.turns);
    }
}

#[test]
fn an_app_that_stood_still_is_protected_again_when_it_goes_on() {
    for seconds in [3, 15] {
        let mut world = narrow();
        world.patience = 15_000.0;
        world.run(&[calls(6000.0, |_| 10.0)], 20);
        assert_fits(&world);
        world.is_still = true;
        world.run(&[calls(6000.0, |_| 10.0)], seconds);
        assert_eq!(world.limit.limit(), 10_000, "the test shows nothing");
        world.is_still = false;
        world.run(&[calls(6000.0, |_| 10.0)], 30);
        assert_fits(&world);
        let before = world.answered;
        world.run(&[calls(6000.0, |_| 10.0)], 10);
        assert!(world.answered - before > 10 * 3900, "{}", world.answered - before);
    }
}

#[test]
fn an_app_that_waits_for_something_slow_and_keeps_up_is_not_limited() {
    let mut world = World::new(10_000);
    for _ in 0..3 {
        world.run(&[calls(500.0, |_| 5.0)], 30);
        world.run(&[calls(500.0, |rng| 400.0 + 100.0 * rng.f64())], 30);
    }
    assert_eq!((world.refused, world.lowest), (0, 10_000));
}

#[test]
fn the_least_limit_too_is_lifted_where_fewer_calls_are_no_quicker_and_there_alone() {
    for width in [2, 4] {
        let mut world = World::new(width);
        let rate = width as f64 * 100.0;
        world.patience = 15_000.0;
        world.run(&[calls(rate * 0.5, |_| 10.0)], 10);
        world.run(&[calls(rate * 5.0, |_| 10.0)], 20);
        for _ in 0..60 {
            world.run(&[calls(rate * 5.0, |_| 10.0)], 1);
            assert!(world.limit.limit() <= 64, "{width}: {:?}", world.turns);
        }
        world.width = 10_000;
        world.run(&[calls(300.0, |_| 510.0)], 60);
        let before = world.refused;
        world.run(&[calls(300.0, |_| 510.0)], 10);
        assert_eq!((world.refused - before, world.limit.limit()), (0, 10_000), "{width}");
    }
}

#[test]
fn a_quick_method_beside_a_slow_one_does_not_keep_a_limit_that_helps_nobody() {
    let mut world = World::new(10_000);
    let quick = Traffic { method: 2, rate: 200.0, work: |_| 1.0 };
    let beside = |work| [quick.clone(), Traffic { method: 1, rate: 2000.0, work }];
    world.run(&beside(|_| 50.0), 10);
    let slower: [fn(&mut Rng) -> f64; 10] = [
        |_| 90.0,
        |_| 130.0,
        |_| 170.0,
        |_| 210.0,
        |_| 250.0,
        |_| 290.0,
        |_| 330.0,
        |_| 370.0,
        |_| 410.0,
        |_| 450.0,
    ];
    for work in slower {
        world.run(&beside(work), 1);
    }
    assert!(world.lowest < 10_000, "the test shows nothing");
    world.run(&beside(|_| 900.0), 60);
    let before = world.refused;
    world.run(&beside(|_| 900.0), 30);
    assert_eq!((world.refused - before, world.limit.limit()), (0, 10_000), "{:?}", world.turns);
}

#[test]
fn an_app_that_is_slow_every_other_moment_does_not_stay_at_the_least() {
    // What it waits for takes about as long as is tolerated, however few calls there are.
    for (seed, slow) in (0..12).flat_map(|seed| [(seed, 70), (seed, 110)]) {
        let mut world = World::new(2);
        world.patience = 15_000.0;
        world.run(&[calls(100.0, |_| 10.0)], 10);
        world.run(&[calls(1000.0, |_| 10.0)], 20);
        assert!(world.limit.limit() <= 64, "the test shows nothing");
        let (mut rng, mut now) = (Rng::with_seed(seed), world.at());
        for period in 0..900 {
            let is_slow = if seed < 4 { period % 2 == 0 } else { rng.bool() };
            let took = Duration::from_millis(if is_slow { slow } else { 45 });
            for _ in 0..40 {
                now = now + Duration::from_micros(2500 + seed * 20);
                let in_flight = world.limit.limit().min(1_000);
                world.limit.entered(in_flight);
                world.limit.record(answer(1, took, in_flight), now);
            }
        }
        assert_eq!(world.limit.limit(), 10_000, "{seed} {slow}");
    }
}

#[test]
fn a_limit_is_lifted_also_where_calls_take_long() {
    let mut world = World::new(20);
    world.patience = 60_000.0;
    world.run(&[calls(10.0, |_| 1000.0)], 20);
    world.run(&[calls(60.0, |_| 1000.0)], 40);
    assert!(world.limit.limit() < 200, "the test shows nothing");
    world.width = 10_000;
    world.run(&[calls(20.0, |_| 6000.0)], 240);
    assert_eq!(world.limit.limit(), 10_000, "{:?}", world.turns);
}
