//! What choosing where a call goes costs: the upstream it is for, its route, one of the endpoints.
//!
//! Each figure is paid once a call by the outbound side.

#![allow(clippy::unwrap_used, reason = "a benchmark may fail so")]
#![allow(missing_docs, reason = "criterion's macro makes the entry point")]

use std::hint::black_box;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use certs::SpiffeId;
use criterion::{Criterion, criterion_group, criterion_main};
use http::{Request, Uri};
use outrigger::config::{self, Config, ServiceName};
use outrigger::discovery::snapshot;
use outrigger::outbound::balance::{Probing, Tried};
use outrigger::outbound::endpoint::Sent;
use outrigger::outbound::method::Method;
use outrigger::outbound::route::{self, Way};
use outrigger::outbound::upstream::Upstream;
use outrigger::resilience::idempotency::Idempotency;
use outrigger::resilience::outcome::Outcome;
use outrigger::telemetry::labels::Direction;
use outrigger::telemetry::metrics::{Bounds, Metrics};
use tokio::time::Instant;

mod nowhere;

use nowhere::pool;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const PATH: &str = "/user.v1.UserService/GetUser";

fn upstream_by_name(c: &mut Criterion) {
    for (name, uri) in [
        ("short name", "http://user-service/user.v1.UserService/GetUser"),
        ("name in Consul's DNS", "http://user-service.service.consul/user.v1.UserService/GetUser"),
        ("address, by gRPC service", "http://127.0.0.1:15001/user.v1.UserService/GetUser"),
    ] {
        let uri: Uri = uri.parse().unwrap();
        c.bench_function(&format!("upstream/{name}"), |b| {
            b.iter(|| route::upstream(black_box(&uri)).is_ok());
        });
    }
}

fn routes(c: &mut Criterion) {
    let (head, ()) = Request::post(PATH).body(()).unwrap().into_parts();
    let method = method(&Metrics::new("web", Bounds::default()));
    for n in [0, 1, 16] {
        let routes: String = (0..n)
            .map(|n| {
                format!(
                    "[[upstreams.user-service.route]]\nmatch = {{ path = \"/other.Service/M{n}\" }}\n\
                     timeout = \"1s\"\n"
                )
            })
            .collect();
        let upstream = Upstream::new("user-service", upstream_config(&routes), 512);
        c.bench_function(&format!("route/none of {n} matches"), |b| {
            b.iter(|| Way::of(&upstream, &method, black_box(&head)).calling().timeout);
        });
    }
}

fn picking(c: &mut Criterion) {
    let metrics = Metrics::new("web", Bounds::default());
    for n in [1, 2, 3, 100] {
        let now = Instant::now();
        let upstream = Upstream::new("user-service", upstream_config(""), 512);
        upstream.apply(Arc::new(endpoints(n)), |_| pool(), now);
        c.bench_function(&format!("pick/of {n}"), |b| {
            b.iter(|| {
                upstream.pick(Tried::default(), None, Probing::First, black_box(now)).is_some()
            });
        });
        if n == 3 {
            c.bench_function("pick/of 3, counted, answered and judged", |b| {
                let method = method(&metrics);
                b.iter(|| {
                    let (endpoint, permit) =
                        upstream.pick(Tried::default(), None, Probing::First, now).unwrap();
                    let of = (upstream.clone(), endpoint, method.clone());
                    let mut sent = Sent::new(of, (permit, 100), now, None).unwrap();
                    let end = Instant::now();
                    sent.headed(false, end);
                    sent.judge(Outcome::Good, end, String::new);
                });
            });
        }
    }
}

fn method(metrics: &Arc<Metrics>) -> Rc<Method> {
    let series = metrics.shard().calls(Direction::Outbound, "user-service", PATH);
    Rc::new(Method::new(PATH, series, Idempotency::Unknown))
}

fn upstream_config(routes: &str) -> Arc<config::Upstream> {
    let text = format!("[service]\nname = \"web\"\n{routes}");
    let config = Config::from_toml(&text, SystemTime::now()).unwrap();
    let name: ServiceName = "user-service".parse().unwrap();
    config.upstreams.of(&name).clone()
}

fn endpoints(n: u16) -> snapshot::Upstream {
    let identity = SpiffeId::for_consul("td.consul", "default", "dc1", "user-service").unwrap();
    let endpoints = (0..n).map(|n| {
        let address = SocketAddr::from(([127, 0, 0, 1], 21000 + n));
        (address, identity.clone(), Arc::from("user-service"))
    });
    snapshot::Upstream::succeed(None, "user-service".into(), endpoints, 0)
}

criterion_group!(benches, upstream_by_name, routes, picking);
criterion_main!(benches);
