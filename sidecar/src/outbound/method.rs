//! One method of an upstream as one worker knows it: its place in the metrics, how long its answers
//! take, what becomes of a call that is made twice.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use crate::config::{Hedge, HedgeAfter};
use crate::discovery::methods::is_question;
use crate::resilience::idempotency::Idempotency;
use crate::resilience::moment::Moment;
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
    /// Whether calls of it show that the upstream is in use.
    pub is_use: bool,
    idempotency: Cell<Idempotency>,
    speed: Cell<P95>,
}

impl Method {
    /// A method that was not called yet.
    pub fn new(path: &str, series: Rc<CallSeries>, idempotency: Idempotency) -> Self {
        let (idempotency, speed) = (Cell::new(idempotency), Cell::default());
        // The sidecar's own questions go on for as long as others use it, not the other way round.
        let is_use = !is_question(path);
        Self { series, is_use, idempotency, speed }
    }

    /// What its descriptor says of calls that are made twice.
    pub fn idempotency(&self) -> Idempotency {
        self.idempotency.get()
    }

    /// Its descriptor says otherwise now.
    pub fn set_idempotency(&self, idempotency: Idempotency) {
        self.idempotency.set(idempotency);
    }

    /// An answer began now, after this time.
    pub fn answered(&self, took: Duration, now: Moment) {
        let mut speed = self.speed.get();
        speed.observe(took, now);
        self.speed.set(speed);
    }

    /// After which time a call that waits is sent to a second endpoint. Where nobody has asked for
    /// it, only one that is declared to bear it is: a process that hung may run it late.
    pub fn hedge_after(&self, hedge: Hedge, idempotency: Idempotency) -> Option<Duration> {
        let after = match (hedge.after, idempotency) {
            (_, Idempotency::Unknown) | (None, Idempotency::ByVerb) => return None,
            (None, Idempotency::Declared) => HedgeAfter::Stalled,
            (Some(after), Idempotency::ByVerb | Idempotency::Declared) => after,
        };
        if hedge.attempts.get() < 2 {
            return None;
        }
        let p95 = self.speed.get().get();
        match after {
            HedgeAfter::Never => None,
            HedgeAfter::Time(time) => Some(time),
            HedgeAfter::P95 => p95,
            HedgeAfter::Stalled => {
                Some(p95.map_or(STALLED_LEAST * STALLED, |p95| (p95 * STALLED).max(STALLED_LEAST)))
            }
        }
    }
}
