//! Names in Consul: a service's, and an instance's own.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::text::{Expected, text_type};

const NAME: Expected = Expected::new("a service name: 1 to 63 of a-z, 0-9 and -");
const ID: Expected = Expected::new("an instance ID: 1 to 128 of A-Z, a-z, 0-9, '.', '_' and '-'");

/// A service in Consul: `[a-z0-9-]{1,63}`, a label of Consul's DNS. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceName(Arc<str>);

impl ServiceName {
    /// Whether this text is a name; costs no allocation.
    pub fn accepts(text: &str) -> bool {
        let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        (1..=63).contains(&text.len()) && text.bytes().all(fits)
    }

    /// The name itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ServiceName {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        if Self::accepts(text) { Ok(Self(text.into())) } else { Err(NAME) }
    }
}

impl Borrow<str> for ServiceName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

text_type!(ServiceName, "service name", NAME);

/// The ID of one instance, unique on its Consul agent, safe in a URL's path.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct InstanceId(String);

impl InstanceId {
    /// What an instance is called that was given no ID.
    pub(super) fn of(name: &ServiceName, port: u16) -> Self {
        Self(format!("{name}-{port}"))
    }

    /// The ID itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for InstanceId {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        // "." and ".." are no segments of a URL's path.
        if (1..=128).contains(&text.len()) && text.bytes().all(fits) && !text.starts_with('.') {
            Ok(Self(text.into()))
        } else {
            Err(ID)
        }
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

text_type!(InstanceId, "instance ID", ID);
