//! What counting a call costs, judging its caller, and what a scrape costs.
//!
//! Both sides pay for counting once a call; for a scrape the control thread pays.

#![allow(clippy::unwrap_used, reason = "a benchmark may fail so")]
#![allow(missing_docs, reason = "criterion's macro makes the entry point")]

use std::hint::black_box;
use std::rc::Rc;
use std::time::SystemTime;

use certs::SpiffeId;
use criterion::{Criterion, criterion_group, criterion_main};
use outrigger::call::record::Record;
use outrigger::inbound::authorize::{Action, Intention, Intentions, Source};
use outrigger::telemetry::labels::Direction;
use outrigger::telemetry::metrics::{Bounds, Metrics};
use tokio::time::Instant;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const PATH: &str = "/user.v1.UserService/GetUser";

fn counting(c: &mut Criterion) {
    let metrics = Metrics::new("web", Bounds::default());
    let shard = metrics.shard();
    c.bench_function("series/known", |b| {
        b.iter(|| shard.calls(Direction::Outbound, black_box("user-service"), black_box(PATH)));
    });
    let series = shard.calls(Direction::Outbound, "user-service", PATH);
    c.bench_function("record/begin and end", |b| {
        let begin = Instant::now();
        b.iter(|| {
            let mut record = Record::begin(Rc::clone(&series), begin);
            record.set_status(Some(0));
        });
    });
    c.bench_function("clock", |b| b.iter(Instant::now));
}

fn scraping(c: &mut Criterion) {
    for n in [1, 100, 1_000] {
        let metrics = Metrics::new("web", Bounds::default());
        let shards = [metrics.shard(), metrics.shard()];
        for shard in &shards {
            for method in 0..n {
                let (peer, path) = (format!("s{}", method % 50), format!("/p.S{method}/M"));
                Record::begin(shard.calls(Direction::Outbound, &peer, &path), Instant::now());
            }
        }
        c.bench_function(&format!("scrape/{n} methods"), |b| {
            let mut out = String::new();
            b.iter(|| {
                out.clear();
                metrics.encode(SystemTime::now(), &mut out).unwrap();
                out.len()
            });
        });
    }
}

fn judging(c: &mut Criterion) {
    let peer = SpiffeId::for_consul("td.consul", "default", "dc1", "web").unwrap();
    for n in [1, 100] {
        let named = (1..n).map(|n| Source::of_default_namespace(&format!("service-{n}")));
        let rules = named
            .chain([Source::of_default_namespace("web")])
            .map(|source| Intention {
                source,
                destination: "user-service".to_owned(),
                action: Action::Allow,
            })
            .collect();
        let intentions =
            Intentions { rules, allowed: Vec::new(), default: Action::Deny, default_source: "" };
        c.bench_function(&format!("intentions/last of {n} allows"), |b| {
            b.iter(|| intentions.judge(black_box(&peer), "user-service").is_ok());
        });
    }
}

criterion_group!(benches, counting, scraping, judging);
criterion_main!(benches);
