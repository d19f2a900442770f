//! The upstreams of a config, each with every value that it inherits.

mod descriptors;
mod fallback;

use std::sync::Arc;

use certs::SpiffeId;

use descriptors::Described;
use fallback::Subject;

use super::Resolver;
use super::calling::{Contradiction, Said};
use super::contradiction::is_told;
use super::matching::{route_match, unreached};
use crate::config::balance::HashKeys;
use crate::config::calling::{BreakerKeys, HedgeKeys, RetryKeys};
use crate::config::inbound::RouteFaultKeys;
use crate::config::keys::{Keys, MatchKeys, RouteKeys, UpstreamKeys};
use crate::config::tree::Node;
use crate::config::{
    Balance, Calling, Endpoints, HashOn, HedgeAfter, Limits, PathMatch, Route, RouteMatch,
    ServiceName, Upstream, Upstreams, Wait,
};
use crate::resilience::breaker::Trip;
use crate::resilience::inject::Injection;

pub(super) fn resolve(
    resolver: &mut Resolver<'_>,
    keys: &mut Keys,
    own: Option<&SpiffeId>,
) -> Upstreams {
    let in_flight_per_endpoint = resolver.endpoint_limit(keys);
    let mut calling = Calling::default().with(&keys.retry, &keys.hedge);
    calling.timeout = keys.timeouts.response;
    calling.policy.budget = keys.retry_budget.allowance(calling.policy.budget);
    let trip = keys.breaker.trip(Trip::default());
    // These have defaults, which nobody wrote.
    let (mut retry, mut hedge) = (keys.retry.clone(), keys.hedge.clone());
    let mut breaker = keys.breaker.clone();
    retry.on.take_if(|_| !resolver.is_set("retry.on"));
    // Told beside the limits.
    retry.body = None;
    retry.backoff.take_if(|_| !resolver.is_set("retry.backoff"));
    retry.backoff_max.take_if(|_| !resolver.is_set("retry.backoff_max"));
    hedge.attempts.take_if(|_| !resolver.is_set("hedge.attempts"));
    breaker.rest.take_if(|_| !resolver.is_set("breaker.rest"));
    breaker.rest_max.take_if(|_| !resolver.is_set("breaker.rest_max"));
    let kept_requests = keys.limits.kept_requests;
    let breaker = Some((&breaker, &trip));
    let said = Said { retry: &retry, hedge: &hedge, breaker, kept_requests };
    for Contradiction { key, other, message } in said.contradictions(&calling) {
        if resolver.contradicts(key, other) {
            resolver.problem(key, message);
        }
    }
    let other = Upstream {
        listen: None,
        endpoints: Endpoints::Discovered,
        calling,
        trip,
        connect_timeout: keys.timeouts.connect,
        in_flight: keys.limits.in_flight,
        in_flight_per_endpoint,
        balance: keys.balance.clone(),
        methods: None,
        routes: Vec::new(),
    };
    let named = keys
        .upstreams
        .iter()
        .map(|(name, section)| {
            let consul = keys.consul.enabled;
            let mut section =
                Section { resolver, name, keys: section, consul, own, limits: &keys.limits };
            (name.clone(), Arc::new(section.upstream(&other)))
        })
        .collect();
    Upstreams { named, other: Arc::new(other) }
}

struct Section<'s, 't> {
    resolver: &'s mut Resolver<'t>,
    name: &'s ServiceName,
    keys: &'s UpstreamKeys,
    consul: bool,
    own: Option<&'s SpiffeId>,
    limits: &'s Limits,
}

impl Section<'_, '_> {
    fn upstream(&mut self, other: &Upstream) -> Upstream {
        let keys = self.keys;
        let described = self.described();
        let mut calling = other.calling.with(&keys.retry, &keys.hedge);
        calling.timeout = keys.timeout.unwrap_or(calling.timeout);
        calling.policy.budget = keys.retry_budget.allowance(calling.policy.budget);
        let trip = keys.breaker.trip(other.trip);
        let breaker = Some((&keys.breaker, &trip));
        let said = self.said(&keys.retry, &keys.hedge, breaker);
        for Contradiction { key, other, message } in said.contradictions(&calling) {
            if is_told(self.resolver.find(&self.key(key)), self.above(other)) {
                self.problem(key, message);
            }
        }
        calling.body = calling.body.min(self.limits.kept_requests.bytes() as usize);
        let is_told = self.resolver.contradicts(&self.key("subset"), &self.key("route"));
        if is_told && keys.subset.is_some() && keys.route.iter().any(|route| route.hash.is_some()) {
            let message = "set although a route has a hash, by which calls go to all endpoints";
            self.problem("subset", message.into());
        }
        let in_flight = keys.in_flight.unwrap_or(other.in_flight);
        let inherited = self.limits.in_flight_per_endpoint;
        let mut in_flight_per_endpoint = keys.in_flight_per_endpoint.unwrap_or(inherited);
        let (part, whole) = (self.key("in_flight_per_endpoint"), self.key("in_flight"));
        let whole = if self.resolver.is_set(&whole) { whole } else { "limits.in_flight".into() };
        self.resolver.within(&part, &mut in_flight_per_endpoint, &whole, in_flight);
        let routes = keys.route.iter().enumerate();
        let routes = routes.map(|(at, route)| self.route(at, route, &calling, described.as_ref()));
        let routes: Vec<_> = routes.collect();
        self.reached(&routes);
        Upstream {
            listen: keys.listen,
            endpoints: self.endpoints(),
            trip,
            connect_timeout: keys.connect_timeout.unwrap_or(other.connect_timeout),
            in_flight,
            in_flight_per_endpoint,
            balance: Balance {
                subset: keys.subset.unwrap_or(other.balance.subset),
                slow_start: keys.slow_start.unwrap_or(other.balance.slow_start),
            },
            methods: described.as_ref().map(|described| described.methods.clone()),
            routes,
            calling,
        }
    }

    fn route(
        &mut self,
        at: usize,
        keys: &RouteKeys,
        upstream: &Calling,
        described: Option<&Described>,
    ) -> Route {
        let mut calling = upstream.with(&keys.retry, &keys.hedge);
        calling.timeout = keys.timeout.unwrap_or(calling.timeout);
        let key = if keys.retry.on.is_some() { Some("retry.on") } else { None };
        let key = key.or(keys
            .hedge
            .after
            .filter(|after| *after != HedgeAfter::Never)
            .map(|_| "hedge.after"));
        let matches = self.matches(at, &keys.matches);
        let is_described = match (&matches.path, described) {
            (PathMatch::Exact(path), Some(described)) => described.methods.is_idempotent(path),
            _ => false,
        };
        if let Some(key) = key
            && !calling.is_idempotent.unwrap_or(is_described)
            && self.route_contradicts(at, key, "retry.idempotent")
        {
            self.route_problem(at, key, "set for methods that may not be idempotent, expected retry.idempotent = true beside it: they may then be called twice with the effect of once".into());
        }
        let said = self.said(&keys.retry, &keys.hedge, None);
        for Contradiction { key, other, message } in said.contradictions(&calling) {
            if self.route_contradicts(at, key, other) {
                self.route_problem(at, key, message);
            }
        }
        calling.body = calling.body.min(self.limits.kept_requests.bytes() as usize);
        let hash = self.hash(at, keys.hash.as_ref());
        let fault = keys.fault.as_ref().and_then(|keys| self.fault(at, keys));
        let is_idempotent = calling.is_idempotent;
        let is_laid_over = !self.route_contradicts(at, "fallback", "retry.idempotent");
        let path = &matches.path;
        let subject = Subject { at, path, described, is_idempotent, is_laid_over };
        let fallback = self.ladder(&keys.fallback, &subject);
        Route { matches, calling, fault, hash, fallback }
    }

    /// What is written for a key that routes have, too, in this section or above it.
    fn above(&self, key: &str) -> Option<&Node> {
        self.resolver.find(&self.key(key)).or_else(|| self.resolver.find(key))
    }

    /// Whether a key of a route is told as a contradiction to another key, there or above it.
    fn route_contradicts(&self, at: usize, key: &str, other: &str) -> bool {
        let find = |key| self.resolver.find_in(&self.key("route"), at, key);
        is_told(find(key), find(other).or_else(|| self.above(other)))
    }

    fn said<'k>(
        &self,
        retry: &'k RetryKeys,
        hedge: &'k HedgeKeys,
        breaker: Option<(&'k BreakerKeys, &'k Trip)>,
    ) -> Said<'k> {
        Said { retry, hedge, breaker, kept_requests: self.limits.kept_requests }
    }

    /// Tells of routes that no call comes to.
    fn reached(&mut self, routes: &[Route]) {
        let list = self.key("route");
        if !self.resolver.is_well(&list) {
            return;
        }
        for (at, first) in unreached(routes, |a, b| a.matches.includes(&b.matches)) {
            let message = format!("never reached, as {list}[{first}] matches all its calls");
            self.route_problem(at, "", message);
        }
    }

    fn fault(&mut self, at: usize, keys: &RouteFaultKeys) -> Option<Injection> {
        let RouteFaultKeys { percent, delay, abort } = *keys;
        if delay.is_none() && abort.is_none() {
            let list = self.key("route");
            if ["fault.delay", "fault.abort"]
                .iter()
                .any(|key| self.resolver.is_set_in(&list, at, key))
            {
                // What is wrong with it was told.
                return None;
            }
            let message = "found neither delay nor abort, expected one of them or both";
            self.route_problem(at, "fault", message.into());
            return None;
        }
        let (delay, abort) = (delay.map(Wait::duration), abort.map(|status| status.code()));
        Some(Injection { percent, delay, abort })
    }

    /// What the upstream's file of descriptors says, where it has one.
    fn described(&mut self) -> Option<Described> {
        let path = self.keys.descriptors.as_ref()?;
        let path = self.resolver.path(&self.key("descriptors"), path);
        let described = Described::read(&path);
        described.map_err(|why| self.problem("descriptors", format!("found {path:?}, {why}"))).ok()
    }

    fn endpoints(&mut self) -> Endpoints {
        let Some(addresses) = self.keys.endpoints.clone() else {
            let set = self.resolver.is_set(&self.key("endpoints"));
            if self.keys.identity.is_some() && !set {
                self.problem(
                    "identity",
                    "set without endpoints: what Consul names has the identity that Consul names"
                        .into(),
                );
            }
            if !self.consul && !set {
                let key = format!("upstreams.{}", self.name);
                self.resolver.problem(&key, "no endpoints, although consul.enabled is false, expected endpoints = [\"127.0.0.1:21001\"] or the like".into());
            }
            return Endpoints::Discovered;
        };
        if addresses.is_empty() {
            self.problem("endpoints", "found none, expected at least one address".into());
        }
        for address in &addresses {
            let plain = address.socket_addr();
            if plain.port() == 0 || plain.ip().is_unspecified() {
                self.problem(
                    "endpoints",
                    format!("found \"{address}\", expected an address that can be called"),
                );
            }
        }
        if let (None, Some(own)) = (&self.keys.identity, self.own)
            && own.consul().is_none()
        {
            self.problem("endpoints", format!("their identity cannot be told from ours, {own}, which is not in Consul's form, expected the key identity too"));
        }
        Endpoints::Static {
            addresses,
            identity: self.keys.identity.as_ref().map(|workload| workload.id().clone()),
        }
    }

    fn hash(&mut self, at: usize, keys: Option<&HashKeys>) -> Option<HashOn> {
        const HEADER: &str = "hash.header";
        match keys?.resolve() {
            Ok(hash) => Some(hash),
            // What is wrong with it was told.
            Err(_) if self.resolver.is_refused_in(&self.key("route"), at, HEADER) => None,
            Err(message) => {
                self.route_problem(at, HEADER, message);
                None
            }
        }
    }

    fn matches(&mut self, at: usize, keys: &MatchKeys) -> RouteMatch {
        route_match(keys, &mut |key, message| self.route_problem(at, key, message))
    }

    /// A problem with a key of one route, at that key's own line.
    fn route_problem(&mut self, at: usize, key: &str, message: String) {
        self.resolver.problem_in(&self.key("route"), at, key, message);
    }

    fn key(&self, key: &str) -> String {
        format!("upstreams.{}.{key}", self.name)
    }

    fn problem(&mut self, key: &str, message: String) {
        self.resolver.problem(&self.key(key), message);
    }
}
