//! What a route answers: at once, or by a query that may be held back until it has news.

use std::time::SystemTime;

use bytes::Bytes;
use http::StatusCode;
use serde::Serialize as _;
use serde_json::{Value, json};

use super::call::{Blocking, Call};
use crate::agent::state::State;

/// What a route makes of a call.
pub(super) enum Routed {
    /// The answer.
    Done(Reply),
    /// A query to evaluate now and whenever something changed.
    Watch(Watch),
}

/// A query of the state. It may write: asking for a leaf issues it.
pub(super) type Watch =
    Box<dyn Fn(&mut State, SystemTime) -> Result<Answer, ApiError> + Send + Sync>;

/// A query's result.
pub(super) struct Answer {
    pub(super) body: Content,
    pub(super) version: Version,
}

/// What a query found.
pub(super) enum Content {
    Found(Value),
    /// Nothing: a 404 with this text, which still can be waited on.
    Missing(String),
}

/// How a caller tells one result from the next, and which headers go with it.
pub(super) enum Version {
    /// By the catalog's index, with all headers of a server's answer.
    Full(u64),
    /// The same, but the endpoint does not say how consistent it is.
    Plain(u64),
    /// By an index that no header tells.
    Bare(u64),
    /// By an index, from the agent's own cache, with or without a server's headers.
    Cached { index: u64, meta: bool },
    /// By the content's hash.
    Hash(String),
}

impl Answer {
    /// A server's answer, with all headers.
    pub(super) fn new(index: u64, body: impl Into<Value>) -> Self {
        Self { body: Content::Found(body.into()), version: Version::Full(index) }
    }

    /// A server's answer that does not say how consistent it is.
    pub(super) fn plain(index: u64, body: impl Into<Value>) -> Self {
        Self { body: Content::Found(body.into()), version: Version::Plain(index) }
    }

    /// Whether a caller with these parameters has not seen it.
    pub(super) fn is_news_to(&self, blocking: &Blocking) -> bool {
        match &self.version {
            Version::Full(index)
            | Version::Plain(index)
            | Version::Bare(index)
            | Version::Cached { index, .. } => blocking.index == 0 || *index > blocking.index,
            Version::Hash(hash) => blocking.hash.as_ref().is_none_or(|seen| seen != hash),
        }
    }

    /// The reply, with the headers of its kind. `hit`: it was there without waiting.
    pub(super) fn reply(self, call: &Call, hit: bool) -> Reply {
        let mut reply = match self.body {
            Content::Found(body) => Reply::json(body),
            Content::Missing(text) => ApiError::missing(text).into(),
        };
        let index = |index: u64| ("x-consul-index", index.max(1).to_string());
        let meta = |at: u64| {
            vec![
                index(at),
                ("x-consul-knownleader", "true".to_owned()),
                ("x-consul-lastcontact", "0".to_owned()),
                ("x-consul-query-backend", "blocking-query".to_owned()),
            ]
        };
        match self.version {
            Version::Full(at) => {
                reply.headers = meta(at);
                let consistency = call.consistency().to_owned();
                reply.headers.push(("x-consul-effective-consistency", consistency));
                if call.query.has("cached") {
                    reply.headers.extend(cache(hit));
                }
            }
            Version::Plain(at) => reply.headers = meta(at),
            Version::Bare(_) => {}
            Version::Cached { index: at, meta: full } => {
                reply.headers = if full { meta(at) } else { vec![index(at)] };
                reply.headers.extend(cache(hit));
            }
            Version::Hash(hash) => reply.headers = vec![("x-consul-contenthash", hash)],
        }
        reply
    }
}

/// What the agent's own cache says: its data is the state itself, so a hit is always fresh.
fn cache(hit: bool) -> Vec<(&'static str, String)> {
    if hit {
        vec![("x-cache", "HIT".to_owned()), ("age", "0".to_owned())]
    } else {
        vec![("x-cache", "MISS".to_owned())]
    }
}

/// A finished answer.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) body: Body,
    pub(super) headers: Vec<(&'static str, String)>,
    /// Whether an endpoint made it: only those carry Consul's own headers.
    pub(super) is_routed: bool,
}

/// A reply's body.
pub(super) enum Body {
    Empty,
    Json(Value),
    Text(String),
    /// Plain text whose type names no character set.
    Bare(String),
    Pem(String),
}

impl Body {
    /// The bytes, and their content type.
    pub(super) fn bytes(self, pretty: bool) -> (&'static str, Bytes) {
        match self {
            Self::Empty => ("application/json; charset=utf-8", Bytes::new()),
            Self::Bare(text) => ("text/plain", text.into()),
            Self::Text(text) => ("text/plain; charset=utf-8", text.into()),
            Self::Pem(text) => ("application/pem-certificate-chain", text.into()),
            Self::Json(value) if pretty => {
                let mut out = Vec::new();
                let indent = serde_json::ser::PrettyFormatter::with_indent(b"    ");
                let mut writer = serde_json::Serializer::with_formatter(&mut out, indent);
                // Writing a value into memory does not fail; an empty body would tell if it did.
                if value.serialize(&mut writer).is_ok() {
                    out.push(b'\n');
                }
                ("application/json", out.into())
            }
            Self::Json(value) => ("application/json", value.to_string().into()),
        }
    }
}

impl Reply {
    /// 200 with a JSON body.
    pub(super) fn json(body: impl Into<Value>) -> Self {
        Self {
            status: StatusCode::OK,
            body: Body::Json(body.into()),
            headers: Vec::new(),
            is_routed: true,
        }
    }

    /// 200 without a body, as most writes to the agent answer.
    pub(super) fn empty() -> Self {
        Self { status: StatusCode::OK, body: Body::Empty, headers: Vec::new(), is_routed: true }
    }

    /// The same with one more header.
    pub(super) fn with_header(mut self, name: &'static str, value: String) -> Self {
        self.headers.push((name, value));
        self
    }
}

/// A refusal: a status and one line in plain text.
#[derive(Debug)]
pub(super) struct ApiError {
    pub(super) status: StatusCode,
    pub(super) text: String,
}

impl ApiError {
    /// A refusal.
    pub(super) fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, text: text.into() }
    }

    /// 400.
    pub(super) fn bad(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }

    /// 404.
    pub(super) fn missing(text: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, text)
    }

    /// 500: what Consul answers wherever it did not choose a status.
    pub(super) fn internal(text: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, text)
    }
}

impl From<ApiError> for Reply {
    fn from(error: ApiError) -> Self {
        Self {
            status: error.status,
            body: Body::Text(error.text),
            headers: Vec::new(),
            is_routed: true,
        }
    }
}

impl From<Result<Reply, ApiError>> for Routed {
    fn from(result: Result<Reply, ApiError>) -> Self {
        Self::Done(result.unwrap_or_else(Reply::from))
    }
}

impl From<ApiError> for Routed {
    fn from(error: ApiError) -> Self {
        Self::Done(error.into())
    }
}

/// JSON's `true`, the answer to most writes to the servers.
pub(super) fn done() -> Reply {
    Reply::json(json!(true))
}
