//! How many calls callers may make, in which time.
//!
//! Which rules are about a caller, and which buckets it takes from, is looked up once a connection:
//! a call takes from them without a lock. Invariant: no more buckets than the config allows; what
//! has a bucket keeps it until that is full again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use certs::SpiffeId;
use http::request::Parts;
use tokio::time::Instant;

use crate::config::{Inbound, RateRule, Target};
use crate::fault::Fault;
use crate::resilience::bucket::Bucket;
use crate::resilience::moment::{Clock, Moment};

/// A rule and a caller.
type Pair = (usize, Box<str>);

/// The buckets, as all workers of a process share them.
#[derive(Debug)]
pub struct Rates {
    rules: Vec<RateRule>,
    /// One for each rule: everybody's, or that of the callers for whom there is no place.
    common: Vec<Arc<Bucket>>,
    callers: Mutex<HashMap<Pair, Arc<Bucket>>>,
    most: usize,
    clock: Clock,
}

impl Rates {
    /// Of these rules.
    pub fn new(inbound: Option<&Inbound>) -> Self {
        let rules = inbound.map(|inbound| inbound.rates.clone()).unwrap_or_default();
        Self {
            common: rules.iter().map(|_| Arc::default()).collect(),
            rules,
            callers: Mutex::default(),
            most: inbound.map_or(1, |inbound| inbound.rate_buckets.get()),
            clock: Clock::new(Instant::now()),
        }
    }

    /// What one caller may do.
    pub fn of(self: &Arc<Self>, caller: &SpiffeId, now: Instant) -> Allowance {
        let about = self.rules.iter().enumerate();
        let about = about.filter(|(_, rule)| rule.matches.is_of(caller));
        let buckets = about.map(|(at, _)| (at, self.bucket(at, caller, self.clock.moment(now))));
        Allowance { buckets: buckets.collect(), rates: self.clone() }
    }

    fn bucket(&self, rule: usize, caller: &SpiffeId, now: Moment) -> Arc<Bucket> {
        if !self.rules[rule].per_caller {
            return self.common[rule].clone();
        }
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        if callers.len() >= self.most {
            // One that is full is as good as a new one, unless a connection holds it.
            callers.retain(|_, bucket| Arc::strong_count(bucket) > 1 || !bucket.is_full(now));
        }
        let is_full = callers.len() >= self.most;
        let key = (rule, caller.as_str().into());
        match callers.get(&key) {
            Some(bucket) => bucket.clone(),
            None if is_full => self.common[rule].clone(),
            None => callers.entry(key).or_default().clone(),
        }
    }
}

/// The rules about one caller, and its buckets.
#[derive(Debug)]
pub struct Allowance {
    buckets: Vec<(usize, Arc<Bucket>)>,
    rates: Arc<Rates>,
}

impl Allowance {
    /// Takes a call off each rule that is about it.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED with the time until a call may come again, where one has none left.
    pub fn take(&self, head: &Parts, now: Instant) -> Result<(), Fault> {
        let target = Target::of(head);
        let about = || {
            let rules = self.buckets.iter().map(|(at, bucket)| (&self.rates.rules[*at], bucket));
            rules.filter(|(rule, _)| rule.matches.route.may_cover(&target))
        };
        for (taken, (rule, bucket)) in about().enumerate() {
            let Err(wait) = bucket.take(&rule.rate, self.rates.clock.moment(now)) else { continue };
            // What one rule refuses is no call for the others: it takes nothing from who shares them.
            about().take(taken).for_each(|(rule, bucket)| bucket.give_back(&rule.rate));
            let whose = if rule.per_caller { "of this caller" } else { "of all callers" };
            let limit = rule.limit;
            let message = format!("{limit} calls {whose} are let through here, and no more");
            return Err(Fault::rate_limited(message, wait));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::config::Config;

    fn rates(most: usize) -> Arc<Rates> {
        let text = format!(
            "[service]\nname = \"a\"\napp = \"127.0.0.1:1\"\n[inbound]\nrate_buckets = {most}\n\
             [[inbound.rate]]\nlimit = \"1/s\"\nper_caller = true\n"
        );
        let config = Config::from_toml(&text, SystemTime::now()).unwrap();
        Arc::new(Rates::new(config.inbound.as_ref()))
    }

    fn caller(name: &str) -> SpiffeId {
        SpiffeId::for_consul("td.consul", "default", "dc1", name).unwrap()
    }

    fn call() -> Parts {
        http::Request::post("http://a/b.C/D").body(()).unwrap().into_parts().0
    }

    #[test]
    fn a_bucket_is_forgotten_only_when_it_is_full_and_nobody_holds_it() {
        let (rates, now) = (rates(2), Instant::now());
        let held = rates.of(&caller("held"), now);
        held.take(&call(), now).unwrap();
        rates.of(&caller("gone"), now).take(&call(), now).unwrap();
        assert!(held.take(&call(), now).is_err());
        // No place: whoever is new shares one.
        rates.of(&caller("new"), now).take(&call(), now).unwrap();
        assert!(rates.of(&caller("newer"), now).take(&call(), now).is_err());
        assert!(rates.of(&caller("gone"), now).take(&call(), now).is_err());
        let later = now + Duration::from_secs(1);
        rates.of(&caller("new"), later).take(&call(), later).unwrap();
        // The one that is held is still the same.
        held.take(&call(), later).unwrap();
        assert!(rates.of(&caller("held"), later).take(&call(), later).is_err());
        assert_eq!(rates.callers.lock().unwrap().len(), 2);
    }

    #[test]
    fn who_is_over_a_rate_of_its_own_takes_nothing_from_those_that_all_share() {
        let text = "[service]\nname = \"a\"\napp = \"127.0.0.1:1\"\n\
                    [[inbound.rate]]\nlimit = \"4/s\"\n\
                    [[inbound.rate]]\nlimit = \"1/s\"\nper_caller = true\n";
        let config = Config::from_toml(text, SystemTime::now()).unwrap();
        let (rates, now) = (Arc::new(Rates::new(config.inbound.as_ref())), Instant::now());
        let take = |who: &str| rates.of(&caller(who), now).take(&call(), now).is_ok();
        let loud = rates.of(&caller("loud"), now);
        assert_eq!((0..50).filter(|_| loud.take(&call(), now).is_ok()).count(), 1);
        assert_eq!(["b", "c", "d", "e"].map(take), [true, true, true, false]);
    }
}
