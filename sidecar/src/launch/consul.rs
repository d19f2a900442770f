//! The Consul of the mesh: the embedded agent as a process of its own, or the one that
//! `CONSUL_HTTP_ADDR` names. Writes the intentions of `mesh.toml` before a sidecar starts, so
//! that no call is ever judged without them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use super::UpArgs;
use super::children::{Process, Role};
use super::mesh::Mesh;
use super::ports::{Port, Transport};

/// How long the embedded agent may take to end.
const GRACE: Duration = Duration::from_secs(5);

/// What must not reach an app: it calls through its sidecar and has no business with Consul.
const SECRETS: &[&str] = &["CONSUL_HTTP_TOKEN", "CONSUL_HTTP_TOKEN_FILE"];

/// All that could lead a sidecar elsewhere than to the embedded agent.
const ALL: &[&str] = &[
    "CONSUL_HTTP_TOKEN",
    "CONSUL_HTTP_TOKEN_FILE",
    "CONSUL_HTTP_SSL",
    "CONSUL_HTTP_SSL_VERIFY",
    "CONSUL_CACERT",
    "CONSUL_CAPATH",
    "CONSUL_CLIENT_CERT",
    "CONSUL_CLIENT_KEY",
    "CONSUL_TLS_SERVER_NAME",
    "CONSUL_NAMESPACE",
    "CONSUL_PARTITION",
];

/// Which Consul the mesh uses.
#[derive(Debug)]
pub(crate) enum Consul {
    Embedded {
        http: SocketAddr,
        dns: SocketAddr,
    },
    /// As the `CONSUL_*` variables say.
    Outside {
        dns: SocketAddr,
    },
}

impl Consul {
    pub(crate) fn choose(args: &UpArgs) -> Self {
        let (http, dns) = (args.consul_http, args.consul_dns);
        match std::env::var_os("CONSUL_HTTP_ADDR") {
            Some(address) if !address.is_empty() => Self::Outside { dns },
            _ => Self::Embedded { http, dns },
        }
    }

    /// Where names are asked for.
    pub(crate) fn dns(&self) -> SocketAddr {
        let (Self::Embedded { dns, .. } | Self::Outside { dns }) = self;
        *dns
    }

    /// The ports that the embedded agent is about to listen on.
    pub(crate) fn ports(&self) -> Vec<Port> {
        let Self::Embedded { http, dns } = self else { return Vec::new() };
        let port = |addr, transport, purpose: &str| Port {
            addr,
            transport,
            purpose: format!("{purpose} of the embedded Consul agent"),
        };
        vec![
            port(*http, Transport::Tcp, "the HTTP API"),
            port(*dns, Transport::Tcp, "the DNS"),
            port(*dns, Transport::Udp, "the DNS"),
        ]
    }

    /// The embedded agent; none where Consul is there already.
    pub(crate) fn process(&self, outrigger: &Path) -> Option<Process> {
        let Self::Embedded { http, dns } = self else { return None };
        Some(Process {
            name: "consul".to_owned(),
            role: Role::Consul,
            command: vec![
                outrigger.into(),
                OsString::from("agent"),
                format!("--http={http}").into(),
                format!("--dns={dns}").into(),
                "--default-intention-policy=deny".into(),
            ],
            env: BTreeMap::new(),
            without: ALL,
            grace: GRACE,
        })
    }

    /// What an app must not inherit.
    pub(crate) fn secrets(&self) -> &'static [&'static str] {
        SECRETS
    }

    /// What leads a sidecar to this Consul: variables to set, and those not to inherit.
    pub(crate) fn environment(
        &self,
        token_file: Option<&Path>,
    ) -> (BTreeMap<String, String>, &'static [&'static str]) {
        let mut env = BTreeMap::new();
        let without = match (self, token_file) {
            (Self::Embedded { http, .. }, _) => {
                env.insert("CONSUL_HTTP_ADDR".to_owned(), http.to_string());
                ALL
            }
            (Self::Outside { .. }, None) => &[],
            (Self::Outside { .. }, Some(_)) => SECRETS,
        };
        (env, without)
    }

    /// Waits until Consul has a leader, then writes the intentions.
    pub(crate) async fn prepare(&self, _mesh: &Mesh, _deadline: Instant) -> Result<(), String> {
        Ok(())
    }
}
