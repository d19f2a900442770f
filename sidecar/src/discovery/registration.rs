//! Keeps this instance and its sidecar registered, and its health in Consul that of the app.
//!
//! Invariant: Consul is told of this instance only once it can be called (a certificate, the
//! intentions), and again whenever it has forgotten it, until the sidecar leaves.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use consul::Error;
use consul::api::service::{ProxyRegistration, Sidecar, Upstream};
use consul::api::{CheckDefinition, CheckMethod, CheckStatus, ServiceRegistration};
use tokio::time::sleep;

use super::Control;
use super::health::{Health, Verdict};
use super::outage::Outage;
use super::probe::Probe;
use crate::config::{Advertise, Inbound};
use crate::telemetry::readiness::{Blocker, Degradation};

/// How often the app is asked, Consul told, and the registration looked at, while all is well.
const EVERY: Duration = Duration::from_secs(3);
/// While the app or Consul fails: a recovery is told soon.
const SOON: Duration = Duration::from_secs(1);

/// Critical without a word from us for this long: five rounds. A sidecar that was killed is out of
/// discovery then.
const TTL: Duration = Duration::from_secs(15);

/// An instance that stays critical is removed: after ten minutes, which a reboot does not take. One
/// whose sidecar lives is registered again, and is critical again.
const DEREGISTER_AFTER: Duration = Duration::from_secs(600);

impl Control {
    /// Registers this instance and keeps it so, until [`Control::deregister`]. `bound` is where
    /// the inbound side listens.
    pub(super) async fn registration(
        self: Arc<Self>,
        bound: SocketAddr,
        unhealthy: Blocker,
        unregistered: Blocker,
    ) {
        let Some(inbound) = &self.config.inbound else { return };
        let mut leaving = self.leaving.subscribe();
        tokio::select! {
            _ = leaving.wait_for(|leaving| *leaving) => {}
            () = self.keep_registered(inbound, bound, unhealthy, unregistered) => {}
        }
    }

    async fn keep_registered(
        &self,
        inbound: &Inbound,
        bound: SocketAddr,
        unhealthy: Blocker,
        unregistered: Blocker,
    ) {
        let (mut unhealthy, mut unregistered) = (Some(unhealthy), Some(unregistered));
        self.fleet.present_identity().await;
        // Fails never: we hold the sender.
        let _ = self.guarded.subscribe().wait_for(|guarded| *guarded).await;

        let probe = Probe::new(inbound.app, inbound.protocol);
        let mut health = Health::default();
        let mut last: Option<CheckStatus> = None;
        let mut ill: Option<Degradation> = None;
        let mut outage = Outage::none("registration", &self.readiness);
        loop {
            let verdict = health.judge(&probe.ask().await);
            if last.replace(verdict.status) != Some(verdict.status) {
                tracing::info!(status = ?verdict.status, "the app's health: {}", verdict.output);
                let is_passing = verdict.status == CheckStatus::Passing;
                ill = (!is_passing).then(|| self.readiness.degrade("app", verdict.output.clone()));
            }
            if verdict.status != CheckStatus::Critical {
                drop(unhealthy.take());
            }
            let registration = self.record(inbound, bound, &verdict);
            match self.tell(&registration, &verdict, unregistered.is_some()).await {
                Ok(()) => {
                    outage.over();
                    drop(unregistered.take());
                }
                Err(error) => outage.failed(&error),
            }
            let is_well = ill.is_none() && !outage.lasts();
            sleep(if is_well { EVERY } else { SOON }).await;
        }
    }

    /// Tells Consul the verdict, and of us where it does not know us.
    async fn tell(
        &self,
        registration: &ServiceRegistration,
        verdict: &Verdict,
        is_first: bool,
    ) -> Result<(), Error> {
        let agent = self.client.agent();
        if is_first {
            agent.register(registration).await?;
            // Of a former life: it survives both restarts, ours and Consul's.
            agent.service_maintenance(self.id(), false, "").await?;
            self.learn_node().await;
            tracing::info!(id = self.id(), "registered");
        } else if !self.is_registered(registration).await? {
            let id = self.id();
            tracing::warn!(id, "unknown to Consul, or known as another: registered again");
            agent.register(registration).await?;
        }
        let check = check_id(self.id());
        let told = agent.update_check(&check, verdict.status, &verdict.output).await;
        match told {
            Err(error) if !error.is_outage() && !error.is_forbidden() => {
                tracing::warn!(id = self.id(), "registered again, as its check is gone: {error}");
                agent.register(registration).await
            }
            told => told,
        }
    }

    /// Whether the agent has our sidecar as we told it; it goes when its service goes.
    async fn is_registered(&self, registration: &ServiceRegistration) -> Result<bool, Error> {
        let known = self.client.agent().service(&self.proxy_id()).await?;
        let Some(sidecar) = &registration.sidecar else { return Ok(known.is_some()) };
        Ok(known.is_some_and(|known| {
            known.port == sidecar.port
                && known.address == registration.address.as_deref().unwrap_or_default()
                && known.proxy.destination_service_id == self.id()
        }))
    }

    async fn learn_node(&self) {
        if self.node.get().is_none()
            && let Ok(checks) = self.client.agent().checks().send().await
            && let Some(check) = checks.value.into_values().next()
        {
            let _ = self.node.set(check.node);
        }
    }

    /// This instance as Consul is told of it: the service on the app's port, its sidecar on ours.
    fn record(&self, inbound: &Inbound, bound: SocketAddr, now: &Verdict) -> ServiceRegistration {
        let service = &self.config.service;
        let id = self.id().to_owned();
        let advertised = match inbound.advertise {
            Advertise::Bound => (Some(bound.ip()), bound.port()),
            Advertise::Agent => (None, bound.port()),
            Advertise::Address(address) => {
                (Some(address.socket_addr().ip()), address.socket_addr().port())
            }
        };
        let (address, port) = (advertised.0.map(|ip| ip.to_string()), advertised.1);
        let app = inbound.app.socket_addr();
        let check = CheckDefinition {
            id: Some(check_id(&id)),
            name: "app health".to_owned(),
            // Without it a new check is critical until it is told otherwise.
            status: Some(now.status),
            deregister_after: Some(DEREGISTER_AFTER),
            method: CheckMethod::Ttl { ttl: TTL },
        };
        let alias = CheckDefinition {
            id: Some(format!("{}-alias", check_id(&id))),
            name: "health of the service behind".to_owned(),
            status: Some(now.status),
            deregister_after: None,
            method: CheckMethod::Alias { service: id.clone() },
        };
        // Consul's pictures of who calls whom show these.
        let upstreams = self.config.upstreams.named().map(|(name, upstream)| Upstream {
            destination_name: name.as_str().to_owned(),
            local_bind_port: upstream.listen.map_or(0, |listen| listen.socket_addr().port()),
        });
        let sidecar = Sidecar {
            address: address.clone(),
            port,
            tags: service.tags.clone(),
            meta: service.meta.clone(),
            weights: Some(service.weight.into()),
            checks: vec![alias],
            proxy: ProxyRegistration {
                local_service_address: Some(app.ip().to_string()),
                local_service_port: Some(app.port()),
                upstreams: upstreams.filter(|upstream| upstream.local_bind_port != 0).collect(),
            },
        };
        ServiceRegistration {
            id: Some(id),
            name: service.name.as_str().to_owned(),
            tags: service.tags.clone(),
            address,
            port: app.port(),
            meta: service.meta.clone(),
            weights: Some(service.weight.into()),
            checks: vec![check],
            sidecar: Some(Box::new(sidecar)),
            ..ServiceRegistration::default()
        }
    }

    pub(super) fn id(&self) -> &str {
        self.config.service.id.as_str()
    }

    /// The name that the agent gives to our sidecar.
    pub(super) fn proxy_id(&self) -> String {
        format!("{}-sidecar-proxy", self.id())
    }
}

fn check_id(id: &str) -> String {
    format!("service:{id}")
}
