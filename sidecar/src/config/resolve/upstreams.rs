//! The upstreams of a config, each with every value that it inherits.

mod descriptors;
mod fallback;

use std::sync::Arc;

use certs::SpiffeId;
use http::{HeaderName, HeaderValue};

use descriptors::Described;
use fallback::Subject;

use super::Resolver;
use crate::config::balance::HashKeys;
use crate::config::keys::{Keys, MatchKeys, UpstreamKeys};
use crate::config::problem::Problem;
use crate::config::tree::Value;
use crate::config::{
    Balance, Endpoints, HashOn, PathMatch, Route, RouteMatch, ServiceName, Upstream, Upstreams,
};

pub(super) fn resolve(
    resolver: &mut Resolver<'_>,
    keys: &Keys,
    own: Option<&SpiffeId>,
) -> Upstreams {
    let other = Upstream {
        listen: None,
        endpoints: Endpoints::Discovered,
        timeout: keys.timeouts.response,
        connect_timeout: keys.timeouts.connect,
        in_flight: keys.limits.in_flight,
        in_flight_per_endpoint: keys.limits.in_flight_per_endpoint,
        balance: keys.balance.clone(),
        methods: None,
        routes: Vec::new(),
    };
    let named = keys
        .upstreams
        .iter()
        .map(|(name, section)| {
            let mut section =
                Section { resolver, name, keys: section, consul: keys.consul.enabled, own };
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
}

impl Section<'_, '_> {
    fn upstream(&mut self, other: &Upstream) -> Upstream {
        let keys = self.keys;
        let timeout = keys.timeout.unwrap_or(other.timeout);
        let described = self.described();
        Upstream {
            listen: keys.listen,
            endpoints: self.endpoints(),
            timeout,
            connect_timeout: keys.connect_timeout.unwrap_or(other.connect_timeout),
            in_flight: keys.in_flight.unwrap_or(other.in_flight),
            in_flight_per_endpoint: keys
                .in_flight_per_endpoint
                .unwrap_or(other.in_flight_per_endpoint),
            balance: Balance {
                subset: keys.subset.unwrap_or(other.balance.subset),
                slow_start: keys.slow_start.unwrap_or(other.balance.slow_start),
            },
            methods: described.as_ref().map(|described| described.methods.clone()),
            routes: keys
                .route
                .iter()
                .enumerate()
                .map(|(at, route)| {
                    let matches = self.matches(at, &route.matches);
                    let (path, described) = (&matches.path, described.as_ref());
                    let subject = Subject { at, path, described, is_idempotent: false };
                    Route {
                        fallback: self.ladder(&route.fallback, &subject),
                        matches,
                        timeout: route.timeout.unwrap_or(timeout),
                        hash: self.hash(at, route.hash.as_ref()),
                    }
                })
                .collect(),
        }
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
        let resolved = keys?.resolve();
        resolved.map_err(|message| self.route_problem(at, "hash", message)).ok()
    }

    fn matches(&mut self, at: usize, keys: &MatchKeys) -> RouteMatch {
        let path = match (&keys.path, &keys.prefix) {
            (None, None) => PathMatch::Any,
            (Some(path), None) => PathMatch::Exact(path.clone()),
            (None, Some(prefix)) => PathMatch::Prefix(prefix.clone()),
            (Some(_), Some(_)) => {
                self.route_problem(
                    at,
                    "match",
                    "found path and prefix in one match, expected one of them".into(),
                );
                PathMatch::Any
            }
        };
        if let PathMatch::Exact(text) | PathMatch::Prefix(text) = &path
            && !text.starts_with('/')
        {
            self.route_problem(
                at,
                "match",
                format!("found the path {text:?}, expected one that begins with \"/\""),
            );
        }
        let headers = keys.headers.iter().filter_map(|(name, value)| {
            match (HeaderName::try_from(name), HeaderValue::try_from(value)) {
                (Ok(name), Ok(value)) => Some((name, value)),
                (Err(_), _) => {
                    self.route_problem(
                        at,
                        "match",
                        format!("found {name:?}, expected a header's name"),
                    );
                    None
                }
                (_, Err(_)) => {
                    self.route_problem(
                        at,
                        "match",
                        format!("found {value:?}, expected a header's value"),
                    );
                    None
                }
            }
        });
        RouteMatch { headers: headers.collect(), path }
    }

    /// A problem with one key of a route, at its own line.
    fn route_problem(&mut self, at: usize, part: &str, message: String) {
        let place = self.key("route");
        let route = match self.resolver.find(&place).map(|node| &node.value) {
            // What was refused is no longer among the keys, so it does not count.
            Some(Value::List(routes)) => {
                let mut kept = routes
                    .iter()
                    .enumerate()
                    .filter(|(_, route)| !matches!(route.value, Value::Refused));
                kept.nth(at)
            }
            _ => None,
        };
        let (key, node) = match route {
            Some((at, route)) => {
                (format!("{place}[{at}].{part}"), route.find([part]).or(Some(route)))
            }
            None => (place, None),
        };
        let origin = node.and_then(|node| node.origin.clone());
        self.resolver.problems.push(Problem { origin, key, message });
    }

    fn key(&self, key: &str) -> String {
        format!("upstreams.{}.{key}", self.name)
    }

    fn problem(&mut self, key: &str, message: String) {
        self.resolver.problem(&self.key(key), message);
    }
}
