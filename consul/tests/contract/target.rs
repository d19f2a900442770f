//! The agents that the facts are checked against, started on free ports and ended with the test.

use std::{
    future::Future, net::SocketAddr, pin::Pin, process::Command, sync::OnceLock, time::Duration,
};

use consul::{Address, Client, Config, Token, api::Action};
use tempfile::TempDir;

pub(crate) use crate::guarded::Guarded;
use crate::{peer::peer, ports::free};

/// Which agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Consul itself.
    Real,
    /// `consul::agent`.
    #[cfg(feature = "agent")]
    Embedded,
}

/// An agent that answers; `Clone` shares it.
#[derive(Clone, Debug)]
pub(crate) struct At {
    pub(crate) kind: Kind,
    pub(crate) http: SocketAddr,
    pub(crate) dns: SocketAddr,
    pub(crate) client: Client,
}

impl At {
    fn new(kind: Kind, http: SocketAddr, dns: SocketAddr) -> At {
        At { kind, http, dns, client: client(http, Token::Anonymous) }
    }

    /// The same agent, asked with a token.
    pub(crate) fn with_token(&self, secret: &str) -> At {
        At { client: client(self.http, Token::Secret(secret.to_owned())), ..self.clone() }
    }
}

fn client(http: SocketAddr, token: Token) -> Client {
    let address = Address::Tcp { host: http.ip().to_string(), port: http.port(), tls: false };
    Client::new(Config { address, token, ..Config::default() }).unwrap()
}

/// Makes two tests of each fact.
macro_rules! facts {
    ($($(#[$attribute:meta])* async fn $name:ident($at:ident: At) $body:block)*) => {
        $(async fn $name($at: $crate::target::At) $body)*

        mod real {
            $($(#[$attribute])* #[test] fn $name() {
                $crate::target::check($crate::target::Kind::Real, |at| Box::pin(super::$name(at)));
            })*
        }

        #[cfg(feature = "agent")]
        mod embedded {
            $($(#[$attribute])* #[test] fn $name() {
                $crate::target::check($crate::target::Kind::Embedded, |at| Box::pin(super::$name(at)));
            })*
        }
    };
}

type Fact = Pin<Box<dyn Future<Output = ()>>>;

/// Checks a fact against the shared agent of a kind.
pub(crate) fn check(kind: Kind, fact: impl FnOnce(At) -> Fact) {
    let Some((http, dns)) = shared(kind) else { return };
    block_on(async { fact(At::new(kind, http, dns)).await });
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// How an agent of one's own is to be.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    /// Consul's own where it is `None`: allow, since ACLs are off.
    pub(crate) default_intention: Option<Action>,
    /// Those of an agent that was, where this one takes its place.
    pub(crate) ports: Option<Ports>,
}

/// An agent of one's own; it ends with [`Running::stop`], or when this is dropped.
pub(crate) struct Running {
    pub(crate) at: At,
    pub(crate) ports: Ports,
    process: Process,
}

enum Process {
    Real {
        child: Guarded,
        _config: TempDir,
    },
    #[cfg(feature = "agent")]
    Embedded(consul::agent::Agent),
}

impl Running {
    /// Ends the agent, and returns once its ports are free.
    pub(crate) async fn stop(self) {
        match self.process {
            Process::Real { child, .. } => drop(child),
            #[cfg(feature = "agent")]
            Process::Embedded(agent) => agent.stop().await,
        }
    }
}

/// The ports of an agent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    http: u16,
    dns: u16,
    server: u16,
    lan: u16,
}

impl Ports {
    pub(crate) fn free() -> Ports {
        let [http, dns, server, lan] = [(); 4].map(|()| free().port());
        Ports { http, dns, server, lan }
    }
}

fn loopback(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

/// Starts an agent of one's own; `None` where the real one cannot be had.
pub(crate) async fn start(kind: Kind, settings: Settings) -> Option<Running> {
    match kind {
        Kind::Real => {
            let config = tempfile::tempdir().unwrap();
            let mut hcl = String::new();
            if let Some(action) = settings.default_intention {
                let action = if action == Action::Allow { "allow" } else { "deny" };
                hcl.push_str(&format!("default_intention_policy = {action:?}\n"));
            }
            std::fs::write(config.path().join("more.hcl"), hcl).unwrap();
            let ports = settings.ports.unwrap_or_else(Ports::free);
            let arguments = ["-dev", "-config-dir", config.path().to_str().unwrap()];
            let (child, at) = real(ports, &arguments)?;
            wait_until_ready(&at).await;
            let process = Process::Real { child, _config: config };
            Some(Running { at, ports, process })
        }
        #[cfg(feature = "agent")]
        Kind::Embedded => {
            let ports = settings.ports.unwrap_or_else(Ports::free);
            let agent = embedded(ports, settings.default_intention).await;
            let at = At::new(kind, agent.http_addr(), loopback(ports.dns));
            wait_until_ready(&at).await;
            Some(Running { at, ports, process: Process::Embedded(agent) })
        }
    }
}

#[cfg(feature = "agent")]
async fn embedded(ports: Ports, default_intention: Option<Action>) -> consul::agent::Agent {
    use consul::agent::DefaultIntentionPolicy;
    let config = consul::agent::AgentConfig {
        http: loopback(ports.http),
        dns: Some(loopback(ports.dns)),
        default_intention_policy: match default_intention {
            Some(Action::Deny) => DefaultIntentionPolicy::Deny,
            _ => DefaultIntentionPolicy::Allow,
        },
        ..Default::default()
    };
    consul::agent::Agent::start(config).await.unwrap()
}

/// The agent of a kind that the facts share; it lives as long as the test's process.
fn shared(kind: Kind) -> Option<(SocketAddr, SocketAddr)> {
    static REAL: OnceLock<Option<(Guarded, SocketAddr, SocketAddr)>> = OnceLock::new();
    #[cfg(feature = "agent")]
    static EMBEDDED: OnceLock<(SocketAddr, SocketAddr)> = OnceLock::new();
    match kind {
        Kind::Real => REAL
            .get_or_init(|| {
                let (child, at) = real(Ports::free(), &["-dev"])?;
                block_on(wait_until_ready(&at));
                Some((child, at.http, at.dns))
            })
            .as_ref()
            .map(|(_, http, dns)| (*http, *dns)),
        #[cfg(feature = "agent")]
        Kind::Embedded => Some(*EMBEDDED.get_or_init(|| {
            let (tell, told) = std::sync::mpsc::channel();
            // A runtime of its own: those of the facts end before the next fact asks.
            std::thread::spawn(move || {
                block_on(async move {
                    let ports = Ports::free();
                    let _agent = embedded(ports, None).await;
                    tell.send((loopback(ports.http), loopback(ports.dns))).unwrap();
                    std::future::pending::<()>().await;
                });
            });
            told.recv().unwrap()
        })),
    }
}

/// Starts Consul with arguments of its own; it is not ready yet.
pub(crate) fn real(ports: Ports, arguments: &[&str]) -> Option<(Guarded, At)> {
    let mut command = Command::new(peer("consul")?);
    command.args(["agent", "-client", "127.0.0.1", "-bind", "127.0.0.1", "-node", "contract"]);
    for (flag, port) in [
        ("-http-port", i32::from(ports.http)),
        ("-dns-port", i32::from(ports.dns)),
        ("-server-port", i32::from(ports.server)),
        ("-serf-lan-port", i32::from(ports.lan)),
        ("-serf-wan-port", -1),
        ("-grpc-port", -1),
        ("-grpc-tls-port", -1),
    ] {
        command.arg(format!("{flag}={port}"));
    }
    command.args(arguments);
    let child = Guarded::spawn(&command);
    Some((child, At::new(Kind::Real, loopback(ports.http), loopback(ports.dns))))
}

async fn wait_until_ready(at: &At) {
    eventually("the agent is ready", async || {
        let leader = at.client.status().leader().send().await.ok()?;
        let roots = at.client.agent().roots().send().await.ok()?;
        let nodes = at.client.catalog().nodes().send().await.ok()?;
        let ready = !leader.value.is_empty()
            && !roots.value.roots.is_empty()
            && nodes.value.iter().any(|node| !node.address.is_empty());
        ready.then_some(())
    })
    .await;
}

/// Asks again until there is an answer, for half a minute.
pub(crate) async fn eventually<T>(what: &str, ask: impl AsyncFnMut() -> Option<T>) -> T {
    within(Duration::from_secs(30), what, ask).await
}

/// Asks again until there is an answer.
pub(crate) async fn within<T>(
    limit: Duration,
    what: &str,
    mut ask: impl AsyncFnMut() -> Option<T>,
) -> T {
    let deadline = tokio::time::Instant::now() + limit;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(tokio::time::Instant::now() < deadline, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
