//! From Consul's list of a service's proxies to the endpoints that take calls. Pure.
//!
//! Invariant: while Consul is in doubt, what it has not listed as well since the doubt began goes
//! on taking calls, and so does the last of them. A call to one that is gone passes on to another
//! at once; to one whose app died it does not, which is why Consul's word counts as soon as it has
//! one.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use consul::api::{CheckStatus, ServiceEntry};
use tokio::time::Instant;

use crate::config::ZONE;

/// One endpoint, as Consul locates it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Located {
    pub(super) address: SocketAddr,
    /// Part of its identity.
    pub(super) datacenter: String,
    /// Its share of the calls beside others', in its present health.
    pub(super) weight: u16,
    /// Where it runs; none where nobody said.
    pub(super) zone: Option<Arc<str>>,
}

/// The endpoints of one service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Endpoints {
    /// Those that take calls.
    pub(super) available: Vec<Located>,
    /// Those that are critical in Consul, and take none.
    pub(super) critical: Vec<SocketAddr>,
}

impl Endpoints {
    /// Reads Consul's list, and returns also what in it is no endpoint, in words. Passing and
    /// warning ones take calls.
    pub(super) fn read(list: &[ServiceEntry]) -> (Self, Vec<String>) {
        let mut endpoints = Self::default();
        let mut seen = HashSet::new();
        let mut odd = Vec::new();
        // Of two records of one address the one that is well counts: the other is of a former life.
        let (critical, well): (Vec<_>, Vec<_>) =
            list.iter().partition(|entry| entry.status() == CheckStatus::Critical);
        for entry in well {
            match address(entry) {
                Ok(address) if seen.insert(address) => {
                    let named = [&entry.service.datacenter, &entry.node.datacenter];
                    let datacenter = named.into_iter().find(|name| !name.is_empty());
                    let datacenter = datacenter.cloned().unwrap_or_default();
                    let (weight, zone) = (weight(entry), zone(entry));
                    endpoints.available.push(Located { address, datacenter, weight, zone });
                }
                Ok(_) => {}
                Err(why) => odd.push(why),
            }
        }
        let critical = critical.into_iter().filter_map(|entry| address(entry).ok());
        endpoints.critical = critical.filter(|address| seen.insert(*address)).collect();
        (endpoints, odd)
    }

    fn has(&self, one: &Located) -> bool {
        self.available.iter().any(|available| available.address == one.address)
    }
}

/// What is known of one service's endpoints, through doubts about Consul.
#[derive(Debug, Default)]
pub(super) struct Known {
    listed: Option<Endpoints>,
    /// What counted last.
    present: Endpoints,
    /// What took calls when the doubt began, and was not listed as well since.
    unstated: Vec<Located>,
    /// When the hold that was seen last began.
    hold: Option<Instant>,
}

impl Known {
    /// What Consul says from now on, it says anew.
    pub(super) fn doubt(&mut self) {
        self.unstated = self.present.available.clone();
    }

    /// The hold began then, whoever opened it; none where it is not open.
    pub(super) fn hold(&mut self, began: Option<Instant>) {
        if began.is_some() && began != self.hold {
            self.doubt();
        }
        self.hold = began;
    }

    /// Consul answered: with another list, or by none with the one before.
    pub(super) fn answered(&mut self, list: Option<Endpoints>) {
        self.listed = list.or(self.listed.take());
        if let Some(listed) = &self.listed {
            self.unstated.retain(|one| !listed.has(one));
        }
    }

    /// What counts from now on; none before Consul's first answer.
    pub(super) fn in_force(&mut self, doubt: bool) -> Option<&Endpoints> {
        let listed = self.listed.as_ref()?;
        if !doubt {
            self.unstated.clear();
        }
        let mut next = listed.clone();
        next.available.extend(self.unstated.iter().filter(|one| !listed.has(one)).cloned());
        if doubt && next.available.is_empty() {
            // A Consul that restarts calls all of them critical, or has none, for a moment: better
            // call what may be dead than nobody.
            next.available = std::mem::take(&mut self.present.available);
        }
        let is_available =
            |address: &SocketAddr| next.available.iter().any(|one| one.address == *address);
        next.critical.retain(|address| !is_available(address));
        self.present = next;
        Some(&self.present)
    }

    /// Whether Consul has yet to list some of them again.
    pub(super) fn is_owed(&self) -> bool {
        !self.unstated.is_empty()
    }

    /// Whether there is nothing that forgetting would lose.
    pub(super) fn is_empty(&self) -> bool {
        self.present == Endpoints::default()
    }
}

/// What Consul weights DNS answers by, which counts for the mesh, too.
fn weight(entry: &ServiceEntry) -> u16 {
    let weights = entry.service.weights;
    let weight = match entry.status() {
        CheckStatus::Warning => weights.warning,
        CheckStatus::Passing | CheckStatus::Critical => weights.passing,
    };
    u16::try_from(weight).unwrap_or(u16::MAX)
}

/// What the instance says of itself, else what is said of its node, where all its instances run.
fn zone(entry: &ServiceEntry) -> Option<Arc<str>> {
    let said = [&entry.service.meta, &entry.node.meta].into_iter().find_map(|meta| meta.get(ZONE));
    said.filter(|zone| !zone.is_empty()).map(|zone| zone.as_str().into())
}

fn address(entry: &ServiceEntry) -> Result<SocketAddr, String> {
    let (host, port) = (entry.address(), entry.service.port);
    let id = &entry.service.id;
    let Ok(ip) = host.parse::<IpAddr>() else {
        return Err(format!("\"{id}\" has the address {host:?}, expected an IP address"));
    };
    if ip.is_unspecified() || port == 0 {
        return Err(format!("\"{id}\" has the address {ip} and the port {port}: not to be called"));
    }
    Ok(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests;
