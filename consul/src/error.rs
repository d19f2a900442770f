//! What can go wrong between a caller and Consul: one closed set.
//!
//! Every variant names the request (`GET /v1/…`), and none of them ever holds a token.

use std::{io, path::PathBuf, time::Duration};

/// Why a request to Consul failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No connection, or it broke before the answer was whole.
    #[error("Consul at {address} cannot be reached: {source}")]
    Unreachable {
        /// The address as it was configured.
        address: String,
        /// What the system, TLS or HTTP said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No answer in time.
    #[error("{what}: Consul gave no answer within {after:?}")]
    Timeout {
        /// The method and path.
        what: String,
        /// How long was waited.
        after: Duration,
    },
    /// Status 403: the token is unknown, or lacks a permission; the message says which.
    #[error("{what}: Consul refuses the token: {message}")]
    Forbidden {
        /// The method and path.
        what: String,
        /// Consul's own words.
        message: String,
    },
    /// Status 404.
    #[error("{what}: not found: {message}")]
    NotFound {
        /// The method and path.
        what: String,
        /// Consul's own words.
        message: String,
    },
    /// Any other status that is no success.
    #[error("{what}: Consul answers {code}: {message}")]
    Status {
        /// The method and path.
        what: String,
        /// The HTTP status.
        code: u16,
        /// Consul's own words.
        message: String,
    },
    /// The answer is not what its endpoint promises.
    #[error("{what}: Consul's answer does not parse: {source}")]
    Decode {
        /// The method and path.
        what: String,
        /// Where and why, as serde tells it.
        source: serde_json::Error,
    },
    /// The answer is larger than [`crate::Config::max_body`].
    #[error("{what}: Consul's answer is larger than {limit} bytes")]
    TooLarge {
        /// The method and path.
        what: String,
        /// The limit, in bytes.
        limit: usize,
    },
    /// The token's file cannot be read, and never could.
    #[error("the token file {} cannot be read: {source}", path.display())]
    TokenFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The request cannot be put in HTTP's form (a token with a line break, say).
    #[error("{what}: the request cannot be written: {reason}")]
    Request {
        /// The method and path.
        what: String,
        /// What is wrong with it; never the token itself.
        reason: String,
    },
}

impl Error {
    /// The token is unknown or lacks a permission.
    pub fn is_forbidden(&self) -> bool {
        matches!(self, Error::Forbidden { .. })
    }

    /// What was asked for does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Error::NotFound { .. })
    }

    /// Consul itself, or the way to it, is away: the same request may succeed later.
    pub fn is_outage(&self) -> bool {
        match self {
            Error::Unreachable { .. } | Error::Timeout { .. } => true,
            Error::Status { code, .. } => *code >= 500 || *code == 429,
            _ => false,
        }
    }

    /// Two errors of one kind are one outage to whoever watches.
    pub(crate) fn kind(&self) -> (u8, u16) {
        match self {
            Error::Unreachable { .. } => (0, 0),
            Error::Timeout { .. } => (1, 0),
            Error::Forbidden { .. } => (2, 0),
            Error::NotFound { .. } => (3, 0),
            Error::Status { code, .. } => (4, *code),
            Error::Decode { .. } => (5, 0),
            Error::TooLarge { .. } => (6, 0),
            Error::TokenFile { .. } => (7, 0),
            Error::Request { .. } => (8, 0),
        }
    }
}
