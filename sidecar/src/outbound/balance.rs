//! The choice of an endpoint for one call, by one worker.
//!
//! Two are drawn by weight and the better is taken (P2C): the one whose answer is expected sooner,
//! by its peak EWMA and the calls that it has in flight for its weight. Before that comes an endpoint
//! whose breaker waits for a probe, then the one that a hash points to; the own zone comes before
//! others while it can take what comes. What one choice looks at does not grow with their number.

mod again;
mod members;

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fastrand::Rng;
use tokio::time::Instant;

use super::endpoint::Endpoint;
use crate::discovery::snapshot;
use crate::resilience::balance::slow_start;
use crate::resilience::balance::weighted::Weighted;
use crate::resilience::breaker::{Permit, State, Trip};
use crate::resilience::moment::Moment;
use members::{Members, Tier};

/// Of endpoints with unlike weights the second of two must be so much better to be taken: else chance
/// alone, in times of answers and of connecting, would even their shares out.
const CLEARLY: f64 = 3.0;

/// A warm endpoint is left for one that is cold still where that is so much better.
const MUCH: f64 = 8.0;

/// Draws at most until one is found that has warmed up enough, or is another than the first.
const DRAWS: usize = 8;

/// One choice looks at so many endpoints at most, where those drawn do not do.
const LOOKED_AT: usize = 64;

/// Breakers that are asked before each choice whether they wait for a probe.
const ASKED: usize = 4;

/// Endpoints that a hash is led to before the call goes to any.
const LED: u32 = 16;

/// A hash is led on where its endpoint has over 1.25 times its part of the calls in flight (Mirrokni
/// et al., "Consistent Hashing with Bounded Loads") …
const BOUND: f64 = 1.25;
/// … and more than so few, which no endpoint is drowned by.
const FEW: f64 = 4.0;

/// What the config says of it.
#[derive(Clone, Copy, Default)]
pub(super) struct Rules {
    /// A new endpoint, and one that is back, warms up so long.
    pub(super) slow_start: Duration,
    /// Calls to one endpoint that may be in flight.
    pub(super) room: usize,
    /// When endpoints rest.
    pub(super) trip: Trip,
}

/// What one worker knows of an upstream's endpoints.
#[derive(Default)]
pub(super) struct Balance {
    members: Members,
    snapshot: Option<Arc<snapshot::Upstream>>,
    rules: Rules,
    /// The breaker that is asked next.
    next: usize,
    rng: Rng,
}

impl Balance {
    /// Of no endpoints yet.
    pub(super) fn new(rules: Rules) -> Self {
        Self { rules, ..Self::default() }
    }

    /// The present snapshot, if there is one.
    pub(super) fn snapshot(&self) -> Option<&Arc<snapshot::Upstream>> {
        self.snapshot.as_ref()
    }

    /// Takes a snapshot in: what changed where it follows the present one, else all of it.
    pub(super) fn apply(
        &mut self,
        next: Arc<snapshot::Upstream>,
        make: impl FnMut(&snapshot::Endpoint) -> Rc<Endpoint>,
        now: Instant,
    ) {
        // Where there was none, none is spared: somebody must take the calls.
        let is_first = self.members.len() == 0 || self.rules.slow_start.is_zero();
        let fresh = Some(now).filter(|_| !is_first);
        if self.snapshot.as_ref().is_some_and(|present| next.follows(present)) {
            self.members.change(&next, make, fresh);
        } else {
            self.members.replace(&next, make, fresh);
        }
        self.snapshot = Some(next);
    }

    /// It cannot be connected: no calls are drawn from it.
    pub(super) fn down(&mut self, endpoint: &Rc<Endpoint>) {
        self.members.down(endpoint);
    }

    /// It can be connected again.
    pub(super) fn back(&mut self, endpoint: &Rc<Endpoint>, now: Instant) {
        self.members.back(endpoint, now);
    }

    /// All endpoints.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Rc<Endpoint>> {
        self.members.iter()
    }

    /// How many.
    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    /// Its breaker is not closed.
    pub(super) fn rest(&mut self, endpoint: &Rc<Endpoint>) {
        if let Some(slot) = self.members.slot(endpoint) {
            self.members.rest(slot);
        }
    }

    /// An endpoint, and its breaker's leave, for a call that goes to none of those that were `tried`,
    /// and that its route hashes to `hash`.
    pub(super) fn pick(
        &mut self,
        tried: Tried<'_>,
        hash: Option<u64>,
        probing: Probing,
        now: Instant,
    ) -> Option<Picked> {
        let snapshot = self.snapshot.as_ref()?;
        let call = Call { tried, now, moment: snapshot.state.clock.moment(now) };
        let may_probe = match probing {
            Probing::First => true,
            Probing::ByShare => fastrand::usize(..self.members.len().max(1)) == 0,
            Probing::Last => false,
        };
        if may_probe && let Some(probe) = self.probe(call) {
            return Some(probe);
        }
        if let Some(led) = hash.and_then(|hash| self.led(hash, call)) {
            return Some(led);
        }
        let tier = self.tier();
        if tried.is_empty()
            && let Some(slot) = self.better(tier, call)
        {
            let slot = if tier == Tier::Near { self.spilt(slot, call) } else { slot };
            if let Some(picked) = self.leave(slot, call) {
                return Some(picked);
            }
        }
        self.search(tier, call).or_else(|| self.probe(call))
    }

    /// Whether an endpoint takes a call that was sent to these.
    pub(super) fn has_other(&self, sent: &[Rc<Endpoint>], now: Instant) -> bool {
        let Some(snapshot) = &self.snapshot else { return false };
        let tried = Tried { sent, passed: &[] };
        let call = Call { tried, now, moment: snapshot.state.clock.moment(now) };
        let last = if self.spares_last(call) { None } else { Some(Tier::Last) };
        [Tier::Near, Tier::Far].into_iter().chain(last).any(|tier| {
            let tier = self.members.tier(tier);
            let mut some = (0..tier.len().min(LOOKED_AT)).filter_map(|place| tier.nth(place));
            some.any(|(slot, _)| {
                let endpoint = self.members.at(slot);
                self.is_free(endpoint, call) && endpoint.state.breaker.would_admit(call.moment)
            })
        })
    }

    /// Whether it has room for a call.
    pub(super) fn has_room(&self, endpoint: &Endpoint) -> bool {
        in_flight_of(endpoint) < self.rules.room
    }

    /// An endpoint whose breaker waits for a probe. Those whose breaker has closed come back.
    fn probe(&mut self, call: Call<'_>) -> Option<Picked> {
        for _ in 0..self.members.resting.len().min(ASKED) {
            self.next = (self.next + 1) % self.members.resting.len().max(1);
            let slot = *self.members.resting.get(self.next)?;
            if self.members.weighs_nothing(slot) && self.spares_last(call) {
                continue;
            }
            let endpoint = self.members.at(slot).clone();
            match endpoint.state.breaker.state(call.moment) {
                State::Closed => self.members.back(&endpoint, call.now),
                State::Open(_) | State::HalfOpen => {
                    let picked = self.leave(slot, call);
                    if picked.is_some() {
                        return picked;
                    }
                }
            }
        }
        None
    }

    /// The endpoint that a hash points to, or is led on to.
    fn led(&mut self, hash: u64, call: Call<'_>) -> Option<Picked> {
        let snapshot = self.snapshot.clone()?;
        let table = snapshot.table.as_ref()?;
        let in_flight = snapshot.state.in_flight.load(Ordering::Relaxed) as f64 + 1.0;
        let all = self.members.tier(Tier::Near).weight() + self.members.tier(Tier::Far).weight();
        for attempt in 0..LED {
            let of = snapshot.endpoints.get(table.at(hash, attempt) as usize)?;
            let Some(slot) = self.members.drawn(of.key) else { continue };
            let part = if of.weight == 0 { 1.0 } else { f64::from(of.weight) / all as f64 };
            let most = (BOUND * in_flight * part).ceil().max(FEW);
            if in_flight_of(self.members.at(slot)) as f64 >= most {
                continue;
            }
            let picked = self.leave(slot, call);
            if picked.is_some() {
                return picked;
            }
        }
        None
    }

    /// The endpoint and its breaker's leave, where it takes the call.
    fn leave(&mut self, slot: u32, call: Call<'_>) -> Option<Picked> {
        let endpoint = self.members.at(slot);
        if !self.is_free(endpoint, call) {
            return None;
        }
        let permit = endpoint.state.breaker.admit(&self.rules.trip, call.moment);
        let picked = permit.map(|permit| (endpoint.clone(), permit));
        // Also where it is the probe: until that has ended, no call is drawn from it.
        if permit.is_none_or(Permit::is_probe) {
            self.members.rest(slot);
        }
        picked
    }

    fn is_free(&self, endpoint: &Rc<Endpoint>, call: Call<'_>) -> bool {
        self.has_room(endpoint) && !call.tried.has(endpoint)
    }

    /// Where the call goes first.
    fn tier(&mut self) -> Tier {
        let Some(snapshot) = &self.snapshot else { return Tier::Far };
        let (near, far) = (self.members.tier(Tier::Near), self.members.tier(Tier::Far));
        match (near.is_empty(), far.is_empty()) {
            (false, true) => Tier::Near,
            (true, false) => Tier::Far,
            (true, true) => Tier::Last,
            (false, false) => {
                let (near, far) = (self.members.part(Tier::Near), self.members.part(Tier::Far));
                let part = snapshot.zones.near_part(near, far);
                if part >= 1.0 || self.rng.f64() < part { Tier::Near } else { Tier::Far }
            }
        }
    }

    /// The better of two that are drawn.
    fn better(&mut self, tier: Tier, call: Call<'_>) -> Option<u32> {
        let (first, weight) = self.draw(tier, call.now)?;
        let Some(second) = self.draw_other(tier, first) else { return Some(first) };
        Some(self.better_of(tier, (first, weight), second, call))
    }

    /// The first, where the second is not so much better that its weight and warmth do not matter.
    fn better_of(
        &mut self,
        tier: Tier,
        (first, weight): (u32, u16),
        (second, other): (u32, u16),
        call: Call<'_>,
    ) -> u32 {
        let margin = match (weight == other, self.is_warm_enough(second, call.now)) {
            (_, false) => MUCH,
            (false, true) => CLEARLY,
            (true, true) => 1.0,
        };
        let tier = self.members.tier(tier);
        let expected = self.load(tier, first, weight, call.moment);
        let of_other = self.load(tier, second, other, call.moment);
        if of_other * margin < expected { second } else { first }
    }

    /// One by its weight, and by how far it has warmed up.
    fn draw(&mut self, tier: Tier, now: Instant) -> Option<(u32, u16)> {
        let mut drawn = None;
        for _ in 0..DRAWS {
            drawn = Some(self.members.tier(tier).draw(&mut self.rng)?);
            if drawn.is_none_or(|(slot, _)| self.is_warm_enough(slot, now)) {
                break;
            }
        }
        drawn
    }

    /// Another one by its weight; any other where this one weighs much more than all others.
    fn draw_other(&mut self, tier: Tier, than: u32) -> Option<(u32, u16)> {
        let tier = self.members.tier(tier);
        if tier.len() < 2 {
            return None;
        }
        for _ in 0..DRAWS {
            let drawn = tier.draw(&mut self.rng)?;
            if drawn.0 != than {
                return Some(drawn);
            }
        }
        let start = self.rng.usize(..tier.len());
        let around = [start, (start + 1) % tier.len()];
        around.into_iter().filter_map(|place| tier.nth(place)).find(|(slot, _)| *slot != than)
    }

    /// Left to chance, by how far it has warmed up. Where all are new, none is spared.
    fn is_warm_enough(&mut self, slot: u32, now: Instant) -> bool {
        self.cold_part(slot, now).is_none_or(|part| self.rng.f64() < part)
    }

    /// The part of its share that it gets while it warms up. None where that is all of it.
    fn cold_part(&mut self, slot: u32, now: Instant) -> Option<f64> {
        if !self.members.are_some_warming() {
            return None;
        }
        let since = self.members.since(slot)?;
        let part = slow_start::part(now.saturating_duration_since(since), self.rules.slow_start);
        if part.is_none() {
            self.members.warm(slot);
        }
        part
    }

    /// What a call there is expected to cost, by the weight that is usual in its tier.
    fn load(&self, tier: &Weighted, slot: u32, weight: u16, now: Moment) -> f64 {
        let part = f64::from(weight.max(1)) * tier.len() as f64 / tier.weight() as f64;
        self.members.at(slot).load(part, now)
    }

    /// The one near, or where that hangs, one far.
    fn spilt(&mut self, near: u32, call: Call<'_>) -> u32 {
        if !self.members.at(near).hangs(call.moment) {
            return near;
        }
        self.better(Tier::Far, call).unwrap_or(near)
    }
}

/// Endpoints that a call does not go to.
#[derive(Clone, Copy, Default)]
pub struct Tried<'a> {
    /// It was sent to these before.
    pub sent: &'a [Rc<Endpoint>],
    /// These could not take it.
    pub passed: &'a [Rc<Endpoint>],
}

impl Tried<'_> {
    fn is_empty(&self) -> bool {
        self.sent.is_empty() && self.passed.is_empty()
    }

    fn has(&self, endpoint: &Rc<Endpoint>) -> bool {
        self.sent.iter().chain(self.passed).any(|one| Rc::ptr_eq(one, endpoint))
    }
}

/// When a call goes to an endpoint to ask whether it is well again: its own failure is what that
/// may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probing {
    /// Before it goes anywhere else, as it can be sent again.
    First,
    /// As often as it would go there if all were well.
    ByShare,
    /// Where nothing else takes it.
    Last,
}

/// An endpoint, and its breaker's leave.
type Picked = (Rc<Endpoint>, Permit);

/// What a choice is for.
#[derive(Clone, Copy)]
struct Call<'a> {
    tried: Tried<'a>,
    now: Instant,
    moment: Moment,
}

fn in_flight_of(endpoint: &Endpoint) -> usize {
    endpoint.state.in_flight.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests;
