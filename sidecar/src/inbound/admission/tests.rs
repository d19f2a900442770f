//! What of a call's time is the app's, and who of those that go has given it up.

use std::collections::VecDeque;

use tokio::time::advance;

use super::*;
use crate::telemetry::metrics::{self, Metrics};

const TICK: Duration = Duration::from_millis(10);

/// An app that has answered 20 calls at a time, after 10 ms each.
struct Bench {
    admission: Rc<Admission>,
    in_flight: VecDeque<Place>,
}

impl Bench {
    async fn new() -> Self {
        let gate = Arc::new(Gate::new(&Concurrency::default()));
        let metrics = Metrics::new("s", metrics::Bounds::default());
        let admission = Admission::new(gate, Rc::new(metrics.shard()));
        let mut bench = Self { admission, in_flight: VecDeque::new() };
        for _ in 0..100 {
            bench.enter(20, &Patience::Unknown).await;
            advance(TICK).await;
            bench.in_flight.drain(..).for_each(Place::answered);
        }
        assert!(!bench.is_limited());
        bench
    }

    async fn enter(&mut self, calls: usize, patience: &Patience) {
        let (deadline, is_repeated) = match *patience {
            Patience::Until(deadline) => (Some(deadline), false),
            Patience::Unknown => (None, false),
            Patience::None => (None, true),
        };
        let asking = Asking { method: "/a.A/B", deadline, is_repeated };
        for _ in 0..calls {
            let place = self.admission.enter(asking, Instant::now()).unwrap();
            self.in_flight.push_back(place.sent());
        }
    }

    fn is_limited(&self) -> bool {
        self.admission.gate.limit() < 10_000
    }

    /// Twice as many calls come as are answered; whether the app is taken for overloaded.
    async fn piles_up(
        mut self,
        entered: impl Fn(&mut Place),
        before_answer: impl Fn(&mut Place),
    ) -> bool {
        for _ in 0..200 {
            self.enter(40, &Patience::Unknown).await;
            self.in_flight.iter_mut().rev().take(40).for_each(&entered);
            self.in_flight.iter_mut().take(20).for_each(&before_answer);
            advance(TICK).await;
            self.in_flight.drain(..20).for_each(Place::answered);
            if self.is_limited() {
                return true;
            }
        }
        false
    }

    /// Many calls wait, always as many, and most go after half a second without an answer.
    async fn gives_up(mut self, patience: impl Fn(Instant) -> Patience) -> bool {
        for _ in 0..400 {
            self.enter(40, &patience(Instant::now())).await;
            advance(TICK).await;
            if self.in_flight.len() >= 50 * 40 {
                self.in_flight.drain(..10).for_each(Place::answered);
                drop(self.in_flight.drain(..30));
            }
            if self.is_limited() {
                return true;
            }
        }
        false
    }
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_is_still_to_come_is_not_the_apps_time() {
    let nothing = |_: &mut Place| {};
    assert!(Bench::new().await.piles_up(nothing, nothing).await, "the test shows nothing");
    // Answered before the end of the request.
    let coming = |place: &mut Place| place.uploads(true);
    assert!(!Bench::new().await.piles_up(coming, nothing).await);
    // Answered 10 ms after it.
    let whole = |place: &mut Place| place.uploads(false);
    assert!(!Bench::new().await.piles_up(coming, whole).await);
    // What is whole at once is begun when it came.
    assert!(Bench::new().await.piles_up(whole, whole).await);
}

#[tokio::test(start_paused = true)]
async fn who_goes_before_its_time_is_up_or_was_one_of_two_has_not_given_the_app_up() {
    let half = Duration::from_millis(500);
    let whole = Bench::new().await.gives_up(|now| Patience::Until(now + half)).await;
    assert!(whole, "the test shows nothing");
    assert!(Bench::new().await.gives_up(|_| Patience::Unknown).await);
    // As when a second instance has answered meanwhile.
    assert!(!Bench::new().await.gives_up(|now| Patience::Until(now + half * 2)).await);
    assert!(!Bench::new().await.gives_up(|_| Patience::None).await);
}
