//! One upstream: its endpoints, watched for as long as it is called, published as snapshots.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use certs::{Identity, SpiffeId, consul_sni};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::Control;
use super::endpoints::Endpoints;
use super::snapshot::Upstream;
use crate::config::ServiceName;
use crate::telemetry::labels::{EndpointStanding, SnapshotKind};

/// How often everything that depends on the time is looked at, at least.
const LOOK: Duration = Duration::from_secs(1);

/// How long a name without an instance is watched for nobody: a mistyped name must not keep the
/// place of a true one.
const NOBODY: Duration = Duration::from_secs(10);

impl Control {
    /// Publishes the endpoints of `name` until nobody calls it any more; returns the name.
    pub(super) async fn upstream(self: Arc<Self>, name: ServiceName) -> ServiceName {
        let mut watched =
            self.watched(SnapshotKind::Endpoints, self.client.health().connect(name.as_str()));
        let mut identities = self.fleet.identities();
        let mut hold = self.hold.subscribe();
        let mut listed: Option<Endpoints> = None;
        let mut known = Endpoints::default();
        let mut published: Option<(Endpoints, Arc<str>, Arc<Upstream>)> = None;
        let idle = self.config.timeouts.upstream_idle.duration();
        let mut called = Instant::now();
        let mut tick = interval(LOOK.min(idle / 4).max(Duration::from_millis(10)));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                news = watched.next() => {
                    if news.doubtful {
                        self.open_hold();
                    }
                    if let Some(list) = news.value {
                        let (endpoints, odd) = Endpoints::read(&list);
                        for why in odd {
                            tracing::warn!(upstream = %name, "passed over: {why}");
                        }
                        listed = Some(endpoints);
                    }
                }
                // Neither fails: the control thread holds both senders.
                _ = identities.changed() => {}
                _ = hold.changed() => {}
                _ = tick.tick() => {
                    let now = Instant::now();
                    let is_used = |(.., snapshot): &(_, _, Arc<Upstream>)| {
                        snapshot.state.used.swap(false, Ordering::Relaxed)
                    };
                    if published.as_ref().is_some_and(is_used) {
                        called = now;
                    }
                    let idle = if known == Endpoints::default() { idle.min(NOBODY) } else { idle };
                    if now.saturating_duration_since(called) >= idle {
                        return name;
                    }
                }
            }
            let domain = identities.borrow_and_update().as_deref().map(trust_domain);
            let (Some(listed), Some(domain)) = (&listed, domain) else { continue };
            let doubt = hold.borrow_and_update().is_open(Instant::now());
            let endpoints = listed.beside(&known, doubt);
            known = endpoints.clone();
            let is_published = published
                .as_ref()
                .is_some_and(|(published, of, _)| *published == endpoints && *of == domain);
            if is_published {
                continue;
            }
            let previous = published.as_ref().map(|(.., snapshot)| &**snapshot);
            let snapshot = Arc::new(snapshot(previous, &name, &endpoints, &domain));
            let (available, critical) = (snapshot.endpoints.len(), snapshot.critical);
            tracing::info!(upstream = %name, available, critical, "endpoints");
            let count = |state, n| self.metrics.endpoints(name.as_str(), state, n);
            count(EndpointStanding::Available, available);
            count(EndpointStanding::Critical, critical);
            self.fleet.upstream(snapshot.clone()).await;
            published = Some((endpoints, domain, snapshot));
        }
    }
}

fn trust_domain(identity: &Identity) -> Arc<str> {
    identity.leaf().id().trust_domain().into()
}

/// Endpoints are expected under the trust domain that we bear ourselves. While the mesh goes from
/// one to another, our identity takes either for the other.
fn snapshot(
    previous: Option<&Upstream>,
    name: &ServiceName,
    endpoints: &Endpoints,
    domain: &str,
) -> Upstream {
    const NAMESPACE: &str = "default";
    let located = endpoints.available.iter().filter_map(|located| {
        let dc = &located.datacenter;
        // Consul's own names pass; what does not is no endpoint that could prove who it is.
        let identity = SpiffeId::for_consul(domain, NAMESPACE, dc, name.as_str()).ok()?;
        let sni = consul_sni(name.as_str(), NAMESPACE, dc, domain);
        Some((located.address, identity, sni.into()))
    });
    Upstream::succeed(previous, name.as_str().into(), located, endpoints.critical)
}
