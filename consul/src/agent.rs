//! The embedded agent: a Consul of one node, in memory, for development. It speaks Consul's HTTP
//! API and DNS as Consul 1.22 does, runs the checks of its services and a Connect CA. It is no
//! Consul server: no ACLs, no cluster, nothing survives it.
//!
//! Everything it does runs as tasks of the caller's runtime and ends when the `Agent` is dropped.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::net::TcpListener;
use tokio::task::JoinSet;

mod authority;
mod body;
mod catalog;
mod check;
mod config;
mod dns;
mod duration;
mod entries;
mod filter;
mod http;
mod intentions;
mod keeper;
mod probe;
mod service;
mod state;

/// What decides between two services that no intention names.
pub use crate::api::intention::Action as DefaultIntentionPolicy;
pub use config::{AgentConfig, Limits};
use state::Shared;

/// Why an agent did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgentError {
    /// An address could not be listened on: the system says what is in the way.
    #[error("the embedded Consul agent cannot listen for {what} on {address}: {source}")]
    Listen {
        /// `HTTP` or `DNS`.
        what: &'static str,
        /// The address, as it was configured.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The Connect CA could not be made.
    #[error("the embedded Consul agent has no CA: {0}")]
    Authority(String),
}

/// A running agent.
#[derive(Debug)]
pub struct Agent {
    http: SocketAddr,
    dns: Option<SocketAddr>,
    tasks: JoinSet<()>,
}

impl Agent {
    /// Starts an agent on the runtime of the caller.
    ///
    /// # Errors
    /// Where an address is taken or may not be listened on.
    pub async fn start(config: AgentConfig) -> Result<Self, AgentError> {
        let address = config.http;
        let failed = |source| AgentError::Listen { what: "HTTP", address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let http = listener.local_addr().map_err(failed)?;
        let dns = match config.dns {
            None => None,
            Some(address) => {
                let failed = |source| AgentError::Listen { what: "DNS", address, source };
                Some(dns::bind(address).await.map_err(failed)?)
            }
        };
        let shared = Shared::new(&config, SystemTime::now())
            .map_err(|error| AgentError::Authority(error.to_string()))?;
        let shared = Arc::new(shared);
        let mut tasks = JoinSet::new();
        tasks.spawn(http::serve(listener, Arc::clone(&shared), config.limits));
        tasks.spawn(keeper::keep(Arc::clone(&shared), config.limits.reap_interval));
        let dns_address = dns.as_ref().map(|sockets| sockets.address);
        if let Some(sockets) = dns {
            tasks.spawn(dns::serve(sockets, shared));
        }
        tracing::info!(
            %http,
            dns = dns_address.map(tracing::field::display),
            datacenter = config.datacenter,
            "embedded development agent: one node, in memory, no ACLs; not a Consul server"
        );
        Ok(Self { http, dns: dns_address, tasks })
    }

    /// Where the HTTP API listens.
    #[must_use]
    pub fn http_addr(&self) -> SocketAddr {
        self.http
    }

    /// Where DNS listens, over UDP and TCP.
    #[must_use]
    pub fn dns_addr(&self) -> Option<SocketAddr> {
        self.dns
    }

    /// Stops the agent and waits until its sockets are closed.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}

#[cfg(test)]
mod tests;
