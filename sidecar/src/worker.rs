//! One worker: a thread with its own runtime, its own connection pools and its own metric shard.
//!
//! A connection that came to a worker stays there, and so does every call on it: nothing on a
//! call's path waits for a lock. What the control thread publishes arrives as messages
//! (see [`fleet`]).

pub mod door;
pub mod fleet;
pub mod serve;
mod shared;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use certs::{Identity, SpiffeId};
use foldhash::fast::RandomState as FastHash;
use slab::Slab;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::call::headers::Dialect;
use crate::config::{AppProtocol, Config, Endpoints, ServiceName};
use crate::discovery::methods::Methods;
use crate::discovery::snapshot;
use crate::fault::{Fault, Reason};
use crate::inbound::Refused;
use crate::inbound::admission::{Admission, Gate};
use crate::inbound::app::{App, ToApp};
use crate::inbound::authorize::Intentions;
use crate::inbound::rate::Rates;
use crate::outbound::endpoint::Count;
use crate::outbound::fallback::answers::{Answers, Bounds};
use crate::outbound::mesh::{Mesh, ToEndpoint};
use crate::outbound::upstream::Upstream;
use crate::telemetry::labels::Direction;
use crate::telemetry::metrics::Shard;
use crate::transport::body::Room;
use crate::transport::io::Dial;
use crate::transport::keepalive::Keepalive;
use crate::transport::pool::{self, Pool};
use door::Door;

pub use shared::Shared;

/// How long a connection beside the first is kept without a call.
const SPARE_IDLE: Duration = Duration::from_secs(60);

/// One worker's own state.
pub struct Worker {
    /// What the process was told to do.
    pub config: Arc<Config>,
    /// Its metrics.
    pub shard: Rc<Shard>,
    /// What its connections to the mesh share.
    pub mesh: Rc<Mesh>,
    /// What was refused at the inbound port.
    pub refused: RefCell<Refused>,
    /// Places for TLS handshakes.
    pub handshakes: Semaphore,
    /// For requests that may have to be sent again.
    pub room: Rc<Room>,
    /// Good answers for when there is none.
    pub answers: Arc<Answers>,
    /// How connections from the mesh are served.
    pub inbound_settings: Rc<serve::Settings>,
    /// How connections from the app are served.
    pub outbound_settings: Rc<serve::Settings>,
    /// Places for calls to the app.
    pub admission: Rc<Admission>,
    /// How many calls callers may make.
    pub rates: Arc<Rates>,
    app: Option<App>,
    intentions: RefCell<Option<Arc<Intentions>>>,
    upstreams: RefCell<HashMap<ServiceName, Rc<Upstream>, FastHash>>,
    doors: RefCell<Slab<(Direction, Weak<Door>)>>,
    draining: [Cell<bool>; 2],
    to_mesh: Rc<pool::Settings>,
    shared: Arc<Shared>,
}

impl Worker {
    /// A worker that knows no identity and no upstream yet.
    pub fn new(
        config: Arc<Config>,
        shard: Shard,
        dial: Rc<dyn Dial>,
        shared: Arc<Shared>,
    ) -> Rc<Self> {
        let shard = Rc::new(shard);
        let mesh = Rc::new(Mesh {
            identity: RefCell::new(None),
            dial: dial.clone(),
            handshake_timeout: config.timeouts.tls_handshake.duration(),
            shard: shard.clone(),
        });
        let (limits, timeouts) = (&config.limits, &config.timeouts);
        let keepalive = Keepalive {
            after: timeouts.ping_interval.duration(),
            timeout: timeouts.ping.duration(),
        };
        let to_mesh = pool::Settings {
            stream_window: limits.stream_window.bytes(),
            connection_window: limits.connection_window.bytes(),
            max_frame: limits.frame.bytes(),
            max_header_list: limits.header_list.bytes(),
            connections: limits.connections_per_endpoint.get(),
            keepalive: Some(keepalive),
            first_bytes: timeouts.tls_handshake.duration(),
            idle: SPARE_IDLE,
        };
        // Servers on the common gRPC libraries answer PINGs they did not ask for with GOAWAY; and
        // that an app on this machine is gone, its socket tells.
        let to_app = pool::Settings { keepalive: None, ..to_mesh.clone() };
        let from_app = serve::Settings {
            stream_window: to_mesh.stream_window,
            connection_window: to_mesh.connection_window,
            max_frame: to_mesh.max_frame,
            max_header_list: to_mesh.max_header_list,
            streams: limits.loopback_streams.as_u32(),
            keepalive: None,
            head_timeout: timeouts.head.duration(),
            farewell: timeouts.ping.duration(),
            stalled: timeouts.http_idle.limit(),
        };
        let from_mesh = serve::Settings {
            streams: limits.mesh_streams.as_u32(),
            keepalive: Some(keepalive),
            ..from_app.clone()
        };
        let app = config.inbound.as_ref().map(|inbound| {
            let name = config.service.name.as_str();
            let to = ToApp::new(inbound.app.socket_addr(), timeouts.connect.duration(), dial);
            match inbound.protocol {
                AppProtocol::Grpc => App::grpc(name, to, Rc::new(to_app)),
                AppProtocol::Http1 => App::http1(name, to, to_app.connections),
            }
        });
        let concurrency = config.inbound.as_ref().map(|inbound| inbound.concurrency.clone());
        let gate = || Arc::new(Gate::new(&concurrency.unwrap_or_default()));
        let gate = shared.gate.get_or_init(gate);
        if app.is_some() {
            shard.before_app(gate);
        }
        let admission = Admission::new(gate.clone(), shard.clone());
        let rates = || Arc::new(Rates::new(config.inbound.as_ref()));
        let rates = shared.rates.get_or_init(rates).clone();
        let handshakes = Semaphore::new(limits.handshakes.get());
        let limit = limits.kept_requests.bytes() as usize;
        let answers = || {
            let (answers, bytes) = (limits.kept_answers.get(), limits.kept_answer_bytes.bytes());
            Arc::new(Answers::new(Bounds { answers, bytes: bytes as usize }))
        };
        let answers = shared.answers.get_or_init(answers).clone();
        let room = Rc::new(Room { kept: shared.kept.clone(), limit });
        Rc::new(Self {
            shard,
            mesh,
            refused: RefCell::default(),
            handshakes,
            room,
            answers,
            inbound_settings: Rc::new(from_mesh),
            outbound_settings: Rc::new(from_app),
            admission,
            rates,
            app,
            intentions: RefCell::default(),
            upstreams: RefCell::default(),
            doors: RefCell::default(),
            draining: Default::default(),
            to_mesh: Rc::new(to_mesh),
            shared,
            config,
        })
    }

    /// The app behind the inbound side.
    ///
    /// # Errors
    /// Where this sidecar has none.
    pub fn app(&self) -> Result<&App, Fault> {
        self.app.as_ref().ok_or_else(|| {
            Fault::undelivered(Reason::AppUnreachable, "this sidecar stands beside no app")
        })
    }

    /// Whether this peer may call.
    ///
    /// # Errors
    /// `denied`, with the rule that denies.
    pub fn authorize(&self, peer: &SpiffeId) -> Result<(), Fault> {
        match &*self.intentions.borrow() {
            Some(intentions) => Ok(intentions.judge(peer, self.config.service.name.as_str())?),
            None => Err(Fault::undelivered(
                Reason::Denied,
                "no intentions are known yet, and what nothing allows is denied",
            )),
        }
    }

    /// The intentions in force.
    pub fn intentions(&self) -> Option<Arc<Intentions>> {
        self.intentions.borrow().clone()
    }

    /// One more open stream.
    ///
    /// # Errors
    /// `overloaded` at the limit.
    pub fn admit_stream(&self) -> Result<Count, Fault> {
        let limit = self.config.limits.open_streams.get();
        Count::admit(&self.shared.open_streams, limit).ok_or_else(|| {
            let message = format!("{limit} streams are open in this sidecar already");
            Fault::undelivered(Reason::Overloaded, message)
        })
    }

    /// The largest header list that goes on, in bytes.
    pub fn header_list(&self) -> usize {
        self.inbound_settings.max_header_list as usize
    }

    /// How long a stream may be silent.
    pub fn idle_timeout(&self, dialect: &Dialect) -> Option<Duration> {
        let timeouts = &self.config.timeouts;
        match dialect {
            Dialect::Grpc => timeouts.grpc_idle.limit(),
            _ => timeouts.http_idle.limit(),
        }
    }

    /// The upstream of this name; the control thread is asked to watch one that is new.
    ///
    /// # Errors
    /// `overloaded` where too many names are watched.
    pub fn upstream(&self, name: &str) -> Result<Rc<Upstream>, Fault> {
        if let Some(known) = self.upstreams.borrow().get(name) {
            return Ok(known.clone());
        }
        // A route hands on valid names alone.
        let name = &name.parse::<ServiceName>().map_err(|e| {
            Fault::undelivered(Reason::NoRoute, format!("\"{name}\" names no service: {e}"))
        })?;
        let config = self.config.upstreams.of(name);
        if self.config.consul.is_none() && config.endpoints == Endpoints::Discovered {
            let message = format!("\"{name}\" has no endpoints in the config, and Consul is off");
            return Err(Fault::undelivered(Reason::NoRoute, message));
        }
        let limit = self.config.limits.upstreams.get();
        let full = || {
            let message = format!("{limit} upstreams are watched already, \"{name}\" is one more");
            Fault::undelivered(Reason::Overloaded, message)
        };
        if self.upstreams.borrow().len() >= limit {
            return Err(full());
        }
        if config.endpoints == Endpoints::Discovered {
            self.shared.demand.try_send(name.clone()).map_err(|_| full())?;
        }
        Ok(self.add_upstream(name))
    }

    fn add_upstream(&self, name: &ServiceName) -> Rc<Upstream> {
        let config = self.config.upstreams.of(name).clone();
        let upstream =
            Upstream::new(name.as_str(), config, self.config.limits.metric_methods.get());
        if let Some(methods) = &upstream.config.methods {
            upstream.set_methods(methods.clone());
        }
        self.upstreams.borrow_mut().insert(name.clone(), upstream.clone());
        upstream
    }

    /// Registers a connection for as long as the answer is kept.
    pub fn register<'a>(self: &'a Rc<Self>, door: &Rc<Door>) -> impl Drop + use<'a> {
        let direction = if door.guest.is_some() { Direction::Inbound } else { Direction::Outbound };
        let key = self.doors.borrow_mut().insert((direction, Rc::downgrade(door)));
        self.shard.connection_opened(direction);
        self.shared.doors[direction as usize].fetch_add(1, Ordering::AcqRel);
        if self.draining[direction as usize].get() {
            // Who comes late is served, and told at once not to stay.
            door.close();
        }
        Registered { worker: self, direction, key }
    }

    /// A new identity: new connections present it, and whom it trusts no more is drained.
    pub fn set_identity(&self, identity: Arc<Identity>) {
        *self.mesh.identity.borrow_mut() = Some(identity.clone());
        for upstream in self.upstreams.borrow().values() {
            upstream.retire_connections();
        }
        let now = SystemTime::now();
        self.each_door(|door| {
            let Some(guest) = &door.guest else { return };
            if let Err(fault) = identity.judge(&guest.chain, now) {
                tracing::info!(peer = %guest.peer.id, "its connection is drained: {fault}");
                door.distrust();
            }
        });
    }

    /// New intentions: calls that are open are judged again.
    pub fn set_intentions(&self, intentions: Arc<Intentions>) {
        *self.intentions.borrow_mut() = Some(intentions);
        self.each_door(|door| {
            let Some(guest) = &door.guest else { return };
            if let Err(fault) = self.authorize(&guest.peer.id) {
                door.calls.end(&fault);
            }
        });
    }

    /// A new snapshot of an upstream.
    pub fn set_upstream(&self, snapshot: Arc<snapshot::Upstream>) {
        let Ok(name) = snapshot.name.parse::<ServiceName>() else { return };
        let known = self.upstreams.borrow().get(&name).cloned();
        let upstream = known.unwrap_or_else(|| self.add_upstream(&name));
        let within = upstream.config.connect_timeout.duration();
        let pool = |endpoint: &snapshot::Endpoint| {
            let connect = ToEndpoint::new(self.mesh.clone(), endpoint.clone(), within);
            Pool::new(Box::new(connect), self.to_mesh.clone())
        };
        upstream.apply(snapshot, pool, Instant::now());
    }

    /// What an upstream's descriptors say of its methods; of one that is not called, nothing is
    /// kept.
    pub fn set_methods(&self, name: &str, methods: Arc<Methods>) {
        if let Some(upstream) = self.upstreams.borrow().get(name) {
            upstream.set_methods(methods);
        }
    }

    /// Drops an upstream that is called no more.
    pub fn forget_upstream(&self, name: &str) {
        self.upstreams.borrow_mut().retain(|known, _| known.as_str() != name);
    }

    /// Lets no new call in from this side.
    pub fn drain(&self, direction: Direction) {
        self.draining[direction as usize].set(true);
        self.each_door_of(direction, Door::close);
    }

    /// Ends what is still open on this side.
    pub fn cut(&self, direction: Direction) {
        let fault = Fault::after_send(
            Reason::Draining,
            "this sidecar is shutting down, and the time for calls to end was up",
        );
        self.each_door_of(direction, |door| door.calls.end(&fault));
    }

    fn each_door(&self, mut visit: impl FnMut(&Door)) {
        // Collected first: what a visit wakes may close its door.
        let doors: Vec<_> =
            self.doors.borrow().iter().filter_map(|(_, (_, door))| door.upgrade()).collect();
        doors.iter().for_each(|door| visit(door));
    }

    fn each_door_of(&self, direction: Direction, mut visit: impl FnMut(&Door)) {
        self.each_door(|door| {
            if (direction == Direction::Inbound) == door.guest.is_some() {
                visit(door);
            }
        });
    }
}

struct Registered<'a> {
    worker: &'a Worker,
    direction: Direction,
    key: usize,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        let Self { worker, direction, key } = *self;
        worker.doors.borrow_mut().remove(key);
        worker.shard.connection_closed(direction);
        if worker.shared.doors[direction as usize].fetch_sub(1, Ordering::AcqRel) == 1 {
            worker.shared.emptied.notify_waiters();
        }
    }
}
