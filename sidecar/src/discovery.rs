//! The Consul side of the control thread: it learns identity, intentions and endpoints, publishes
//! them to the workers as immutable snapshots, and keeps this instance registered.
//!
//! Invariant: nothing that Consul fails to say, or says while it is in doubt, takes away what is
//! known. Consul may come later, go away, return, and return without its data ([`hold`]).

mod default_action;
mod departure;
mod endpoints;
mod health;
pub mod hold;
mod identity;
mod intentions;
pub mod methods;
mod outage;
mod probe;
mod registration;
mod rules;
pub mod snapshot;
mod succession;
mod upstream;
mod upstreams;
mod watched;

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use consul::{Client, ConfigError};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::config::{Config, IdentitySource, ServiceName};
use crate::telemetry::labels::SnapshotKind;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::readiness::Readiness;
use crate::worker::fleet::Fleet;
use hold::Hold;
use methods::inquiry::Inquirer;
use watched::Watched;

/// What the control thread does with Consul.
pub struct Control {
    config: Arc<Config>,
    client: Client,
    fleet: Arc<Fleet>,
    metrics: Arc<Metrics>,
    readiness: Arc<Readiness>,
    /// Learns which methods of upstreams are idempotent.
    inquirer: Inquirer,
    /// One for all that is watched: Consul is one.
    hold: watch::Sender<Hold>,
    /// Whether the workers know who may call.
    guarded: watch::Sender<bool>,
    /// Whether this instance is on its way out.
    leaving: watch::Sender<bool>,
    /// The node that our agent stands for, once it has told.
    node: OnceLock<String>,
}

impl Control {
    /// For the Consul that `config` names.
    ///
    /// # Errors
    /// Where the files of its TLS cannot be used.
    pub fn new(
        config: &Arc<Config>,
        consul: &consul::Config,
        fleet: &Arc<Fleet>,
        metrics: &Arc<Metrics>,
        readiness: &Arc<Readiness>,
        inquirer: &Inquirer,
    ) -> Result<Arc<Self>, ConfigError> {
        Ok(Arc::new(Self {
            config: config.clone(),
            client: Client::new(consul.clone())?,
            fleet: fleet.clone(),
            metrics: metrics.clone(),
            readiness: readiness.clone(),
            inquirer: inquirer.clone(),
            hold: watch::Sender::new(Hold::default()),
            guarded: watch::Sender::new(false),
            leaving: watch::Sender::new(false),
            node: OnceLock::new(),
        }))
    }

    /// Starts all of it on the present runtime; it ends when the answer is dropped. `bound` is
    /// where the inbound side listens, where there is one.
    #[must_use = "it ends when this is dropped"]
    pub fn start(
        self: &Arc<Self>,
        demand: mpsc::Receiver<ServiceName>,
        bound: Option<SocketAddr>,
    ) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        // Blocked here and not in the tasks: nobody may ask for readiness before they have begun.
        let block = |what| self.readiness.block(what);
        if self.config.identity.source == IdentitySource::Consul {
            let first = block("the first certificate from Consul");
            tasks.spawn(self.clone().identity(first));
        }
        tasks.spawn(self.clone().upstreams(demand));
        if let Some(bound) = bound {
            let first = block("the intentions of this service from Consul");
            tasks.spawn(self.clone().intentions(first));
            let unhealthy = block("the app to be healthy");
            let unregistered = block("the registration in Consul");
            tasks.spawn(self.clone().registration(bound, unhealthy, unregistered));
        }
        tasks
    }

    /// Watches a read on Consul.
    fn watched<T: Send + 'static>(&self, kind: SnapshotKind, get: consul::Get<T>) -> Watched<T> {
        Watched::new(kind, get.watch(), &self.metrics, &self.readiness)
    }

    /// Consul is in doubt: what is known is not removed for a while.
    fn open_hold(&self) {
        let now = Instant::now();
        self.hold.send_modify(|hold| {
            if !hold.is_open(now) {
                let length = Hold::LENGTH;
                tracing::warn!(
                    "what is known is kept for {length:?}: Consul was away or lost data"
                );
            }
            hold.open(now);
        });
    }
}
