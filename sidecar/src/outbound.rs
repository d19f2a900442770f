//! From the app to the mesh: the whole path of a call, outermost first.
//!
//! accept on loopback → h2c or HTTP/1.1 → metrics → deadline → route → limits → balance →
//! connection → mTLS, the expected workload checked. Retries and breakers wrap
//! `Outbound::send` when they come.

pub mod endpoint;
pub mod ewma;
pub mod mesh;
pub mod route;
pub mod upstream;

use std::borrow::Cow;
use std::cell::OnceCell;
use std::rc::Rc;
use std::time::Duration;

use http::request::Parts;
use http::{HeaderMap, Method, Request};
use tokio::time::{Instant, timeout};

use crate::call::carry::{Call, Edge, Prepared, Screen};
use crate::call::control::Control;
use crate::call::deadline::{self, Timeout};
use crate::call::exchange::{Answer, Exchange, Limits};
use crate::call::headers::{self, Asked};
use crate::call::record::{Record, Reporter};
use crate::call::{http1, tracestate};
use crate::config::ServiceName;
use crate::fault::{Fault, Reason};
use crate::telemetry::labels::Direction;
use crate::transport::body::Body;
use crate::transport::io::Io;
use crate::transport::pool::{ConnectStage, Lease};
use crate::transport::pump::Pump;
use crate::worker::Worker;
use crate::worker::door::Door;
use crate::worker::serve;
use endpoint::{Count, Endpoint, Pending};
use upstream::Upstream;

/// One call goes to so many endpoints that cannot be connected before it is given up.
const PASSED_OVER: usize = 3;

/// One call looks at so many endpoints, those whose connections are full among them.
const TRIED: usize = 16;

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

impl Screen for Outbound {
    async fn call(self: Rc<Self>, call: Call) -> Prepared {
        let Call { head, body, control } = call;
        let context = Context {
            begin: Instant::now(),
            asked: Asked::of(&head.headers),
            head_only: head.method == Method::HEAD,
            record: OnceCell::new(),
            peer: OnceCell::new(),
        };
        let outcome = self.send(head, body, control, &context).await;
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
    async fn send(
        &self,
        mut head: Parts,
        body: Body,
        mut control: Control,
        context: &Context,
    ) -> Result<Box<Exchange>, Fault> {
        let worker = &*self.worker;
        control.hold(worker.admit_stream()?);
        let asked = &context.asked;
        let hop = if asked.has_tracestate { tracestate::take(&mut head.headers) } else { None };
        if asked.has_reserved {
            headers::strip_reserved(&mut head.headers);
        }
        let deadline = match (asked.has_timeout, hop) {
            (false, None) => None,
            (_, hop) => deadline_of(&head.headers, hop, context.begin)?,
        };
        http1::to_h2(&mut head)?;

        let name = match &self.fixed {
            Some(name) => Cow::Borrowed(name.as_str()),
            None => route::upstream(&head.uri)?,
        };
        let upstream = worker.upstream(&name)?;
        let _ = context.peer.set(upstream.name.clone());
        let series = upstream.series.get(head.uri.path(), |path| {
            worker.shard.calls(Direction::Outbound, &upstream.name, path)
        });
        if deadline.is_none() {
            series.without_deadline();
        }
        let _ = context.record.set(Record::begin(series, context.begin));
        headers::check_size(asked.size, worker.header_list())?;

        let response = route::response_timeout(&upstream.config, &head);
        let connected = control.until(deadline, self.connect(&upstream, context.begin)).await?;
        let (lease, endpoint, pending) =
            connected.ok_or_else(|| expired(&format!("before \"{name}\" was connected")))??;
        if let Some(at) = deadline {
            deadline::write(&mut head.headers, at, Instant::now());
        }
        let end = body.is_empty();
        let sent = lease.send(Request::from_parts(head, ()), end);
        let (answer, sink) =
            sent.map_err(|e| Fault::from_h2(format_args!("{}", endpoint.whom), &e))?;
        let upload = (!end).then(|| Pump::new(body, sink));
        let limits = Limits {
            deadline,
            response: response.filter(|_| deadline.is_none()),
            idle: worker.idle_timeout(&asked.dialect),
            header_list: worker.header_list(),
        };
        let answer = Answer::H2(answer, lease);
        let whom = endpoint.whom.clone();
        Ok(Box::new(Exchange::new(whom, upload, answer, control, limits, Some(pending))))
    }

    /// A place on a connection to an endpoint. Those that cannot be connected are passed over:
    /// nothing was sent to them, so this is no retry.
    async fn connect(
        &self,
        upstream: &Rc<Upstream>,
        begin: Instant,
    ) -> Result<(Lease, Rc<Endpoint>, Pending), Fault> {
        let snapshot = match upstream.present() {
            Some(snapshot) => snapshot,
            None => Box::pin(self.first_snapshot(upstream)).await?,
        };
        let limit = upstream.config.in_flight.get();
        let in_upstream = Count::admit(&snapshot.state.in_flight, limit).ok_or_else(|| {
            Fault::undelivered(
                Reason::Overloaded,
                format!("{limit} calls to \"{}\" wait for an answer already", upstream.name),
            )
        })?;
        snapshot.state.used.store(true, std::sync::atomic::Ordering::Relaxed);
        let mut tried = Vec::new();
        let (mut failed, mut full) = (0, None);
        while tried.len() < TRIED && failed < PASSED_OVER {
            let Some(endpoint) = upstream.pick(&tried, begin) else { break };
            // Another worker may have taken the last place since the choice.
            let Some(in_endpoint) = upstream.admit(&endpoint) else {
                tried.push(endpoint);
                continue;
            };
            // From here on it counts in the endpoint's load: one that is slow to connect is slow.
            let mut pending = Pending::new(endpoint.clone(), in_endpoint, begin);
            let leased = match endpoint.pool.ready(begin) {
                Some(lease) => Ok(lease),
                // Boxed: a call's own future stays small without the way to a new connection.
                None => Box::pin(endpoint.pool.lease()).await,
            };
            match leased {
                Ok(lease) => {
                    pending.hold(in_upstream);
                    return Ok((lease, endpoint, pending));
                }
                Err(fault) if fault.stage == ConnectStage::Full => {
                    pending.unsent();
                    full = Some(fault);
                }
                // The pool has told the upstream, which took the endpoint out.
                Err(_) => failed += 1,
            }
            tried.push(endpoint);
        }
        Err(upstream.none_left(full))
    }

    async fn first_snapshot(
        &self,
        upstream: &Upstream,
    ) -> Result<std::sync::Arc<crate::discovery::snapshot::Upstream>, Fault> {
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
pub(crate) fn expired(when: &str) -> Fault {
    Fault::undelivered(Reason::DeadlineExceeded, format!("the deadline passed {when}"))
}
