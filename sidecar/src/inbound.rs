//! From the mesh to the app: the whole path of a call, outermost first.
//!
//! accept → mTLS (the peer's SPIFFE ID) → h2 or HTTP/1.1 → forged headers stripped, the true peer
//! named → authorize → metrics → size → the caller's rate → deadline → faults on purpose → a place
//! among the calls in flight → the app on loopback.

pub mod admission;
pub mod app;
pub mod authorize;
pub mod rate;

use std::cell::{OnceCell, RefCell};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use certs::{Peer, PeerFault};
use http::request::Parts;
use http::{HeaderValue, Method};
use rustls::server::Acceptor;
use tokio::time::{Instant, timeout};
use tokio_rustls::LazyConfigAcceptor;

use crate::call::attempt::Attempt;
use crate::call::carry::{Call, Edge, Prepared, Screen};
use crate::call::deadline::{self, Timeout};
use crate::call::exchange::{Ended, Exchange, Limits};
use crate::call::headers::{self, Asked};
use crate::call::record::{Record, Reporter};
use crate::call::{http1, inject, tracestate};
use crate::config::{FaultRule, Target};
use crate::fault::{Fault, Reason};
use crate::outbound::{expired, malformed_timeout};
use crate::telemetry::labels::{Direction, Shed};
use crate::telemetry::metrics::{AtHand, CallSeries};
use crate::transport::ahead::Ahead;
use crate::transport::io::{Io, Protocol};
use crate::worker::Worker;
use crate::worker::door::{Door, Guest};
use crate::worker::serve;
use admission::Asking;
use authorize::Intentions;
use rate::Allowance;

/// Lines about refused handshakes, on each worker.
const LINES_A_SECOND: u32 = 10;

/// Whose config injects a fault.
const INJECTED_BY: &str = "inbound.fault in the config of the callee's sidecar";

/// A handshake that takes longer waits for its peer, not for us.
const PROMPT: Duration = Duration::from_millis(100);

/// Serves one connection from the mesh.
pub async fn connection(worker: Rc<Worker>, io: impl Io + 'static) {
    let (io, protocol, guest) = match Box::pin(handshake(&worker, io)).await {
        Ok(accepted) => accepted,
        Err(fault) => {
            worker.shard.handshake(Direction::Inbound, fault.label());
            worker.refused.borrow_mut().tell(&fault, Instant::now());
            return;
        }
    };
    worker.shard.handshake(Direction::Inbound, "ok");
    let peer = guest.peer.clone();
    let door = Door::new(Some(guest));
    let _registered = worker.register(&door);
    let settings = worker.inbound_settings.clone();
    let screen = Inbound::new(worker.clone(), peer);
    serve::connection(io, protocol, door, settings, screen).await;
}

/// Logs refused handshakes, a few a second: whoever can connect must not fill the disk. The metric
/// counts each.
#[derive(Debug, Default)]
pub struct Refused {
    second: Option<Instant>,
    told: u32,
    untold: u64,
}

impl Refused {
    fn tell(&mut self, fault: &PeerFault, now: Instant) {
        if self.second.is_none_or(|second| now - second >= Duration::from_secs(1)) {
            self.second = Some(now);
            self.told = 0;
        }
        if self.told == LINES_A_SECOND {
            self.untold += 1;
            return;
        }
        self.told += 1;
        let (outcome, untold) = (fault.label(), std::mem::take(&mut self.untold));
        tracing::warn!(outcome, untold, "inbound TLS handshake failed: {fault}");
    }
}

type Accepted<T> = (Box<tokio_rustls::server::TlsStream<Ahead<T>>>, Option<Protocol>, Guest);

async fn handshake<T: Io>(worker: &Worker, io: T) -> Result<Accepted<T>, PeerFault> {
    let identity = worker.mesh.identity.borrow().clone();
    let no_identity = || PeerFault::Tls("this sidecar has no certificate yet".into());
    let identity = identity.ok_or_else(no_identity)?;
    let within = worker.config.timeouts.tls_handshake.duration();
    let accepting = async {
        // Whoever says nothing takes no place from who does.
        let io = Ahead::new(io);
        let hello = LazyConfigAcceptor::new(Acceptor::default(), io).await?;
        // Fair: who came first is served first.
        let place = worker.handshakes.acquire().await;
        let mut rest = pin!(hello.into_stream(identity.server_config()));
        let prompt = timeout(PROMPT, &mut rest).await;
        // Whoever says no more keeps no place, either.
        drop(place);
        match prompt {
            Ok(done) => done,
            Err(_) => rest.await,
        }
    };
    let stream = match timeout(within, accepting).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(e)) => return Err(PeerFault::from_io(&e)),
        Err(_) => return Err(PeerFault::Tls(format!("the handshake took longer than {within:?}"))),
    };
    let session = stream.get_ref().1;
    let chain = session.peer_certificates().unwrap_or_default();
    let chain: Vec<_> = chain.iter().map(|cert| cert.clone().into_owned()).collect();
    let now = SystemTime::now();
    let peer = identity.peer(Some(&chain), now)?;
    // Roots may have been withdrawn meanwhile.
    if let Some(present) =
        worker.mesh.identity.borrow().as_ref().filter(|p| !Arc::ptr_eq(p, &identity))
    {
        present.judge(&chain, now)?;
    }
    let protocol = (session.alpn_protocol() == Some(b"h2")).then_some(Protocol::H2);
    // Boxed: it is handed on a few times, and the connection's own future stays small.
    Ok((Box::new(stream), protocol, Guest { peer, chain }))
}

/// The inbound side of one worker, for one peer's connection.
pub struct Inbound {
    worker: Rc<Worker>,
    peer: Peer,
    /// The peer in metrics: its service, or its whole ID where it is none of Consul's.
    label: Rc<str>,
    peer_id: HeaderValue,
    /// The intentions that allowed the peer.
    allowed_by: RefCell<Option<Arc<Intentions>>>,
    series: AtHand<CallSeries>,
    /// How many calls the peer may make.
    allowance: Allowance,
    /// The rules of the config by which its calls meet faults.
    faults: Vec<usize>,
}

impl Screen for Inbound {
    async fn call(self: Rc<Self>, mut call: Box<Call>) -> Prepared {
        let asked = Asked::of(&call.head.headers);
        let head_only = call.head.method == Method::HEAD;
        let begin = Instant::now();
        let record = OnceCell::new();
        let outcome = self.send(&mut call, &asked, begin, &record).await;
        Prepared {
            dialect: asked.dialect,
            head_only,
            edge: Edge::App,
            outcome,
            record: record.into_inner(),
            reporter: Reporter {
                shard: self.worker.shard.clone(),
                direction: Direction::Inbound,
                peer: self.label.clone(),
            },
        }
    }
}

impl Inbound {
    fn new(worker: Rc<Worker>, peer: Peer) -> Rc<Self> {
        let label = peer.id.service().unwrap_or_else(|| peer.id.as_str()).into();
        // A SPIFFE ID is printable ASCII by its own rules.
        let peer_id = HeaderValue::from_str(peer.id.as_str())
            .unwrap_or_else(|_| HeaderValue::from_static("spiffe://unprintable"));
        let series = AtHand::new(worker.config.limits.metric_methods.get());
        let allowance = worker.rates.of(&peer.id, Instant::now());
        let rules = worker.config.inbound.iter().flat_map(|inbound| &inbound.faults).enumerate();
        let faults = rules.filter(|(_, rule)| rule.matches.is_of(&peer.id)).map(|(at, _)| at);
        let faults = faults.collect();
        let allowed_by = RefCell::default();
        Rc::new(Self { worker, peer, label, peer_id, allowed_by, series, allowance, faults })
    }

    async fn send(
        &self,
        call: &mut Call,
        asked: &Asked,
        begin: Instant,
        record: &OnceCell<Record>,
    ) -> Result<Box<Exchange>, Ended> {
        let worker = &*self.worker;
        let Call { head, control: Some(control), .. } = &mut *call else {
            return Err(Ended::CallerGone);
        };
        let stream = worker.admit_stream().inspect_err(|_| worker.shard.shed(Shed::OpenStreams));
        control.hold(stream?);
        // First, as what a `connection` header names is taken off.
        http1::to_h2(head)?;
        if asked.has_reserved {
            headers::strip_reserved(&mut head.headers);
        }
        if asked.has_tracestate {
            // What another host's sidecar wrote there is in another clock's time.
            tracestate::take(&mut head.headers);
        }
        head.headers.insert(headers::PEER_ID, self.peer_id.clone());

        let allowed = self.allowed();
        // Whoever may not call takes up no name in the metrics.
        let path = if allowed.is_ok() { head.uri.path() } else { "" };
        let make = |path: &str| worker.shard.calls(Direction::Inbound, &self.label, path);
        let series = self.series.get(path, make);
        let timeout = if asked.has_timeout { deadline::read(&head.headers) } else { Timeout::None };
        if timeout == Timeout::None {
            series.without_deadline();
        }
        let _ = record.set(Record::begin(series, begin));
        allowed?;
        headers::check_size(asked.size, worker.header_list())?;
        self.allowance.take(head, begin).inspect_err(|_| worker.shard.shed(Shed::Rate))?;

        let deadline = match timeout {
            Timeout::None => None,
            Timeout::Malformed => return Err(malformed_timeout(&head.headers).into()),
            Timeout::After(left) if left.is_zero() => {
                return Err(expired("before the call reached the app").into());
            }
            Timeout::After(left) => begin.checked_add(left),
        };
        if let Some(at) = deadline {
            let now = Instant::now();
            deadline::write(&mut head.headers, at, now);
            let at = SystemTime::now() + at.saturating_duration_since(now);
            let hop = tracestate::Hop { deadline: Some(at), attempt: asked.attempts };
            tracestate::put(&mut head.headers, &hop);
        } else if let attempt @ 1.. = asked.attempts {
            tracestate::put(&mut head.headers, &tracestate::Hop { deadline: None, attempt });
        }
        let mut begin = begin;
        if let Some(fault) = self.fault(head) {
            let count = |kind| worker.shard.injected(Direction::Inbound, kind);
            let mut injected = Box::pin(inject::apply(&fault.injection, INJECTED_BY, count));
            let injected = control.until(deadline, injected.as_mut()).await?;
            if injected.ok_or_else(|| expired("in an injected delay"))?? {
                begin = Instant::now();
            }
        }
        let app = worker.app()?;
        let asking = Asking { method: head.uri.path(), deadline, is_repeated: asked.attempts > 0 };
        let place = match worker.admission.enter(asking, begin) {
            Some(place) => place,
            None => {
                let mut waiting = worker.admission.wait(asking);
                let waited = control.until(deadline, waiting.as_mut()).await?;
                // It leaves the queue before others are let in.
                drop(waiting);
                waited.ok_or_else(|| {
                    worker.admission.expired();
                    expired("while the app had no room for the call")
                })??
            }
        };
        let now = place.begin();
        let Call { head, body, control: Some(control) } = &mut *call else {
            return Err(Ended::CallerGone);
        };
        let sent = match app.ready(now) {
            Some(lease) => app.send_on(lease, head, body, place),
            None => {
                let mut sending = app.send(head, body, place);
                let sent = control.until(deadline, sending.as_mut()).await?;
                sent.ok_or_else(|| expired("before the app could be reached"))?
            }
        };
        let (answer, upload) = sent.inspect_err(|fault| {
            if fault.reason == Reason::Overloaded {
                worker.shard.shed(Shed::Connections);
            }
        })?;
        let limits = Limits {
            deadline,
            response: None,
            idle: worker.idle_timeout(&asked.dialect),
            header_list: worker.header_list(),
        };
        let attempt = Attempt::new(app.whom.clone(), upload, answer, None);
        let Some(control) = call.control.take() else { return Err(Ended::CallerGone) };
        Ok(Box::new(Exchange::new(attempt, control, limits, None, now)))
    }

    /// What is injected into a call like this.
    fn fault(&self, head: &Parts) -> Option<&FaultRule> {
        let rules = self.worker.config.inbound.as_ref()?.faults.as_slice();
        let mut own = self.faults.iter().filter_map(|at| rules.get(*at));
        let target = Target::of(head);
        own.find(|rule| rule.matches.route.covers(&target))
    }

    /// Whether the peer may call; judged anew only by other intentions.
    fn allowed(&self) -> Result<(), Fault> {
        let present = self.worker.intentions();
        let mut judged = self.allowed_by.borrow_mut();
        if let (Some(present), Some(judged)) = (&present, &*judged)
            && Arc::ptr_eq(present, judged)
        {
            return Ok(());
        }
        self.worker.authorize(&self.peer.id)?;
        *judged = present;
        Ok(())
    }
}

impl From<authorize::Denial> for Fault {
    fn from(denial: authorize::Denial) -> Self {
        Fault::undelivered(Reason::Denied, denial.to_string())
    }
}
