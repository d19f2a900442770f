//! No two sockets of one sidecar on the same port: the second would fail to listen.

use std::net::SocketAddr;

use super::Resolver;
use crate::config::keys::Keys;

pub(super) fn check(resolver: &mut Resolver<'_>, keys: &Keys) {
    let mut taken: Vec<(String, SocketAddr)> = Vec::new();
    let mut take = |key: &str, address: SocketAddr| {
        let other = taken.iter().find(|(_, other)| clash(*other, address));
        match other {
            Some((other, _)) => {
                let (place, found, with) = match resolver.is_set(key) {
                    true => (key, key, other.as_str()),
                    false => (other.as_str(), other.as_str(), key),
                };
                let whence = resolver
                    .origin(with)
                    .map_or_else(|| "its default".to_owned(), |origin| origin.to_string());
                let message = format!("found \"{address}\", a port that {with} has too ({whence})");
                resolver.problem_at(place, found, message);
            }
            None => taken.push((key.to_owned(), address)),
        }
    };
    if let Some(app) = keys.service.app {
        take("service.app", app.socket_addr());
        take("inbound.listen", keys.inbound.listen.socket_addr());
    }
    take("outbound.listen", keys.outbound.listen.socket_addr());
    take("admin.listen", keys.admin.listen.socket_addr());
    for (name, upstream) in &keys.upstreams {
        if let Some(listen) = upstream.listen {
            take(&format!("upstreams.{name}.listen"), listen.socket_addr());
        }
    }
}

/// Port 0 is whatever is free, so it clashes with nothing.
fn clash(one: SocketAddr, other: SocketAddr) -> bool {
    let both = one.ip() == other.ip();
    let any = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() != 0 && one.port() == other.port() && (both || any)
}
