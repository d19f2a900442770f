//! Durations as a config spells them: `250ms`, `2s`, `5m`, `1h`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::text::{Expected, text_type};

const TIMEOUT: Expected =
    Expected::new("a duration such as \"250ms\" or \"2s\", at most \"24h\" (\"0s\": none)");
const WAIT: Expected =
    Expected::new("a duration above zero such as \"250ms\" or \"2s\", at most \"24h\"");

/// The longest that can be asked for: past it a deadline is a mistake.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// A bound that can be switched off: `0s` is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeout(Option<Duration>);

impl Timeout {
    /// No bound.
    pub const NONE: Self = Self(None);

    /// A bound of so many seconds; none where that is 0.
    pub const fn secs(secs: u64) -> Self {
        if secs == 0 { Self(None) } else { Self(Some(Duration::from_secs(secs))) }
    }

    /// The bound; `None`: there is none.
    pub const fn limit(self) -> Option<Duration> {
        self.0
    }
}

impl FromStr for Timeout {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        let duration = bounded(text).ok_or(TIMEOUT)?;
        Ok(Self((!duration.is_zero()).then_some(duration)))
    }
}

text_type!(Timeout, "duration", TIMEOUT);

impl fmt::Display for Timeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(f, self.0.unwrap_or_default())
    }
}

/// A duration above zero: something that must end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wait(Duration);

impl Wait {
    /// So many seconds, at least one.
    pub(crate) const fn secs(secs: u64) -> Self {
        Self(Duration::from_secs(if secs == 0 { 1 } else { secs }))
    }

    /// So long, at least a millisecond.
    pub(crate) fn from_duration(duration: Duration) -> Self {
        Self(duration.max(Duration::from_millis(1)))
    }

    /// So many milliseconds, at least one.
    pub(crate) const fn millis(millis: u64) -> Self {
        Self(Duration::from_millis(if millis == 0 { 1 } else { millis }))
    }

    /// How long.
    pub const fn duration(self) -> Duration {
        self.0
    }
}

impl FromStr for Wait {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        match bounded(text) {
            Some(duration) if !duration.is_zero() => Ok(Self(duration)),
            _ => Err(WAIT),
        }
    }
}

text_type!(Wait, "duration", WAIT);

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(f, self.0)
    }
}

fn bounded(text: &str) -> Option<Duration> {
    parse(text).filter(|duration| *duration <= LONGEST)
}

/// A number and its unit: `ms`, `s`, `m`, `h` or `d`.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let unit = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(unit);
    let number: u64 = number.parse().ok()?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    Some(Duration::from_millis(number.checked_mul(millis)?))
}

pub(super) fn write(f: &mut fmt::Formatter<'_>, duration: Duration) -> fmt::Result {
    let millis = duration.as_millis();
    match millis {
        0 => f.write_str("0s"),
        _ if millis.is_multiple_of(3_600_000) => write!(f, "{}h", millis / 3_600_000),
        _ if millis.is_multiple_of(60_000) => write!(f, "{}m", millis / 60_000),
        _ if millis.is_multiple_of(1_000) => write!(f, "{}s", millis / 1_000),
        _ => write!(f, "{millis}ms"),
    }
}
