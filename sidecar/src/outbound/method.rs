//! One method of an upstream as one worker knows it: its place in the metrics, how long its answers
//! take, whether it may be called twice.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use crate::config::{Hedge, HedgeAfter};
use crate::resilience::quantile::P95;
use crate::telemetry::metrics::CallSeries;

/// A stalled call is one that has waited for so many times what most take …
const STALLED: u32 = 3;

/// … and for so long. What is not known yet counts as taking this long.
const STALLED_LEAST: Duration = Duration::from_millis(50);

/// One method.
#[derive(Debug)]
pub struct Method {
    /// Where its calls are counted.
    pub series: Rc<CallSeries>,
    is_idempotent: Cell<bool>,
    speed: Cell<P95>,
}

impl Method {
    /// A method that was not called yet.
    pub fn new(series: Rc<CallSeries>, is_idempotent: bool) -> Self {
        let (is_idempotent, speed) = (Cell::new(is_idempotent), Cell::default());
        Self { series, is_idempotent, speed }
    }

    /// Whether its descriptor says that it may be called twice with the effect of once.
    pub fn is_idempotent(&self) -> bool {
        self.is_idempotent.get()
    }

    /// Its descriptor says otherwise now.
    pub fn set_idempotent(&self, is_idempotent: bool) {
        self.is_idempotent.set(is_idempotent);
    }

    /// An answer began after this time.
    pub fn answered(&self, took: Duration) {
        let mut speed = self.speed.get();
        speed.observe(took);
        self.speed.set(speed);
    }

    /// After which time a call that waits is sent to a second endpoint.
    pub fn hedge_after(&self, hedge: Hedge) -> Option<Duration> {
        if hedge.attempts.get() < 2 {
            return None;
        }
        let p95 = self.speed.get().get();
        match hedge.after {
            HedgeAfter::Never => None,
            HedgeAfter::Time(time) => Some(time),
            HedgeAfter::P95 => p95,
            HedgeAfter::Stalled => {
                Some(p95.map_or(STALLED_LEAST * STALLED, |p95| (p95 * STALLED).max(STALLED_LEAST)))
            }
        }
    }
}
