//! Facts about the metrics as a whole: what is counted is what is exposed, and within bounds.

pub(crate) mod exposition;

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;

use self::exposition::Sample;
use super::*;
use crate::telemetry::labels::{Direction, HANDSHAKE_OUTCOMES, REASONS};

const NOW: SystemTime = SystemTime::UNIX_EPOCH;

/// All samples but the process's own, which change from one scrape to the next.
fn samples(metrics: &Metrics) -> Vec<Sample> {
    samples_at(metrics, NOW)
}

fn samples_at(metrics: &Metrics, now: SystemTime) -> Vec<Sample> {
    let mut out = String::new();
    metrics.encode_beside(Process::default(), now, &mut out).unwrap();
    exposition::parse(&out).unwrap()
}

fn value(samples: &[Sample], name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let fits = |sample: &&Sample| labels.iter().all(|(label, value)| sample.label(label) == *value);
    let mut found = samples.iter().filter(|sample| sample.name == name).filter(fits);
    let value = found.next().map(|sample| sample.value);
    assert!(found.next().is_none(), "more than one {name} {labels:?}");
    value
}

#[test]
fn a_call_is_in_flight_until_it_ends_and_is_then_counted_with_its_status() {
    let metrics = Metrics::new("order-service", Bounds::default());
    let shard = metrics.shard();
    let series = shard.calls(Direction::Outbound, "user-service", "/user.v1.UserService/GetUser");
    series.begin();
    let peer = [("direction", "outbound"), ("peer", "user-service")];
    assert_eq!(value(&samples(&metrics), "outrigger_in_flight", &peer), Some(1.0));
    assert_eq!(value(&samples(&metrics), "outrigger_requests_total", &[]), None);
    series.without_deadline();
    series.end(Some(5), Duration::from_millis(2));
    let samples = samples(&metrics);
    assert_eq!(value(&samples, "outrigger_in_flight", &peer), Some(0.0));
    let labels = [
        ("direction", "outbound"),
        ("service", "order-service"),
        ("peer", "user-service"),
        ("grpc_service", "user.v1.UserService"),
        ("grpc_method", "GetUser"),
    ];
    let with = |label| [labels.as_slice(), &[label]].concat();
    let status = with(("grpc_status", "NOT_FOUND"));
    assert_eq!(value(&samples, "outrigger_requests_total", &status), Some(1.0));
    assert_eq!(value(&samples, "outrigger_calls_without_deadline_total", &labels), Some(1.0));
    let histogram = |suffix: &str, labels: &[(&str, &str)]| {
        value(&samples, &format!("outrigger_request_duration_seconds_{suffix}"), labels)
    };
    assert_eq!(histogram("count", &labels), Some(1.0));
    assert_eq!(histogram("sum", &labels), Some(0.002));
    assert_eq!(histogram("bucket", &with(("le", "0.001"))), Some(0.0));
    assert_eq!(histogram("bucket", &with(("le", "0.0025"))), Some(1.0));
    assert_eq!(histogram("bucket", &with(("le", "+Inf"))), Some(1.0));
}

#[test]
fn a_duration_counts_in_the_bucket_that_it_is_the_bound_of() {
    let metrics = Metrics::new("s", Bounds::default());
    let series = metrics.shard().calls(Direction::Inbound, "p", "/a/b");
    for nanos in [500_000, 500_001, 30_000_000_000, 30_000_000_001, u64::MAX] {
        series.begin();
        series.end(None, Duration::from_nanos(nanos));
    }
    let samples = samples(&metrics);
    let below = |le| value(&samples, "outrigger_request_duration_seconds_bucket", &[("le", le)]);
    assert_eq!(below("0.0005"), Some(1.0));
    assert_eq!(below("0.001"), Some(2.0));
    assert_eq!(below("30.0"), Some(3.0));
    assert_eq!(below("+Inf"), Some(5.0));
    let none = [("grpc_status", "NONE")];
    assert_eq!(value(&samples, "outrigger_requests_total", &none), Some(5.0));
}

#[test]
fn an_end_without_a_begin_takes_nothing_below_zero() {
    let metrics = Metrics::new("s", Bounds::default());
    let shard = metrics.shard();
    shard.calls(Direction::Inbound, "p", "/a/b").end(Some(0), Duration::ZERO);
    shard.connection_closed(Direction::Inbound);
    let samples = samples(&metrics);
    assert_eq!(value(&samples, "outrigger_in_flight", &[]), Some(0.0));
    let inbound = [("direction", "inbound")];
    assert_eq!(value(&samples, "outrigger_connections", &inbound), Some(0.0));
}

#[test]
fn the_same_method_resolves_to_the_same_series() {
    let shard = Metrics::new("s", Bounds::default()).shard();
    let series = |direction, peer, path| shard.calls(direction, peer, path);
    let first = series(Direction::Inbound, "p", "/a/b");
    assert!(std::rc::Rc::ptr_eq(&first, &series(Direction::Inbound, "p", "/a/b")));
    assert!(!std::rc::Rc::ptr_eq(&first, &series(Direction::Outbound, "p", "/a/b")));
    assert!(!std::rc::Rc::ptr_eq(&first, &series(Direction::Inbound, "q", "/a/b")));
    assert!(!std::rc::Rc::ptr_eq(&first, &series(Direction::Inbound, "p", "/a/c")));
}

#[test]
fn all_workers_tell_the_same_names_apart() {
    let metrics = Metrics::new("s", Bounds { peers: 2, methods: 2, series: 100, endpoints: 1 });
    let (one, two) = (metrics.shard(), metrics.shard());
    let count = |shard: &Shard, peer, path| {
        shard.calls(Direction::Inbound, peer, path).end(Some(0), Duration::ZERO);
    };
    count(&one, "first", "/s/first");
    count(&two, "second", "/s/second");
    count(&one, "third", "/s/third");
    count(&two, "third", "/s/third");
    // Known to the process, new to this worker, and seen after its set was full.
    count(&one, "second", "/s/second");
    let samples = samples(&metrics);
    let of = |peer, method| {
        let labels = [("peer", peer), ("grpc_method", method)];
        value(&samples, "outrigger_requests_total", &labels)
    };
    assert_eq!(of("first", "first"), Some(1.0));
    assert_eq!(of("second", "second"), Some(2.0));
    assert_eq!(of("other", "other"), Some(2.0));
}

#[test]
fn a_series_too_many_is_counted_as_its_peers_other() {
    let metrics = Metrics::new("s", Bounds { peers: 10, methods: 10, series: 2, endpoints: 1 });
    let (one, two) = (metrics.shard(), metrics.shard());
    for (shard, peer, path) in [
        (&one, "p", "/a/one"),
        (&one, "p", "/a/two"),
        (&one, "p", "/a/three"),
        (&two, "q", "/a/one"),
        (&two, "p", "/a/two"),
    ] {
        shard.calls(Direction::Inbound, peer, path).end(Some(0), Duration::ZERO);
    }
    let samples = samples(&metrics);
    let of = |peer, method| {
        let labels = [("peer", peer), ("grpc_method", method)];
        value(&samples, "outrigger_requests_total", &labels)
    };
    assert_eq!(of("p", "one"), Some(1.0));
    assert_eq!(of("p", "two"), Some(2.0));
    assert_eq!(of("p", "other"), Some(1.0));
    assert_eq!(of("q", "other"), Some(1.0));
    assert_eq!(of("q", "one"), None);
}

#[test]
fn what_workers_count_at_the_same_time_is_not_lost_and_stays_when_they_are_gone() {
    const CALLS: u64 = 20_000;
    let metrics = Metrics::new("s", Bounds::default());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let shard = metrics.shard();
                let series = shard.calls(Direction::Inbound, "p", "/a/b");
                for _ in 0..CALLS {
                    series.begin();
                    series.end(Some(0), Duration::from_millis(1));
                }
            });
        }
        for _ in 0..20 {
            samples(&metrics);
        }
    });
    let samples = samples(&metrics);
    assert_eq!(value(&samples, "outrigger_requests_total", &[]), Some(4.0 * CALLS as f64));
    assert_eq!(value(&samples, "outrigger_in_flight", &[]), Some(0.0));
}

#[test]
fn breakers_and_budgets_are_told_as_they_stand() {
    let metrics = Metrics::new("s", Bounds { endpoints: 2, ..Bounds::default() });
    let identity = certs::SpiffeId::for_consul("td.consul", "default", "dc1", "user").unwrap();
    let endpoints = (1..=3).map(|port| {
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
        (address, identity.clone(), "user".into())
    });
    let snapshot = Arc::new(Upstream::succeed(None, "user".into(), endpoints, 0));
    metrics.upstream(snapshot.clone(), Allowance::default());
    let (state, breaker) = (&snapshot.state, &snapshot.endpoints[0].state.breaker);
    let now = state.clock.moment(tokio::time::Instant::now());
    let trip = crate::resilience::breaker::Trip::default();
    for _ in 0..5 {
        let permit = breaker.admit(&trip, now).unwrap();
        let down = crate::resilience::outcome::Outcome::Down;
        breaker.record(permit, down, &trip, 3, now, &mut fastrand::Rng::with_seed(1));
    }
    assert!(state.budget.spend(&Allowance::default(), now));
    let told = samples(&metrics);
    let breaker =
        |at| value(&told, "outrigger_breaker_state", &[("peer", "user"), ("endpoint", at)]);
    assert_eq!([breaker("127.0.0.1:1"), breaker("127.0.0.1:2")], [Some(2.0), Some(0.0)]);
    assert_eq!(breaker("127.0.0.1:3"), None, "one more than the bound");
    assert_eq!(value(&told, "outrigger_retry_budget_available", &[("peer", "user")]), Some(2.0));
    metrics.forget_endpoints("user");
    assert_eq!(value(&samples(&metrics), "outrigger_retry_budget_available", &[]), None);
}

#[test]
fn the_control_plane_is_told_as_last_set() {
    let metrics = Metrics::new("s", Bounds { peers: 1, ..Bounds::default() });
    metrics.certificate_expiry(NOW + Duration::from_secs(1_800_000_000));
    metrics.endpoints("user-service", EndpointStanding::Available, 3);
    metrics.endpoints("user-service", EndpointStanding::Available, 2);
    metrics.endpoints("user-service", EndpointStanding::Critical, 1);
    metrics.endpoints("one-too-many", EndpointStanding::Critical, 1);
    let older = metrics.watch(SnapshotKind::Endpoints, NOW);
    let newer = metrics.watch(SnapshotKind::Endpoints, NOW);
    newer.confirmed(NOW + Duration::from_secs(8));
    let _ahead = metrics.watch(SnapshotKind::Roots, NOW + Duration::from_secs(60));
    let at_ten = || samples_at(&metrics, NOW + Duration::from_secs(10));
    let samples = at_ten();
    let gauge = |name, labels: &[_]| value(&samples, name, labels);
    let expiry = gauge("outrigger_certificate_expiry_timestamp_seconds", &[]);
    assert_eq!(expiry, Some(1_800_000_000.0));
    let user = |state| [("peer", "user-service"), ("state", state)];
    assert_eq!(gauge("outrigger_endpoints", &user("available")), Some(2.0));
    assert_eq!(gauge("outrigger_endpoints", &user("critical")), Some(1.0));
    assert_eq!(gauge("outrigger_endpoints", &[("peer", "one-too-many")]), None);
    let endpoints = [("kind", "endpoints")];
    let age = "outrigger_consul_snapshot_age_seconds";
    assert_eq!(gauge(age, &endpoints), Some(10.0));
    assert_eq!(gauge(age, &[("kind", "roots")]), Some(0.0));
    drop(older);
    assert_eq!(value(&at_ten(), age, &endpoints), Some(2.0));
    drop(newer);
    metrics.forget_endpoints("user-service");
    assert_eq!(value(&at_ten(), age, &endpoints), None);
    assert_eq!(value(&at_ten(), "outrigger_endpoints", &[]), None);
}

#[test]
fn an_idle_sidecar_tells_its_build_its_process_and_its_edges() {
    let mut out = String::new();
    Metrics::new("s", Bounds::default()).encode(NOW, &mut out).unwrap();
    let samples = exposition::parse(&out).unwrap();
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    assert_eq!(value(&samples, "outrigger_build_info", &version), Some(1.0));
    assert!(value(&samples, "process_resident_memory_bytes", &[]) > Some(0.0));
    let ok = [("direction", "inbound"), ("outcome", "ok")];
    assert_eq!(value(&samples, "outrigger_tls_handshakes_total", &ok), Some(0.0));
}

/// One thing that a worker counts.
#[derive(Clone, Debug)]
enum Event {
    Call { direction: Direction, peer: String, path: String, status: Option<u8>, micros: u64 },
    Fault { direction: Direction, peer: String, reason: &'static str },
    Handshake { direction: Direction, outcome: &'static str },
    Opened(Direction),
}

impl Event {
    fn record(&self, shard: &Shard) {
        match self {
            Self::Call { direction, peer, path, status, micros } => {
                let series = shard.calls(*direction, peer, path);
                series.begin();
                series.end(*status, Duration::from_micros(*micros));
            }
            Self::Fault { direction, peer, reason } => shard.fault(*direction, peer, reason),
            Self::Handshake { direction, outcome } => shard.handshake(*direction, outcome),
            Self::Opened(direction) => shard.connection_opened(*direction),
        }
    }
}

fn direction() -> impl Strategy<Value = Direction> {
    prop::sample::select(Direction::ALL.as_slice())
}

/// Often one of few, so that series meet; otherwise anything at all.
fn peer() -> impl Strategy<Value = String> {
    prop_oneof!["[a-d]-service", "[A-Za-z0-9_./-]{1,140}", ".{0,40}"]
}

fn path() -> impl Strategy<Value = String> {
    prop_oneof!["/[a-b][.]v1/[A-D]", "/[A-Za-z.]{1,9}/[A-Za-z]{1,9}", "[/A-Z\"{}\n]*", ".{0,40}"]
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (direction(), peer(), path(), any::<Option<u8>>(), 0..60_000_000_u64).prop_map(
            |(direction, peer, path, status, micros)| {
                Event::Call { direction, peer, path, status, micros }
            }
        ),
        1 => (direction(), peer(), prop::sample::select(REASONS.as_slice()))
            .prop_map(|(direction, peer, reason)| Event::Fault { direction, peer, reason }),
        1 => (direction(), prop::sample::select(HANDSHAKE_OUTCOMES.as_slice()))
            .prop_map(|(direction, outcome)| Event::Handshake { direction, outcome }),
        1 => direction().prop_map(Event::Opened),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn four_shards_tell_what_one_shard_tells(
        events in prop::collection::vec((event(), 0..4_usize), 0..40),
    ) {
        let bounds = Bounds { peers: 4, methods: 6, series: 10, endpoints: 1 };
        let (one, four) = (Metrics::new("s", bounds), Metrics::new("s", bounds));
        let shard = one.shard();
        let shards = [four.shard(), four.shard(), four.shard(), four.shard()];
        for (event, worker) in &events {
            event.record(&shard);
            event.record(&shards[*worker]);
        }
        prop_assert_eq!(samples(&one), samples(&four));
    }

    #[test]
    fn labels_stay_bounded_whatever_peers_and_paths_come(
        events in prop::collection::vec((event(), 0..2_usize), 0..50),
    ) {
        let bounds = Bounds { peers: 3, methods: 5, series: 8, endpoints: 1 };
        let metrics = Metrics::new("s", bounds);
        let shards = [metrics.shard(), metrics.shard()];
        let mut calls = 0.0;
        for (event, worker) in &events {
            event.record(&shards[*worker]);
            calls += f64::from(u8::from(matches!(event, Event::Call { .. })));
        }
        let samples = samples(&metrics);
        let distinct = |names: &[&str]| {
            let mut seen = BTreeSet::new();
            for sample in &samples {
                let values: Vec<_> = names.iter().map(|name| sample.label(name)).collect();
                if values.iter().all(|value| !value.is_empty()) {
                    seen.insert(values);
                }
            }
            seen.len()
        };
        prop_assert!(distinct(&["peer"]) <= bounds.peers + 1);
        prop_assert!(distinct(&["grpc_service", "grpc_method"]) <= bounds.methods + 1);
        let others = 2 * (bounds.peers + 1);
        let series = distinct(&["direction", "peer", "grpc_service", "grpc_method"]);
        prop_assert!(series <= bounds.series + others);
        for sample in &samples {
            for label in ["peer", "grpc_service", "grpc_method"] {
                if let Some(value) = sample.labels.get(label) {
                    prop_assert!(labels::name(value).is_some(), "{value:?}");
                }
            }
        }
        let counted: f64 = samples
            .iter()
            .filter(|sample| sample.name == "outrigger_requests_total")
            .map(|sample| sample.value)
            .sum();
        prop_assert_eq!(counted, calls);
    }

    #[test]
    fn buckets_never_fall_and_end_at_the_count(micros in prop::collection::vec(0..90_000_000_u64, 1..50)) {
        let metrics = Metrics::new("s", Bounds::default());
        let series = metrics.shard().calls(Direction::Inbound, "p", "/a/b");
        for micros in &micros {
            series.end(Some(0), Duration::from_micros(*micros));
        }
        let samples = samples(&metrics);
        let buckets: Vec<f64> = samples
            .iter()
            .filter(|sample| sample.name.ends_with("_bucket"))
            .map(|sample| sample.value)
            .collect();
        prop_assert!(buckets.is_sorted());
        prop_assert_eq!(buckets.last(), Some(&(micros.len() as f64)));
        let count = value(&samples, "outrigger_request_duration_seconds_count", &[]);
        prop_assert_eq!(count, Some(micros.len() as f64));
    }
}
