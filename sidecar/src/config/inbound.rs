//! What the sidecar does for the app that it stands before: how many calls it lets through, of
//! whom, and which it hurts on purpose.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use certs::SpiffeId;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use super::amount::whole;
use super::calling::Status;
use super::text::{Expected, text_type};
use super::{Count, RouteMatch, ServiceName, Wait, Workload};
use crate::resilience::bucket::Rate;
use crate::resilience::inject::Injection;

/// How many calls from the mesh wait for the app's response heads at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Concurrency {
    /// Whether the limit is learned from how long answers take. There is none below `most` until
    /// nearly all methods take several times what they usually take while calls pile up. `false`:
    /// `most` alone is the limit.
    pub adaptive: bool,
    /// The learned limit is never less.
    pub least: Count,
    /// Never more calls than this.
    pub most: Count,
    /// Where the limit is learned, answers may take so many percent of what they usually take
    /// (101 to 10000) …
    #[serde(deserialize_with = "tolerance")]
    pub tolerance_percent: u32,
    /// … and this beyond it.
    pub slack: Wait,
    /// Calls over the limit that wait, in the whole sidecar; one more takes the place of the oldest,
    /// which is refused: of those that are sent again, where there are any.
    pub queue: Count,
    /// A call over the limit waits so long, and never past its deadline, before it is refused.
    pub queue_timeout: Wait,
}

impl Default for Concurrency {
    fn default() -> Self {
        Self {
            adaptive: true,
            least: Count::new(16),
            most: Count::new(10_000),
            tolerance_percent: 300,
            slack: Wait::millis(20),
            queue: Count::new(1_024),
            queue_timeout: Wait::millis(100),
        }
    }
}

fn tolerance<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    let percent = whole(from, 101..=10_000, "a number of percent from 101 to 10000")?;
    Ok(u32::try_from(percent).unwrap_or(u32::MAX))
}

/// How many calls some callers may make, in which time.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RateKeys {
    /// Which calls: all that it names must match.
    #[serde(rename = "match")]
    pub(super) matches: InboundMatchKeys,
    /// Whether each caller, by its SPIFFE ID, has the whole limit for itself.
    pub(super) per_caller: bool,
    /// So many calls in a time: `100/s`, `5000/m`, `10/250ms`. Must be set.
    pub(super) limit: Option<RateLimit>,
    /// So many at once after a pause. Left out: those of the limit.
    pub(super) burst: Option<Count>,
}

/// A fault that some calls meet on purpose, for people who test their services.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct InboundFaultKeys {
    /// Which calls: all that it names must match.
    #[serde(rename = "match")]
    pub(super) matches: InboundMatchKeys,
    /// Of a hundred of them, so many (1 to 100).
    #[serde(deserialize_with = "percent")]
    pub(super) percent: u8,
    /// The call waits so long before it goes on.
    pub(super) delay: Option<Wait>,
    /// The call ends with this gRPC status instead of reaching the app.
    pub(super) abort: Option<Status>,
}

/// A fault that some of a route's calls meet on purpose, for people who test their services.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RouteFaultKeys {
    /// Of a hundred calls, so many (1 to 100).
    #[serde(deserialize_with = "percent")]
    pub(super) percent: u8,
    /// The call waits so long before it is sent.
    pub(super) delay: Option<Wait>,
    /// The call ends with this gRPC status instead of being sent.
    pub(super) abort: Option<Status>,
}

impl Default for RouteFaultKeys {
    fn default() -> Self {
        Self { percent: 100, delay: None, abort: None }
    }
}

impl Default for InboundFaultKeys {
    fn default() -> Self {
        Self { matches: InboundMatchKeys::default(), percent: 100, delay: None, abort: None }
    }
}

/// Which calls from the mesh a rule is for.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct InboundMatchKeys {
    /// The whole path: `/user.v1.UserService/ListUsers`. Other spellings of it (`//user.v1…`,
    /// `/./user.v1…`, `/%75ser.v1…`) match, too.
    pub(super) path: Option<String>,
    /// How the path begins: `/user.v1.UserService/`.
    pub(super) prefix: Option<String>,
    /// Headers that must be there with exactly this value.
    pub(super) headers: BTreeMap<String, String>,
    /// Who calls: a service's name or a SPIFFE ID.
    pub(super) caller: Option<Caller>,
}

fn percent<'de, D: Deserializer<'de>>(from: D) -> Result<u8, D::Error> {
    let percent = whole(from, 1..=100, "a number of percent from 1 to 100")?;
    Ok(u8::try_from(percent).unwrap_or(100))
}

/// Which calls from the mesh a rule is for: all that it names must match.
#[derive(Debug, Clone)]
pub struct CallMatch {
    /// What the request must be.
    pub route: RouteMatch,
    /// Who must call; none: anyone.
    pub caller: Option<Caller>,
}

impl CallMatch {
    /// Whether every call that `other` is for matches.
    pub(super) fn includes(&self, other: &Self) -> bool {
        let whoever = self.caller.is_none() || self.caller == other.caller;
        whoever && self.route.includes(&other.route)
    }

    /// Whether some calls of this caller match.
    pub fn is_of(&self, caller: &SpiffeId) -> bool {
        self.caller.as_ref().is_none_or(|stated| stated.is(caller))
    }
}

/// How many calls some callers may make, in which time.
#[derive(Debug, Clone)]
pub struct RateRule {
    /// Which calls.
    pub matches: CallMatch,
    /// Whether each caller has the whole rate for itself.
    pub per_caller: bool,
    /// As it was written, for people.
    pub limit: RateLimit,
    /// The rate and its burst.
    pub rate: Rate,
}

/// A fault that some calls meet on purpose.
#[derive(Debug, Clone)]
pub struct FaultRule {
    /// Which calls.
    pub matches: CallMatch,
    /// What happens to them.
    pub injection: Injection,
}

const CALLER: Expected = Expected::new(
    "a caller such as \"web\" or \"spiffe://…/ns/default/dc/dc1/svc/web\" (a service or a SPIFFE ID)",
);

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// A service of this name.
    Service(ServiceName),
    /// This workload.
    Workload(SpiffeId),
}

impl Caller {
    /// Whether this is who calls.
    pub fn is(&self, peer: &SpiffeId) -> bool {
        match self {
            Self::Service(name) => peer.service() == Some(name.as_str()),
            Self::Workload(id) => id.is_same_workload(peer),
        }
    }
}

impl FromStr for Caller {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        match text.starts_with("spiffe:") {
            true => text.parse::<Workload>().map(|workload| Self::Workload(workload.id().clone())),
            false => text.parse().map(Self::Service).map_err(|_| CALLER),
        }
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(name) => name.fmt(f),
            Self::Workload(id) => f.write_str(id.as_str()),
        }
    }
}

text_type!(Caller, "caller", CALLER);

const RATE: Expected = Expected::new(
    "a rate such as \"100/s\", \"5000/m\" or \"10/250ms\", of at least one call in at most \"24h\"",
);

/// So many calls in a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    calls: NonZeroU32,
    per: Wait,
}

impl RateLimit {
    /// So many calls …
    pub const fn calls(self) -> NonZeroU32 {
        self.calls
    }

    /// … in this time.
    pub const fn per(self) -> Duration {
        self.per.duration()
    }
}

impl FromStr for RateLimit {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        let (calls, per) = text.split_once('/').ok_or(RATE)?;
        // `u32` takes a plus sign, too.
        if !calls.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(RATE);
        }
        let one = per.bytes().all(|byte| byte.is_ascii_alphabetic());
        let per = if one { format!("1{per}") } else { per.to_owned() };
        Ok(Self { calls: calls.parse().map_err(|_| RATE)?, per: per.parse().map_err(|_| RATE)? })
    }
}

impl fmt::Display for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per = self.per.to_string();
        // As it is usually written: `100/s`, not `100/1s`.
        let one =
            per.strip_prefix('1').filter(|unit| unit.bytes().all(|b| b.is_ascii_alphabetic()));
        write!(f, "{}/{}", self.calls, one.unwrap_or(&per))
    }
}

text_type!(RateLimit, "rate", RATE);
