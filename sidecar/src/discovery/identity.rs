//! This workload's identity from Consul's CA: roots and leaf, watched, renewed, published.
//!
//! Invariant: the identity before stays until there is a better one; why there is none is told long
//! before the certificate ends.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use certs::{Identity, Leaf, Roots, Standing, TrustDomain, renew_at};
use consul::api::agent;
use consul::api::connect::CaRoots;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::Control;
use super::succession::Succession;
use crate::telemetry::labels::SnapshotKind;
use crate::telemetry::readiness::{Blocker, Degradation, Readiness};

/// How often everything that depends on the time is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// The longest between two questions for a leaf that is due; a fiftieth of its life else.
const ASK_AGAIN: Duration = Duration::from_secs(600);

impl Control {
    /// Publishes the identity that Consul gives, and each later one. Never ends.
    pub(super) async fn identity(self: Arc<Self>, first: Blocker) {
        let mut first = Some(first);
        let mut roots = self.watched(SnapshotKind::Roots, self.client.agent().roots());
        let mut leaf = self.watched(SnapshotKind::Leaf, self.own_leaf());
        let mut succession = Succession::new(self.config.identity.tls_min);
        let mut renewal: Option<SystemTime> = None;
        let mut told = Told::new(&self.readiness);
        let mut tick = interval(LOOK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                news = roots.next() => {
                    if news.is_doubtful() {
                        self.open_hold();
                    }
                    if let Some(listed) = news.value {
                        match read_roots(&listed) {
                            Ok((roots, domain)) => {
                                told.usable();
                                let (now, wall) = (Instant::now(), SystemTime::now());
                                if succession.roots(roots, domain.clone(), now, wall) {
                                    tracing::warn!(%domain, "Consul has a new trust domain: the old one stays trusted for a while");
                                    self.open_hold();
                                }
                            }
                            Err(why) => told.unusable(format!("its roots: {why}")),
                        }
                    }
                }
                news = leaf.next() => {
                    if news.is_doubtful() {
                        self.open_hold();
                    }
                    if let Some(issued) = news.value {
                        match read_leaf(&issued) {
                            Ok(leaf) => {
                                told.usable();
                                let known = succession.newest().map(Leaf::chain);
                                if known != Some(leaf.chain()) {
                                    let (from, to) = (leaf.not_before(), leaf.not_after());
                                    renewal = Some(renew_at(from, to, fastrand::f64()));
                                    succession.leaf(leaf);
                                }
                            }
                            Err(why) => told.unusable(format!("its leaf: {why}")),
                        }
                    }
                }
                _ = tick.tick() => {
                    let wall = SystemTime::now();
                    if let (Some(due), Some(newest)) = (renewal, succession.newest()) && due <= wall {
                        let life = newest.not_after().duration_since(newest.not_before());
                        let pause = (life.unwrap_or_default() / 50).clamp(LOOK, ASK_AGAIN);
                        renewal = Some(wall + pause);
                        leaf.ask_anew(self.own_leaf().watch());
                    }
                }
            }
            match succession.identity(Instant::now(), SystemTime::now()) {
                Ok(Some(identity)) => {
                    self.publish_identity(identity).await;
                    drop(first.take());
                }
                Ok(None) => {}
                Err(e) => told.unusable(e.to_string()),
            }
            if let Some(newest) = succession.newest() {
                told.standing(newest, leaf.fails(), SystemTime::now());
            }
        }
    }

    fn own_leaf(&self) -> consul::Get<agent::Leaf> {
        self.client.agent().leaf(self.config.service.name.as_str())
    }

    async fn publish_identity(&self, identity: Identity) {
        let leaf = identity.leaf();
        let left = leaf.not_after().duration_since(SystemTime::now()).unwrap_or_default();
        tracing::info!(
            id = %leaf.id(),
            ends_in_seconds = left.as_secs(),
            roots = identity.roots().certificates().len(),
            "identity"
        );
        self.metrics.certificate_expiry(leaf.not_after());
        self.fleet.identity(Arc::new(identity)).await;
    }
}

fn read_roots(listed: &CaRoots) -> Result<(Roots, TrustDomain), String> {
    let mut pem = String::new();
    for root in &listed.roots {
        pem.push_str(&root.cert_pem);
        pem.push('\n');
    }
    let roots = Roots::from_pem(pem.as_bytes()).map_err(|e| e.to_string())?;
    let domain = listed.trust_domain.parse();
    let domain = domain.map_err(|e| format!("trust domain \"{}\": {e}", listed.trust_domain))?;
    Ok((roots, domain))
}

fn read_leaf(issued: &agent::Leaf) -> Result<Leaf, String> {
    Leaf::from_pem(issued.cert_pem.as_bytes(), issued.private_key_pem.as_bytes())
        .map_err(|e| e.to_string())
}

/// What was told of the identity's troubles.
struct Told<'a> {
    readiness: &'a Arc<Readiness>,
    unusable: Option<Degradation>,
    standing: Option<(Standing, Degradation)>,
}

impl<'a> Told<'a> {
    fn new(readiness: &'a Arc<Readiness>) -> Self {
        Self { readiness, unusable: None, standing: None }
    }

    fn unusable(&mut self, why: String) {
        tracing::error!(
            "what Consul's CA says cannot be used, the identity before it stays: {why}"
        );
        self.unusable = Some(self.readiness.degrade("Consul's CA", why));
    }

    fn usable(&mut self) {
        self.unusable = None;
    }

    /// Consul itself renews between three fifths and nine tenths of a leaf's life: that it has not
    /// yet at two thirds is told only where it also fails.
    fn standing(&mut self, leaf: &Leaf, fails: bool, wall: SystemTime) {
        let now = Standing::of(leaf, wall);
        let is_amiss = now >= Standing::Expiring || (now == Standing::Due && fails);
        if !is_amiss {
            self.standing = None;
        } else if self.standing.as_ref().is_none_or(|(told, _)| *told != now) {
            let words = match leaf.not_after().duration_since(wall) {
                Ok(left) => format!("ends in {} s, and Consul gave no new one", left.as_secs()),
                Err(_) => "has expired, and Consul gave no new one".to_owned(),
            };
            tracing::error!(id = %leaf.id(), "the certificate {words}");
            let degradation = self.readiness.degrade("certificate", format!("it {words}"));
            self.standing = Some((now, degradation));
        }
    }
}
