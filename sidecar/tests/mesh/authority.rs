//! A real Consul with ACLs, as `consul/config/` sets it up: nothing is allowed that no policy or
//! intention allows, and each sidecar has the least policy.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use consul::api::agent::OwnToken;
use consul::{Client, Token};
use rustix::process::Signal;
use tempfile::TempDir;

use super::peer::peer;
use super::ports::free;
use super::process::{Process, until};
use super::whole::{SERVICES, consul_at};

const CONFIG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../consul/config");
const MANAGER: &str = "11111111-1111-4111-8111-111111111111";

/// Who has which policy; the token's secret is of our own making, so that the same one can be made
/// again after a loss.
const HOLDERS: [(&str, &str); 7] = [
    ("client", "client-policy"),
    ("user-service", "sidecar-policy"),
    ("product-service", "sidecar-policy"),
    ("order-service", "sidecar-policy"),
    ("operator", "operator-policy"),
    ("agent", "agent-policy"),
    ("dns", "dns-policy"),
];

/// The server's process, its data and its ports.
pub(crate) struct Authority {
    process: Process,
    pub(crate) http: SocketAddr,
    pub(crate) dns: SocketAddr,
    others: [u16; 2],
    program: PathBuf,
    data: TempDir,
    tokens: TempDir,
}

impl Authority {
    /// Starts one with its tokens; `None` where there is no Consul.
    pub(crate) async fn start() -> Option<Self> {
        let program = peer("consul")?;
        let [http, dns] = [free(), free()];
        let others = [free().port(), free().port()];
        let (data, tokens) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for (holder, _) in HOLDERS {
            std::fs::write(tokens.path().join(holder), secret(holder)).unwrap();
        }
        let process = run(&program, http, dns, others, data.path());
        let authority = Self { process, http, dns, others, program, data, tokens };
        authority.bootstrap().await;
        for holder in HOLDERS {
            authority.make_token(holder).await;
        }
        authority.take_own_tokens().await;
        assert_eq!(SERVICES.map(|name| authority.token_file(name).exists()), [true; 3]);
        Some(authority)
    }

    /// Kills it without a word.
    pub(crate) async fn kill(&mut self) {
        self.process.signal(Signal::KILL);
        self.process.ended().await;
    }

    /// Starts it again where it was, with its data.
    pub(crate) async fn restart(&mut self) {
        self.process = run(&self.program, self.http, self.dns, self.others, self.data.path());
    }

    /// Starts it again where it was, without its data; then makes the same tokens again.
    /// The token of `client` comes first: with `seen` the test waits until that sidecar has seen a
    /// Consul that knows of nobody.
    pub(crate) async fn begin_anew(&mut self, seen: impl AsyncFnOnce()) {
        self.data = tempfile::tempdir().unwrap();
        self.restart().await;
        self.bootstrap().await;
        self.make_token(HOLDERS[0]).await;
        seen().await;
        for holder in &HOLDERS[1..] {
            self.make_token(*holder).await;
        }
        self.take_own_tokens().await;
    }

    /// A client that may do everything.
    pub(crate) fn manager(&self) -> Client {
        consul_at(self.http, Token::Secret(MANAGER.to_owned()))
    }

    /// The token for who runs the mesh.
    pub(crate) fn operator(&self) -> String {
        secret("operator")
    }

    /// Where a service's token is.
    pub(crate) fn token_file(&self, service: &str) -> PathBuf {
        self.tokens.path().join(service)
    }

    async fn bootstrap(&self) {
        let anonymous = consul_at(self.http, Token::Anonymous);
        until("ACLs are bootstrapped", async || {
            anonymous.acl().bootstrap(Some(MANAGER)).await.is_ok()
        })
        .await;
    }

    async fn make_token(&self, (holder, policy): (&str, &str)) {
        let rules = std::fs::read_to_string(format!("{CONFIG}/{policy}.hcl")).unwrap();
        let name = format!("{policy}-{holder}");
        let rules = rules.replace("{{service}}", holder);
        let manager = self.manager();
        manager.acl().create_policy(&name, &rules).await.unwrap();
        manager.acl().create_token(Some(&secret(holder)), &[&name]).await.unwrap();
    }

    async fn take_own_tokens(&self) {
        let manager = self.manager();
        let agent = manager.agent();
        agent.set_own_token(OwnToken::Agent, &secret("agent")).await.unwrap();
        agent.set_own_token(OwnToken::Dns, &secret("dns")).await.unwrap();
    }
}

fn secret(holder: &str) -> String {
    let at = HOLDERS.iter().position(|(name, _)| *name == holder).unwrap();
    format!("44444444-4444-4444-8444-{at:012}")
}

fn run(
    program: &Path,
    http: SocketAddr,
    dns: SocketAddr,
    [server, lan]: [u16; 2],
    data: &Path,
) -> Process {
    let mut command = Command::new(program);
    command.arg("agent").args(["-config-file", &format!("{CONFIG}/server.hcl")]);
    command.arg("-data-dir").arg(data).args(["-node", "one", "-serf-wan-port=-1"]);
    command.arg(format!("-http-port={}", http.port())).arg(format!("-dns-port={}", dns.port()));
    command.arg(format!("-server-port={server}")).arg(format!("-serf-lan-port={lan}"));
    Process::start("consul", &mut command)
}
