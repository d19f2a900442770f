//! One upstream: its endpoints, watched for as long as it is called, published as snapshots.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use certs::{ConsulWorkload, Identity, SpiffeId};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::Control;
use super::endpoints::{Endpoints, Known, Located};
use super::snapshot::{Found, Upstream};
use super::watched::News;
use crate::config::{Config, ServiceName};
use crate::resilience::balance::subset;
use crate::resilience::balance::zones::Zones;
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
        let mut known = Known::default();
        let told = self.config.upstreams.of(&name).methods.is_some();
        let mut inquiry = (!told).then(|| self.inquirer.about(&name));
        let mut published: Option<(Endpoints, SpiffeId, Arc<Upstream>)> = None;
        let mut retired: Vec<Arc<Upstream>> = Vec::new();
        let idle = self.config.timeouts.upstream_idle.duration();
        let mut called = Instant::now();
        let mut tick = interval(LOOK.min(idle / 4).max(Duration::from_millis(10)));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let news = tokio::select! {
                news = watched.next() => Some(news),
                // Neither fails: the control thread holds both senders.
                _ = identities.changed() => None,
                _ = hold.changed() => None,
                _ = tick.tick() => {
                    retired.retain(|snapshot| Arc::strong_count(snapshot) > 1);
                    let now = Instant::now();
                    let is_used = |(.., snapshot): &(_, _, Arc<Upstream>)| {
                        snapshot.state.used.swap(false, Ordering::Relaxed)
                    };
                    if published.as_ref().is_some_and(is_used) {
                        called = now;
                    }
                    let unsure = watched.fails() || known.is_owed();
                    let patience = patience(idle, known.is_empty(), unsure);
                    if patience.is_some_and(|it| now.saturating_duration_since(called) >= it) {
                        return name;
                    }
                    None
                }
            };
            if news.as_ref().is_some_and(News::is_doubtful) {
                self.open_hold();
                known.doubt();
            }
            let now = Instant::now();
            let began = hold.borrow_and_update().began(now);
            known.hold(began);
            if let Some(news) = news {
                let list = news.value.map(|list| {
                    let (endpoints, odd) = Endpoints::read(&list);
                    for why in odd {
                        tracing::warn!(upstream = %name, "passed over: {why}");
                    }
                    endpoints
                });
                known.answered(list);
            }
            let own = identities.borrow_and_update().as_deref().map(own_id);
            let doubt = began.is_some() || watched.fails();
            let (Some(endpoints), Some(own)) = (known.in_force(doubt), own) else { continue };
            let is_published = published
                .as_ref()
                .is_some_and(|(published, of, _)| published == endpoints && *of == own);
            if is_published {
                continue;
            }
            let previous = published.as_ref().map(|(.., snapshot)| &**snapshot);
            let mut snapshot = snapshot(&self.config, previous, &name, endpoints, &own);
            if self.config.upstreams.of(&name).hashes() {
                // For thousands it takes long: other watches go on meanwhile.
                match spawn_blocking(|| snapshot.hashed()).await {
                    Ok(hashed) => snapshot = hashed,
                    Err(e) => {
                        tracing::error!(upstream = %name, "no table of hashes: {e}");
                        continue;
                    }
                }
            }
            let snapshot = Arc::new(snapshot);
            let (available, critical) = (endpoints.available.len(), snapshot.critical);
            tracing::info!(upstream = %name, available, critical, "endpoints");
            let count = |state, n| self.metrics.endpoints(name.as_str(), state, n);
            count(EndpointStanding::Available, available);
            count(EndpointStanding::Critical, critical);
            self.fleet.upstream(snapshot.clone()).await;
            if let Some(inquiry) = &mut inquiry {
                inquiry.instances(snapshot.endpoints.iter().map(|endpoint| endpoint.address));
            }
            let before = published.replace((endpoints.clone(), own, snapshot));
            // Whoever lets go of a snapshot last frees all that is in it: that is no worker.
            retired.extend(before.map(|(.., snapshot)| snapshot));
            retired.retain(|snapshot| Arc::strong_count(snapshot) > 1);
        }
    }
}

/// How long a name is watched that nobody calls; none: for as long as it lasts that Consul could not
/// tell again at once what forgetting would lose.
fn patience(idle: Duration, is_empty: bool, unsure: bool) -> Option<Duration> {
    match (is_empty, unsure) {
        (true, _) => Some(idle.min(NOBODY)),
        (false, true) => None,
        (false, false) => Some(idle),
    }
}

fn own_id(identity: &Identity) -> SpiffeId {
    identity.leaf().id().clone()
}

/// Endpoints are expected under the trust domain that we bear ourselves, and in our own namespace
/// and partition, which are those that Consul is asked about. While the mesh goes from one trust
/// domain to another, our identity takes either for the other.
fn snapshot(
    config: &Config,
    previous: Option<&Upstream>,
    name: &ServiceName,
    endpoints: &Endpoints,
    own: &SpiffeId,
) -> Upstream {
    let (caller, zone) = (config.service.id.as_str(), config.service.zone());
    let upstream = config.upstreams.of(name);
    let domain = own.trust_domain();
    let (partition, namespace) = match own.consul() {
        Some(own) => (own.partition, own.namespace),
        None => (None, "default"),
    };
    let is_near = |located: &Located| zone.is_some() && located.zone.as_deref() == zone;
    let zones = zones(&endpoints.available, is_near);
    let mut taken: Vec<_> = endpoints.available.iter().collect();
    if !upstream.hashes() {
        let most = upstream.balance.subset.get();
        subset::choose(caller, most, &mut taken, |located| located.address, |it| is_near(it));
    }
    let found = taken.into_iter().filter_map(|located| {
        let (datacenter, service) = (located.datacenter.as_str(), name.as_str());
        let workload = ConsulWorkload { partition, namespace, datacenter, service };
        // Consul's own names pass; what does not is no endpoint that could prove who it is.
        let identity = workload.id(domain).ok()?;
        let sni = workload.server_name(domain).into();
        let (weight, is_near) = (located.weight, is_near(located));
        Some(Found { address: located.address, identity, sni, weight, is_near })
    });
    let critical = endpoints.critical.len();
    Upstream::succeed(previous, name.as_str().into(), found, critical).within(zones)
}

/// How the weight lies; endpoints that say no zone are together in one.
fn zones(all: &[Located], is_near: impl Fn(&Located) -> bool) -> Zones {
    let mut zones = Zones::default();
    for located in all {
        let weight = if is_near(located) { &mut zones.near } else { &mut zones.far };
        *weight += u64::from(located.weight);
    }
    let names: HashSet<_> = all.iter().map(|located| &located.zone).collect();
    zones.count = u32::try_from(names.len()).unwrap_or(u32::MAX);
    zones
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn config(more: &str) -> Config {
        let text = format!("[service]\nname = \"web\"\nmeta = {{ zone = \"a\" }}\n{more}");
        Config::from_toml(&text, SystemTime::UNIX_EPOCH).unwrap()
    }

    fn order() -> ServiceName {
        "order".parse().unwrap()
    }

    fn located(n: u16, zone: Option<&str>) -> Located {
        let address = ([127, 0, 0, 1], n).into();
        Located { address, datacenter: "dc1".into(), weight: 2, zone: zone.map(Into::into) }
    }

    #[test]
    fn while_consul_is_away_a_name_with_endpoints_is_not_forgotten() {
        let idle = Duration::from_secs(600);
        assert_eq!(patience(idle, false, true), None);
        assert_eq!(patience(idle, false, false), Some(idle));
        assert_eq!(patience(idle, true, true), Some(NOBODY), "a mistyped one keeps no place");
    }

    #[test]
    fn endpoints_are_expected_in_our_own_namespace_and_partition() {
        let located = located(1, None);
        let endpoints = Endpoints { available: vec![located], critical: Vec::new() };
        let expected = |own: &str| {
            let own = SpiffeId::try_from(own).unwrap();
            let upstream = snapshot(&config(""), None, &order(), &endpoints, &own);
            (upstream.endpoints[0].identity.to_string(), upstream.endpoints[0].sni.to_string())
        };
        assert_eq!(
            expected("spiffe://td.consul/ap/other/ns/blue/dc/dc1/svc/web"),
            (
                "spiffe://td.consul/ap/other/ns/blue/dc/dc1/svc/order".to_owned(),
                "order.blue.other.dc1.internal-v1.td.consul".to_owned()
            )
        );
        let (id, _) = expected("spiffe://td.consul/host/web");
        assert_eq!(id, "spiffe://td.consul/ns/default/dc/dc1/svc/order");
    }
    #[test]
    fn of_many_a_part_is_taken_and_the_weight_of_all_is_told() {
        let zones = [Some("a"), Some("b"), Some("c"), None];
        let available: Vec<_> =
            (0..200).map(|n| located(n + 1, zones[usize::from(n) % 4])).collect();
        let endpoints = Endpoints { available, critical: Vec::new() };
        let own = SpiffeId::try_from("spiffe://td.consul/ns/default/dc/dc1/svc/web").unwrap();
        let snapshot = |more| snapshot(&config(more), None, &order(), &endpoints, &own);
        let all = snapshot("");
        assert_eq!(all.zones, Zones { near: 100, far: 300, count: 4 });
        assert_eq!(all.endpoints.len(), 100);
        assert!(all.endpoints.iter().all(|one| one.weight == 2));
        let few = snapshot("[upstreams.order]\nsubset = 8");
        assert_eq!(few.endpoints.iter().filter(|one| one.is_near).count(), 6);
        assert_eq!((few.endpoints.len(), few.zones), (8, all.zones));
        let route = "[[upstreams.order.route]]\nhash = { header = \"x-user-id\" }";
        let hashed = snapshot(route);
        assert_eq!(hashed.endpoints.len(), 200, "callers agree on whom a hash points to");
    }
}
