//! Consuls that the tests start, stop and start again on the same ports.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use consul::agent::{Agent, AgentConfig};
use consul::{Address, Client, Config, Token};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

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
            program()?;
        }
        let arguments = arguments.iter().map(|&a| a.to_owned()).collect();
        let data = tempfile::tempdir().unwrap();
        Some(Self { kind, ports: free_ports(), data, arguments, running: None })
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
                let mut command = Command::new(program().unwrap());
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

fn free_ports<const N: usize>() -> [u16; N] {
    let held: [(TcpListener, UdpSocket); N] = std::array::from_fn(|_| {
        loop {
            let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
            if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()) {
                return (tcp, udp);
            }
        }
    });
    held.map(|(tcp, _)| tcp.local_addr().unwrap().port())
}

/// A process that ends with this value, and with the test's own process however that ends.
struct Guarded(Child);

impl Guarded {
    fn spawn(command: &Command) -> Self {
        // The shell holds the read end of a pipe from us: it closes when we are gone.
        let script = "\"$@\" & child=$!; read -r _; kill -9 $child; wait $child";
        let child = Command::new("sh")
            .args(["-c", script, "sh"])
            .arg(command.get_program())
            .args(command.get_args())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        if let Some(stdin) = &mut self.0.stdin {
            let _ = stdin.write_all(b"\n");
        }
        let _ = self.0.wait();
    }
}

/// The real Consul, brought by its recipe. Without it the tests fail in CI, and are told to be
/// unchecked elsewhere.
fn program() -> Option<&'static Path> {
    static PROGRAM: OnceLock<Option<PathBuf>> = OnceLock::new();
    PROGRAM
        .get_or_init(|| {
            let bring = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/bring");
            let output = Command::new(&bring).arg("consul").output().unwrap();
            if output.status.success() {
                return Some(PathBuf::from(String::from_utf8(output.stdout).unwrap().trim()));
            }
            let why = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(std::env::var_os("CI").is_none(), "no real Consul in CI:\n{why}");
            // Past the test harness's capture: a person must see it.
            let _ = writeln!(std::io::stderr(), "NOT CHECKED against a real Consul:\n{why}");
            None
        })
        .as_deref()
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
