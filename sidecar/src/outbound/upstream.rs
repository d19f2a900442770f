//! One upstream as one worker knows it: its endpoints and its methods.
//!
//! An endpoint that cannot be connected is out until a connection in the background succeeds. Which
//! of the others a call goes to, [`balance`](super::balance) chooses.

use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use tokio::sync::Notify;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep};

use super::balance::{Balance, Probing, Rules, Tried};
use super::endpoint::Endpoint;
use super::method::Method;
use crate::config;
use crate::discovery::methods::Methods;
use crate::discovery::snapshot;
use crate::fault::{Fault, Reason};
use crate::resilience::breaker::{Change, Permit, State};
use crate::resilience::moment::{Clock, Moment};
use crate::resilience::outcome::Outcome;
use crate::telemetry::metrics::{AtHand, CallSeries};
use crate::transport::pool::{ConnectFault, ConnectStage, Pool};

/// The first wait before an endpoint that is down is tried again; doubled up to the last.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LAST: Duration = Duration::from_secs(1);

/// One upstream.
pub struct Upstream {
    /// Its name in Consul.
    pub name: Rc<str>,
    /// How it is called.
    pub config: Arc<config::Upstream>,
    balance: RefCell<Balance>,
    arrived: Notify,
    rng: RefCell<Rng>,
    /// What its descriptors say of its methods.
    methods: RefCell<Arc<Methods>>,
    /// Those that were called.
    known: AtHand<Method>,
}

impl Upstream {
    /// An upstream that nothing is known of yet, of which metrics tell so many `methods` apart.
    pub fn new(name: &str, config: Arc<config::Upstream>, methods: usize) -> Rc<Self> {
        let balance = Balance::new(Rules {
            slow_start: config.balance.slow_start.limit().unwrap_or_default(),
            room: config.in_flight_per_endpoint.get(),
            trip: config.trip,
        });
        Rc::new(Self {
            name: name.into(),
            config,
            balance: RefCell::new(balance),
            arrived: Notify::new(),
            rng: RefCell::default(),
            methods: RefCell::default(),
            known: AtHand::new(methods),
        })
    }

    /// The present snapshot, or the first one once it is there.
    pub async fn snapshot(&self) -> Arc<snapshot::Upstream> {
        loop {
            let arrived = self.arrived.notified();
            if let Some(snapshot) = self.present() {
                return snapshot;
            }
            arrived.await;
        }
    }

    /// The present snapshot, if there is one.
    pub fn present(&self) -> Option<Arc<snapshot::Upstream>> {
        self.balance.borrow().snapshot().cloned()
    }

    /// What is known of the method of this path.
    pub fn method(&self, path: &str, series: impl FnOnce(&str) -> Rc<CallSeries>) -> Rc<Method> {
        self.known.get(path, |path| {
            let idempotency = self.methods.borrow().idempotency(path);
            Rc::new(Method::new(path, series(path), idempotency))
        })
    }

    /// Takes in what the upstream's descriptors say.
    pub fn set_methods(&self, methods: Arc<Methods>) {
        self.known.each(|path, method| method.set_idempotency(methods.idempotency(path)));
        *self.methods.borrow_mut() = methods;
    }

    /// Takes a snapshot in. Endpoints that stay keep their connections; calls on one that goes
    /// end by themselves.
    pub fn apply(
        self: &Rc<Self>,
        snapshot: Arc<snapshot::Upstream>,
        pool: impl Fn(&snapshot::Endpoint) -> Rc<Pool>,
        now: Instant,
    ) {
        let clock = snapshot.state.clock;
        let make = |of: &snapshot::Endpoint| self.endpoint(of, clock, pool(of), now);
        self.balance.borrow_mut().apply(snapshot, make, now);
        self.arrived.notify_waiters();
    }

    fn endpoint(
        self: &Rc<Self>,
        of: &snapshot::Endpoint,
        clock: Clock,
        pool: Rc<Pool>,
        now: Instant,
    ) -> Rc<Endpoint> {
        let endpoint = Endpoint::new(&self.name, of.clone(), clock, pool, now);
        let (upstream, known) = (Rc::downgrade(self), Rc::downgrade(&endpoint));
        endpoint.pool.on_fault(move |fault| {
            if let (Some(upstream), Some(endpoint)) = (upstream.upgrade(), known.upgrade()) {
                upstream.take_out(&endpoint, fault.clone());
            }
        });
        endpoint
    }

    /// An endpoint for a call that its route hashes so, and its breaker's leave; none of those that
    /// were tried.
    pub fn pick(
        &self,
        tried: Tried<'_>,
        hash: Option<u64>,
        probing: Probing,
        now: Instant,
    ) -> Option<(Rc<Endpoint>, Permit)> {
        self.balance.borrow_mut().pick(tried, hash, probing, now)
    }

    /// Whether an endpoint takes a call that was sent to these.
    pub fn has_other(&self, sent: &[Rc<Endpoint>], now: Instant) -> bool {
        self.balance.borrow().has_other(sent, now)
    }

    /// Lets something be left to chance.
    pub fn with_rng<T>(&self, choose: impl FnOnce(&mut Rng) -> T) -> T {
        choose(&mut self.rng.borrow_mut())
    }

    /// A call at an endpoint has ended so.
    pub fn record(&self, endpoint: &Rc<Endpoint>, permit: Permit, outcome: Outcome, now: Moment) {
        let endpoints = self.balance.borrow().len();
        let breaker = &endpoint.state.breaker;
        let trip = &self.config.trip;
        let rng = &mut self.rng.borrow_mut();
        if let Some(change) = breaker.record(permit, outcome, trip, endpoints, now, rng) {
            self.turned(endpoint, change);
        }
    }

    /// An endpoint's breaker has changed.
    #[cold]
    fn turned(&self, endpoint: &Rc<Endpoint>, change: Change) {
        match change {
            Change::Closed => tracing::info!(endpoint = %endpoint.whom, "is well again"),
            Change::Opened(cause, pause) => {
                self.balance.borrow_mut().rest(endpoint);
                let last = endpoint.failed().unwrap_or_default();
                tracing::warn!(endpoint = %endpoint.whom, ?pause, "rests: {cause}; last: {last}");
            }
        }
    }

    /// Takes an endpoint out until it can be connected again.
    fn take_out(self: &Rc<Self>, endpoint: &Rc<Endpoint>, fault: ConnectFault) {
        if !endpoint.set_down(Some(fault)) {
            return;
        }
        self.balance.borrow_mut().down(endpoint);
        spawn_local(bring_back(Rc::downgrade(self), Rc::downgrade(endpoint)));
    }

    /// New calls go out on new connections.
    pub fn retire_connections(&self) {
        for endpoint in self.balance.borrow().iter() {
            endpoint.pool.retire();
        }
    }

    /// Why no endpoint takes a call; `full` where the connections to one of them are.
    pub fn none_left(&self, full: Option<ConnectFault>, now: Instant) -> Fault {
        let name = &self.name;
        if let Some(fault) = full {
            let message = format!("\"{name}\" takes no more calls: {}", fault.message);
            return Fault::undelivered(Reason::Overloaded, message);
        }
        let balance = self.balance.borrow();
        let endpoints: Vec<_> = balance.iter().collect();
        let mut up = endpoints.iter().filter(|one| one.down().is_none()).peekable();
        // What is only full is not broken.
        if let Some(one) = up.peek().copied()
            && up.all(|one| !balance.has_room(one))
        {
            let limit = self.config.in_flight_per_endpoint.get();
            let message = format!("{limit} calls wait for an answer of {} already", one.whom);
            return Fault::undelivered(Reason::Overloaded, message);
        }
        let critical = balance.snapshot().map_or(0, |snapshot| snapshot.critical);
        if endpoints.is_empty() && critical == 0 {
            let message = format!(
                "no endpoint of \"{name}\" takes calls: none is registered in Consul (is the name \
                 right, and does the service run with its sidecar?)"
            );
            return Fault::undelivered(Reason::NoEndpoints, message);
        }
        let mut message =
            format!("no endpoint of \"{name}\" takes calls: {} known", endpoints.len() + critical);
        let faults: Vec<_> = endpoints.iter().filter_map(|endpoint| endpoint.down()).collect();
        let mut reason = Reason::NoEndpoints;
        let rests = |one: &Endpoint| {
            one.down().is_none() && matches!(one.breaker(now), State::Open(_) | State::HalfOpen)
        };
        let resting = || endpoints.iter().filter(|one| rests(one));
        if let Some(last) = resting().next_back() {
            let (n, why) = (resting().count(), last.failed().unwrap_or_default());
            message.push_str(&format!(", {n} with an open breaker (last: {} {why})", last.whom));
            reason = Reason::BreakerOpen;
        }
        if let Some(last) = faults.last() {
            let down = faults.len();
            message
                .push_str(&format!(", {down} that cannot be connected (last: {})", last.message));
            reason = match last.stage {
                ConnectStage::Connect | ConnectStage::Full => Reason::ConnectFailed,
                ConnectStage::Tls => Reason::TlsFailed,
                ConnectStage::Identity => Reason::IdentityMismatch,
            };
        }
        if critical > 0 {
            message.push_str(&format!(", {critical} critical in Consul"));
        }
        Fault::undelivered(reason, message)
    }
}

/// Tries an endpoint in the background until a connection succeeds or it is gone.
async fn bring_back(upstream: Weak<Upstream>, endpoint: Weak<Endpoint>) {
    let mut wait = RETRY_FIRST;
    loop {
        // Jitter, so that callers do not return as one.
        sleep(wait.mul_f64(0.5 + fastrand::f64())).await;
        wait = (wait * 2).min(RETRY_LAST);
        let (Some(upstream), Some(endpoint)) = (upstream.upgrade(), endpoint.upgrade()) else {
            return;
        };
        // Where it fails, its pool tells the new reason.
        if endpoint.pool.lease().await.is_ok() {
            endpoint.set_down(None);
            upstream.balance.borrow_mut().back(&endpoint, Instant::now());
            return;
        }
    }
}
