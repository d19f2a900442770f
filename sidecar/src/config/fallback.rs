//! What a route's callers get once its upstream has failed, step by step.

use std::time::Duration;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tonic::Code;

use super::calling::Status;
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
