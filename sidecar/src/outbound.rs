//! From the app to the mesh: the whole path of a call, outermost first.
//!
//! accept on loopback → h2c or HTTP/1.1 → metrics → deadline → route → limits → retry and budget →
//! balance, breaker → connection → mTLS, the expected workload checked.

pub mod attempts;
pub mod balance;
pub mod endpoint;
pub mod ewma;
pub mod fallback;
pub mod mesh;
pub mod method;
pub mod route;
pub mod upstream;

use std::borrow::Cow;
use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::request::Parts;
use http::{HeaderMap, Method};
use tokio::time::{Instant, timeout};

use crate::call::carry::{Call, Edge, Prepared, Screen};
use crate::call::deadline::{self, Timeout};
use crate::call::exchange::{Ended, Exchange};
use crate::call::headers::{self, Asked, Dialect};
use crate::call::record::{Record, Reporter};
use crate::call::{http1, inject, tracestate};
use crate::config::ServiceName;
use crate::discovery::snapshot;
use crate::fault::{Fault, Reason};
use crate::resilience::retry;
use crate::telemetry::labels::Direction;
use crate::transport::io::Io;
use crate::worker::Worker;
use crate::worker::door::Door;
use crate::worker::serve;
use attempts::{Attempts, Going};
use endpoint::Count;
use fallback::Ladder;
use route::Way;
use upstream::Upstream;

/// Whose config injects a fault.
const INJECTED_BY: &str = "the fault of a route in the config of the caller's sidecar";

/// Serves one connection from the app; `fixed` is the listener's own upstream, where it has one.
pub async fn connection(worker: Rc<Worker>, io: impl Io + 'static, fixed: Option<ServiceName>) {
    let door = Door::new(None);
    let _registered = worker.register(&door);
    let settings = worker.outbound_settings.clone();
    let screen = Rc::new(Outbound { worker: worker.clone(), fixed });
    serve::connection(io, None, door, settings, screen).await;
}

/// The outbound side of one worker, behind one listener.
pub struct Outbound {
    worker: Rc<Worker>,
    /// The listener's own upstream, where it has one.
    fixed: Option<ServiceName>,
}

/// What is known of a call while it is prepared.
struct Context {
    begin: Instant,
    asked: Asked,
    head_only: bool,
    record: OnceCell<Record>,
    peer: OnceCell<Rc<str>>,
}

/// One call, whichever upstream it goes to.
#[derive(Clone, Copy)]
struct Asking<'a> {
    context: &'a Context,
    /// When its caller's time is up.
    deadline: Option<Instant>,
    /// So many attempts of it came before.
    before: u32,
    /// When it begins at its upstream.
    now: Instant,
}

impl Screen for Outbound {
    async fn call(self: Rc<Self>, call: Box<Call>) -> Prepared {
        let mut going = Going { call, in_upstream: None, has_fallback: false };
        let context = Context {
            begin: Instant::now(),
            asked: Asked::of(&going.call.head.headers),
            head_only: going.call.head.method == Method::HEAD,
            record: OnceCell::new(),
            peer: OnceCell::new(),
        };
        let outcome = self.send(&mut going, &context).await;
        Prepared {
            dialect: context.asked.dialect,
            head_only: context.head_only,
            edge: Edge::Mesh,
            outcome,
            record: context.record.into_inner(),
            reporter: Reporter {
                shard: self.worker.shard.clone(),
                direction: Direction::Outbound,
                peer: context.peer.into_inner().unwrap_or_else(|| "".into()),
            },
        }
    }
}

impl Outbound {
    async fn send(&self, going: &mut Going, context: &Context) -> Result<Box<Exchange>, Ended> {
        let worker = &*self.worker;
        if let Some(control) = &mut going.call.control {
            control.hold(worker.admit_stream()?);
        }
        let (head, asked) = (&mut going.call.head, &context.asked);
        let hop = if asked.has_tracestate { tracestate::take(&mut head.headers) } else { None };
        if asked.has_reserved {
            headers::strip_reserved(&mut head.headers);
        }
        let deadline = match (asked.has_timeout, hop) {
            (false, None) => None,
            (_, hop) => deadline_of(&head.headers, hop, context.begin)?,
        };
        http1::to_h2(head)?;

        let name = match &self.fixed {
            Some(name) => Cow::Borrowed(name.as_str()),
            None => route::upstream(&head.uri)?,
        };
        let upstream = worker.upstream(&name)?;
        let _ = context.peer.set(upstream.name.clone());
        let method = self.method(&upstream, head);
        if deadline.is_none() {
            method.series.without_deadline();
        }
        let _ = context.record.set(Record::begin(method.series.clone(), context.begin));
        headers::check_size(asked.size, worker.header_list())?;

        let head = &going.call.head;
        let before = hop.map_or(0, |hop| hop.attempt).max(asked.attempts);
        let asking = Asking { context, deadline, before, now: context.begin };
        let way = Way::of(&upstream, &method, head);
        if way.fallback().is_empty() || asked.dialect != Dialect::Grpc {
            return self.at(&asking, way, going).await;
        }
        let is_idempotent = way.idempotency(asked, head).may_repeat();
        let ladder = Ladder { screen: self, asking, way, is_idempotent };
        Box::pin(ladder.run(going)).await
    }

    /// The method of an upstream that a call is for.
    fn method(&self, upstream: &Upstream, head: &Parts) -> Rc<method::Method> {
        upstream.method(head.uri.path(), |path| {
            self.worker.shard.calls(Direction::Outbound, &upstream.name, path)
        })
    }

    /// Sends a call on its way.
    async fn at(
        &self,
        asking: &Asking<'_>,
        way: Way<'_>,
        going: &mut Going,
    ) -> Result<Box<Exchange>, Ended> {
        let Way { upstream, method, .. } = way;
        let Asking { context, deadline, before, mut now } = *asking;
        let (worker, asked) = (&*self.worker, &context.asked);
        let snapshot = match upstream.present() {
            Some(snapshot) => snapshot,
            None => {
                let mut first = Box::pin(self.first_snapshot(upstream));
                let first = going.until(deadline, &upstream.name, first.as_mut()).await??;
                now = Instant::now();
                first
            }
        };
        let state = &*snapshot.state;
        if method.is_use {
            state.used.store(true, Ordering::Relaxed);
        }
        if let Some(injection) = way.fault() {
            let count = |kind| worker.shard.injected(Direction::Outbound, kind);
            let mut injected = Box::pin(inject::apply(injection, INJECTED_BY, count));
            going.until(deadline, &upstream.name, injected.as_mut()).await??;
            now = Instant::now();
        }
        let limit = upstream.config.in_flight.get();
        going.in_upstream = Some(Count::admit(&state.in_flight, limit).ok_or_else(|| {
            let message =
                format!("{limit} calls to \"{}\" wait for an answer already", upstream.name);
            Fault::undelivered(Reason::Overloaded, message)
        })?);
        let call = retry::Call {
            idempotency: way.idempotency(asked, &going.call.head),
            is_retry_already: before > 0,
            deadline: deadline.map(|at| state.clock.moment(at)),
        };
        let attempts = Attempts {
            worker,
            upstream,
            state,
            method,
            calling: way.calling(),
            asked,
            hash: way.hash(&going.call.head),
            call,
            deadline,
            begin: now,
            before,
            sent: Cell::new(0),
            last: RefCell::default(),
            tried: RefCell::default(),
        };
        attempts.run(going).await
    }

    async fn first_snapshot(&self, upstream: &Upstream) -> Result<Arc<snapshot::Upstream>, Fault> {
        let wait: Duration = self.worker.config.timeouts.discovery.duration();
        timeout(wait, upstream.snapshot()).await.map_err(|_| {
            Fault::undelivered(
                Reason::NoEndpoints,
                format!(
                    "nothing is known of \"{}\" yet: Consul gave no answer within {wait:?}",
                    upstream.name
                ),
            )
        })
    }
}

/// The earlier of what the caller asks for and what its own caller left it.
fn deadline_of(
    headers: &HeaderMap,
    hop: Option<tracestate::Hop>,
    now: Instant,
) -> Result<Option<Instant>, Fault> {
    let own = match deadline::read(headers) {
        Timeout::None => None,
        Timeout::After(left) => now.checked_add(left),
        Timeout::Malformed => return Err(malformed_timeout(headers)),
    };
    let inherited = hop.and_then(|hop| hop.deadline).map(|at| {
        // Both clocks are this host's.
        now + at.duration_since(std::time::SystemTime::now()).unwrap_or_default()
    });
    let deadline = match (own, inherited) {
        (Some(own), Some(inherited)) => Some(own.min(inherited)),
        (own, inherited) => own.or(inherited),
    };
    match deadline {
        Some(at) if at <= now => Err(expired("before the call was sent")),
        deadline => Ok(deadline),
    }
}

/// A `grpc-timeout` that is none.
#[cold]
pub(crate) fn malformed_timeout(headers: &HeaderMap) -> Fault {
    let found = headers.get("grpc-timeout").map(|v| String::from_utf8_lossy(v.as_bytes()));
    Fault::undelivered(
        Reason::Malformed,
        format!(
            "grpc-timeout is \"{}\", expected at most 8 digits and a unit of H, M, S, m, u, n",
            found.unwrap_or_default()
        ),
    )
}

/// The time was up before the callee saw anything.
#[cold]
pub(crate) fn expired(when: &str) -> Fault {
    Fault::undelivered(Reason::DeadlineExceeded, format!("the deadline passed {when}"))
}
