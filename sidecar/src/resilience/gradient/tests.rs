//! Apps that are overloaded are found out; apps that are merely slow are left alone.

use std::collections::VecDeque;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, AtomicU64};

use fastrand::Rng;
use proptest::prelude::*;

use super::*;

mod beginnings;
mod endings;

fn bounds() -> Bounds {
    let number = |n| NonZeroU32::new(n).unwrap();
    Bounds {
        least: number(16),
        most: number(10_000),
        tolerance_percent: 300,
        slack: Duration::from_millis(20),
    }
}

fn answer(method: u64, took: Duration, in_flight: u32) -> Answer {
    Answer { method, took: Some(took), answers: 1, in_flight }
}

/// Calls of one kind that come at a rate, in calls a second.
#[derive(Clone)]
struct Traffic {
    method: u64,
    rate: f64,
    /// What the app works for a call, in milliseconds.
    work: fn(&mut Rng) -> f64,
}

/// An app that works on `width` calls at a time, in their order; the rest wait in it.
struct World {
    limit: Gradient,
    width: usize,
    /// What the callers wait at most, in milliseconds.
    patience: f64,
    /// What each call takes beyond its work.
    extra: f64,
    rng: Rng,
    now: f64,
    waiting: VecDeque<Call>,
    worked_on: Vec<Call>,
    /// While few are in flight, one of eight is measured.
    calls: u32,
    /// Answers that the limit was not told of yet.
    untold: u32,
    turns: Vec<(f64, Turn)>,
    refused: u32,
    /// It works on nothing, as one that is stopped.
    is_still: bool,
    answered: u32,
    /// The lowest limit there was.
    lowest: u32,
}

struct Call {
    method: u64,
    begun: f64,
    work: f64,
    is_measured: bool,
}

impl World {
    fn new(width: usize) -> Self {
        Self {
            limit: Gradient::new(bounds()),
            width,
            patience: f64::MAX,
            extra: 0.0,
            rng: Rng::with_seed(7),
            now: 1.0,
            waiting: VecDeque::new(),
            worked_on: Vec::new(),
            calls: 0,
            untold: 0,
            turns: Vec::new(),
            refused: 0,
            is_still: false,
            answered: 0,
            lowest: u32::MAX,
        }
    }

    fn in_flight(&self) -> usize {
        self.waiting.len() + self.worked_on.len()
    }

    fn at(&self) -> Moment {
        Moment::after_origin(Duration::from_secs_f64(self.now / 1000.0))
    }

    fn run(&mut self, traffic: &[Traffic], seconds: u32) {
        const TICK: f64 = 0.5;
        let end = self.now + f64::from(seconds) * 1000.0;
        while self.now < end {
            self.now += TICK;
            for Traffic { method, rate, work } in traffic {
                let due = rate * TICK / 1000.0;
                let calls = due as u32 + u32::from(self.rng.f64() < due.fract());
                for _ in 0..calls {
                    let in_flight = self.in_flight() as u32;
                    if in_flight >= self.limit.limit() {
                        self.refused += 1;
                        let turn = self.limit.refused(self.at());
                        self.turns.extend(turn.map(|turn| (self.now, turn)));
                        continue;
                    }
                    let work = work(&mut self.rng) + self.extra;
                    let (method, begun) = (*method, self.now);
                    self.calls += 1;
                    let is_measured =
                        self.calls.is_multiple_of(8) || self.limit.is_keen(in_flight + 1);
                    self.waiting.push_back(Call { method, begun, work, is_measured });
                    self.limit.entered(in_flight + 1);
                }
            }
            if !self.is_still {
                self.work(TICK);
            }
            self.lowest = self.lowest.min(self.limit.limit());
        }
    }

    fn work(&mut self, tick: f64) {
        while self.worked_on.len() < self.width
            && let Some(call) = self.waiting.pop_front()
        {
            self.worked_on.push(call);
        }
        for call in &mut self.worked_on {
            call.work -= tick;
        }
        let (now, at, patience) = (self.now, self.at(), self.patience);
        let (mut in_flight, limit) = (self.in_flight() as u32, &self.limit);
        let mut goes_on = |call: &Call| {
            let waited = Duration::from_secs_f64((now - call.begun) / 1000.0);
            let is_answered = call.work <= 0.0;
            if is_answered {
                self.answered += 1;
                self.untold += 1;
                if call.is_measured {
                    let answers = std::mem::take(&mut self.untold);
                    let answer = Answer { answers, ..answer(call.method, waited, in_flight) };
                    self.turns.extend(limit.record(answer, at).map(|turn| (now, turn)));
                }
            } else if now - call.begun > patience {
                if call.is_measured {
                    limit.give_up(call.method, waited);
                }
            } else {
                return true;
            }
            in_flight -= 1;
            false
        };
        self.waiting.retain(&mut goes_on);
        self.worked_on.retain(&mut goes_on);
    }
}

const fn calls(rate: f64, work: fn(&mut Rng) -> f64) -> Traffic {
    Traffic { method: 1, rate, work }
}

#[test]
fn an_app_that_is_slow_and_healthy_is_never_limited() {
    // 200 calls of 1 s each are in flight from the first second.
    let mut world = World::new(10_000);
    world.run(&[calls(200.0, |_| 1000.0)], 60);
    assert_eq!((world.refused, world.lowest), (0, 10_000));
}

#[test]
fn methods_of_very_different_speed_do_not_pass_for_overload_however_they_are_mixed() {
    let quick = |rate| Traffic { method: 1, rate, work: |_| 1.0 };
    let slow = |rate| Traffic { method: 2, rate, work: |_| 1000.0 };
    let either =
        Traffic { method: 3, rate: 200.0, work: |rng| if rng.bool() { 2.0 } else { 800.0 } };
    let mut world = World::new(10_000);
    for traffic in [
        vec![quick(1000.0)],
        vec![quick(1000.0), slow(200.0)],
        vec![quick(10.0), slow(400.0)],
        vec![slow(200.0)],
        vec![quick(2000.0), slow(20.0), either.clone()],
        vec![either, slow(50.0)],
    ] {
        world.run(&traffic, 20);
    }
    assert_eq!((world.refused, world.lowest), (0, 10_000));
}

#[test]
fn times_that_scatter_widely_do_not_pass_for_overload_however_the_load_swings() {
    let mut world = World::new(10_000);
    // From 2 ms to 5 s, most of them quick.
    let scattered = |rng: &mut Rng| 2.0 * (rng.f64() * 7.8).exp();
    for rate in [20.0, 400.0, 50.0, 100.0, 200.0, 400.0, 10.0, 300.0] {
        world.run(&[calls(rate, scattered)], 15);
    }
    assert_eq!((world.refused, world.lowest), (0, 10_000));
}

/// 40 calls at a time, each for 10 ms: 4,000 calls a second.
fn narrow() -> World {
    let mut world = World::new(40);
    world.run(&[calls(2000.0, |_| 10.0)], 5);
    world
}

fn assert_fits(world: &World) {
    // Three times 10 ms and 20 ms are tolerated.
    let limit = world.limit.limit();
    assert!((60..=400).contains(&limit), "{limit}");
}

#[test]
fn under_lasting_overload_the_limit_finds_what_the_app_takes_and_does_not_creep() {
    let mut world = narrow();
    world.run(&[calls(6000.0, |_| 10.0)], 20);
    for _ in 0..5 {
        let before = world.answered;
        world.run(&[calls(6000.0, |_| 10.0)], 30);
        assert_fits(&world);
        // And the app has work all the time.
        assert!(world.answered - before > 30 * 3900, "{}", world.answered - before);
    }
}

#[test]
fn an_app_whose_callers_give_up_is_rescued() {
    let mut world = narrow();
    world.patience = 1000.0;
    world.run(&[calls(9000.0, |_| 10.0)], 10);
    assert_fits(&world);
    let before = world.answered;
    world.run(&[calls(9000.0, |_| 10.0)], 10);
    assert!(world.answered - before > 10 * 3900, "{}", world.answered - before);
}

#[test]
fn an_app_that_is_overloaded_from_its_first_call_is_found_out() {
    let mut world = World::new(40);
    world.run(&[calls(6000.0, |_| 10.0)], 60);
    // What it takes when nobody waits was never seen: more is tolerated, but not ever more.
    let limit = world.limit.limit();
    assert!((60..=1000).contains(&limit), "{limit}");
    world.run(&[calls(6000.0, |_| 10.0)], 60);
    assert!(world.limit.limit() <= limit * 11 / 10, "{}", world.limit.limit());
}

#[test]
fn callers_that_wait_for_events_and_give_up_are_not_limited() {
    let mut world = World::new(10_000);
    world.patience = 5_000.0;
    let watch = |work| Traffic { method: 1, rate: 100.0, work };
    world.run(&[watch(|_| f64::MAX)], 20);
    // Events come, then none for long.
    world.run(&[watch(|rng| 1000.0 * rng.f64())], 20);
    world.run(&[watch(|_| f64::MAX)], 20);
    assert_eq!((world.refused, world.lowest), (0, 10_000));
}

#[test]
fn an_app_whose_methods_are_too_many_to_be_told_apart_is_found_out_all_the_same() {
    let mut world = World::new(40);
    // Each is called once, and takes a place.
    for method in 1..=2_000 {
        world.limit.record(answer(method, Duration::from_millis(10), 1), Moment::default());
    }
    let late = |rate| Traffic { method: 1_000_000, ..calls(rate, |_| 10.0) };
    world.run(&[late(2000.0)], 5);
    assert_eq!(world.lowest, 10_000);
    world.run(&[late(6000.0)], 20);
    assert_fits(&world);
}

#[test]
fn answers_are_compared_by_their_whole_number_and_not_by_those_that_are_measured() {
    // While fewer than 16 calls are in flight, few are measured; the first slow period has both.
    let mut world = World::new(1);
    world.run(&[calls(60.0, |_| 10.0)], 10);
    assert_eq!(world.lowest, 10_000);
    world.run(&[calls(125.0, |_| 10.0)], 6);
    assert!(world.lowest < 10_000, "it passes for an app that takes more and more calls");
}

/// 20 calls at a time, each for a second, of which too many come.
fn long() -> World {
    let mut world = World::new(20);
    world.run(&[calls(10.0, |_| 1000.0)], 15);
    world.run(&[calls(100.0, |_| 1000.0)], 40);
    assert!(world.lowest < 10_000, "the test shows nothing");
    world
}

#[test]
fn a_limit_of_few_long_answers_finds_what_the_app_takes() {
    let mut world = long();
    world.run(&[calls(100.0, |_| 1000.0)], 20);
    let (mut least, mut most, before) = (u32::MAX, 0, world.answered);
    for _ in 0..60 {
        world.run(&[calls(100.0, |_| 1000.0)], 1);
        (least, most) = (least.min(world.limit.limit()), most.max(world.limit.limit()));
    }
    // Three times a second and 20 ms are tolerated: 60 calls, at 20 a second.
    assert!(least >= 16 && most <= 160, "{least} to {most}");
    assert!(world.answered - before >= 60 * 19, "{}", world.answered - before);
}

#[test]
fn a_limit_of_few_long_answers_rises_by_the_time_and_not_by_their_number() {
    let mut world = long();
    let limited = world.limit.limit();
    world.width *= 10;
    let has_risen = |world: &World| world.limit.limit() >= limited * 3;
    let seconds = (1..60).find(|_| {
        world.run(&[calls(300.0, |_| 1000.0)], 1);
        has_risen(&world)
    });
    assert!(seconds.is_some_and(|seconds| seconds <= 8), "{seconds:?} s, from {limited}");
}

#[test]
fn four_workers_find_what_one_finds() {
    let limit = Gradient::new(bounds());
    let (clock, turn) = (AtomicU64::new(1), Barrier::new(4));
    let lowest = AtomicU32::new(u32::MAX);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for n in 0..100_000 {
                    // Who is not scheduled for long must not bring answers of long ago.
                    if n % 4 == 0 {
                        turn.wait();
                    }
                    let at = clock.fetch_add(250, Ordering::Relaxed);
                    // Ever more calls at first, 40 of them at a time.
                    let calls = (at / 20_000).min(u64::from(limit.limit())) as u32;
                    let took = Duration::from_millis(10).mul_f64(f64::from(calls.max(40)) / 40.0);
                    limit.entered(calls);
                    let at = Moment::after_origin(Duration::from_micros(at));
                    limit.record(answer(1, took, calls), at);
                    lowest.fetch_min(limit.limit(), Ordering::Relaxed);
                }
            });
        }
    });
    // It may be lifted again: how many calls come depends on the time alone here.
    let lowest = lowest.into_inner();
    assert!((30..=400).contains(&lowest), "{lowest}");
}

proptest! {
    #[test]
    fn the_limit_stays_within_its_bounds(
        answers in prop::collection::vec(
            (0u64..3, 0u64..100_000, any::<u32>(), 0u64..1_000, any::<bool>()), 1..2_000),
    ) {
        let (limit, mut now, mut begun) = (Gradient::new(bounds()), 0, None);
        for (method, took, in_flight, gap, gives_up) in answers {
            now += gap;
            let now = Moment::after_origin(Duration::from_millis(now));
            let took = Duration::from_millis(took);
            limit.entered(in_flight);
            let turn = match gives_up {
                true => {
                    limit.give_up(method, took);
                    limit.refused(now)
                }
                false => limit.record(answer(method, took, in_flight), now),
            };
            // Turns are no more than somebody can read.
            match turn {
                Some(Turn::Begins { .. }) => {
                    prop_assert_eq!(begun, None);
                    begun = Some(now);
                }
                Some(Turn::Ends { lasted, .. }) => {
                    prop_assert_eq!(begun.take().map(|begun| now.since(begun)), Some(lasted));
                    prop_assert!(lasted >= Duration::from_secs(2));
                }
                None => {}
            }
            let bounds = bounds();
            prop_assert!((bounds.least.get()..=bounds.most.get()).contains(&limit.limit()));
        }
    }
}
