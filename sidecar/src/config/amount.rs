//! How much and how many: sizes (`64KiB`) and counts.

use std::fmt;
use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

const UNITS: [(&str, u32); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

/// A size in bytes, above zero and below 2 GiB, as HTTP/2 counts its windows.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Size(u32);

impl Size {
    pub(crate) const fn kib(kib: u32) -> Self {
        Self(kib << 10)
    }

    /// In bytes.
    pub const fn bytes(self) -> u32 {
        self.0
    }
}

impl TryFrom<String> for Size {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        parse(&text).map(Self).ok_or_else(|| {
            "expected a size such as \"64KiB\" or \"1MiB\", below \"2GiB\"".to_owned()
        })
    }
}

impl From<Size> for String {
    fn from(size: Size) -> Self {
        size.to_string()
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, bytes) in UNITS {
            if self.0.is_multiple_of(bytes) {
                return write!(f, "{}{unit}", self.0 / bytes);
            }
        }
        write!(f, "{}B", self.0)
    }
}

fn parse(text: &str) -> Option<u32> {
    let unit = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(unit);
    let bytes = match unit {
        "B" => 1,
        _ => UNITS.iter().find(|(name, _)| *name == unit)?.1,
    };
    let size = number.parse::<u32>().ok()?.checked_mul(bytes)?;
    (size > 0 && size <= i32::MAX as u32).then_some(size)
}

/// A number of things, at least one.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "i64")]
#[schemars(with = "u32")]
pub struct Count(NonZeroU32);

impl Count {
    pub(crate) const fn new(count: u32) -> Self {
        match NonZeroU32::new(count) {
            Some(count) => Self(count),
            None => Self(NonZeroU32::MIN),
        }
    }

    /// How many.
    pub const fn get(self) -> usize {
        self.0.get() as usize
    }

    /// How many, as HTTP/2's settings want it.
    pub const fn as_u32(self) -> u32 {
        self.0.get()
    }
}

impl TryFrom<i64> for Count {
    type Error = String;

    fn try_from(count: i64) -> Result<Self, String> {
        u32::try_from(count)
            .ok()
            .filter(|count| *count <= i32::MAX as u32)
            .and_then(NonZeroU32::new)
            .map(Self)
            .ok_or_else(|| "expected a number from 1 to 2147483647".to_owned())
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
