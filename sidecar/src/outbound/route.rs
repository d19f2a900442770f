//! Which upstream a call is for, and what its route sets.

use std::borrow::Cow;
use std::rc::Rc;

use http::Uri;
use http::request::Parts;
use http::uri::Authority;

use super::method::Method;
use super::upstream::Upstream;
use crate::call::headers::{Asked, Dialect};
use crate::config::{Calling, Route, Rung, ServiceName, Target};
use crate::fault::{Fault, Reason};
use crate::resilience::balance;
use crate::resilience::idempotency::Idempotency;
use crate::resilience::inject::Injection;

const LOCALHOST: &str = "localhost";

/// The upstream that a request's authority names; for a loopback or IP authority the gRPC
/// service's own name decides.
///
/// # Errors
/// `no_route`, in words that say what was looked at.
pub fn upstream(uri: &Uri) -> Result<Cow<'_, str>, Fault> {
    let authority = uri.authority();
    // What most callers set: the bare name.
    if let Some(name) = authority.map(Authority::as_str)
        && ServiceName::accepts(name)
        && name != LOCALHOST
    {
        return Ok(Cow::Borrowed(name));
    }
    let host = authority.map(Authority::host).unwrap_or_default();
    if is_address(host) {
        return by_grpc_service(uri.path()).map(Cow::Owned).ok_or_else(|| {
            Fault::undelivered(
                Reason::NoRoute,
                format!(
                    "\"{host}\" is an address and the path \"{}\" names no gRPC service to route \
                     by; set the authority to the service's name in Consul",
                    shown(uri.path())
                ),
            )
        });
    }
    let name = service_of(host);
    if ServiceName::accepts(name) {
        return Ok(Cow::Borrowed(name));
    }
    // A host is the same in any case (RFC 3986 §3.2.2).
    let lower = name.to_ascii_lowercase();
    if ServiceName::accepts(&lower) {
        return Ok(Cow::Owned(lower));
    }
    Err(Fault::undelivered(
        Reason::NoRoute,
        format!(
            "the authority \"{}\" names no service: expected \"<service>\" or \
             \"<service>.service.consul\", in letters, digits and hyphens",
            shown(host)
        ),
    ))
}

/// What comes from the wire is shown, but not all of it.
fn shown(text: &str) -> &str {
    text.get(..text.len().min(80)).unwrap_or("…")
}

/// `user-service.service.consul`, with or without the last dot, names `user-service`.
fn service_of(host: &str) -> &str {
    const SUFFIX: &str = ".service.consul";
    let host = host.strip_suffix('.').unwrap_or(host);
    match host.len().checked_sub(SUFFIX.len()).and_then(|at| host.split_at_checked(at)) {
        Some((name, suffix)) if suffix.eq_ignore_ascii_case(SUFFIX) => name,
        _ => host,
    }
}

fn is_address(host: &str) -> bool {
    match host.as_bytes().first() {
        None => true,
        // In an authority, IPv6 comes in brackets (RFC 3986 §3.2.2).
        Some(b'[') => true,
        Some(b'0'..=b'9') => host.parse::<std::net::Ipv4Addr>().is_ok(),
        Some(_) => host == LOCALHOST,
    }
}

/// `/user.v1.UserService/GetUser` is for `user-service`.
fn by_grpc_service(path: &str) -> Option<String> {
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    // gRPC's own services (health, reflection) are everybody's and nobody's.
    if method.is_empty() || method.contains('/') || service.starts_with("grpc.") {
        return None;
    }
    Some(kebab(service.rsplit('.').next()?)).filter(|name| ServiceName::accepts(name))
}

/// `UserService` is `user-service`, `HTTPServer` is `http-server`.
fn kebab(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 4);
    let mut before: Option<char> = None;
    let mut chars = name.chars().peekable();
    while let Some(c) = chars.next() {
        let after_word = before.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let ends_acronym = before.is_some_and(|b| b.is_ascii_uppercase())
            && chars.peek().is_some_and(char::is_ascii_lowercase);
        if c.is_ascii_uppercase() && (after_word || ends_acronym) {
            out.push('-');
        }
        out.push(if c == '_' { '-' } else { c.to_ascii_lowercase() });
        before = Some(c);
    }
    out
}

/// Where a request goes, and what is set for it there.
#[derive(Clone, Copy)]
pub struct Way<'a> {
    /// The upstream.
    pub upstream: &'a Rc<Upstream>,
    /// Its method.
    pub method: &'a Rc<Method>,
    /// The first of the upstream's routes that is for it; none: the upstream's own values.
    route: Option<&'a Route>,
}

impl<'a> Way<'a> {
    /// The way of this request.
    pub fn of(upstream: &'a Rc<Upstream>, method: &'a Rc<Method>, head: &Parts) -> Self {
        let target = Target::of(head);
        let route = upstream.config.routes.iter().find(|route| route.matches.covers(&target));
        Self { upstream, method, route }
    }

    /// What becomes of the request where it is sent twice: as its method's descriptor or, where it is
    /// no gRPC, HTTP says, and as its route or its upstream say.
    pub fn idempotency(&self, asked: &Asked, head: &Parts) -> Idempotency {
        let known = match asked.dialect {
            Dialect::Http => self.method.idempotency().max(Idempotency::of_http(&head.method)),
            _ => self.method.idempotency(),
        };
        known.told(self.calling().is_idempotent)
    }

    /// How the request is sent.
    pub fn calling(&self) -> &'a Calling {
        self.route.map_or(&self.upstream.config.calling, |route| &route.calling)
    }

    /// What its caller gets once the upstream has failed; empty: the failure.
    pub fn fallback(&self) -> &'a [Rung] {
        self.route.map_or(&[], |route| &route.fallback)
    }

    /// What it meets on purpose.
    pub fn fault(&self) -> Option<&'a Injection> {
        self.route?.fault.as_ref()
    }

    /// What decides to which endpoint it goes, where its route says so and it has the header.
    pub fn hash(&self, head: &Parts) -> Option<u64> {
        let value = head.headers.get(&self.route?.hash.as_ref()?.header)?;
        Some(balance::hash(value.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routed(uri: &str) -> Option<String> {
        upstream(&uri.parse().unwrap()).ok().map(Cow::into_owned)
    }

    #[test]
    fn the_authority_names_the_service() {
        for (uri, expected) in [
            ("http://user-service/p.S/M", Some("user-service")),
            ("http://user-service:9000/p.S/M", Some("user-service")),
            ("http://user-service.service.consul/p.S/M", Some("user-service")),
            ("http://user-service.service.consul.:80/p.S/M", Some("user-service")),
            ("http://User-Service.Service.CONSUL/p.S/M", Some("user-service")),
            ("http://USER/p.S/M", Some("user")),
            ("http://example.com/p.S/M", None),
            ("http://user_service/p.S/M", None),
        ] {
            assert_eq!(routed(uri).as_deref(), expected, "{uri}");
        }
    }

    #[test]
    fn an_address_leaves_the_choice_to_the_grpc_service() {
        for (uri, expected) in [
            ("http://127.0.0.1:15001/user.v1.UserService/GetUser", Some("user-service")),
            ("http://localhost:15001/order.v1.OrderService/X", Some("order-service")),
            ("http://[::1]:15001/HTTPServer/X", Some("http-server")),
            ("http://10.0.0.1/a.b.Chat/X", Some("chat")),
            ("http://127.0.0.1/grpc.health.v1.Health/Check", None),
            ("http://127.0.0.1/just/a/path", None),
            ("http://127.0.0.1/", None),
        ] {
            assert_eq!(routed(uri).as_deref(), expected, "{uri}");
        }
    }
}
