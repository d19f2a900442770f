//! Virtual addresses: Consul gives each service in the mesh one of 240.0.0.0/4, for as long as it
//! has an instance there. No two services have the same.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// The label of a virtual address among an instance's tagged addresses.
pub(in crate::agent) const VIRTUAL: &str = "consul-virtual";
/// The address before the first one.
const BASE: u32 = 0xf000_0000;

/// The virtual address of each service that has one.
#[derive(Debug, Default)]
pub(super) struct VirtualIps(BTreeMap<String, u32>);

impl VirtualIps {
    /// The service's address, a free one where it has none yet.
    pub(super) fn assign(&mut self, service: &str) -> Ipv4Addr {
        let offset = match self.0.get(service) {
            Some(offset) => *offset,
            None => {
                let used: std::collections::BTreeSet<u32> = self.0.values().copied().collect();
                let free = (1..).find(|offset| !used.contains(offset)).unwrap_or(1);
                self.0.insert(service.to_owned(), free);
                free
            }
        };
        Ipv4Addr::from(BASE + offset)
    }

    /// The service's address, if it has one.
    pub(super) fn of(&self, service: &str) -> Option<Ipv4Addr> {
        self.0.get(service).map(|offset| Ipv4Addr::from(BASE + offset))
    }

    /// Takes the address back.
    pub(super) fn release(&mut self, service: &str) {
        self.0.remove(service);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_keeps_its_address_and_a_free_one_is_given_again() {
        let mut all = VirtualIps::default();
        assert_eq!(all.assign("web"), Ipv4Addr::new(240, 0, 0, 1));
        assert_eq!(all.assign("api"), Ipv4Addr::new(240, 0, 0, 2));
        assert_eq!(all.assign("web"), Ipv4Addr::new(240, 0, 0, 1));
        all.release("web");
        assert_eq!(all.of("web"), None);
        assert_eq!(all.assign("db"), Ipv4Addr::new(240, 0, 0, 1));
    }
}
