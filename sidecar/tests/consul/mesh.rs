//! Apps and sidecars in this process, and calls through them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use outrigger::config::Config;
use outrigger::discovery::Control;
use outrigger::discovery::methods::inquiry::Inquirer;
use outrigger::telemetry::metrics::{Bounds, Metrics};
use outrigger::telemetry::readiness::Readiness;
use outrigger::worker::fleet::{Fleet, Role, listen};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, Status};
use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::server::{HealthReporter, health_reporter};

use crate::agents::{Consul, eventually};

/// A bare gRPC app: its one service is `grpc.health.v1`, which is also what callers call.
pub(crate) struct App {
    pub(crate) address: SocketAddr,
    pub(crate) health: HealthReporter,
    /// Its own, so that its connections end with it.
    runtime: Option<Runtime>,
}

impl App {
    pub(crate) async fn start() -> Self {
        Self::start_at(([127, 0, 0, 1], 0).into()).await
    }

    pub(crate) async fn start_at(address: SocketAddr) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (health, service) = health_reporter();
        health.set_service_status("", ServingStatus::Serving).await;
        let (tell, told) = oneshot::channel();
        runtime.spawn(async move {
            let listener = TcpListener::bind(address).await.unwrap();
            tell.send(listener.local_addr().unwrap()).unwrap();
            let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
            Server::builder().add_service(service).serve_with_incoming(incoming).await.unwrap();
        });
        Self { address: told.await.unwrap(), health, runtime: Some(runtime) }
    }

    /// Gone at once, as an app that was killed.
    pub(crate) async fn stop(self) {
        let address = self.address;
        drop(self);
        eventually("the app is gone", async || {
            tokio::net::TcpStream::connect(address).await.is_err().then_some(())
        })
        .await;
    }
}

impl Drop for App {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A sidecar as `run` puts it together, without its signals.
pub(crate) struct Sidecar {
    pub(crate) control: Arc<Control>,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) readiness: Arc<Readiness>,
    pub(crate) inbound: Option<SocketAddr>,
    pub(crate) outbound: SocketAddr,
    _tasks: JoinSet<()>,
    _threads: Vec<JoinHandle<()>>,
}

impl Sidecar {
    /// Beside `app`, or for a caller alone. `more` is TOML.
    pub(crate) async fn start(
        consul: &Consul,
        name: &str,
        app: Option<SocketAddr>,
        more: &str,
    ) -> Self {
        Self::start_on(consul, name, app, more, None).await
    }

    /// One that is told to listen on every address; here it does on loopback alone.
    pub(crate) async fn start_everywhere(consul: &Consul, name: &str, app: SocketAddr) -> Self {
        let everywhere = Some(Ipv4Addr::UNSPECIFIED.into());
        Self::start_on(consul, name, Some(app), "", everywhere).await
    }

    async fn start_on(
        consul: &Consul,
        name: &str,
        app: Option<SocketAddr>,
        more: &str,
        stated: Option<IpAddr>,
    ) -> Self {
        let address = consul.address();
        let inbound = app.map(|_| listen(([127, 0, 0, 1], 0).into()).unwrap());
        let outbound = listen(([127, 0, 0, 1], 0).into()).unwrap();
        let bound = inbound.as_ref().map(|listener| listener.local_addr().unwrap());
        let mut text = format!("[service]\nname = \"{name}\"\n");
        if let (Some(app), Some(bound)) = (app, bound) {
            let stated = SocketAddr::new(stated.unwrap_or(bound.ip()), bound.port());
            text += &format!("app = \"{app}\"\n[inbound]\nlisten = \"{stated}\"\n");
        }
        let out = outbound.local_addr().unwrap();
        text += &format!("[outbound]\nlisten = \"{out}\"\n{more}\n");
        if !more.contains("[consul]") {
            text += &format!("[consul]\naddress = \"{address}\"\n");
        }
        let config = Config::from_toml(&text, SystemTime::now()).map_err(|e| e.to_string());
        let config = Arc::new(config.unwrap());
        let metrics = Metrics::new(name, Bounds::default());
        let readiness = Readiness::new();
        let (demand, demanded) = mpsc::channel(64);
        let (fleet, threads) = Fleet::start(&config, &metrics, demand).unwrap();
        let settings = config.consul.as_ref().unwrap();
        let inquirer = Inquirer::new(out, fleet.clone());
        let control =
            Control::new(&config, settings, &fleet, &metrics, &readiness, &inquirer).unwrap();
        let mut tasks = control.start(demanded, bound);
        if let Some(listener) = inbound {
            tasks.spawn(fleet.clone().accept(listener, Role::Inbound, 1000));
        }
        tasks.spawn(fleet.clone().accept(outbound, Role::Outbound(None), 1000));
        Self {
            control,
            fleet,
            metrics,
            readiness,
            inbound: bound,
            outbound: out,
            _tasks: tasks,
            _threads: threads,
        }
    }

    pub(crate) async fn ready(&self) {
        eventually("the sidecar is ready", async || {
            self.readiness.blocked().is_empty().then_some(())
        })
        .await;
    }

    /// A client of `service` through this sidecar.
    pub(crate) fn client(&self, service: &str) -> HealthClient<Channel> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.outbound)).unwrap();
        let origin = format!("http://{service}").parse().unwrap();
        HealthClient::new(endpoint.origin(origin).connect_lazy())
    }

    pub(crate) fn scrape(&self) -> String {
        let mut text = String::new();
        self.metrics.encode(SystemTime::now(), &mut text).unwrap();
        text
    }

    /// The trust domain that it presents.
    pub(crate) async fn trust_domain(&self) -> String {
        self.fleet.present_identity().await.leaf().id().trust_domain().to_owned()
    }
}

pub(crate) fn whole_server() -> HealthCheckRequest {
    HealthCheckRequest { service: String::new() }
}

/// One call.
pub(crate) async fn call(client: &HealthClient<Channel>) -> Result<(), Status> {
    client.clone().check(whole_server()).await.map(drop)
}

/// Waits until a call succeeds: callers learn of an endpoint a moment after it is registered.
pub(crate) async fn callable(client: &HealthClient<Channel>) {
    eventually("a call succeeds", async || call(client).await.ok()).await;
}

/// Calls all the time, until it is ended.
pub(crate) struct Load {
    ended: Arc<AtomicBool>,
    pub(crate) calls: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<Vec<String>>,
}

impl Load {
    pub(crate) fn on(client: HealthClient<Channel>) -> Self {
        let (ended, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (end, count) = (ended.clone(), calls.clone());
        let task = tokio::spawn(async move {
            let mut failures = Vec::new();
            let begin = tokio::time::Instant::now();
            while !end.load(Ordering::Relaxed) {
                if let Err(status) = call(&client).await {
                    let after = begin.elapsed();
                    failures.push(format!("{after:?}: {}: {}", status.code(), status.message()));
                }
                count.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            failures
        });
        Self { ended, calls, task }
    }

    /// The calls that failed, in words.
    pub(crate) async fn end(self) -> Vec<String> {
        self.ended.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}

pub(crate) fn is_denied(status: &Status) -> bool {
    status.code() == Code::PermissionDenied
}
