//! The endpoints of one upstream on one worker, and which of them calls are drawn from.
//!
//! Invariant: each endpoint is drawn from its tier, or out, or resting, never two of these; the
//! tiers' weights are those of what is drawn, `known` those of all. One that comes, goes or changes
//! costs the same among ten and among ten thousand.

use std::collections::HashMap;
use std::rc::Rc;

use foldhash::fast::RandomState as FastHash;
use slab::Slab;
use tokio::time::Instant;

use crate::discovery::snapshot;
use crate::outbound::endpoint::Endpoint;
use crate::resilience::balance::weighted::Weighted;

/// Who is called first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tier {
    /// The own zone.
    Near,
    /// All others; all, where nobody said where they are.
    Far,
    /// Those that weigh nothing: only where no other takes calls.
    Last,
}

/// The place of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Calls are drawn from its tier.
    In,
    /// It cannot be connected.
    Down,
    /// Its breaker is not closed; its place among those.
    Resting(usize),
}

/// What is known of one endpoint.
#[derive(Clone, Copy)]
struct Member {
    weight: u16,
    tier: Tier,
    standing: Standing,
    /// It warms up since then.
    since: Option<Instant>,
}

/// All of them.
#[derive(Default)]
pub(super) struct Members {
    /// Apart from what is known of them: a choice among thousands looks at as little memory as it
    /// can.
    all: Slab<Rc<Endpoint>>,
    /// By the same slots.
    facts: Vec<Member>,
    by_key: HashMap<u64, u32, FastHash>,
    by_endpoint: HashMap<*const Endpoint, u32, FastHash>,
    tiers: [Weighted; 3],
    known: [u64; 3],
    pub(super) resting: Vec<u32>,
    warming: usize,
}

impl Members {
    /// Becomes what `next` says; one that is `fresh` warms up.
    pub(super) fn replace(
        &mut self,
        next: &snapshot::Upstream,
        mut make: impl FnMut(&snapshot::Endpoint) -> Rc<Endpoint>,
        fresh: Option<Instant>,
    ) {
        let before = std::mem::take(self);
        let mut kept: HashMap<_, _> = before
            .all
            .into_iter()
            .map(|(slot, one)| ((one.of.address, one.of.identity.clone()), (slot, one)))
            .collect();
        for of in &next.endpoints {
            let (endpoint, is_down, since) = match kept.remove(&(of.address, of.identity.clone())) {
                Some((slot, one)) => {
                    let facts = before.facts[slot];
                    (one, facts.standing == Standing::Down, facts.since)
                }
                None => (make(of), false, fresh),
            };
            let slot = self.add(of, endpoint, since);
            if is_down {
                self.stand(slot, Standing::Down);
            }
        }
    }

    /// Becomes what `next` says, where this is the snapshot before.
    pub(super) fn change(
        &mut self,
        next: &snapshot::Upstream,
        mut make: impl FnMut(&snapshot::Endpoint) -> Rc<Endpoint>,
        fresh: Option<Instant>,
    ) {
        for key in &next.change.gone {
            self.remove(*key);
        }
        for of in next.change.new.iter().filter_map(|at| next.endpoints.get(*at)) {
            match self.remove(of.key) {
                Some((endpoint, before)) => {
                    let slot = self.add(of, endpoint, before.since);
                    if before.standing == Standing::Down {
                        self.stand(slot, Standing::Down);
                    }
                }
                None => drop(self.add(of, make(of), fresh)),
            }
        }
    }

    fn add(
        &mut self,
        of: &snapshot::Endpoint,
        endpoint: Rc<Endpoint>,
        since: Option<Instant>,
    ) -> u32 {
        let tier = match (of.weight, of.is_near) {
            (0, _) => Tier::Last,
            (_, true) => Tier::Near,
            (_, false) => Tier::Far,
        };
        let member = Member { weight: of.weight, tier, standing: Standing::In, since };
        let address = Rc::as_ptr(&endpoint);
        let slot = self.all.insert(endpoint);
        match self.facts.get_mut(slot) {
            Some(facts) => *facts = member,
            None => self.facts.push(member),
        }
        // Slots are as few as endpoints: far from the end of the range.
        let slot = slot as u32;
        self.by_key.insert(of.key, slot);
        self.by_endpoint.insert(address, slot);
        self.known[tier as usize] += u64::from(of.weight);
        self.tiers[tier as usize].insert(slot, of.weight);
        self.warming += usize::from(since.is_some());
        slot
    }

    fn remove(&mut self, key: u64) -> Option<(Rc<Endpoint>, Member)> {
        let slot = self.by_key.remove(&key)?;
        let member = *self.facts.get(slot as usize)?;
        self.stand(slot, Standing::Down);
        let endpoint = self.all.try_remove(slot as usize)?;
        self.by_endpoint.remove(&Rc::as_ptr(&endpoint));
        self.known[member.tier as usize] -= u64::from(member.weight);
        self.warming -= usize::from(member.since.is_some());
        Some((endpoint, member))
    }

    /// Moves one from one standing to another.
    fn stand(&mut self, slot: u32, next: Standing) {
        let Some(member) = self.facts.get_mut(slot as usize) else { return };
        let before = std::mem::replace(&mut member.standing, next);
        let (tier, weight) = (member.tier as usize, member.weight);
        match before {
            Standing::In => drop(self.tiers[tier].remove(slot)),
            Standing::Down => {}
            Standing::Resting(at) => {
                self.resting.swap_remove(at);
                if let Some(moved) = self.resting.get(at) {
                    let moved = &mut self.facts[*moved as usize];
                    moved.standing = Standing::Resting(at);
                }
            }
        }
        match next {
            Standing::In => self.tiers[tier].insert(slot, weight),
            Standing::Down => {}
            Standing::Resting(at) => self.resting.insert(at, slot),
        }
    }

    /// It cannot be connected.
    pub(super) fn down(&mut self, endpoint: &Rc<Endpoint>) {
        if let Some(slot) = self.slot(endpoint) {
            self.stand(slot, Standing::Down);
        }
    }

    /// Its breaker opened.
    pub(super) fn rest(&mut self, slot: u32) {
        if self.facts.get(slot as usize).is_some_and(|one| one.standing == Standing::In) {
            self.stand(slot, Standing::Resting(self.resting.len()));
        }
    }

    /// It takes calls again, and warms up.
    pub(super) fn back(&mut self, endpoint: &Rc<Endpoint>, now: Instant) {
        let Some(slot) = self.slot(endpoint) else { return };
        self.stand(slot, Standing::In);
        if self.facts[slot as usize].since.replace(now).is_none() {
            self.warming += 1;
        }
    }

    /// It has warmed up.
    pub(super) fn warm(&mut self, slot: u32) {
        if let Some(member) = self.facts.get_mut(slot as usize)
            && member.since.take().is_some()
        {
            self.warming -= 1;
        }
    }

    /// Whether it is called only where no other takes calls.
    pub(super) fn weighs_nothing(&self, slot: u32) -> bool {
        self.facts.get(slot as usize).is_some_and(|one| one.tier == Tier::Last)
    }

    /// Since when it warms up.
    pub(super) fn since(&self, slot: u32) -> Option<Instant> {
        self.facts.get(slot as usize)?.since
    }

    /// Whether some warm up while others do not.
    pub(super) fn are_some_warming(&self) -> bool {
        self.warming > 0 && self.warming < self.all.len()
    }

    /// Those that calls are drawn from.
    pub(super) fn tier(&self, tier: Tier) -> &Weighted {
        &self.tiers[tier as usize]
    }

    /// The part of a tier's weight that takes calls now.
    pub(super) fn part(&self, tier: Tier) -> f64 {
        match self.known[tier as usize] {
            0 => 0.0,
            known => self.tier(tier).weight() as f64 / known as f64,
        }
    }

    pub(super) fn at(&self, slot: u32) -> &Rc<Endpoint> {
        &self.all[slot as usize]
    }

    /// The one with this key in the snapshot, where calls are drawn from it.
    pub(super) fn drawn(&self, key: u64) -> Option<u32> {
        let slot = *self.by_key.get(&key)?;
        let member = self.facts.get(slot as usize)?;
        (member.standing == Standing::In).then_some(slot)
    }

    /// Its place, while it is known.
    pub(super) fn slot(&self, endpoint: &Rc<Endpoint>) -> Option<u32> {
        self.by_endpoint.get(&Rc::as_ptr(endpoint)).copied()
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Rc<Endpoint>> {
        self.all.iter().map(|(_, endpoint)| endpoint)
    }

    /// How many.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }
}
