//! How calls are spread over an upstream's endpoints, as keys and as values.

use consul::api::Weights;
use http::HeaderName;
use schemars::JsonSchema;
use serde::de::Deserializer;
use serde::{Deserialize, Serialize};

use super::amount::whole;
use super::{Count, Timeout};

/// How calls are spread over endpoints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Balance {
    /// Of an upstream with more endpoints each caller takes so many, its own choice, so that not
    /// every caller is connected to every endpoint. Not where a route hashes: there all count.
    pub subset: Count,
    /// An endpoint that is new, or back after it failed, gets its whole share of the calls only
    /// after so long, and a tenth of it at first.
    pub slow_start: Timeout,
}

impl Default for Balance {
    fn default() -> Self {
        Self { subset: Count::new(100), slow_start: Timeout::secs(10) }
    }
}

/// What decides to which endpoint the calls of a route go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HashOn {
    /// Calls with the same value of it go to the same endpoint while that can take them.
    pub header: HeaderName,
}

/// What decides to which endpoint the calls of a route go, as it is written.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct HashKeys {
    /// Calls with the same value of this header go to the same endpoint while that can take them;
    /// calls without it to any.
    pub(super) header: Option<String>,
}

impl HashKeys {
    /// # Errors
    /// In words, where there is no header or its name is none.
    pub(super) fn resolve(&self) -> Result<HashOn, String> {
        let Some(name) = &self.header else {
            return Err("not set, expected a header's name such as \"x-user-id\"".into());
        };
        // Names that begin so are HTTP/2's own fields, and no header.
        match HeaderName::try_from(name) {
            Ok(header) if header.as_str().starts_with("outrigger-") => {
                Err(format!("found {name:?}, which is taken off first, expected another header"))
            }
            Ok(header) => Ok(HashOn { header }),
            Err(_) => Err(format!("found {name:?}, expected a header's name")),
        }
    }
}

/// The share of the calls that an instance gets beside others, while it is well and while it is in
/// warning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Weight {
    /// While its checks pass.
    #[serde(deserialize_with = "passing")]
    pub passing: u16,
    /// While one of them warns. 0: no calls, unless no other instance takes any.
    #[serde(deserialize_with = "warning")]
    pub warning: u16,
}

impl Default for Weight {
    fn default() -> Self {
        Self { passing: 1, warning: 1 }
    }
}

impl From<Weight> for Weights {
    fn from(weight: Weight) -> Self {
        Self { passing: weight.passing.into(), warning: weight.warning.into() }
    }
}

// Consul's own bounds.
fn passing<'de, D: Deserializer<'de>>(from: D) -> Result<u16, D::Error> {
    let weight = whole(from, 1..=65_535, "a weight from 1 to 65535")?;
    Ok(u16::try_from(weight).unwrap_or(1))
}

fn warning<'de, D: Deserializer<'de>>(from: D) -> Result<u16, D::Error> {
    let weight = whole(from, 0..=65_535, "a weight from 0 to 65535")?;
    Ok(u16::try_from(weight).unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_has_a_header_with_a_headers_name() {
        let read = |header: Option<&str>| HashKeys { header: header.map(Into::into) }.resolve();
        assert_eq!(read(Some("X-User-Id")).unwrap().header, "x-user-id");
        assert!(read(None).unwrap_err().contains("not set"));
        for bad in ["", "x user", ":path"] {
            assert!(read(Some(bad)).unwrap_err().contains("expected a header's name"), "{bad}");
        }
    }
}
