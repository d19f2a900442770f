//! Values that are text in a file, a variable or a flag, and more than text after it.
//! A wrong one says what was expected, in words that follow "expected".

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use serde::de::{Deserializer, Error, Unexpected, Visitor};

/// What a value that does not parse should have been: "a duration such as …".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected(pub(super) Cow<'static, str>);

impl Expected {
    pub(super) const fn new(what: &'static str) -> Self {
        Self(Cow::Borrowed(what))
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {}", self.0)
    }
}

impl std::error::Error for Expected {}

/// A type that is read from text.
pub(super) trait Text: FromStr<Err = Expected> {
    /// What is said where the value is no text at all.
    const EXPECTED: Expected;
}

/// Reads one from anything that serde can read text from.
pub(super) fn read<'de, T: Text, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    struct Reads<T>(PhantomData<T>);

    impl<T: Text> Visitor<'_> for Reads<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(&T::EXPECTED.0)
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
            text.parse().map_err(|expected: Expected| {
                E::invalid_value(Unexpected::Str(text), &&*expected.0)
            })
        }
    }

    from.deserialize_str(Reads(PhantomData))
}

/// Gives a type that is read from text, and displayed as it, its place in files and schemas.
macro_rules! text_type {
    ($name:ident, $kind:literal, $expected:expr) => {
        impl $crate::config::text::Text for $name {
            const EXPECTED: $crate::config::text::Expected = $expected;
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                $crate::config::text::read(from)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "format": $kind })
            }
        }
    };
}
pub(super) use text_type;
