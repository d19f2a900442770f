//! From what a period showed to the next limit.

use std::time::Duration;

use super::Bounds;
use super::method::Speed;
use crate::resilience::moment::Moment;

/// So many periods in a row must show that the app is overloaded.
const EVIDENCE: u32 = 2;
/// A limit that was not reached for so long is lifted; an app that was slow for so long, and kept
/// up, is that slow.
const SETTLED: Duration = Duration::from_secs(10);
/// How long half the calls must be in flight before it is judged whether that helped; and twice as
/// long as a call takes.
const HALVED: Duration = Duration::from_secs(2);
/// How much of the way to its conclusion the limit goes down in a period.
const STEP: f64 = 0.2;
/// By how much it goes up in one: between these, more where there is more room.
const RISE: (f64, f64) = (0.02, 0.1);
/// Half the calls take half the time where they wait for each other: ln 2. Less than this is none.
const HELPED: f64 = 0.2;

/// What one period showed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Period {
    pub(super) speed: Speed,
    pub(super) answers: u32,
    /// Calls that had waited longer than is tolerated.
    pub(super) given_up: u32,
    /// The most calls in flight.
    pub(super) peak: u32,
    pub(super) lasted: Duration,
}

/// What follows from it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Next {
    pub(super) limit: u32,
    /// What methods take now is what they usually take from here on.
    pub(super) is_usual_now: bool,
}

/// What was concluded so far.
#[derive(Debug)]
pub(super) enum Mind {
    /// No limit but the most.
    Open(Open),
    Limiting(Limiting),
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Open {
    /// The most calls in flight in the last period that was not slow.
    calm: u32,
    /// While periods are slow.
    suspicion: Option<Suspicion>,
}

/// What the first slow period showed.
#[derive(Clone, Copy, Debug)]
struct Suspicion {
    since: Moment,
    calls: u32,
    rate: f64,
    evidence: u32,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Limiting {
    /// Calls in flight when the limit came, and how slow the app was then.
    calls: u32,
    above: f64,
    /// When the limit was last reached.
    reached: Moment,
    halved: Halved,
}

/// Whether half the calls in flight have helped.
#[derive(Clone, Copy, Debug)]
enum Halved {
    NotYet,
    Since(Moment),
    Helped,
}

impl Default for Mind {
    fn default() -> Self {
        Self::Open(Open::default())
    }
}

impl Period {
    fn rate(&self) -> f64 {
        f64::from(self.answers) / self.lasted.as_secs_f64().max(1e-3)
    }
}

impl Mind {
    pub(super) fn is_open(&self) -> bool {
        matches!(self, Self::Open(_))
    }

    pub(super) fn conclude(
        &mut self,
        period: &Period,
        limit: u32,
        bounds: &Bounds,
        now: Moment,
    ) -> Next {
        let next = match self {
            Self::Open(open) => open.conclude(period, bounds, now),
            Self::Limiting(limiting) => limiting.conclude(period, limit, bounds, now),
        };
        match next {
            Step::Stay(limit) => Next { limit, is_usual_now: false },
            Step::Limit(limiting, limit) => {
                *self = Self::Limiting(limiting);
                Next { limit, is_usual_now: false }
            }
            Step::Open { is_usual_now } => {
                *self = Self::Open(Open::default());
                Next { limit: bounds.most.get(), is_usual_now }
            }
        }
    }
}

enum Step {
    Stay(u32),
    Limit(Limiting, u32),
    Open { is_usual_now: bool },
}

impl Open {
    fn conclude(&mut self, period: &Period, bounds: &Bounds, now: Moment) -> Step {
        if !period.speed.is_slow || period.peak <= bounds.least.get() {
            *self = Self { calm: period.peak, suspicion: None };
            return Step::Stay(bounds.most.get());
        }
        let first =
            || Suspicion { since: now, calls: period.peak, rate: period.rate(), evidence: 0 };
        let suspicion = self.suspicion.get_or_insert_with(first);
        let pile_up = period.peak >= suspicion.calls.saturating_mul(2)
            && period.rate() <= suspicion.rate * 1.25;
        let are_given_up = period.peak >= self.calm.saturating_mul(2)
            && period.given_up.saturating_mul(4) >= period.answers;
        suspicion.evidence = if pile_up || are_given_up { suspicion.evidence + 1 } else { 0 };
        if suspicion.evidence >= EVIDENCE {
            let limiting = Limiting {
                calls: period.peak,
                above: period.speed.above,
                reached: now,
                halved: Halved::NotYet,
            };
            let limit = f64::from(period.peak) * period.speed.gradient.clamp(0.5, 1.0);
            return Step::Limit(limiting, within(limit, bounds));
        }
        if now.since(suspicion.since) >= SETTLED {
            return Step::Open { is_usual_now: true };
        }
        Step::Stay(bounds.most.get())
    }
}

impl Limiting {
    fn conclude(&mut self, period: &Period, limit: u32, bounds: &Bounds, now: Moment) -> Step {
        let Period { speed, peak, .. } = *period;
        if peak >= limit {
            self.reached = now;
        } else if now.since(self.reached) >= SETTLED {
            return Step::Open { is_usual_now: false };
        }
        self.halved = match self.halved {
            Halved::Helped => Halved::Helped,
            _ if peak > self.calls / 2 => Halved::NotYet,
            Halved::NotYet => Halved::Since(now),
            Halved::Since(at) if now.since(at) < HALVED.max(speed.took * 2) => Halved::Since(at),
            Halved::Since(_)
                if period.speed.is_slow && period.speed.above > self.above - HELPED =>
            {
                return Step::Open { is_usual_now: true };
            }
            Halved::Since(_) => Halved::Helped,
        };
        let before = f64::from(limit);
        let next = if period.speed.is_slow {
            before * (1.0 - STEP * (1.0 - period.speed.gradient.clamp(0.5, 1.0)))
        } else if peak >= limit {
            before * (1.0 + (period.speed.gradient - 1.0).clamp(RISE.0, RISE.1)) + 1.0
        } else {
            // What is not used says nothing about whether more would do.
            before
        };
        Step::Stay(within(next, bounds))
    }
}

fn within(limit: f64, bounds: &Bounds) -> u32 {
    // The most wins where the two contradict each other.
    (limit as u32).max(bounds.least.get()).min(bounds.most.get())
}
