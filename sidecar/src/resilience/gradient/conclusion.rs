//! From what a period showed to the next limit.

use std::time::Duration;

use super::method::Speed;
use super::turn::{Ending, Turn};
use super::{Bounds, PERIOD};
use crate::resilience::moment::Moment;

/// So many periods in a row must show that the app is overloaded.
const EVIDENCE: u32 = 2;
/// So many times as many are clearly more.
const MORE: f64 = 1.25;
/// A limit that was not reached for so long is lifted; an app that was slow for so long, and kept
/// up, is that slow.
const SETTLED: Duration = Duration::from_secs(10);
/// How long half the calls must be in flight before it is judged whether that helped; and twice as
/// long as a call takes.
const HALVED: Duration = Duration::from_secs(2);
/// How much of the way to its conclusion the limit goes down by a conclusion.
const STEP: f64 = 0.2;
/// By how much it goes up in each [`PERIOD`] in which it was reached and the app was not slow: between
/// these, more where there is more room.
const RISE: (f64, f64) = (0.02, 0.1);
/// It goes up again only when answers can show what the last rise did: after twice as long as a call
/// takes, and no later than this; then for all of that time.
const SHOWN: Duration = Duration::from_secs(2);
/// And to no more than so many times what it was.
const DOUBLED: f64 = 2.0;
/// Half the calls take half the time where they wait for each other: ln 2. Less than this is none.
const HELPED: f64 = 0.2;

/// What one period showed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Period {
    pub(super) speed: Speed,
    pub(super) answers: u32,
    /// Of those, how many were measured.
    pub(super) measured: u32,
    /// Of the calls that are measured, those that were given up when they had waited longer than is
    /// tolerated.
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
    /// Where a limit begins or ends by it.
    pub(super) turn: Option<Turn>,
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
    /// The most calls in flight in the last period that was not slow; before there was one, those
    /// of the first or the limit that ended. None: nothing was seen.
    calm: Option<u32>,
    /// While periods are slow.
    suspicion: Option<Suspicion>,
}

/// What the first slow periods showed.
#[derive(Clone, Copy, Debug)]
struct Suspicion {
    /// The most calls in flight in the first, and answers a second in the first that was slow from
    /// its begin: the one before may have begun long before the app was slow, or stood still.
    calls: u32,
    rate: Option<f64>,
    evidence: u32,
    /// Since when there are no more calls in flight than these, or hardly.
    kept_up: Moment,
    at_most: u32,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Limiting {
    since: Moment,
    /// Calls in flight when the limit came, or the app became slow again under it, and how slow it
    /// was at most while more than half of them were.
    calls: u32,
    above: f64,
    /// When the limit was last reached.
    reached: Moment,
    /// Since when it could have gone up.
    fits: Moment,
    halved: Halved,
    /// Whether the last period was so quick that the limit went up or was not reached: the next slow
    /// one may have another reason. One that is quick for a moment has none.
    had_room: bool,
    /// When it was last more than twice the least.
    above_least: Moment,
    /// Answers a second in the last period.
    rate: f64,
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
            Step::Stay(limit) => Next { limit, is_usual_now: false, turn: None },
            Step::Limit(limiting, limit, turn) => {
                *self = Self::Limiting(limiting);
                Next { limit, is_usual_now: false, turn: Some(turn) }
            }
            Step::Lift { because, is_usual_now } => {
                let turn = self.end(limit, because, now);
                Next { limit: bounds.most.get(), is_usual_now, turn }
            }
            Step::Accept => {
                *self = Self::Open(Open { calm: Some(period.peak), suspicion: None });
                Next { limit: bounds.most.get(), is_usual_now: true, turn: None }
            }
        }
    }

    /// Ends the limit, as no answer comes under it; none where there is none.
    pub(super) fn lift(&mut self, limit: u32, now: Moment) -> Option<Turn> {
        let Self::Limiting(Limiting { rate, .. }) = *self else { return None };
        let turn = self.end(limit, Ending::NoAnswer, now);
        // An app that only stood still for a moment is as overloaded as before: what it took under
        // the limit is what a pile-up is told by.
        let suspicion = Suspicion::new(limit, Some(rate), now);
        *self = Self::Open(Open { calm: Some(limit), suspicion: Some(suspicion) });
        turn
    }

    fn end(&mut self, limit: u32, because: Ending, now: Moment) -> Option<Turn> {
        let Self::Limiting(Limiting { since, .. }) = *self else { return None };
        *self = Self::Open(Open { calm: Some(limit), suspicion: None });
        Some(Turn::Ends { limit, lasted: now.since(since), because })
    }
}

enum Step {
    Stay(u32),
    Limit(Limiting, u32, Turn),
    /// There is no limit any more.
    Lift {
        because: Ending,
        is_usual_now: bool,
    },
    /// There was none, and what methods take now is what they usually take.
    Accept,
}

impl Open {
    fn conclude(&mut self, period: &Period, bounds: &Bounds, now: Moment) -> Step {
        if !period.speed.is_slow || period.peak <= bounds.least.get() {
            *self = Self { calm: Some(period.peak), suspicion: None };
            return Step::Stay(bounds.most.get());
        }
        let calm = *self.calm.get_or_insert(period.peak);
        let (suspicion, rate) = match &mut self.suspicion {
            Some(suspicion) => {
                let rate = suspicion.rate;
                suspicion.rate.get_or_insert(period.rate());
                (suspicion, rate)
            }
            none => (none.insert(Suspicion::new(period.peak, None, now)), None),
        };
        if f64::from(period.peak) > f64::from(suspicion.at_most) * MORE {
            (suspicion.kept_up, suspicion.at_most) = (now, period.peak);
        }
        let pile_up = period.peak >= suspicion.calls.saturating_mul(2)
            && rate.is_some_and(|rate| period.rate() <= rate * MORE);
        let are_given_up = period.peak >= calm.saturating_mul(2)
            && period.given_up.saturating_mul(4) >= period.measured;
        suspicion.evidence = if pile_up || are_given_up { suspicion.evidence + 1 } else { 0 };
        if suspicion.evidence >= EVIDENCE {
            let limiting = Limiting {
                since: now,
                calls: period.peak,
                above: period.speed.above,
                reached: now,
                fits: now,
                halved: Halved::NotYet,
                had_room: false,
                above_least: now,
                rate: period.rate(),
            };
            let limit = f64::from(period.peak) * period.speed.gradient.clamp(0.5, 1.0);
            let limit = within(limit, bounds);
            let turn = Turn::Begins {
                limit,
                in_flight: (suspicion.calls, period.peak),
                rate: (suspicion.rate.unwrap_or(period.rate()), period.rate()),
                slower: period.speed.above.exp(),
                given_up: period.given_up,
            };
            return Step::Limit(limiting, limit, turn);
        }
        // What is half proven is not how long it takes, however long no answer came before.
        if suspicion.evidence == 0 && now.since(suspicion.kept_up) >= SETTLED {
            return Step::Accept;
        }
        Step::Stay(bounds.most.get())
    }
}

impl Suspicion {
    fn new(calls: u32, rate: Option<f64>, now: Moment) -> Self {
        Self { calls, rate, evidence: 0, kept_up: now, at_most: calls }
    }
}

impl Limiting {
    fn conclude(&mut self, period: &Period, limit: u32, bounds: &Bounds, now: Moment) -> Step {
        let Period { speed, peak, .. } = *period;
        if peak >= limit {
            self.reached = now;
        } else if now.since(self.reached) >= SETTLED {
            return Step::Lift { because: Ending::NotReached, is_usual_now: false };
        }
        self.rate = period.rate();
        let had_room = std::mem::take(&mut self.had_room);
        // Not while it is still judged whether fewer calls helped.
        let is_judged = matches!(self.halved, Halved::Helped) || limit >= self.calls;
        if speed.is_slow && had_room && is_judged {
            (self.calls, self.above, self.halved) = (limit, speed.above, Halved::NotYet);
        }
        let least = bounds.least.get();
        let is_near = limit <= least.saturating_mul(2);
        // Later where calls take long: until then it may show by itself whether fewer help.
        let settled = SETTLED.max(speed.took * 4);
        if !is_near {
            self.above_least = now;
        } else if speed.is_slow && now.since(self.above_least) >= settled {
            // The least cannot be halved: more for a moment shows whether fewer help.
            let more = least.saturating_mul(4).min(bounds.most.get());
            (self.calls, self.above, self.halved) = (more, speed.above, Halved::NotYet);
            self.above_least = now;
            return Step::Stay(more);
        }
        if peak > self.calls / 2 {
            self.above = self.above.max(speed.above);
        }
        self.halved = match self.halved {
            Halved::Helped => Halved::Helped,
            _ if peak > self.calls / 2 => Halved::NotYet,
            Halved::NotYet => Halved::Since(now),
            Halved::Since(at) if now.since(at) < HALVED.max(speed.took * 2) => Halved::Since(at),
            Halved::Since(_) if speed.is_slow && speed.above > self.above - HELPED => {
                return Step::Lift { because: Ending::NoQuicker, is_usual_now: true };
            }
            // Quick for a moment says no more than slow for a moment.
            Halved::Since(at) if !speed.is_slow && !had_room => Halved::Since(at),
            Halved::Since(_) => Halved::Helped,
        };
        let before = f64::from(limit);
        let next = if speed.is_slow {
            self.fits = now;
            before * (1.0 - STEP * (1.0 - speed.gradient.clamp(0.5, 1.0)))
        } else if peak < limit {
            // What is not used says nothing about whether more would do.
            self.fits = now;
            before
        } else if now.since(self.fits) < SHOWN.min(speed.took * 2) {
            before
        } else {
            // By the time and not by conclusions: an app of few long answers is set free as soon.
            let periods = now.since(self.fits).min(SHOWN).div_duration_f64(PERIOD).max(1.0);
            self.fits = now;
            let rise = 1.0 + (speed.gradient - 1.0).clamp(RISE.0, RISE.1);
            let most = before * speed.gradient.min(DOUBLED);
            (before * rise.powf(periods) + periods).min(most).max(before * rise + 1.0)
        };
        self.had_room = !speed.is_slow && (peak < limit || next > before);
        Step::Stay(within(next, bounds))
    }
}

fn within(limit: f64, bounds: &Bounds) -> u32 {
    // The most wins where the two contradict each other.
    (limit as u32).max(bounds.least.get()).min(bounds.most.get())
}
