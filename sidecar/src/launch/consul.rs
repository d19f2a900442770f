//! The Consul of the mesh: the embedded agent as a process of its own, or the one that
//! `CONSUL_HTTP_ADDR` names. Writes the intentions of `mesh.toml` before a sidecar starts, so
//! that no call is ever judged without them.

mod loss;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use consul::api::{Action, Rule};
use consul::{Address, Client, Config};
use tokio::time::Instant;

use super::UpArgs;
use super::children::{Process, Role};
use super::mesh::{Intention, Mesh};
use super::ports::{Port, Transport};

pub(crate) use self::loss::Loss;

/// How long the embedded agent may take to end.
const GRACE: Duration = Duration::from_secs(5);

/// Between two questions to a Consul that is not there yet.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Consul's name for every service.
const ANY: &str = "*";

/// What must reach neither an app nor a build: they have no business with Consul.
pub(super) const SECRETS: &[&str] = &["CONSUL_HTTP_TOKEN", "CONSUL_HTTP_TOKEN_FILE"];

/// All that could lead a sidecar elsewhere than to the embedded agent.
const ALL: &[&str] = &[
    "CONSUL_HTTP_ADDR",
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

impl fmt::Display for Consul {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded { .. } => f.write_str("the embedded Consul agent"),
            Self::Outside { .. } => f.write_str("the Consul that CONSUL_HTTP_ADDR names"),
        }
    }
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

    /// What leads a sidecar to this Consul: flags, and variables that it must not inherit.
    pub(crate) fn sidecar(
        &self,
        token_file: Option<&Path>,
    ) -> (Vec<OsString>, &'static [&'static str]) {
        match (self, token_file) {
            (Self::Embedded { http, .. }, _) => (vec![format!("--consul={http}").into()], ALL),
            (Self::Outside { .. }, None) => (Vec::new(), &[]),
            (Self::Outside { .. }, Some(file)) => {
                let mut flag = OsString::from("--token-file=");
                flag.push(file);
                (vec![flag], SECRETS)
            }
        }
    }

    /// Waits until Consul has a leader, then writes the intentions. What was left as it is in
    /// Consul comes back as notes for the person.
    pub(crate) async fn prepare(
        &self,
        mesh: &Mesh,
        deadline: Instant,
    ) -> Result<Vec<String>, String> {
        let config = self.config()?;
        let address = config.address.to_string();
        let client = Client::new(config).map_err(|error| error.to_string())?;
        leader(&client, deadline).await.map_err(|why| format!("Consul at {address}: {why}"))?;
        let mut notes = Vec::new();
        for Intention { source, destination, action } in &mesh.intentions {
            let pair = (source.as_str(), destination.as_str());
            notes.extend(write(&client, pair, *action, Existing::Replace).await?);
        }
        if matches!(self, Self::Outside { .. }) {
            // The default of a Consul that others use too is theirs. Closed by default are the
            // services of this mesh alone, and only where nobody has said otherwise.
            for name in mesh.called() {
                notes.extend(write(&client, (ANY, name), Action::Deny, Existing::Keep).await?);
            }
        }
        Ok(notes)
    }

    fn config(&self) -> Result<Config, String> {
        let Self::Embedded { http, .. } = self else {
            return Config::from_env().map_err(|error| error.to_string());
        };
        let address = Address::Tcp { host: http.ip().to_string(), port: http.port(), tls: false };
        Ok(Config { address, ..Config::default() })
    }
}

async fn leader(client: &Client, deadline: Instant) -> Result<(), String> {
    loop {
        let why = match client.status().leader().send().await {
            Ok(answer) if !answer.value.is_empty() => return Ok(()),
            Ok(_) => "it has no leader".to_owned(),
            Err(error) => error.to_string(),
        };
        if Instant::now() >= deadline {
            return Err(why);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// What becomes of an intention of the same pair that says something else.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Existing {
    Replace,
    Keep,
}

/// Writes one intention. One that decides by request is never replaced: it says more than a
/// `mesh.toml` can.
async fn write(
    client: &Client,
    (source, destination): (&str, &str),
    action: Action,
    existing: Existing,
) -> Result<Option<String>, String> {
    let failed = |error| format!("the intention {source} -> {destination}: {error}");
    let wanted = Rule::Action(action);
    let found = client.connect().intention(source, destination).await.map_err(failed)?;
    match found.map(|found| found.rule) {
        Some(rule) if rule == wanted => Ok(None),
        Some(Rule::Permissions(_)) => Ok(Some(format!(
            "Consul's intention {source} -> {destination} decides by request: left as it is"
        ))),
        Some(Rule::Action(_)) if existing == Existing::Keep => Ok(Some(format!(
            "Consul's intention {source} -> {destination} says something else than deny: left as it is"
        ))),
        _ => {
            let set = client.connect().set_intention(source, destination, &wanted).await;
            set.map(|()| None).map_err(failed)
        }
    }
}
