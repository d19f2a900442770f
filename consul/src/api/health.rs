//! `/v1/health/…`: instances and their checks.

use crate::{
    Client, Get,
    api::{Check, ServiceEntry},
};

/// The family; see [`Client::health`].
#[derive(Clone, Copy, Debug)]
pub struct Health<'c>(pub(crate) &'c Client);

impl Health<'_> {
    /// The instances of a service, on the ports of their apps.
    pub fn service(&self, name: &str) -> Get<Vec<ServiceEntry>> {
        Get::nullable(self.0, &["health", "service", name])
    }

    /// The mesh's endpoints of a service: its proxies.
    pub fn connect(&self, name: &str) -> Get<Vec<ServiceEntry>> {
        Get::nullable(self.0, &["health", "connect", name])
    }

    /// The checks of a service.
    pub fn checks(&self, service: &str) -> Get<Vec<Check>> {
        Get::nullable(self.0, &["health", "checks", service])
    }

    /// The checks of a node.
    pub fn node(&self, node: &str) -> Get<Vec<Check>> {
        Get::nullable(self.0, &["health", "node", node])
    }

    /// The checks in a status; `any` for all.
    pub fn state(&self, status: &str) -> Get<Vec<Check>> {
        Get::nullable(self.0, &["health", "state", status])
    }
}

impl Get<Vec<ServiceEntry>> {
    /// Leaves out what has a check that does not pass, warnings included.
    pub fn passing(self) -> Get<Vec<ServiceEntry>> {
        self.with("passing", "")
    }

    /// Leaves only instances with this tag.
    pub fn tag(self, tag: &str) -> Get<Vec<ServiceEntry>> {
        // The parameter `tag` is deprecated; an expression's string is quoted as in Go.
        let quoted = tag.replace('\\', "\\\\").replace('"', "\\\"");
        self.filter(&format!("Service.Tags contains \"{quoted}\""))
    }
}
