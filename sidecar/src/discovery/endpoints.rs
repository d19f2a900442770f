//! From Consul's list of a service's proxies to the endpoints that take calls. Pure.
//!
//! Invariant: while Consul is in doubt, an endpoint that took calls goes on taking them. A call to
//! one that is gone passes on to another at once, so that keeping it costs little.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};

use consul::api::{CheckStatus, ServiceEntry};

/// One endpoint, as Consul locates it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Located {
    pub(super) address: SocketAddr,
    /// Part of its identity.
    pub(super) datacenter: String,
}

/// The endpoints of one service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Endpoints {
    /// Those that take calls.
    pub(super) available: Vec<Located>,
    /// How many more are critical.
    pub(super) critical: usize,
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
                    endpoints.available.push(Located { address, datacenter });
                }
                Ok(_) => {}
                Err(why) => odd.push(why),
            }
        }
        let critical = critical.into_iter().filter_map(|entry| address(entry).ok());
        endpoints.critical = critical.filter(|address| seen.insert(*address)).count();
        (endpoints, odd)
    }

    /// What counts from now on: these, and in doubt also those of `known` that are missing or
    /// critical here.
    pub(super) fn beside(&self, known: &Self, doubt: bool) -> Self {
        let mut all = self.clone();
        if doubt {
            let kept = known.available.iter();
            let kept = kept.filter(|k| self.available.iter().all(|l| l.address != k.address));
            all.available.extend(kept.cloned());
            // Some of the critical ones are among the kept: the number is for words and metrics.
            let known = known.available.len() + known.critical;
            let listed = self.available.len() + self.critical;
            all.critical = known.max(listed).saturating_sub(all.available.len());
        }
        all
    }
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
mod tests {
    use consul::api::{Check, Node, Service};

    use super::*;

    fn entry(port: u16, status: CheckStatus) -> ServiceEntry {
        let check = Check {
            node: "n".into(),
            id: format!("c-{port}"),
            name: String::new(),
            status,
            output: String::new(),
            service_id: String::new(),
            service_name: String::new(),
        };
        ServiceEntry {
            node: Node { address: "127.0.0.1".into(), datacenter: "dc1".into(), ..Node::default() },
            service: Service { id: format!("s-{port}"), port, ..Service::default() },
            checks: vec![check],
        }
    }

    fn ports(endpoints: &Endpoints) -> Vec<u16> {
        endpoints.available.iter().map(|located| located.address.port()).collect()
    }

    fn read(list: &[ServiceEntry]) -> Endpoints {
        Endpoints::read(list).0
    }

    #[test]
    fn passing_and_warning_take_calls_and_critical_is_counted() {
        use CheckStatus::{Critical, Passing, Warning};
        let endpoints = read(&[entry(1, Passing), entry(2, Warning), entry(3, Critical)]);
        assert_eq!((ports(&endpoints), endpoints.critical), (vec![1, 2], 1));
        assert_eq!(endpoints.available[0].datacenter, "dc1");
    }

    #[test]
    fn of_two_records_of_one_address_the_one_that_is_well_counts() {
        let endpoints = read(&[entry(1, CheckStatus::Critical), entry(1, CheckStatus::Passing)]);
        assert_eq!((ports(&endpoints), endpoints.critical), (vec![1], 0));
    }

    #[test]
    fn what_is_no_address_is_passed_over_and_named() {
        let mut named = entry(1, CheckStatus::Passing);
        named.service.address = "web.internal".into();
        let (endpoints, odd) = Endpoints::read(&[named, entry(0, CheckStatus::Passing)]);
        assert_eq!(endpoints, Endpoints::default());
        assert!(odd[0].contains("web.internal") && odd[1].contains("port 0"), "{odd:?}");
    }

    #[test]
    fn in_doubt_an_empty_list_takes_nothing_away_and_a_new_endpoint_is_added() {
        let known = read(&[entry(1, CheckStatus::Passing), entry(2, CheckStatus::Passing)]);
        assert_eq!(read(&[]).beside(&known, true), known);
        let listed = read(&[entry(3, CheckStatus::Passing), entry(1, CheckStatus::Critical)]);
        let both = listed.beside(&known, true);
        assert_eq!((ports(&both), both.critical), (vec![3, 1, 2], 0));
        assert_eq!(listed.beside(&both, false), listed);
    }
}
