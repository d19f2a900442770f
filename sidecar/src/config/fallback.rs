//! What a route's callers get once its upstream has failed, step by step.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tonic::Code;

use super::text::{Expected, text_type};
use super::{ServiceName, Wait};

/// One step: where it has an answer, no further one is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rung {
    /// The same call to another service.
    Upstream(ServiceName),
    /// The last good answer to the same request, no older than this.
    Stale(Duration),
    /// This answer: one message with its gRPC prefix (gRPC over HTTP/2, "Length-Prefixed-Message").
    Answer(Bytes),
    /// This status.
    Status(Code, String),
}

/// One step as it is written: one of `upstream`, `stale`, `answer`, `status`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RungKeys {
    /// The same call goes to this service, where it can be sent again. Its own fallback is not
    /// looked at.
    pub(super) upstream: Option<ServiceName>,
    /// The last good answer to the same request (its path, its body and its metadata), no older
    /// than this. Of idempotent methods with one message as their answer.
    pub(super) stale: Option<Wait>,
    /// The JSON form of the method's response message. Needs `match.path`, and `descriptors` of the
    /// upstream.
    pub(super) answer: Option<String>,
    /// A gRPC status.
    pub(super) status: Option<Status>,
    /// With `status`: its message.
    pub(super) message: Option<String>,
}

const STATUS: Expected = Expected::new(
    "a gRPC status but OK in small letters, such as \"unavailable\" or \"resource_exhausted\"",
);

/// A gRPC status that a route may answer with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Status(pub(super) Code);

const NAMES: [(&str, Code); 16] = [
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

impl FromStr for Status {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        let found = NAMES.into_iter().find(|(name, _)| *name == text);
        found.map(|(_, code)| Self(code)).ok_or(STATUS)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = NAMES.into_iter().find(|(_, code)| *code == self.0);
        f.write_str(found.map_or("unknown", |(name, _)| name))
    }
}

text_type!(Status, "gRPC status", STATUS);
