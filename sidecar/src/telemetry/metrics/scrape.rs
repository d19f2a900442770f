//! One scrape: the shards' numbers merged, then written through prometheus-client.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeLabelSet, MetricEncoder,
    NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::Unit;
use tokio::time::Instant;

use super::cells::{BOUNDS_NANOS, BUCKETS, CallKey, PeerKey};
use super::control;
use super::process::Process;
use super::upstreams::Standing;
use super::{Metrics, labels};
use labels::{
    Direction, FallbackKind, GRPC_STATUSES, HANDSHAKE_OUTCOMES, Injected, OTHER, REASONS,
    RetryOutcome, Shed,
};

const NANOS_PER_SECOND: f64 = 1e9;

pub(super) const NO_LABELS: [(&str, &str); 0] = [];

/// Everything that is exposed, as of one moment.
#[derive(Debug)]
pub(super) struct Scrape {
    service: String,
    now: SystemTime,
    calls: BTreeMap<CallKey, CallTotals>,
    peers: BTreeMap<PeerKey, PeerTotals>,
    edges: [EdgeTotals; Direction::ALL.len()],
    /// The calls that the app gets at a time, and those that wait; none without an app.
    gate: Option<(u64, u64)>,
    control: control::State,
    standing: Standing,
    process: Process,
}

#[derive(Debug, Default)]
struct CallTotals {
    statuses: [u64; GRPC_STATUSES.len()],
    buckets: [u64; BUCKETS],
    nanos: u64,
    without_deadline: u64,
}

#[derive(Debug, Default)]
struct PeerTotals {
    in_flight: u64,
    faults: [u64; REASONS.len()],
    retries: [u64; RetryOutcome::ALL.len()],
    fallbacks: [u64; FallbackKind::ALL.len()],
}

#[derive(Debug, Default)]
struct EdgeTotals {
    connections: u64,
    handshakes: [u64; HANDSHAKE_OUTCOMES.len()],
    injected: [u64; Injected::ALL.len()],
    shed: [u64; Shed::ALL.len()],
}

impl Scrape {
    pub(super) fn take(metrics: &Metrics, process: Process, now: SystemTime) -> Self {
        let mut scrape = Self {
            service: metrics.service.clone(),
            now,
            calls: BTreeMap::new(),
            peers: BTreeMap::new(),
            edges: Default::default(),
            gate: metrics.gate.get().map(|gate| (gate.limit().into(), gate.queued() as u64)),
            control: metrics.control.snapshot(),
            standing: metrics.upstreams.standing(Instant::now(), metrics.bounds.endpoints),
            process,
        };
        for shard in metrics.shards() {
            for (key, cells) in listed(&shard.calls) {
                let totals = scrape.calls.entry(key).or_default();
                merge(&mut totals.statuses, &cells.statuses);
                merge(&mut totals.buckets, &cells.buckets);
                totals.nanos = totals.nanos.wrapping_add(cells.nanos.read());
                totals.without_deadline += cells.without_deadline.read();
            }
            for (key, cells) in listed(&shard.peers) {
                let totals = scrape.peers.entry(key).or_default();
                totals.in_flight += cells.in_flight.read();
                merge(&mut totals.faults, &cells.faults);
                merge(&mut totals.retries, &cells.retries);
                merge(&mut totals.fallbacks, &cells.fallbacks);
            }
            for (totals, cells) in scrape.edges.iter_mut().zip(&shard.edges) {
                totals.connections += cells.connections.read();
                merge(&mut totals.handshakes, &cells.handshakes);
                merge(&mut totals.injected, &cells.injected);
                merge(&mut totals.shed, &cells.shed);
            }
        }
        scrape
    }

    fn calls(&self) -> impl Iterator<Item = (CallLabels<'_>, &CallTotals)> {
        self.calls.iter().map(|(key, totals)| (call_labels(&self.service, key), totals))
    }

    fn encode_calls(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let requests = self.calls().flat_map(|([a, b, c, d, e], totals)| {
            nonzero(GRPC_STATUSES, totals.statuses)
                .map(move |(status, n)| ([a, b, c, d, e, ("grpc_status", status)], n))
        });
        counter(encoder, "outrigger_requests", "Calls that ended, by status", None, requests)?;
        let durations = self.calls().map(|(labels, totals)| (labels, Durations(totals)));
        family(
            encoder,
            ("outrigger_request_duration", "How long calls took"),
            Some(&Unit::Seconds),
            MetricType::Histogram,
            durations,
            |encoder, durations| durations.encode(encoder),
        )?;
        let without = self
            .calls()
            .filter(|(_, totals)| totals.without_deadline > 0)
            .map(|(labels, totals)| (labels, totals.without_deadline));
        counter(
            encoder,
            "outrigger_calls_without_deadline",
            "Calls that came without a deadline",
            None,
            without,
        )
    }

    fn encode_peers(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let faults = self.peers.iter().flat_map(|(key, totals)| {
            let [direction, peer] = peer_labels(key);
            nonzero(REASONS, totals.faults)
                .map(move |(reason, n)| ([direction, peer, ("reason", reason)], n))
        });
        counter(encoder, "outrigger_faults", "Answers that the sidecar made itself", None, faults)?;
        let retries = self.peers.iter().flat_map(|(key, totals)| {
            let [_, peer] = peer_labels(key);
            nonzero(RetryOutcome::ALL.map(RetryOutcome::label), totals.retries)
                .map(move |(outcome, n)| ([peer, ("outcome", outcome)], n))
        });
        counter(
            encoder,
            "outrigger_retries",
            "Calls that were sent again or to a second endpoint, by how they ended",
            None,
            retries,
        )?;
        let fallbacks = self.peers.iter().flat_map(|(key, totals)| {
            let [_, peer] = peer_labels(key);
            nonzero(FallbackKind::ALL.map(FallbackKind::label), totals.fallbacks)
                .map(move |(kind, n)| ([peer, ("kind", kind)], n))
        });
        counter(
            encoder,
            "outrigger_fallbacks",
            "Calls that were answered by their route's fallback, by its kind",
            None,
            fallbacks,
        )?;
        let in_flight = self.peers.iter().map(|(key, totals)| (peer_labels(key), totals.in_flight));
        gauge(encoder, "outrigger_in_flight", "Calls that have not ended", None, in_flight)
    }

    fn encode_edges(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let edges = || Direction::ALL.into_iter().zip(&self.edges);
        let connections = edges()
            .map(|(direction, totals)| ([("direction", direction.label())], totals.connections));
        gauge(encoder, "outrigger_connections", "Open connections", None, connections)?;
        let handshakes = edges().flat_map(|(direction, totals)| {
            HANDSHAKE_OUTCOMES.into_iter().zip(totals.handshakes).map(move |(outcome, n)| {
                ([("direction", direction.label()), ("outcome", outcome)], n)
            })
        });
        counter(
            encoder,
            "outrigger_tls_handshakes",
            "TLS handshakes that ended, by outcome",
            None,
            handshakes,
        )?;
        let injected = edges().flat_map(|(direction, totals)| {
            nonzero(Injected::ALL.map(Injected::label), totals.injected)
                .map(move |(kind, n)| ([("direction", direction.label()), ("kind", kind)], n))
        });
        let help = "Faults that calls met because the config asks for it";
        counter(encoder, "outrigger_injected", help, None, injected)?;
        self.encode_gate(encoder)
    }

    fn encode_gate(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let Some((limit, queued)) = self.gate else { return Ok(()) };
        let help = "Calls that the app gets at a time, counted until their response head";
        gauge(encoder, "outrigger_concurrency_limit", help, None, [(NO_LABELS, limit)])?;
        let help = "Calls from the mesh that wait for a place among them";
        gauge(encoder, "outrigger_queued", help, None, [(NO_LABELS, queued)])?;
        // All of them from the start: what shows up with its first refusal has no rate yet.
        let shed = &self.edges[Direction::Inbound as usize].shed;
        let shed = Shed::ALL.iter().zip(shed).map(|(cause, n)| ([("cause", cause.label())], *n));
        let help = "Calls from the mesh that were refused to spare the app or this sidecar";
        counter(encoder, "outrigger_shed", help, None, shed)
    }

    fn encode_control(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut by_label: BTreeMap<(&str, &str), u64> = BTreeMap::new();
        for (peer, states) in &self.control.endpoints {
            let peer = labels::name(peer).unwrap_or(OTHER);
            for (state, n) in states {
                *by_label.entry((peer, state.label())).or_default() += *n as u64;
            }
        }
        let endpoints =
            by_label.into_iter().map(|((peer, state), n)| ([("peer", peer), ("state", state)], n));
        gauge(encoder, "outrigger_endpoints", "Endpoints of upstreams", None, endpoints)?;
        let expiry = self.control.certificate_expiry.map(|at| (NO_LABELS, seconds_since_epoch(at)));
        gauge(
            encoder,
            "outrigger_certificate_expiry_timestamp",
            "When the leaf certificate in use ends, since the epoch",
            Some(&Unit::Seconds),
            expiry,
        )?;
        let mut oldest = BTreeMap::new();
        for (kind, at) in self.control.watches.values() {
            // A clock that was set back makes no snapshot younger than new.
            let age = self.now.duration_since(*at).unwrap_or_default();
            let oldest = oldest.entry(*kind).or_insert(age);
            *oldest = age.max(*oldest);
        }
        let ages =
            oldest.into_iter().map(|(kind, age)| ([("kind", kind.label())], age.as_secs_f64()));
        gauge(
            encoder,
            "outrigger_consul_snapshot_age",
            "Since when Consul has not confirmed what the sidecar goes by; the oldest of its kind",
            Some(&Unit::Seconds),
            ages,
        )
    }
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.encode_calls(&mut encoder)?;
        self.encode_peers(&mut encoder)?;
        self.encode_edges(&mut encoder)?;
        self.encode_control(&mut encoder)?;
        self.standing.encode(&mut encoder)?;
        let build = [("version", env!("CARGO_PKG_VERSION")), ("arch", std::env::consts::ARCH)];
        encoder
            .encode_descriptor("outrigger_build", "Which build this is", None, MetricType::Info)?
            .encode_info(&build)?;
        self.process.encode(&mut encoder)
    }
}

type CallLabels<'a> = [(&'static str, &'a str); 5];

fn call_labels<'a>(service: &'a str, key: &'a CallKey) -> CallLabels<'a> {
    let [direction, peer] = [("direction", key.direction.label()), ("peer", key.peer.as_ref())];
    let (grpc_service, grpc_method) = labels::grpc_path(&key.path).unwrap_or((OTHER, OTHER));
    let method = [("grpc_service", grpc_service), ("grpc_method", grpc_method)];
    [direction, ("service", service), peer, method[0], method[1]]
}

fn peer_labels(key: &PeerKey) -> [(&'static str, &str); 2] {
    [("direction", key.direction.label()), ("peer", key.peer.as_ref())]
}

struct Durations<'a>(&'a CallTotals);

impl Durations<'_> {
    fn encode(&self, encoder: &mut MetricEncoder<'_>) -> fmt::Result {
        let bounds = BOUNDS_NANOS.into_iter().map(|nanos| nanos as f64 / NANOS_PER_SECOND);
        let buckets: Vec<_> = bounds.chain([f64::INFINITY]).zip(self.0.buckets).collect();
        // Counted from the buckets, so that count and buckets always agree.
        let count = self.0.buckets.iter().sum();
        let sum = self.0.nanos as f64 / NANOS_PER_SECOND;
        encoder.encode_histogram(
            sum,
            count,
            &buckets,
            None::<&HashMap<usize, Exemplar<NoLabelSet, f64>>>,
        )
    }
}

pub(super) fn counter<S: EncodeLabelSet, V: EncodeCounterValue>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    rows: impl IntoIterator<Item = (S, V)>,
) -> fmt::Result {
    family(encoder, (name, help), unit, MetricType::Counter, rows, |encoder, value| {
        encoder.encode_counter(value, None::<&Exemplar<NoLabelSet, f64>>)
    })
}

pub(super) fn gauge<S: EncodeLabelSet, V: EncodeGaugeValue>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    rows: impl IntoIterator<Item = (S, V)>,
) -> fmt::Result {
    family(encoder, (name, help), unit, MetricType::Gauge, rows, |encoder, value| {
        encoder.encode_gauge(value)
    })
}

/// A metric's head and its rows; nothing where there are none.
fn family<S: EncodeLabelSet, V>(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help): (&str, &str),
    unit: Option<&Unit>,
    kind: MetricType,
    rows: impl IntoIterator<Item = (S, V)>,
    encode: impl Fn(&mut MetricEncoder<'_>, &V) -> fmt::Result,
) -> fmt::Result {
    let mut rows = rows.into_iter().peekable();
    if rows.peek().is_none() {
        return Ok(());
    }
    let mut encoder = encoder.encode_descriptor(name, help, unit, kind)?;
    for (labels, value) in rows {
        encode(&mut encoder.encode_family(&labels)?, &value)?;
    }
    Ok(())
}

/// A copy of a shard's list, so that its worker waits for no text.
fn listed<K: Clone, C>(list: &Mutex<Vec<(K, Arc<C>)>>) -> Vec<(K, Arc<C>)> {
    list.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

fn merge<const N: usize>(totals: &mut [u64; N], cells: &[super::cells::Tally; N]) {
    for (total, cell) in totals.iter_mut().zip(cells) {
        *total += cell.read();
    }
}

fn nonzero<const N: usize>(
    names: [&'static str; N],
    counts: [u64; N],
) -> impl Iterator<Item = (&'static str, u64)> {
    names.into_iter().zip(counts).filter(|(_, n)| *n > 0)
}

fn seconds_since_epoch(at: SystemTime) -> f64 {
    match at.duration_since(UNIX_EPOCH) {
        Ok(after) => after.as_secs_f64(),
        Err(before) => -before.duration().as_secs_f64(),
    }
}
