//! How calls are sent: when again, when to a second endpoint at once, when an endpoint rests.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tonic::Code;

use super::amount::whole;
use super::duration;
use super::text::{Expected, text_type};
use super::{Count, Size, Timeout, Wait};
use crate::resilience::backoff::Backoff;
use crate::resilience::breaker::Trip;
use crate::resilience::budget::Allowance;
use crate::resilience::retry::Policy;

/// How the calls of an upstream, or of one of its routes, are sent.
#[derive(Debug, Clone)]
pub struct Calling {
    /// From the end of a request to its response head, where the caller set no deadline.
    pub timeout: Timeout,
    /// When a call is sent again, and how often.
    pub policy: Policy,
    /// Whether its methods may be called twice with the effect of once; none: as their descriptors
    /// say.
    pub is_idempotent: Option<bool>,
    /// The largest request that is kept to be sent again, in bytes.
    pub body: usize,
    /// When a second endpoint is asked.
    pub hedge: Hedge,
}

/// When an idempotent call that waits is sent to a second endpoint, the first answer to count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hedge {
    /// After which time; none: nobody has said, and only of methods that are declared idempotent is a
    /// [stalled](HedgeAfter::Stalled) call sent twice.
    pub after: Option<HedgeAfter>,
    /// How many may be under way at a time, the first one counted.
    pub attempts: NonZeroU32,
}

const AFTER: Expected = Expected::new(
    "\"never\", \"stalled\", \"p95\" or a duration above zero such as \"50ms\", at most \"24h\"",
);

/// The time after which a hedge is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HedgeAfter {
    /// None is.
    Never,
    /// Three times what 95 of a hundred calls of the method take, and at least 50 ms.
    Stalled,
    /// What 95 of a hundred calls of the method take.
    P95,
    /// This.
    Time(Duration),
}

impl FromStr for HedgeAfter {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        Ok(match text {
            "never" => Self::Never,
            "stalled" => Self::Stalled,
            "p95" => Self::P95,
            time => Self::Time(time.parse::<Wait>().map_err(|_| AFTER)?.duration()),
        })
    }
}

impl fmt::Display for HedgeAfter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Never => f.write_str("never"),
            Self::Stalled => f.write_str("stalled"),
            Self::P95 => f.write_str("p95"),
            Self::Time(time) => duration::write(f, *time),
        }
    }
}

text_type!(HedgeAfter, "hedge time", AFTER);

const STATUS: Expected = Expected::new(
    "a gRPC status but OK in small letters, such as \"unavailable\" or \"resource_exhausted\"",
);

/// A gRPC status after which a call may be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Status(Code);

impl Status {
    /// As it is spelled in a config.
    const NAMES: [(&'static str, Code); 16] = [
        ("cancelled", Code::Cancelled),
        ("unknown", Code::Unknown),
        ("invalid_argument", Code::InvalidArgument),
        ("deadline_exceeded", Code::DeadlineExceeded),
        ("not_found", Code::NotFound),
        ("already_exists", Code::AlreadyExists),
        ("permission_denied", Code::PermissionDenied),
        ("resource_exhausted", Code::ResourceExhausted),
        ("failed_precondition", Code::FailedPrecondition),
        ("aborted", Code::Aborted),
        ("out_of_range", Code::OutOfRange),
        ("unimplemented", Code::Unimplemented),
        ("internal", Code::Internal),
        ("unavailable", Code::Unavailable),
        ("data_loss", Code::DataLoss),
        ("unauthenticated", Code::Unauthenticated),
    ];

    /// The status itself.
    pub(super) fn code(self) -> Code {
        self.0
    }
}

impl FromStr for Status {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        let found = Self::NAMES.into_iter().find(|(name, _)| *name == text);
        found.map(|(_, code)| Self(code)).ok_or(STATUS)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = Self::NAMES.into_iter().find(|(_, code)| *code == self.0);
        f.write_str(found.map_or("unknown", |(name, _)| name))
    }
}

text_type!(Status, "gRPC status", STATUS);

/// A number from 1 to 10.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema)]
#[schemars(with = "u32")]
pub(super) struct Attempts(NonZeroU32);

impl Attempts {
    fn get(self) -> NonZeroU32 {
        self.0
    }
}

impl<'de> Deserialize<'de> for Attempts {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let number = whole(from, 1..=10, "a number from 1 to 10")?;
        let number = u32::try_from(number).ok().and_then(NonZeroU32::new);
        Ok(Self(number.unwrap_or(NonZeroU32::MIN)))
    }
}

impl Serialize for Attempts {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u32(self.0.get())
    }
}

/// A part of a hundred.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema)]
#[schemars(with = "u32")]
pub(super) struct Percent(u32);

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let number = whole(from, 0..=100, "a part of a hundred, from 0 to 100")?;
        Ok(Self(u32::try_from(number).unwrap_or(0)))
    }
}

impl Serialize for Percent {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u32(self.0)
    }
}

/// When a call is sent again. What is left out is as it is one level up: the upstream's, then
/// `[retry]`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RetryKeys {
    /// How often a call is sent, the first time counted; 1: never again, nor to a second endpoint.
    pub(super) attempts: Option<Attempts>,
    /// The gRPC statuses after which an idempotent call is sent again.
    pub(super) on: Option<Vec<Status>>,
    /// Whether methods may be called twice with the effect of once. Left out: as their descriptors
    /// say (`idempotency_level`); what they do not say is not idempotent.
    pub(super) idempotent: Option<bool>,
    /// At most so long before a call is sent again for the first time; doubled for each time after.
    pub(super) backoff: Option<Wait>,
    /// At most so long before any time.
    pub(super) backoff_max: Option<Wait>,
    /// A larger request is not kept, and so not sent again.
    pub(super) body: Option<Size>,
}

impl RetryKeys {
    /// What applies where nothing is said.
    pub(super) fn defaults() -> Self {
        let policy = Policy::default();
        Self {
            attempts: Some(Attempts(policy.attempts)),
            on: Some(vec![Status(Code::Unavailable)]),
            idempotent: None,
            backoff: Some(Wait::from_duration(policy.backoff.first)),
            backoff_max: Some(Wait::from_duration(policy.backoff.last)),
            body: Some(Size::kib(64)),
        }
    }
}

/// When an idempotent call that waits for its answer is sent to a second endpoint, too.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct HedgeKeys {
    /// After this time; `p95`: what 95 of a hundred calls of the method take; `stalled`: three times
    /// that, and at least 50 ms; `never`. Left out at all levels: `stalled`, but not for PUT and
    /// DELETE, save where the config says `retry.idempotent = true`.
    pub(super) after: Option<HedgeAfter>,
    /// How often a call may be sent for this, the first time counted.
    pub(super) attempts: Option<Attempts>,
}

impl HedgeKeys {
    /// What applies where nothing is said.
    pub(super) fn defaults() -> Self {
        Self { after: None, attempts: Some(Attempts(NonZeroU32::MIN.saturating_add(1))) }
    }
}

/// What retries and hedges of one upstream may cost.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct BudgetKeys {
    /// So many of a hundred calls over ten seconds are sent again …
    pub(super) percent: Option<Percent>,
    /// … and so many more in ten seconds, so that who calls seldom can retry at all.
    #[serde(deserialize_with = "floor")]
    pub(super) floor: Option<u32>,
}

fn floor<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u32>, D::Error> {
    let number = whole(from, 0..=1_000_000, "a number from 0 to 1000000")?;
    Ok(u32::try_from(number).ok())
}

impl BudgetKeys {
    /// What applies where nothing is said.
    pub(super) fn defaults() -> Self {
        let Allowance { percent, floor } = Allowance::default();
        Self { percent: Some(Percent(percent)), floor: Some(floor) }
    }

    pub(super) fn allowance(&self, other: Allowance) -> Allowance {
        Allowance {
            percent: self.percent.map_or(other.percent, |percent| percent.0),
            floor: self.floor.unwrap_or(other.floor),
        }
    }
}

/// When an endpoint rests.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct BreakerKeys {
    /// After so many calls in a row that it did not take, or answered with UNAVAILABLE.
    pub(super) consecutive: Option<Count>,
    /// Where fewer of a hundred calls succeed over ten seconds; 0: for no such cause …
    pub(super) success_rate: Option<Percent>,
    /// … and there were at least so many.
    pub(super) calls: Option<Count>,
    /// For so long at first, doubled each time that it is not well again …
    pub(super) rest: Option<Wait>,
    /// … up to this.
    pub(super) rest_max: Option<Wait>,
    /// For too few successes no more of a hundred endpoints may rest.
    pub(super) ejected: Option<Percent>,
}

impl BreakerKeys {
    /// What applies where nothing is said.
    pub(super) fn defaults() -> Self {
        let trip = Trip::default();
        Self {
            consecutive: Some(Count::new(trip.consecutive.get())),
            success_rate: Some(Percent(trip.success_percent)),
            calls: Some(Count::new(trip.calls)),
            rest: Some(Wait::from_duration(trip.first)),
            rest_max: Some(Wait::from_duration(trip.last)),
            ejected: Some(Percent(trip.most_percent)),
        }
    }

    pub(super) fn trip(&self, other: Trip) -> Trip {
        let number = |count: Count| NonZeroU32::new(count.as_u32()).unwrap_or(NonZeroU32::MIN);
        Trip {
            consecutive: self.consecutive.map_or(other.consecutive, number),
            success_percent: self.success_rate.map_or(other.success_percent, |rate| rate.0),
            calls: self.calls.map_or(other.calls, Count::as_u32),
            first: self.rest.map_or(other.first, Wait::duration),
            last: self.rest_max.map_or(other.last, Wait::duration),
            most_percent: self.ejected.map_or(other.most_percent, |percent| percent.0),
        }
    }
}

impl Calling {
    /// These, with what `retry` and `hedge` say otherwise.
    pub(super) fn with(&self, retry: &RetryKeys, hedge: &HedgeKeys) -> Self {
        let Policy { attempts, backoff, on, budget } = self.policy;
        Self {
            timeout: self.timeout,
            policy: Policy {
                attempts: retry.attempts.map_or(attempts, Attempts::get),
                backoff: Backoff {
                    first: retry.backoff.map_or(backoff.first, Wait::duration),
                    last: retry.backoff_max.map_or(backoff.last, Wait::duration),
                },
                on: match &retry.on {
                    Some(list) => list.iter().map(|status| status.code()).collect(),
                    None => on,
                },
                budget,
            },
            is_idempotent: retry.idempotent.or(self.is_idempotent),
            body: retry.body.map_or(self.body, |size| size.bytes() as usize),
            hedge: Hedge {
                after: hedge.after.or(self.hedge.after),
                attempts: hedge.attempts.map_or(self.hedge.attempts, Attempts::get),
            },
        }
    }
}

impl Default for Calling {
    fn default() -> Self {
        Self {
            timeout: Timeout::secs(15),
            policy: Policy::default(),
            is_idempotent: None,
            body: 64 * 1024,
            hedge: Hedge { after: None, attempts: NonZeroU32::MIN.saturating_add(1) },
        }
    }
}
