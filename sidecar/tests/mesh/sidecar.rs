//! `outrigger run` beside a service of the test.

use std::net::SocketAddr;

use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint};

use super::pki::Pki;
use super::ports::free;
use super::process::{Process, until};
use super::programs::outrigger;

/// How many workers a sidecar has where what they share may go wrong between them.
pub(crate) const WORKERS: [usize; 2] = [1, 4];

/// The section that gives a sidecar so many workers.
pub(crate) fn workers(count: usize) -> String {
    format!("[runtime]\nworkers = {count}\n")
}

/// A sidecar's process and its ports.
pub(crate) struct Sidecar {
    pub(crate) process: Process,
    pub(crate) inbound: SocketAddr,
    pub(crate) outbound: SocketAddr,
    pub(crate) admin: SocketAddr,
    _config: TempDir,
}

impl Sidecar {
    /// Starts one from what its config says beyond the ports: first keys of `[service]`, then
    /// whole sections.
    pub(crate) fn start(service: &str, app: Option<SocketAddr>, more: &str) -> Self {
        let [inbound, outbound, admin] = [(); 3].map(|()| free());
        let mut text = format!("[service]\nname = {service:?}\n");
        if let Some(app) = app {
            text.push_str(&format!("app = \"{app}\"\n[inbound]\nlisten = \"{inbound}\"\n"));
        }
        text.push_str(&format!("[outbound]\nlisten = \"{outbound}\"\n"));
        text.push_str(&format!("[admin]\nlisten = \"{admin}\"\n{more}"));
        let config = tempfile::tempdir().unwrap();
        let path = config.path().join("sidecar.toml");
        std::fs::write(&path, text).unwrap();
        let process = Process::start(service, outrigger().arg("run").arg("--config").arg(path));
        Self { process, inbound, outbound, admin, _config: config }
    }

    /// One without Consul beside an app, ready; the services in `callers` may call it.
    pub(crate) async fn guarding(
        pki: &Pki,
        service: &str,
        app: SocketAddr,
        callers: &[&str],
        more: &str,
    ) -> Self {
        let allow: Vec<String> = callers.iter().map(|name| Pki::id(name).to_string()).collect();
        let identity = pki.section(service);
        let sections = format!(
            "[consul]\nenabled = false\n{identity}[authorization]\nallow = {allow:?}\n{more}"
        );
        Self::start(service, Some(app), &sections).ready().await
    }

    /// One without Consul for a caller, ready; its only upstream has these endpoints.
    pub(crate) async fn calling(
        pki: &Pki,
        service: &str,
        upstream: &str,
        endpoints: &[SocketAddr],
    ) -> Self {
        Self::calling_with(pki, service, upstream, endpoints, "").await
    }

    /// The same, with more sections.
    pub(crate) async fn calling_with(
        pki: &Pki,
        service: &str,
        upstream: &str,
        endpoints: &[SocketAddr],
        more: &str,
    ) -> Self {
        let endpoints: Vec<String> = endpoints.iter().map(SocketAddr::to_string).collect();
        let identity = pki.section(service);
        let sections = format!(
            "[consul]\nenabled = false\n{identity}[upstreams.{upstream}]\nendpoints = {endpoints:?}\n{more}"
        );
        Self::start(service, None, &sections).ready().await
    }

    /// Waits until it says that it is ready.
    pub(crate) async fn ready(mut self) -> Self {
        until("the sidecar is ready", async || {
            assert!(self.process.lives(), "it has ended: {}", self.process.said());
            self.read("/ready").await.is_some_and(|(status, _)| status == 200)
        })
        .await;
        self
    }

    /// A page of its admin port.
    pub(crate) async fn read(&self, path: &str) -> Option<(u16, String)> {
        let stream = TcpStream::connect(self.admin).await.ok()?;
        let (mut send, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
        let connection = tokio::spawn(connection);
        let request = http::Request::get(path).header("host", "admin");
        let answer = send.send_request(request.body(Empty::<bytes::Bytes>::new()).unwrap()).await;
        let answer = answer.ok()?;
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.ok()?.to_bytes();
        connection.abort();
        Some((status, String::from_utf8(body.to_vec()).unwrap()))
    }

    /// The value of the only series whose line holds all of these words; 0 where there is none.
    pub(crate) async fn metric(&self, words: &[&str]) -> f64 {
        let (_, text) = self.read("/metrics").await.unwrap();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let mut found = lines.filter(|line| words.iter().all(|word| line.contains(word)));
        let Some(line) = found.next() else { return 0.0 };
        assert_eq!(found.next(), None, "more than one series with {words:?}");
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }

    /// A client's connection to an upstream, by its authority. It connects when it is used.
    pub(crate) fn channel(&self, upstream: &str) -> Channel {
        channel(self.outbound, upstream)
    }
}

/// A client's connection to a port, with an authority.
pub(crate) fn channel(port: SocketAddr, authority: &str) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{port}")).unwrap();
    endpoint.origin(format!("http://{authority}").parse().unwrap()).connect_lazy()
}
