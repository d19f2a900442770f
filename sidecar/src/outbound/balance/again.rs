//! The choice for a call that was sent before, or that those drawn first do not take.
//!
//! As at first, by weight and warmth, but only of those that take the call: drawn a few times, then
//! looked for among few. It costs more than a first choice, and no more among ten thousand.

use super::members::Tier;
use super::{Balance, Call, DRAWS, LOOKED_AT, Picked};

impl Balance {
    /// Whether what weighs nothing is not for this call: it was sent before to one that does weigh
    /// something, and better goes there again.
    pub(super) fn spares_last(&self, call: Call<'_>) -> bool {
        let tiers = [Tier::Near, Tier::Far];
        !call.tried.sent.is_empty() && tiers.iter().any(|tier| !self.members.tier(*tier).is_empty())
    }

    /// One that takes the call, where those drawn do not: from `first` on, then the other tiers.
    pub(super) fn search(&mut self, first: Tier, call: Call<'_>) -> Option<Picked> {
        let mut tiers = [Tier::Near, Tier::Far, Tier::Last];
        if first == Tier::Far {
            tiers.swap(0, 1);
        }
        for tier in tiers {
            if tier == Tier::Last && self.spares_last(call) {
                continue;
            }
            while let Some(slot) = self.best_of_few(tier, call) {
                // Where its breaker gives no leave, it rests, and is not found again.
                let picked = self.leave(slot, call);
                if picked.is_some() {
                    return picked;
                }
            }
        }
        None
    }

    /// The better of two that take the call, drawn as at first: by weight and warmth.
    fn best_of_few(&mut self, tier: Tier, call: Call<'_>) -> Option<u32> {
        let first = self.draw_free(tier, call)?;
        match self.draw_free_other(tier, first.0, call) {
            Some(second) => Some(self.better_of(tier, first, second, call)),
            None => Some(first.0),
        }
    }

    /// One that takes the call, by its weight and by how far it has warmed up.
    fn draw_free(&mut self, tier: Tier, call: Call<'_>) -> Option<(u32, u16)> {
        for _ in 0..DRAWS {
            let (slot, weight) = self.members.tier(tier).draw(&mut self.rng)?;
            if self.is_free(self.members.at(slot), call) && self.is_warm_enough(slot, call.now) {
                return Some((slot, weight));
            }
        }
        self.found(tier, call, |balance, slot, weight| {
            f64::from(weight.max(1)) * balance.cold_part(slot, call.now).unwrap_or(1.0)
        })
    }

    /// Another one that takes it, by its weight.
    fn draw_free_other(&mut self, tier: Tier, than: u32, call: Call<'_>) -> Option<(u32, u16)> {
        for _ in 0..DRAWS {
            let (slot, weight) = self.members.tier(tier).draw(&mut self.rng)?;
            if slot != than && self.is_free(self.members.at(slot), call) {
                return Some((slot, weight));
            }
        }
        self.found(
            tier,
            call,
            |_, slot, weight| {
                if slot == than { 0.0 } else { f64::from(weight.max(1)) }
            },
        )
    }

    /// One that takes the call, of few from a random place on, by their shares.
    fn found(
        &mut self,
        tier: Tier,
        call: Call<'_>,
        share: impl Fn(&mut Self, u32, u16) -> f64,
    ) -> Option<(u32, u16)> {
        let n = self.members.tier(tier).len();
        let start = self.rng.usize(..n.max(1));
        let (mut found, mut all) = (None, 0.0);
        for place in 0..n.min(LOOKED_AT) {
            let (slot, weight) = self.members.tier(tier).nth((start + place) % n)?;
            if !self.is_free(self.members.at(slot), call) {
                continue;
            }
            let share = share(self, slot, weight);
            all += share;
            // So each is kept to the end by its part of all.
            if self.rng.f64() * all < share {
                found = Some((slot, weight));
            }
        }
        found
    }
}
