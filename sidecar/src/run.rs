//! One sidecar, from its start to its end: sockets, workers, the control thread, the drain.
//!
//! This thread is the control thread: it learns (identity, intentions, endpoints), publishes to
//! the workers and never carries a call.

mod files;
mod statics;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::{Builder, LocalOptions};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{JoinSet, spawn_local};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::admin;
use crate::config::{Config, IdentitySource};
use crate::discovery::Control;
use crate::discovery::methods::inquiry::Inquirer;
use crate::inbound::authorize::{Action, Intentions};
use crate::telemetry::labels::Direction;
use crate::telemetry::metrics::{Bounds, Metrics};
use crate::telemetry::readiness::Readiness;
use crate::worker::fleet::{Fleet, Role, listen};

/// How long leaving Consul may take before the drain begins all the same.
const LEAVING: Duration = Duration::from_secs(5);

/// How long callers may take to hear of it.
const HEARD: Duration = Duration::from_secs(1);

/// What is left for calls that were cut off to be told so.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Why a sidecar could not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A port is taken or not ours to take.
    #[error("{key}: cannot listen on {address}: {source}")]
    Listen {
        /// The config's key.
        key: String,
        /// The address it names.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The system gave no thread, signal or runtime.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
    /// What Consul's own TLS needs cannot be used.
    #[error("consul: {0}")]
    Consul(#[from] consul::ConfigError),
    /// The certificate files cannot be used.
    #[error("{0}")]
    Files(String),
    /// A static upstream whose identity nothing tells.
    #[error("{0}")]
    Statics(String),
}

/// Runs until SIGTERM or SIGINT, then drains.
///
/// # Errors
/// Where it cannot start.
pub fn run(config: Config) -> Result<(), RunError> {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    runtime.block_on(control(Arc::new(config)))
}

/// The control thread's whole life.
async fn control(config: Arc<Config>) -> Result<(), RunError> {
    let mut signals = Signals::new()?;
    let sockets = Sockets::open(&config)?;
    let limits = &config.limits;
    let bounds = Bounds {
        peers: limits.metric_peers.get(),
        methods: limits.metric_methods.get(),
        series: limits.metric_series.get(),
        endpoints: limits.metric_endpoints.get(),
    };
    let metrics = Metrics::new(config.service.name.as_str(), bounds);
    let readiness = Readiness::new();
    // A worker asks once for a name, and for no more names than may be watched.
    let names = limits.upstreams.get().saturating_mul(config.runtime.workers.get());
    let (demand, demanded) = mpsc::channel(names.min(Semaphore::MAX_PERMITS));
    let (fleet, threads) = Fleet::start(&config, &metrics, demand)?;

    let starting = readiness.block("the start");
    let (admin, clients) = (sockets.admin, limits.admin_connections);
    let forever = std::future::pending();
    spawn_local(admin::serve(admin, clients, metrics.clone(), readiness.clone(), forever));

    if let IdentitySource::Files { cert, key, roots } = &config.identity.source {
        let paths = [cert.clone(), key.clone(), roots.clone()];
        let tls_min = config.identity.tls_min;
        files::start(paths, tls_min, &fleet, &metrics, &readiness).await?;
    }
    let inquirer = Inquirer::new(sockets.outbound, fleet.clone());
    statics::start(&config, &fleet, &inquirer).await?;
    let consul = match &config.consul {
        Some(at) => Some(Control::new(&config, at, &fleet, &metrics, &readiness, &inquirer)?),
        None => {
            fleet.intentions(Arc::new(without_consul(&config))).await;
            None
        }
    };
    let mut learning = JoinSet::new();
    if let Some(consul) = &consul {
        learning = consul.start(demanded, sockets.inbound);
    }

    for (listener, role, limit) in sockets.calls {
        spawn_local(fleet.clone().accept(listener, role, limit));
    }
    drop(starting);
    tracing::info!(service = %config.service.name, "the sidecar runs");

    signals.next().await;
    let mut is_told_again = false;
    if let (Some(consul), Some(_)) = (&consul, &config.inbound) {
        tracing::info!("leaving the mesh");
        is_told_again = tokio::select! {
            () = leave(consul) => false,
            () = signals.next() => true,
        };
    }
    if is_told_again {
        tracing::warn!("told again to end, while leaving the mesh: calls have no time to end");
        drain(Some(Duration::ZERO), &fleet, &mut signals).await;
    } else {
        tracing::info!("draining: calls have {} to end", config.drain.timeout);
        drain(config.drain.timeout.limit(), &fleet, &mut signals).await;
    }
    drop(learning);
    // The workers' threads end with the fleet's last owner: the accepting tasks and this one.
    drop((fleet, threads));
    tracing::info!("the sidecar has ended");
    Ok(())
}

/// Leaves the mesh, and goes on taking calls until its callers have heard of it.
async fn leave(consul: &Control) {
    let left = async {
        if consul.deregister().await && consul.gone_from_mesh().await {
            // Callers learn of it after Consul does.
            sleep(HEARD).await;
        }
    };
    let _ = timeout(LEAVING, left).await;
}

/// Lets calls end within `limit`, first those of the mesh, then those of the app, which it may need
/// for them.
async fn drain(limit: Option<Duration>, fleet: &Fleet, signals: &mut Signals) {
    let begin = Instant::now();
    let deadline = limit.map(|limit| begin + limit);
    for direction in [Direction::Inbound, Direction::Outbound] {
        let drained = async {
            match deadline {
                Some(at) => timeout_at(at, fleet.drain(direction)).await.is_ok(),
                None => {
                    fleet.drain(direction).await;
                    true
                }
            }
        };
        let ended = tokio::select! {
            ended = drained => ended,
            () = signals.next() => {
                tracing::warn!("told again to end: what is still open is cut off");
                false
            }
        };
        if !ended {
            fleet.cut(direction).await;
            let _ = timeout_at(Instant::now() + LAST_WORDS, fleet.drain(direction)).await;
        }
    }
}

/// What decides without Consul: the config's list, then its default.
fn without_consul(config: &Config) -> Intentions {
    let default = match config.authorization.default {
        crate::config::DefaultAction::Allow => Action::Allow,
        crate::config::DefaultAction::Deny => Action::Deny,
    };
    Intentions {
        rules: Vec::new(),
        allowed: config.authorization.allow.clone(),
        default,
        default_source: "authorization.default in the config",
    }
}

/// The signals that end a sidecar.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Every listening socket, opened before anything else starts.
struct Sockets {
    admin: TcpListener,
    /// Where the inbound side listens, where there is one.
    inbound: Option<SocketAddr>,
    /// Where the app calls any upstream.
    outbound: SocketAddr,
    calls: Vec<(TcpListener, Role, usize)>,
}

impl Sockets {
    fn open(config: &Config) -> Result<Self, RunError> {
        let open = |key: &str, address: SocketAddr| {
            listen(address).map_err(|source| RunError::Listen {
                key: key.to_owned(),
                address,
                source,
            })
        };
        let admin = open("admin.listen", config.admin.socket_addr())?;
        let limits = &config.limits;
        let loopback = limits.loopback_connections.get();
        let mut calls = Vec::new();
        let mut bound = None;
        if let Some(inbound) = &config.inbound {
            let listener = open("inbound.listen", inbound.listen.socket_addr())?;
            bound = Some(listener.local_addr()?);
            calls.push((listener, Role::Inbound, limits.inbound_connections.get()));
        }
        let listener = open("outbound.listen", config.outbound.socket_addr())?;
        let outbound = listener.local_addr()?;
        calls.push((listener, Role::Outbound(None), loopback));
        for (name, upstream) in config.upstreams.named() {
            let Some(address) = upstream.listen else { continue };
            let listener = open(&format!("upstreams.{name}.listen"), address.socket_addr())?;
            calls.push((listener, Role::Outbound(Some(name.clone())), loopback));
        }
        Ok(Self { admin, inbound: bound, outbound, calls })
    }
}
