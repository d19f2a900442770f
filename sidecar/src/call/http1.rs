//! A message's head between the forms of HTTP/1.1 and HTTP/2, for callers and apps that speak the
//! older one.

use http::header::{COOKIE, HOST, UPGRADE};
use http::request::Parts;
use http::{HeaderValue, Uri, Version};

use super::headers::{self, Dialect};
use crate::fault::{Fault, Reason};

/// What an HTTP/1.1 caller sends, in HTTP/2's form (RFC 9113 §8.3). What is in that form stays.
///
/// # Errors
/// `malformed` for gRPC, an upgrade, and a host and a target that make no URI.
pub fn to_h2(head: &mut Parts) -> Result<(), Fault> {
    // An HTTP/2 request may name its host in the header alone (RFC 9113 §8.3.1).
    let is_h2 = head.version >= Version::HTTP_2;
    if is_h2 && (head.uri.authority().is_some() || !head.headers.contains_key(HOST)) {
        return Ok(());
    }
    if !is_h2 && Dialect::of(&head.headers) == Dialect::Grpc {
        // HTTP/1.1 callers drop the trailers that a gRPC status comes in.
        let message = "gRPC needs HTTP/2 (with prior knowledge), this call came over HTTP/1.1";
        return Err(Fault::undelivered(Reason::Malformed, message));
    }
    // To HTTP/2 over plain text it is a mere offer, which some clients make with every call.
    if head.headers.get_all(UPGRADE).iter().any(|to| !to.as_bytes().eq_ignore_ascii_case(b"h2c")) {
        let message = "an upgrade of the connection is not carried over the mesh";
        return Err(Fault::undelivered(Reason::Malformed, message));
    }
    if head.headers.get_all(HOST).iter().count() > 1 {
        let message = "a request names one host (RFC 9112 §3.2), this one names several";
        return Err(Fault::undelivered(Reason::Malformed, message));
    }
    let host = head.headers.remove(HOST);
    if head.uri.authority().is_none() || head.uri.scheme().is_none() {
        if host.is_none() && head.version == Version::HTTP_11 {
            let message = "an HTTP/1.1 request names its host (RFC 9112 §3.2), this one does not";
            return Err(Fault::undelivered(Reason::Malformed, message));
        }
        let host = match &host {
            Some(host) => host.to_str().map_err(|_| {
                let message = "the host is no text in ASCII (RFC 3986 §3.2.2)";
                Fault::undelivered(Reason::Malformed, message)
            })?,
            None => "localhost",
        };
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        let built = Uri::builder().scheme("http").authority(host).path_and_query(path).build();
        head.uri = built.map_err(|e| {
            let message = format!("the host \"{host}\" and the target \"{path}\" make no URI: {e}");
            Fault::undelivered(Reason::Malformed, message)
        })?;
    }
    headers::strip_hop_by_hop(&mut head.headers);
    head.version = Version::HTTP_2;
    Ok(())
}

/// What came over HTTP/2, in HTTP/1.1's form (RFC 9112 §3.2.1).
///
/// # Errors
/// `malformed` for CONNECT.
pub fn from_h2(head: &mut Parts) -> Result<(), Fault> {
    if let Some(authority) = head.uri.authority()
        && let Ok(host) = HeaderValue::from_str(authority.as_str())
    {
        head.headers.insert(HOST, host);
    }
    // Over HTTP/2 they may come apart (RFC 9113 §8.2.3).
    let cookies: Vec<_> = head.headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if cookies.len() > 1
        && let Ok(joined) = HeaderValue::from_bytes(&cookies.join(&b"; "[..]))
    {
        head.headers.insert(COOKIE, joined);
    }
    let path = head.uri.path_and_query().cloned();
    let path = path.unwrap_or_else(|| http::uri::PathAndQuery::from_static("/"));
    head.uri = Uri::from(path);
    head.version = Version::HTTP_11;
    if head.method == http::Method::CONNECT {
        let message = "CONNECT is not carried to an app that speaks HTTP/1.1";
        return Err(Fault::undelivered(Reason::Malformed, message));
    }
    Ok(())
}
