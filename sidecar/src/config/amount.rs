//! How much and how many: sizes (`64KiB`) and counts.

use std::fmt;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::de::{Deserializer, Error, Unexpected, Visitor};
use serde::{Deserialize, Serialize};

use super::text::{Expected, text_type};

const SIZE: Expected = Expected::new("a size such as \"64KiB\" or \"1MiB\", below \"2GiB\"");

const UNITS: [(&str, u32); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

/// A size in bytes, above zero and below 2 GiB, as HTTP/2 counts its windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
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

impl FromStr for Size {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        parse(text).map(Self).ok_or(SIZE)
    }
}

text_type!(Size, "size", SIZE);

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
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(transparent)]
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

    /// How many, which are never none.
    pub const fn number(self) -> NonZeroU32 {
        self.0
    }

    /// How many, as HTTP/2's settings want it.
    pub const fn as_u32(self) -> u32 {
        self.0.get()
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let count = whole(from, 1..=i32::MAX.into(), "a number from 1 to 2147483647")?;
        let count = u32::try_from(count).ok().and_then(NonZeroU32::new);
        Ok(Self(count.unwrap_or(NonZeroU32::MIN)))
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A whole number of a range.
pub(crate) fn whole<'de, D: Deserializer<'de>>(
    from: D,
    range: RangeInclusive<i64>,
    expected: &'static str,
) -> Result<i64, D::Error> {
    struct Reads(RangeInclusive<i64>, &'static str);

    impl Visitor<'_> for Reads {
        type Value = i64;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.1)
        }

        fn visit_i64<E: Error>(self, number: i64) -> Result<i64, E> {
            if self.0.contains(&number) {
                Ok(number)
            } else {
                Err(E::invalid_value(Unexpected::Signed(number), &self))
            }
        }
    }

    from.deserialize_i64(Reads(range, expected))
}
