//! What looking at a call's headers costs, and changing them.
//!
//! Each figure is paid once a call, by the side that its name states or by both.

#![allow(clippy::unwrap_used, reason = "a benchmark may fail so")]
#![allow(missing_docs, reason = "criterion's macro makes the entry point")]

use std::hint::black_box;
use std::time::{Duration, SystemTime};

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use http::{HeaderMap, HeaderName, HeaderValue};
use outrigger::call::tracestate::{self, Hop};
use outrigger::call::{deadline, headers};
use tokio::time::Instant;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// As gRPC clients send them, with W3C trace context.
fn grpc_headers(more: &[(&'static str, &'static str)]) -> HeaderMap {
    let usual = [
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("user-agent", "grpc-go/1.83.1"),
        ("grpc-accept-encoding", "gzip"),
        ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        ("authorization", "Bearer 0123456789abcdef0123456789abcdef"),
    ];
    usual
        .iter()
        .chain(more)
        .map(|&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .collect()
}

fn looking(c: &mut Criterion) {
    let map = grpc_headers(&[("grpc-timeout", "2500m")]);
    c.bench_function("dialect", |b| b.iter(|| headers::Dialect::of(black_box(&map))));
    c.bench_function("list_size", |b| b.iter(|| headers::list_size(black_box(&map))));
    c.bench_function("deadline/read", |b| b.iter(|| deadline::read(black_box(&map))));
    let trailers: HeaderMap =
        [(HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))]
            .into_iter()
            .collect();
    c.bench_function("answered", |b| b.iter(|| headers::Answered::of(black_box(&trailers))));
}

/// One step on a fresh copy of the headers; making and dropping the copy is not counted.
fn step(c: &mut Criterion, name: &str, map: &HeaderMap, mut change: impl FnMut(&mut HeaderMap)) {
    c.bench_function(name, |b| {
        b.iter_batched_ref(|| map.clone(), |map| change(map), BatchSize::SmallInput);
    });
}

fn changing(c: &mut Criterion) {
    let plain = grpc_headers(&[]);
    let forged = grpc_headers(&[("outrigger-peer-id", "spiffe://td.consul/ns/default/svc/admin")]);
    step(c, "strip_reserved/nothing to strip", &plain, headers::strip_reserved);
    step(c, "strip_reserved/a forged identity", &forged, headers::strip_reserved);
    step(c, "strip_hop_by_hop/nothing to strip", &plain, headers::strip_hop_by_hop);

    let peer = HeaderValue::from_static("spiffe://td.consul/ns/default/dc/dc1/svc/web");
    step(c, "inbound/peer id set", &plain, |map| {
        map.insert(headers::PEER_ID, peer.clone());
    });

    let at = Instant::now() + Duration::from_secs(2);
    let now = Instant::now();
    step(c, "deadline/write", &plain, |map| deadline::write(map, at, now));

    let others = grpc_headers(&[("tracestate", "vendor=a1b2c3,other=d4e5f6")]);
    let ours = grpc_headers(&[("tracestate", "outrigger=d:1795286400000000;a:0,vendor=a1b2c3")]);
    let hop = Hop { deadline: Some(SystemTime::now() + Duration::from_secs(2)), attempt: 0 };
    step(c, "tracestate/take, no header", &plain, |map| {
        black_box(tracestate::take(map));
    });
    step(c, "tracestate/take, not ours", &others, |map| {
        black_box(tracestate::take(map));
    });
    step(c, "tracestate/take, ours", &ours, |map| {
        black_box(tracestate::take(map));
    });
    step(c, "tracestate/put, no header", &plain, |map| tracestate::put(map, &hop));
    step(c, "tracestate/put, others there", &others, |map| tracestate::put(map, &hop));
}

criterion_group!(benches, looking, changing);
criterion_main!(benches);
