//! Which headers cross which edge.
//!
//! Identity that a caller claims for itself never reaches an app, and what a sidecar says of a
//! fault is never the app's word.

use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::{deadline, tracestate};
use crate::fault::{Fault, REASON_HEADER, Reason};

/// Tells an app who called it: the peer's SPIFFE ID, verified.
pub const PEER_ID: HeaderName = HeaderName::from_static("outrigger-peer-id");

/// How many attempts came before this one (gRFC A6, "Exposed Retry Metadata").
pub const PREVIOUS_ATTEMPTS: HeaderName = HeaderName::from_static("grpc-previous-rpc-attempts");

const FORWARDED_CERT: &str = "x-forwarded-client-cert";
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const OURS: &str = "outrigger-";

/// Takes off every header that only a sidecar may set.
pub fn strip_reserved(headers: &mut HeaderMap) {
    // Names are looked at before any is collected: most requests carry none.
    if headers.keys().any(is_reserved) {
        let reserved: Vec<HeaderName> =
            headers.keys().filter(|name| is_reserved(name)).cloned().collect();
        for name in reserved {
            headers.remove(name);
        }
    }
}

/// Servers in CGI's tradition read `_` and `-` in a name as the same.
fn is_reserved(name: &HeaderName) -> bool {
    let name = name.as_str().as_bytes();
    let same = |(a, b): (&u8, &u8)| a == b || (*a == b'_' && *b == b'-');
    let begins =
        |with: &str| name.len() >= with.len() && name.iter().zip(with.as_bytes()).all(same);
    match name.first() {
        Some(b'o') => begins(OURS),
        Some(b'x') => name.len() == FORWARDED_CERT.len() && begins(FORWARDED_CERT),
        _ => false,
    }
}

/// Takes off what belongs to one HTTP/1.1 connection (RFC 9110 §7.6.1).
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in [CONNECTION, TRANSFER_ENCODING, UPGRADE] {
        headers.remove(name);
    }
    for name in ["keep-alive", "proxy-connection"] {
        headers.remove(name);
    }
    // The one value of TE that HTTP/2 knows.
    if headers.get(TE).is_some_and(|te| te != "trailers") {
        headers.remove(TE);
    }
}

/// The size of a header list as RFC 9113 §6.5.2 counts it.
pub fn list_size(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| field_size(name, value)).sum()
}

fn field_size(name: &HeaderName, value: &HeaderValue) -> usize {
    name.as_str().len() + value.len() + 32
}

/// Refuses a header list of a size over the limit.
///
/// # Errors
/// `too_large`.
pub fn check_size(size: usize, limit: usize) -> Result<(), Fault> {
    if size <= limit {
        return Ok(());
    }
    let message = format!("the headers take {size} bytes, at most {limit} are taken");
    Err(Fault::undelivered(Reason::TooLarge, message))
}

/// How a caller reads an answer, by the content type of its request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// gRPC: the status comes in trailers, or in the head where there is nothing else.
    Grpc,
    /// gRPC-Web, of this content type: the status comes in the body, or in the head.
    GrpcWeb(HeaderValue),
    /// Anything else: an HTTP status.
    Http,
}

impl Dialect {
    /// Of a request with these headers.
    pub fn of(headers: &HeaderMap) -> Self {
        headers.get(CONTENT_TYPE).map_or(Dialect::Http, Self::of_type)
    }

    fn of_type(value: &HeaderValue) -> Self {
        const GRPC: &[u8] = b"application/grpc";
        let Some(rest) = value.as_bytes().strip_prefix(GRPC) else { return Dialect::Http };
        match rest.first() {
            None | Some(b'+' | b';') => Dialect::Grpc,
            Some(_) if rest.starts_with(b"-web") => Dialect::GrpcWeb(value.clone()),
            Some(_) => Dialect::Http,
        }
    }

    /// The gRPC status that a caller reads of a fault; none where it reads HTTP's.
    pub fn status_of(&self, fault: &Fault) -> Option<u8> {
        (*self != Dialect::Http).then_some(fault.code() as u8)
    }
}

/// What is looked for in the head of a request, found in one pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// How the caller reads an answer.
    pub dialect: Dialect,
    /// The list's size as RFC 9113 §6.5.2 counts it, as it came.
    pub size: usize,
    /// Whether it has what only a sidecar may set.
    pub has_reserved: bool,
    /// Whether it has a `tracestate`.
    pub has_tracestate: bool,
    /// Whether it has a `grpc-timeout`.
    pub has_timeout: bool,
    /// How many attempts came before it.
    pub attempts: u32,
}

impl Asked {
    /// Of this head.
    pub fn of(headers: &HeaderMap) -> Self {
        let mut found = Self {
            dialect: Dialect::Http,
            size: 0,
            has_reserved: false,
            has_tracestate: false,
            has_timeout: false,
            attempts: 0,
        };
        let mut has_type = false;
        for (name, value) in headers {
            found.size += field_size(name, value);
            if name == CONTENT_TYPE {
                if !has_type {
                    found.dialect = Dialect::of_type(value);
                }
                has_type = true;
            } else if name == tracestate::TRACESTATE {
                found.has_tracestate = true;
            } else if name == deadline::GRPC_TIMEOUT {
                found.has_timeout = true;
            } else if name == PREVIOUS_ATTEMPTS {
                found.attempts = value.to_str().ok().and_then(|v| v.parse().ok()).unwrap_or(0);
            } else {
                found.has_reserved |= is_reserved(name);
            }
        }
        found
    }
}

/// What is looked for in the head or the trailers of an answer, found in one pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answered {
    /// The list's size as RFC 9113 §6.5.2 counts it.
    pub size: usize,
    /// The `grpc-status`.
    pub status: Option<u8>,
    /// Whether a sidecar gave it, and says why.
    pub has_reason: bool,
    /// Whether it states its body's length.
    pub has_length: bool,
}

impl Answered {
    /// Of this head, or of these trailers.
    pub fn of(headers: &HeaderMap) -> Self {
        let mut found = Self::default();
        for (name, value) in headers {
            found.size += field_size(name, value);
            if name == GRPC_STATUS {
                let stated = || value.to_str().ok()?.parse().ok();
                found.status = found.status.or_else(stated);
            } else if name == REASON_HEADER {
                found.has_reason = true;
            } else if name == CONTENT_LENGTH {
                found.has_length = true;
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn forged_identity_is_taken_off() {
        let mut headers = map(&[
            ("outrigger-peer-id", "spiffe://td/svc/admin"),
            ("outrigger-anything", "x"),
            ("x-forwarded-client-cert", "URI=x"),
            ("outrigger_peer_id", "spiffe://td/svc/admin"),
            ("x_forwarded-client_cert", "URI=x"),
            ("outriggers", "kept"),
        ]);
        headers.append(PEER_ID, HeaderValue::from_static("again"));
        strip_reserved(&mut headers);
        assert_eq!(headers, map(&[("outriggers", "kept")]));
    }

    #[test]
    fn a_dialect_is_told_by_the_content_type() {
        let web = |value| Dialect::GrpcWeb(HeaderValue::from_static(value));
        for (value, expected) in [
            ("application/grpc", Dialect::Grpc),
            ("application/grpc+proto", Dialect::Grpc),
            ("application/grpc;x=1", Dialect::Grpc),
            ("application/grpc-web", web("application/grpc-web")),
            ("application/grpc-web-text+proto", web("application/grpc-web-text+proto")),
            ("application/grpcx", Dialect::Http),
            ("application/json", Dialect::Http),
        ] {
            assert_eq!(Dialect::of(&map(&[("content-type", value)])), expected, "{value}");
        }
    }

    #[test]
    fn what_belongs_to_a_connection_stays_on_it() {
        let mut headers = map(&[
            ("connection", "x-one, keep-alive"),
            ("x-one", "1"),
            ("keep-alive", "5"),
            ("te", "gzip"),
            ("x-two", "2"),
        ]);
        strip_hop_by_hop(&mut headers);
        assert_eq!(headers, map(&[("x-two", "2")]));
    }
}
