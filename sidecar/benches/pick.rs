//! What the choice of an endpoint costs, and news of one, among ten and among ten thousand.
//!
//! A pick is paid once an attempt. News are paid by each worker whenever Consul tells of one.

#![allow(clippy::unwrap_used, reason = "a benchmark may fail so")]
#![allow(missing_docs, reason = "criterion's macro makes the entry point")]

use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant as Clock, SystemTime};

use certs::SpiffeId;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use outrigger::config::{self, Config};
use outrigger::discovery::snapshot::{Found, Upstream as Snapshot};
use outrigger::outbound::balance::{Probing, Tried};
use outrigger::outbound::upstream::Upstream;
use outrigger::resilience::balance::hash;
use outrigger::resilience::balance::zones::Zones;
use tokio::time::Instant;

mod nowhere;

use nowhere::pool;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SIZES: [u32; 4] = [10, 100, 1_000, 10_000];

fn picking(c: &mut Criterion) {
    let mut group = c.benchmark_group("pick");
    for n in SIZES {
        let now = Instant::now();
        let same = upstream(Arc::new(snapshot(None, 0..n, |_| (1, false))), now);
        group.bench_with_input(BenchmarkId::new("of equal weight", n), &n, |b, _| {
            b.iter(|| same.pick(Tried::default(), None, Probing::First, black_box(now)).is_some());
        });
        let unlike = snapshot(None, 0..n, |i| (1 + (i % 7) as u16 * 30, i % 3 == 0));
        let (near, far) = (unlike.zones.near, unlike.zones.far);
        let zones = Zones { near, far, count: 3 };
        let unlike = upstream(Arc::new(unlike.within(zones)), now);
        group.bench_with_input(BenchmarkId::new("by weight and zone", n), &n, |b, _| {
            b.iter(|| {
                unlike.pick(Tried::default(), None, Probing::First, black_box(now)).is_some()
            });
        });
        let hashed = upstream(Arc::new(snapshot(None, 0..n, |_| (1, false)).hashed()), now);
        let mut user = 0u32;
        group.bench_with_input(BenchmarkId::new("by hash", n), &n, |b, _| {
            b.iter(|| {
                user = user.wrapping_add(1);
                let hash = hash(&black_box(user).to_be_bytes());
                hashed.pick(Tried::default(), Some(hash), Probing::First, now).is_some()
            });
        });
    }
}

/// One endpoint comes, and goes again.
fn news(c: &mut Criterion) {
    let mut group = c.benchmark_group("news of one endpoint");
    for n in SIZES {
        let now = Instant::now();
        let first = Arc::new(snapshot(None, 0..n, |_| (1, false)));
        let upstream = upstream(first.clone(), now);
        group.bench_with_input(BenchmarkId::new("on a worker", n), &n, |b, n| {
            b.iter_custom(|rounds| {
                let mut took = Duration::ZERO;
                let mut present = upstream.present().unwrap();
                for round in 0..rounds {
                    let one_more = u32::from(round % 2 == 0);
                    let next = snapshot(Some(&present), 0..n + one_more, |_| (1, false));
                    let next = Arc::new(next);
                    let begin = clock();
                    upstream.apply(next.clone(), |_| pool(), now);
                    took += begin.elapsed();
                    // As the control thread does: it lets go of a snapshot last.
                    present = next;
                }
                took
            });
        });
        group.bench_with_input(BenchmarkId::new("on the control thread", n), &n, |b, n| {
            b.iter(|| snapshot(Some(&first), 0..n + 1, |_| (1, false)));
        });
    }
    group.sample_size(10);
    for n in SIZES {
        group.bench_with_input(BenchmarkId::new("the table of hashes", n), &n, |b, n| {
            b.iter_with_setup(
                || snapshot(None, 0..*n, |_| (1, false)),
                |snapshot| snapshot.hashed(),
            );
        });
    }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures")]
fn clock() -> Clock {
    Clock::now()
}

fn snapshot(
    before: Option<&Snapshot>,
    which: std::ops::Range<u32>,
    of: impl Fn(u32) -> (u16, bool),
) -> Snapshot {
    let identity = SpiffeId::for_consul("td.consul", "default", "dc1", "user-service").unwrap();
    let sni: Arc<str> = "user-service".into();
    let found = which.map(|i| {
        let address = SocketAddr::from((Ipv4Addr::from(0x0a00_0000 + i), 21_000));
        let (weight, is_near) = of(i);
        Found { weight, is_near, ..(address, identity.clone(), sni.clone()).into() }
    });
    Snapshot::succeed(before, "user-service".into(), found, 0)
}

fn upstream(snapshot: Arc<Snapshot>, now: Instant) -> Rc<Upstream> {
    let upstream = Upstream::new("user-service", upstream_config(), 512);
    upstream.apply(snapshot, |_| pool(), now);
    upstream
}

fn upstream_config() -> Arc<config::Upstream> {
    let config = Config::from_toml("[service]\nname = \"web\"\n", SystemTime::now()).unwrap();
    config.upstreams.of(&"user-service".parse().unwrap()).clone()
}

criterion_group!(benches, picking, news);
criterion_main!(benches);
