//! A pair of sidecars without Consul, with certificates from files that `outrigger certs` made:
//! a caller with one port for its only upstream, and the callee beside its app.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::ports::free;
use super::process::{Process, until};
use super::programs::outrigger;

pub(crate) const CALLER: &str = "caller";
pub(crate) const CALLEE: &str = "callee";

/// A development CA's folder, with leaves for both.
pub(crate) struct Authority(TempDir);

impl Authority {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for words in [&["init"][..], &["issue", CALLER], &["issue", CALLEE]] {
            let made = outrigger().arg("certs").args(words).arg("--dir").arg(dir.path()).output();
            let made = made.unwrap();
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        }
        Self(dir)
    }

    pub(crate) fn roots(&self) -> PathBuf {
        self.0.path().join("ca.pem")
    }

    /// The files of a service's certificate and key.
    pub(crate) fn leaf(&self, service: &str) -> (PathBuf, PathBuf) {
        let file = |name: String| self.0.path().join(name);
        (file(format!("{service}.pem")), file(format!("{service}-key.pem")))
    }

    pub(crate) fn id(service: &str) -> String {
        format!("spiffe://outrigger.test/ns/default/dc/dc1/svc/{service}")
    }

    /// Starts a sidecar, ready; `service` and `sections` are what its config says besides.
    pub(crate) async fn sidecar(&self, name: &str, service: &str, sections: &str) -> Process {
        let admin = free();
        let (cert, key) = self.leaf(name);
        let config = format!(
            "[service]\nname = {name:?}\n{service}\n[consul]\nenabled = false\n\
             [admin]\nlisten = \"{admin}\"\n\
             [identity]\nsource = \"files\"\ncert = {cert:?}\nkey = {key:?}\nroots = {:?}\n{sections}",
            self.roots(),
        );
        let path = self.0.path().join(format!("{name}.toml"));
        std::fs::write(&path, config).unwrap();
        let mut process = Process::start(name, outrigger().arg("run").arg("--config").arg(path));
        until("the sidecar is ready", async || {
            assert!(process.lives(), "it has ended: {}", process.said());
            ready(admin).await
        })
        .await;
        process
    }
}

async fn ready(admin: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect(admin).await else { return false };
    let ask = b"GET /ready HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n";
    let mut answer = Vec::new();
    stream.write_all(ask).await.is_ok()
        && stream.read_to_end(&mut answer).await.is_ok()
        && answer.starts_with(b"HTTP/1.1 200 ")
}

/// The pair, until it is dropped.
pub(crate) struct Pair {
    pub(crate) authority: Authority,
    /// Where the caller's app calls the callee's, by any authority.
    pub(crate) outbound: SocketAddr,
    /// Where the mesh calls.
    pub(crate) inbound: SocketAddr,
    _sidecars: [Process; 2],
}

impl Pair {
    /// In front of an app that speaks this: `grpc` or `http1`.
    pub(crate) async fn start(app: SocketAddr, protocol: &str) -> Self {
        Self::with(app, protocol, "").await
    }

    /// With more sections in both configs.
    pub(crate) async fn with(app: SocketAddr, protocol: &str, more: &str) -> Self {
        let authority = Authority::new();
        let [inbound, outbound, others, unused] = [(); 4].map(|()| free());
        let service = format!("app = \"{app}\"\nprotocol = {protocol:?}\n");
        let sections = format!(
            "[inbound]\nlisten = \"{inbound}\"\n[outbound]\nlisten = \"{unused}\"\n\
             [authorization]\nallow = [{:?}]\n{more}",
            Authority::id(CALLER),
        );
        let callee = authority.sidecar(CALLEE, &service, &sections).await;
        // The suites' one callee answers with errors on purpose, and is not to rest for them.
        let sections = format!(
            "[outbound]\nlisten = \"{others}\"\n[breaker]\nconsecutive = 1000000\nsuccess_rate = 0\n\
             [upstreams.{CALLEE}]\nendpoints = [\"{inbound}\"]\nlisten = \"{outbound}\"\n{more}",
        );
        let caller = authority.sidecar(CALLER, "", &sections).await;
        Self { authority, outbound, inbound, _sidecars: [callee, caller] }
    }
}

/// A test's own file.
pub(crate) fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance").join(path)
}

/// An app, started, once it has said that it listens.
pub(crate) async fn app(name: &str, command: &mut Command) -> Process {
    let mut process = Process::start(name, command);
    process.line(&["listening"]).await;
    process
}

/// Runs a program to its end: its status and all that it said.
pub(crate) async fn run(name: &str, command: &mut Command) -> (ExitStatus, String) {
    // The longest suite takes 20 s of CPU time.
    let deadline = Instant::now() + Duration::from_secs(300);
    let mut process = Process::start(name, command);
    while process.lives() {
        assert!(Instant::now() < deadline, "{name} does not end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    (process.ended().await, process.said())
}
