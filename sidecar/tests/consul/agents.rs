//! Consuls that the tests start, stop and start again on the same ports.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use consul::agent::{Agent, AgentConfig};
use consul::{Address, Client, Config, Token};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::guarded::Guarded;
use crate::peer::peer;
use crate::ports::free;

/// Which Consul.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Real,
    Embedded,
}

/// A Consul on ports of its own.
pub(crate) struct Consul {
    kind: Kind,
    ports: [u16; 4],
    data: TempDir,
    /// More arguments of the real one.
    arguments: Vec<String>,
    running: Option<Running>,
}

enum Running {
    Real { _guarded: Guarded },
    Embedded(Agent),
}

impl Consul {
    /// A Consul that does not run yet; none where the real one cannot be had.
    pub(crate) fn down(kind: Kind, arguments: &[&str]) -> Option<Self> {
        if kind == Kind::Real {
            peer("consul")?;
        }
        let arguments = arguments.iter().map(|&a| a.to_owned()).collect();
        let data = tempfile::tempdir().unwrap();
        Some(Self { kind, ports: [(); 4].map(|()| free().port()), data, arguments, running: None })
    }

    /// A Consul without ACLs that has a leader and a CA.
    pub(crate) async fn up(kind: Kind) -> Option<Self> {
        let mut consul = Self::down(kind, &["-server", "-bootstrap-expect=1", "-raft-protocol=3"])?;
        std::fs::write(
            consul.data.path().join("mesh.hcl"),
            "connect { enabled = true }\nperformance { raft_multiplier = 1 }",
        )
        .unwrap();
        let hcl = consul.data.path().join("mesh.hcl").to_str().unwrap().to_owned();
        consul.arguments.extend(["-config-file".to_owned(), hcl]);
        consul.start().await;
        consul.ready(&consul.client()).await;
        Some(consul)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.ports[0]).into()
    }

    pub(crate) fn client(&self) -> Client {
        self.client_with(Token::Anonymous)
    }

    pub(crate) fn client_with(&self, token: Token) -> Client {
        let address =
            Address::Tcp { host: "127.0.0.1".to_owned(), port: self.ports[0], tls: false };
        Client::new(Config { address, token, ..Config::default() }).unwrap()
    }

    /// Starts it, with the data that it has.
    pub(crate) async fn start(&mut self) {
        let [http, dns, server, lan] = self.ports;
        self.running = Some(match self.kind {
            Kind::Embedded => {
                let config = AgentConfig { http: self.address(), dns: None, ..Default::default() };
                Running::Embedded(Agent::start(config).await.unwrap())
            }
            Kind::Real => {
                let mut command = Command::new(peer("consul").unwrap());
                command.args(["agent", "-client", "127.0.0.1", "-bind", "127.0.0.1"]);
                command.args(["-node", "n1", "-serf-wan-port=-1", "-grpc-port=-1"]);
                command.arg("-grpc-tls-port=-1").arg(format!("-http-port={http}"));
                command.arg(format!("-dns-port={dns}")).arg(format!("-server-port={server}"));
                command.arg(format!("-serf-lan-port={lan}"));
                command.arg("-data-dir").arg(self.data.path().join("state"));
                command.args(&self.arguments);
                Running::Real { _guarded: Guarded::spawn(&command) }
            }
        });
    }

    /// Kills it, and takes away what it kept.
    pub(crate) async fn lose_everything(&mut self) {
        self.kill().await;
        let _ = std::fs::remove_dir_all(self.data.path().join("state"));
    }

    /// Kills it.
    pub(crate) async fn kill(&mut self) {
        match self.running.take() {
            Some(Running::Embedded(agent)) => agent.stop().await,
            running => drop(running),
        }
    }

    /// Waits until a client is served.
    pub(crate) async fn ready(&self, client: &Client) {
        eventually("Consul is ready", async || {
            let leader = client.status().leader().send().await.ok()?;
            let roots = client.agent().roots().send().await.ok()?;
            (!leader.value.is_empty() && !roots.value.roots.is_empty()).then_some(())
        })
        .await;
    }
}

/// Asks again until there is an answer, for a minute.
pub(crate) async fn eventually<T>(what: &str, ask: impl AsyncFnMut() -> Option<T>) -> T {
    within(Duration::from_secs(60), what, ask).await
}

/// Asks again until there is an answer.
pub(crate) async fn within<T>(
    limit: Duration,
    what: &str,
    mut ask: impl AsyncFnMut() -> Option<T>,
) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}
