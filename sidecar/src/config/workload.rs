//! A workload's identity as a config names it.

use std::fmt;
use std::str::FromStr;

use certs::SpiffeId;

use super::text::{Expected, text_type};

const WORKLOAD: Expected =
    Expected::new("a SPIFFE ID such as \"spiffe://example.org/ns/default/dc/dc1/svc/web\"");

/// A SPIFFE ID, read from text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Workload(SpiffeId);

impl Workload {
    /// The identity.
    pub(super) fn id(&self) -> &SpiffeId {
        &self.0
    }
}

impl FromStr for Workload {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        text.parse().map(Self).map_err(|error: certs::SpiffeIdError| {
            Expected(format!("{}: {error}", WORKLOAD.0).into())
        })
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

text_type!(Workload, "SPIFFE ID", WORKLOAD);
