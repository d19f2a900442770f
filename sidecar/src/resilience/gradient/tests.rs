//! Where the limit comes to rest, and that it stays there.

use proptest::prelude::*;

use super::*;

/// An app that works on `width` calls at a time, each for `service`; the rest wait in it.
struct App {
    width: u32,
    service: Duration,
}

impl App {
    /// How long an answer takes with so many in flight.
    fn takes(&self, in_flight: u32) -> Duration {
        self.service.mul_f64(f64::from(in_flight.max(self.width)) / f64::from(self.width))
    }
}

/// Runs for a time with so much demand; returns the time at the end.
fn run(limit: &Gradient, app: &App, demand: u32, from: Duration, lasts: Duration) -> Duration {
    let bounds = Bounds::default();
    let mut now = from;
    while now < from + lasts {
        let in_flight = demand.min(limit.limit(&bounds));
        let took = app.takes(in_flight);
        // As many answers as the app gives in that time, and no more than show the mean.
        for _ in 0..in_flight.min(16) {
            limit.record(took, in_flight, &bounds, Moment::after_origin(now));
        }
        now += took;
    }
    now
}

const APP: App = App { width: 40, service: Duration::from_millis(10) };

fn assert_fits(limit: &Gradient, app: &App) {
    let limit = limit.limit(&Bounds::default());
    assert!((app.width / 2..=app.width * 3).contains(&limit), "{limit}");
}

#[test]
fn under_lasting_overload_the_limit_finds_what_the_app_takes_and_does_not_creep() {
    let limit = Gradient::new(&Bounds::default());
    let mut now = run(&limit, &APP, 30, Duration::ZERO, Duration::from_secs(5));
    for _ in 0..20 {
        now = run(&limit, &APP, 10_000, now, Duration::from_secs(61));
        assert_fits(&limit, &APP);
    }
}

#[test]
fn an_app_that_is_overloaded_from_its_first_call_is_found_out() {
    let limit = Gradient::new(&Bounds::default());
    let now = run(&limit, &APP, 10_000, Duration::ZERO, Duration::from_secs(90));
    run(&limit, &APP, 10_000, now, Duration::from_secs(120));
    assert_fits(&limit, &APP);
}

#[test]
fn an_app_that_grows_or_shrinks_is_followed() {
    let limit = Gradient::new(&Bounds::default());
    let mut now = Duration::ZERO;
    for width in [40, 200, 20] {
        let app = App { width, ..APP };
        now = run(&limit, &app, 10_000, now, Duration::from_secs(180));
        assert_fits(&limit, &app);
    }
}

#[test]
fn what_is_not_used_does_not_grow() {
    let limit = Gradient::new(&Bounds::default());
    run(&limit, &APP, 5, Duration::ZERO, Duration::from_secs(600));
    assert_eq!(limit.limit(&Bounds::default()), 128);
}

#[test]
fn an_app_for_which_nobody_waits_is_never_slowed_down() {
    let limit = Gradient::new(&Bounds::default());
    let app = App { width: 10_000, ..APP };
    let now = run(&limit, &app, 1_000, Duration::ZERO, Duration::from_secs(60));
    run(&limit, &app, 1_000, now, Duration::from_secs(60));
    assert!(limit.limit(&Bounds::default()) >= 1_000);
}

#[test]
fn four_workers_find_what_one_finds() {
    let limit = Gradient::new(&Bounds::default());
    let clock = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..100_000 {
                    let now = Duration::from_micros(clock.fetch_add(500, Ordering::Relaxed));
                    let bounds = Bounds::default();
                    let in_flight = limit.limit(&bounds);
                    let took = APP.takes(in_flight);
                    limit.record(took, in_flight, &bounds, Moment::after_origin(now));
                }
            });
        }
    });
    assert_fits(&limit, &APP);
}

proptest! {
    #[test]
    fn the_limit_stays_within_its_bounds(
        answers in prop::collection::vec((0u64..100_000, any::<u32>(), 0u64..1_000), 1..2_000),
    ) {
        let bounds = Bounds::default();
        let (limit, mut now) = (Gradient::new(&bounds), 0);
        for (took, in_flight, gap) in answers {
            now += gap;
            let now = Moment::after_origin(Duration::from_millis(now));
            limit.record(Duration::from_millis(took), in_flight, &bounds, now);
            let limit = limit.limit(&bounds);
            prop_assert!((bounds.least.get()..=bounds.most.get()).contains(&limit));
        }
    }
}
