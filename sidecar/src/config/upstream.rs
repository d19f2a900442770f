//! How each upstream is called: its own values where it has a section, else the
//! defaults of the whole sidecar.

use std::collections::BTreeMap;
use std::sync::Arc;

use certs::SpiffeId;
use http::{HeaderName, HeaderValue};

use super::{
    Balance, Calling, Count, EndpointAddr, HashOn, Rung, ServiceName, Target, UpstreamListenAddr,
    Wait,
};
use crate::discovery::methods::Methods;
use crate::resilience::breaker::Trip;
use crate::resilience::inject::Injection;

/// Every upstream: those with a section of their own, and how all others are called.
#[derive(Debug, Clone)]
pub struct Upstreams {
    pub(super) named: BTreeMap<ServiceName, Arc<Upstream>>,
    pub(super) other: Arc<Upstream>,
}

impl Upstreams {
    /// How this one is called.
    pub fn of(&self, name: &ServiceName) -> &Arc<Upstream> {
        self.named.get(name).unwrap_or(&self.other)
    }

    /// Those with a section of their own, in the order of their names.
    pub fn named(&self) -> impl Iterator<Item = (&ServiceName, &Arc<Upstream>)> {
        self.named.iter()
    }
}

/// How one upstream is called.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// A port of its own: every call to it goes here, whatever its authority.
    pub listen: Option<UpstreamListenAddr>,
    /// Where its addresses come from.
    pub endpoints: Endpoints,
    /// How its calls are sent.
    pub calling: Calling,
    /// When its endpoints rest.
    pub trip: Trip,
    /// Opening a TCP connection to an endpoint.
    pub connect_timeout: Wait,
    /// Calls that wait for their response head.
    pub in_flight: Count,
    /// Calls to one endpoint that wait for their response head.
    pub in_flight_per_endpoint: Count,
    /// How calls are spread over its endpoints.
    pub balance: Balance,
    /// Which of its methods are idempotent, where a file says so; none: its reflection is asked.
    pub methods: Option<Arc<Methods>>,
    /// The first match wins; none: the upstream's own values.
    pub routes: Vec<Route>,
}

impl Upstream {
    /// Whether calls of some route go to endpoints by a hash.
    pub fn hashes(&self) -> bool {
        self.routes.iter().any(|route| route.hash.is_some())
    }
}

/// Where an upstream's addresses come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoints {
    /// From Consul.
    Discovered,
    /// From the config.
    Static {
        /// At least one.
        addresses: Vec<EndpointAddr>,
        /// Expected of each; none: the upstream's name in our own trust domain.
        identity: Option<SpiffeId>,
    },
}

/// What one route sets for the calls that it matches.
#[derive(Debug, Clone)]
pub struct Route {
    /// Which calls.
    pub matches: RouteMatch,
    /// How its calls are sent; what it does not say it inherits.
    pub calling: Calling,
    /// What some of the calls meet on purpose.
    pub fault: Option<Injection>,
    /// What decides to which endpoint a call goes; none: how well it does.
    pub hash: Option<HashOn>,
    /// What callers get once the upstream has failed.
    pub fallback: Vec<Rung>,
}

/// Which calls a route is for: all that it names must match.
#[derive(Debug, Clone)]
pub struct RouteMatch {
    /// The request's path, without its query.
    pub path: PathMatch,
    /// Headers that must be there with exactly this value.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

impl RouteMatch {
    /// Whether a request is one of them, by the normal form of its path.
    pub fn covers(&self, target: &Target<'_>) -> bool {
        let path = match &self.path {
            PathMatch::Any => true,
            // What is stated is in its normal form, and so is what equals it.
            PathMatch::Exact(exact) => target.path() == exact || target.normal() == exact,
            PathMatch::Prefix(prefix) => target.normal().starts_with(prefix),
        };
        path && self.has_headers(target)
    }

    /// Whether an app may read a request as one of them: one that goes by the first segments reads
    /// `/x/..` as below `/x`.
    pub fn may_cover(&self, target: &Target<'_>) -> bool {
        let as_it_came = match &self.path {
            PathMatch::Prefix(prefix) => target.path().starts_with(prefix),
            PathMatch::Any | PathMatch::Exact(_) => false,
        };
        (as_it_came && self.has_headers(target)) || self.covers(target)
    }

    fn has_headers(&self, target: &Target<'_>) -> bool {
        let has = |(name, value): &(HeaderName, HeaderValue)| {
            target.headers.get_all(name).iter().any(|v| v == value)
        };
        self.headers.iter().all(has)
    }

    /// Whether it is for every request that `other` is for.
    pub(super) fn includes(&self, other: &Self) -> bool {
        let path = match (&self.path, &other.path) {
            (PathMatch::Any, _) => true,
            (PathMatch::Exact(one), PathMatch::Exact(other)) => one == other,
            (PathMatch::Prefix(above), PathMatch::Exact(path) | PathMatch::Prefix(path)) => {
                path.starts_with(above)
            }
            (PathMatch::Exact(_) | PathMatch::Prefix(_), _) => false,
        };
        path && self.headers.iter().all(|header| other.headers.contains(header))
    }
}

/// Which paths a route is for; each stated in its normal form, see [`Target`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathMatch {
    /// Every path.
    Any,
    /// This one.
    Exact(String),
    /// All that begin so.
    Prefix(String),
}
