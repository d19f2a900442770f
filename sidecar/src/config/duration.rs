//! Durations as a config spells them: `250ms`, `2s`, `5m`, `1h`.

use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The longest that can be asked for: past it a deadline is a mistake.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// A bound that can be switched off: `0s` is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
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

impl TryFrom<String> for Timeout {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let duration =
            parse(&text).ok_or("expected a duration such as \"250ms\" or \"2s\" (\"0s\": none)")?;
        Ok(Self((!duration.is_zero()).then_some(duration)))
    }
}

impl From<Timeout> for String {
    fn from(timeout: Timeout) -> Self {
        timeout.to_string()
    }
}

impl fmt::Display for Timeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(f, self.0.unwrap_or_default())
    }
}

/// A duration above zero: something that must end.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Wait(Duration);

impl Wait {
    /// So many seconds, at least one.
    pub(crate) const fn secs(secs: u64) -> Self {
        Self(Duration::from_secs(if secs == 0 { 1 } else { secs }))
    }

    /// How long.
    pub const fn duration(self) -> Duration {
        self.0
    }
}

impl TryFrom<String> for Wait {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        parse(&text)
            .filter(|duration| !duration.is_zero())
            .map(Self)
            .ok_or_else(|| "expected a duration above zero such as \"250ms\" or \"2s\"".to_owned())
    }
}

impl From<Wait> for String {
    fn from(wait: Wait) -> Self {
        wait.to_string()
    }
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(f, self.0)
    }
}

fn parse(text: &str) -> Option<Duration> {
    let unit = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(unit);
    let number: u64 = number.parse().ok()?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    let duration = Duration::from_millis(number.checked_mul(millis)?);
    (duration <= LONGEST).then_some(duration)
}

fn write(f: &mut fmt::Formatter<'_>, duration: Duration) -> fmt::Result {
    let millis = duration.as_millis();
    match millis {
        0 => f.write_str("0s"),
        _ if millis.is_multiple_of(3_600_000) => write!(f, "{}h", millis / 3_600_000),
        _ if millis.is_multiple_of(60_000) => write!(f, "{}m", millis / 60_000),
        _ if millis.is_multiple_of(1_000) => write!(f, "{}s", millis / 1_000),
        _ => write!(f, "{millis}ms"),
    }
}
