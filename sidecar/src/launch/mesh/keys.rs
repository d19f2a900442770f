//! The keys of a `mesh.toml` as they are written, each value right by its type.

use std::collections::BTreeMap;
use std::path::PathBuf;

use consul::api::Action;
use serde::Deserialize;
use serde::de::Deserializer;

use crate::config::ServiceName;
use crate::config::amount::whole;

/// Every key of a `mesh.toml`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Keys {
    pub(super) service: Vec<ServiceKeys>,
    pub(super) intention: Vec<IntentionKeys>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ServiceKeys {
    pub(super) name: Option<ServiceName>,
    pub(super) build: Option<String>,
    pub(super) command: Option<Words>,
    pub(super) env: BTreeMap<String, String>,
    pub(super) instances: Instances,
    pub(super) app: Option<FirstPort>,
    pub(super) inbound: Option<FirstPort>,
    pub(super) outbound: Option<FirstPort>,
    pub(super) admin: Option<FirstPort>,
    pub(super) token_file: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct IntentionKeys {
    pub(super) source: Option<Party>,
    pub(super) destination: Option<Party>,
    pub(super) action: Option<Action>,
}

/// A service, or `*`: any.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Party(String);

impl Party {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Party {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.parse::<ServiceName>() {
            Err(expected) if text != "*" => {
                Err(format!("found {text:?}, {expected}, or \"*\" for any"))
            }
            _ => Ok(Self(text)),
        }
    }
}

/// How many instances a service has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Instances(pub(super) u16);

impl Default for Instances {
    fn default() -> Self {
        Self(1)
    }
}

impl<'de> Deserialize<'de> for Instances {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let count = whole(from, 1..=100, "a number of instances from 1 to 100")?;
        Ok(Self(u16::try_from(count).unwrap_or(1)))
    }
}

/// The port of the first instance; those of further instances count up.
#[derive(Clone, Copy, Debug)]
pub(super) struct FirstPort(pub(super) u16);

impl<'de> Deserialize<'de> for FirstPort {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let port = whole(from, 1..=65535, "a port from 1 to 65535")?;
        Ok(Self(u16::try_from(port).unwrap_or(u16::MAX)))
    }
}

/// A program and its arguments.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "Vec<String>")]
pub(super) struct Words(pub(super) Vec<String>);

impl TryFrom<Vec<String>> for Words {
    type Error = &'static str;

    fn try_from(words: Vec<String>) -> Result<Self, Self::Error> {
        match words.first() {
            Some(program) if !program.is_empty() => Ok(Self(words)),
            _ => Err("found no program, expected one and its arguments, each a text of its own"),
        }
    }
}
