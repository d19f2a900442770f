//! What the headers of an answer say: its index, and how far it can be trusted.

use std::time::Duration;

use http::HeaderMap;

/// An answer and its headers.
#[derive(Clone, Debug)]
pub struct Answer<T> {
    /// The body.
    pub value: T,
    /// The headers.
    pub meta: Meta,
}

/// Consul's headers; what an endpoint does not send is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// `X-Consul-Index`: what to block on next.
    pub index: Option<u64>,
    /// `X-Consul-KnownLeader`. No sign of an outage by itself: health answers that the agent gives
    /// from its stream of changes say `false` while all is well (seen on 1.22.3).
    pub known_leader: Option<bool>,
    /// `X-Consul-LastContact`: how long the answering server was without its leader.
    pub last_contact: Option<Duration>,
    /// `X-Cache`: from the agent's cache or not.
    pub cache: Option<Cache>,
    /// `Age`: above zero from a `cached` request means that the agent lost its servers.
    pub age: Option<Duration>,
    /// `X-Consul-Default-Acl-Policy`. Not the default of intentions: see
    /// [`crate::api::agent::Agent::default_intention`].
    pub default_acl_policy: Option<String>,
}

/// Whether the agent answered from its cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cache {
    /// From the cache.
    Hit,
    /// From the servers.
    Miss,
}

impl Meta {
    pub(crate) fn read(headers: &HeaderMap) -> Meta {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let number = |name: &str| text(name).and_then(|value| value.parse::<u64>().ok());
        Meta {
            index: number("x-consul-index"),
            known_leader: text("x-consul-knownleader").and_then(|value| value.parse().ok()),
            last_contact: number("x-consul-lastcontact").map(Duration::from_millis),
            cache: match text("x-cache") {
                Some("HIT") => Some(Cache::Hit),
                Some("MISS") => Some(Cache::Miss),
                _ => None,
            },
            age: number("age").map(Duration::from_secs),
            default_acl_policy: text("x-consul-default-acl-policy").map(str::to_owned),
        }
    }
}
