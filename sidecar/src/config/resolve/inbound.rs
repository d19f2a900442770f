//! What the app is spared, and what is done to calls on purpose, as far as no key alone shows it to
//! be wrong.

use super::Resolver;
use super::matching::{route_match, unreached};
use crate::config::inbound::{InboundFaultKeys, InboundMatchKeys, RateKeys};
use crate::config::keys::{InboundKeys, MatchKeys};
use crate::config::{CallMatch, Concurrency, FaultRule, RateRule};
use crate::resilience::bucket::Rate;
use crate::resilience::inject::Injection;

const RATES: &str = "inbound.rate";
const FAULTS: &str = "inbound.fault";

impl Resolver<'_> {
    /// The limit of calls; a `least` that is left out is no more than `most`.
    pub(super) fn concurrency(&mut self, keys: &mut Concurrency) {
        const SECTION: &str = "inbound.concurrency";
        if !keys.adaptive {
            for key in ["least", "tolerance_percent", "slack"] {
                let key = format!("{SECTION}.{key}");
                if self.is_set(&key) && self.contradicts(&key, "inbound.concurrency.adaptive") {
                    let message = "set beside adaptive = false, with which no limit is learned";
                    self.problem(&key, message.into());
                }
            }
            keys.least = keys.least.min(keys.most);
        }
        let (least, most) = (format!("{SECTION}.least"), format!("{SECTION}.most"));
        self.within(&least, &mut keys.least, &most, keys.most);
    }

    /// The rates; what is wrong with one leaves it out.
    pub(super) fn rates(&mut self, keys: &InboundKeys) -> Vec<RateRule> {
        let rates = keys.rate.iter().enumerate().filter_map(|(at, keys)| self.rate(at, keys));
        let rates: Vec<_> = rates.collect();
        let key = "inbound.rate_buckets";
        let is_told = self.is_set(key) && self.contradicts(key, RATES);
        if is_told && self.is_well(RATES) && !rates.iter().any(|rate| rate.per_caller) {
            let message = "set although no inbound.rate is per_caller, expected one that is";
            self.problem(key, message.into());
        }
        rates
    }

    fn rate(&mut self, at: usize, keys: &RateKeys) -> Option<RateRule> {
        let matches = self.call_match(RATES, at, &keys.matches);
        let Some(limit) = keys.limit else {
            if !self.is_set_in(RATES, at, "limit") {
                let message = "not set, expected a rate such as \"100/s\"";
                self.problem_in(RATES, at, "limit", message.into());
            }
            return None;
        };
        let burst = keys.burst.map_or(limit.calls(), |burst| burst.number());
        let rate = Rate { tokens: limit.calls(), per: limit.per(), burst };
        Some(RateRule { matches, per_caller: keys.per_caller, limit, rate })
    }

    /// The faults that are injected.
    pub(super) fn faults(&mut self, keys: &InboundKeys) -> Vec<FaultRule> {
        let faults = keys.fault.iter().enumerate().filter_map(|(at, keys)| self.fault(at, keys));
        let faults: Vec<_> = faults.collect();
        if self.is_well(FAULTS) {
            for (at, first) in unreached(&faults, |a, b| a.matches.includes(&b.matches)) {
                let message = format!("never reached, as {FAULTS}[{first}] matches all its calls");
                self.problem_in(FAULTS, at, "", message);
            }
        }
        faults
    }

    fn fault(&mut self, at: usize, keys: &InboundFaultKeys) -> Option<FaultRule> {
        let matches = self.call_match(FAULTS, at, &keys.matches);
        let (delay, abort) = (keys.delay.map(|delay| delay.duration()), keys.abort);
        if delay.is_none() && abort.is_none() {
            let is_wrong = ["delay", "abort"].iter().any(|key| self.is_set_in(FAULTS, at, key));
            if !is_wrong {
                let message = "found neither delay nor abort, expected one of them or both";
                self.problem_in(FAULTS, at, "", message.into());
            }
            return None;
        }
        let abort = abort.map(|status| status.code());
        Some(FaultRule { matches, injection: Injection { percent: keys.percent, delay, abort } })
    }

    fn call_match(&mut self, list: &str, at: usize, keys: &InboundMatchKeys) -> CallMatch {
        let InboundMatchKeys { path, prefix, headers, caller } = keys.clone();
        let route = MatchKeys { path, prefix, headers };
        let mut tell = |key: &str, message| self.problem_in(list, at, key, message);
        CallMatch { route: route_match(&route, &mut tell), caller }
    }
}
