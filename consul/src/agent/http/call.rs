//! A request as the routes read it: path and query decoded, the body whole. Nothing after this
//! looks at raw bytes of a head again.

use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{Method, StatusCode, header};

use super::answer::ApiError;
use crate::agent::duration;

/// How long a blocking query waits that names no time, and the longest that it may name.
const DEFAULT_WAIT: Duration = Duration::from_secs(300);
const MAX_WAIT: Duration = Duration::from_secs(600);

/// One request.
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) query: Query,
    pub(super) body: Bytes,
    /// The caller prefers `text/plain`.
    pub(super) plain: bool,
}

/// What a blocking query waits for.
pub(super) struct Blocking {
    /// Answer at once where it is 0.
    pub(super) index: u64,
    /// Answer once the content's hash differs; the agent's own endpoints have no index.
    pub(super) hash: Option<String>,
    /// How long to wait, with Consul's jitter of up to a sixteenth.
    pub(super) wait: Duration,
}

impl Call {
    /// Decodes a request's head.
    pub(super) fn parse(head: &Parts, body: Bytes) -> Result<Self, ApiError> {
        let bad = |what: &str| ApiError::new(StatusCode::BAD_REQUEST, what.to_owned());
        let path = decode(head.uri.path(), false).ok_or_else(|| bad("Invalid URL path"))?;
        let query =
            Query::parse(head.uri.query().unwrap_or("")).ok_or_else(|| bad("Invalid URL query"))?;
        let plain = head
            .headers
            .get(header::ACCEPT)
            .is_some_and(|accept| accept.as_bytes().starts_with(b"text/plain"));
        let plain = match query.first("format") {
            "" => plain,
            format => plain || format == "text",
        };
        Ok(Self { method: head.method.clone(), path, query, body, plain })
    }

    /// The parameters of a blocking query, and the consistency that is asked for.
    pub(super) fn blocking(&self) -> Result<Blocking, ApiError> {
        let bad = |what: &str| ApiError::new(StatusCode::BAD_REQUEST, what.to_owned());
        if self.query.has("stale") && self.query.has("consistent") {
            return Err(bad("Cannot specify ?stale with ?consistent, conflicting semantics."));
        }
        if self.query.has("cached") && self.query.has("consistent") {
            return Err(bad("Cannot specify ?cached with ?consistent, conflicting semantics."));
        }
        let wait = match self.query.first("wait") {
            "" => Duration::ZERO,
            text => duration::parse(text).ok_or_else(|| bad("Invalid wait time"))?,
        };
        let index = match self.query.first("index") {
            "" => 0,
            text => text.parse().map_err(|_| bad("Invalid index"))?,
        };
        let wait = if wait.is_zero() { DEFAULT_WAIT } else { wait.min(MAX_WAIT) };
        let hash = self.query.first("hash");
        Ok(Blocking {
            index,
            hash: (!hash.is_empty()).then(|| hash.to_owned()),
            wait: wait + wait.mul_f64(fastrand::f64() / 16.0),
        })
    }

    /// The consistency that Consul names in its answer.
    pub(super) fn consistency(&self) -> &'static str {
        if self.query.has("consistent") {
            "consistent"
        } else if self.query.has("stale") {
            "stale"
        } else {
            "leader"
        }
    }
}

/// The query's parameters, decoded, in their order.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    fn parse(text: &str) -> Option<Self> {
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode(name, true)?, decode(value, true)?))
        });
        pairs.collect::<Option<_>>().map(Self)
    }

    /// Whether the parameter is there, with or without a value.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(own, _)| own == name)
    }

    /// The parameter's first value; empty where it is left out.
    pub(super) fn first<'a>(&'a self, name: &'a str) -> &'a str {
        self.all(name).next().unwrap_or("")
    }

    /// All values of a parameter.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// A truth value as Go reads one; `None` where the text is none.
    pub(super) fn boolean(&self, name: &str) -> Option<bool> {
        match self.first(name) {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
            _ => None,
        }
    }
}

/// Percent-decoding (RFC 3986, 2.1); in a query `+` stands for a space.
fn decode(text: &str, plus: bool) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let high = char::from(bytes.next()?).to_digit(16)?;
                let low = char::from(bytes.next()?).to_digit(16)?;
                out.push(u8::try_from(high * 16 + low).ok()?);
            }
            b'+' if plus => out.push(b' '),
            byte => out.push(byte),
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(uri: &str) -> Result<Call, ApiError> {
        let (head, ()) = http::Request::get(uri).body(()).unwrap().into_parts();
        Call::parse(&head, Bytes::new())
    }

    #[test]
    fn paths_and_queries_are_decoded() {
        let call = call("/v1/agent/service/a%2Fb?filter=a+%3D%3D+b&tag=x&tag=y&pretty").unwrap();
        assert_eq!(call.path, "/v1/agent/service/a/b");
        assert_eq!(call.query.first("filter"), "a == b");
        assert_eq!(call.query.all("tag").collect::<Vec<_>>(), ["x", "y"]);
        assert!(call.query.has("pretty"));
    }

    #[test]
    fn a_wait_is_at_most_ten_minutes_and_a_sixteenth() {
        let blocking = call("/?index=7&wait=24h").unwrap().blocking().unwrap();
        assert_eq!(blocking.index, 7);
        assert!(blocking.wait >= MAX_WAIT && blocking.wait <= MAX_WAIT + MAX_WAIT / 16);
    }

    #[test]
    fn parameters_that_contradict_or_do_not_parse_are_refused() {
        for uri in ["/?index=x", "/?wait=x", "/?stale&consistent", "/?cached&consistent"] {
            assert!(call(uri).unwrap().blocking().is_err(), "{uri}");
        }
        assert!(call("/%zz").is_err());
    }
}
