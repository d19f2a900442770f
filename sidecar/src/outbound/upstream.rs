//! One upstream as one worker knows it: its endpoints, and the choice among them.
//!
//! An endpoint that cannot be connected is out until a connection in the background succeeds. The
//! choice looks at two endpoints, however many there are, and at more only where those are full or
//! have just failed.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fastrand::Rng;
use tokio::sync::Notify;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep};

use super::endpoint::{Count, Endpoint};
use super::method::Method;
use crate::config;
use crate::discovery::methods::Methods;
use crate::discovery::snapshot;
use crate::fault::{Fault, Reason};
use crate::resilience::breaker::{Change, Permit, State};
use crate::resilience::moment::Clock;
use crate::resilience::outcome::Outcome;
use crate::telemetry::metrics::{AtHand, CallSeries};
use crate::transport::pool::{ConnectFault, ConnectStage, Pool};

/// The first wait before an endpoint that is down is tried again; doubled up to the last.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LAST: Duration = Duration::from_secs(1);

/// A call looks at so many of those that rest whether one is due to be asked: more than one call
/// looks at many.
const LOOKED_AT: usize = 4;

/// One upstream.
pub struct Upstream {
    /// Its name in Consul.
    pub name: Rc<str>,
    /// How it is called.
    pub config: Arc<config::Upstream>,
    snapshot: RefCell<Option<Arc<snapshot::Upstream>>>,
    endpoints: RefCell<Vec<Rc<Endpoint>>>,
    /// Those that calls go to.
    up: RefCell<Vec<Rc<Endpoint>>>,
    arrived: Notify,
    rng: RefCell<Rng>,
    /// Those whose breaker was seen open.
    resting: RefCell<VecDeque<Rc<Endpoint>>>,
    /// What its descriptors say of its methods.
    methods: RefCell<Arc<Methods>>,
    /// Those that were called.
    known: AtHand<Method>,
}

impl Upstream {
    /// An upstream that nothing is known of yet, of which metrics tell so many `methods` apart.
    pub fn new(name: &str, config: Arc<config::Upstream>, methods: usize) -> Rc<Self> {
        Rc::new(Self {
            name: name.into(),
            config,
            snapshot: RefCell::default(),
            endpoints: RefCell::default(),
            up: RefCell::default(),
            arrived: Notify::new(),
            rng: RefCell::default(),
            resting: RefCell::default(),
            methods: RefCell::default(),
            known: AtHand::new(methods),
        })
    }

    /// The present snapshot, or the first one once it is there.
    pub async fn snapshot(&self) -> Arc<snapshot::Upstream> {
        loop {
            let arrived = self.arrived.notified();
            if let Some(snapshot) = &*self.snapshot.borrow() {
                return snapshot.clone();
            }
            arrived.await;
        }
    }

    /// The present snapshot, if there is one.
    pub fn present(&self) -> Option<Arc<snapshot::Upstream>> {
        self.snapshot.borrow().clone()
    }

    /// What is known of the method of this path.
    pub fn method(&self, path: &str, series: impl FnOnce(&str) -> Rc<CallSeries>) -> Rc<Method> {
        self.known.get(path, |path| {
            let is_idempotent = self.methods.borrow().is_idempotent(path);
            Rc::new(Method::new(series(path), is_idempotent))
        })
    }

    /// Takes in what the upstream's descriptors say.
    pub fn set_methods(&self, methods: Arc<Methods>) {
        self.known.each(|path, method| method.set_idempotent(methods.is_idempotent(path)));
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
        let mut known: HashMap<_, _> = self
            .endpoints
            .take()
            .into_iter()
            .map(|endpoint| ((endpoint.of.address, endpoint.of.identity.clone()), endpoint))
            .collect();
        let endpoints: Vec<_> = snapshot
            .endpoints
            .iter()
            .map(|of| {
                let known = known.remove(&(of.address, of.identity.clone()));
                known.unwrap_or_else(|| self.endpoint(of, snapshot.state.clock, pool(of), now))
            })
            .collect();
        known.into_values().for_each(|gone| gone.leave());
        *self.up.borrow_mut() = endpoints.iter().filter(|e| e.down().is_none()).cloned().collect();
        *self.endpoints.borrow_mut() = endpoints;
        *self.snapshot.borrow_mut() = Some(snapshot);
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

    /// An endpoint for a call, and its breaker's leave: one that is due to be asked whether it is
    /// well again; else the better of two chosen at random (P2C) among those that have room and do
    /// not rest; none that was tried before.
    pub fn pick(&self, tried: &[Rc<Endpoint>], now: Instant) -> Option<(Rc<Endpoint>, Permit)> {
        let up = self.up.borrow();
        if let Some(due) = self.due(tried, now) {
            return Some(due);
        }
        let n = up.len();
        if n > 2 && tried.is_empty() {
            let first = fastrand::usize(..n);
            let second = (first + fastrand::usize(1..n)) % n;
            let (first, second) = (&up[first], &up[second]);
            if self.takes_calls(first, now) && self.takes_calls(second, now) {
                let better = if first.load(now) <= second.load(now) { first } else { second };
                if let Some(permit) = self.leave(better, now) {
                    return Some((better.clone(), permit));
                }
            }
        }
        // From a random place on, so that equals share.
        let start = if n > 1 { fastrand::usize(..n) } else { 0 };
        let turned = up[start..].iter().chain(&up[..start]);
        let fresh = |endpoint: &&Rc<Endpoint>| !tried.iter().any(|t| Rc::ptr_eq(t, endpoint));
        loop {
            let candidates = turned.clone().filter(|one| fresh(one) && self.takes_calls(one, now));
            let better = candidates
                .take(2)
                .min_by(|one, other| one.load(now).total_cmp(&other.load(now)))?;
            // Where another worker was faster, it takes no more calls now.
            if let Some(permit) = self.leave(better, now) {
                return Some((better.clone(), permit));
            }
        }
    }

    /// One of those that rested, and are to be asked by this call whether they are well again.
    fn due(&self, tried: &[Rc<Endpoint>], now: Instant) -> Option<(Rc<Endpoint>, Permit)> {
        let mut resting = self.resting.borrow_mut();
        for _ in 0..resting.len().min(LOOKED_AT) {
            let endpoint = resting.pop_front()?;
            if !endpoint.is_up() || endpoint.breaker(now) == State::Closed {
                endpoint.set_listed(false);
                continue;
            }
            let is_free =
                self.has_room(&endpoint) && !tried.iter().any(|t| Rc::ptr_eq(t, &endpoint));
            let permit = if is_free { self.leave(&endpoint, now) } else { None };
            resting.push_back(endpoint.clone());
            if let Some(permit) = permit {
                return Some((endpoint, permit));
            }
        }
        None
    }

    fn leave(&self, endpoint: &Endpoint, now: Instant) -> Option<Permit> {
        endpoint.of.state.breaker.admit(&self.config.trip, endpoint.moment(now))
    }

    /// Whether an endpoint has room and does not rest; one that does is looked at again.
    fn takes_calls(&self, endpoint: &Rc<Endpoint>, now: Instant) -> bool {
        let admits = endpoint.is_admitting(now);
        if !admits {
            self.list(endpoint);
        }
        admits && self.has_room(endpoint)
    }

    /// Has calls look whether it is due to be asked.
    fn list(&self, endpoint: &Rc<Endpoint>) {
        if !endpoint.set_listed(true) {
            self.resting.borrow_mut().push_back(endpoint.clone());
        }
    }

    /// Whether an endpoint takes calls that is none of these.
    pub fn has_other(&self, tried: &[Rc<Endpoint>], now: Instant) -> bool {
        let up = self.up.borrow();
        let mut fresh = up.iter().filter(|one| !tried.iter().any(|t| Rc::ptr_eq(t, one)));
        fresh.any(|endpoint| self.takes_calls(endpoint, now))
    }

    /// Lets something be left to chance.
    pub fn with_rng<T>(&self, choose: impl FnOnce(&mut Rng) -> T) -> T {
        choose(&mut self.rng.borrow_mut())
    }

    /// A call at an endpoint has ended so.
    pub fn record(&self, endpoint: &Rc<Endpoint>, permit: Permit, outcome: Outcome, now: Instant) {
        let endpoints = self.endpoints.borrow().len();
        let moment = endpoint.moment(now);
        let breaker = &endpoint.of.state.breaker;
        let trip = &self.config.trip;
        let rng = &mut self.rng.borrow_mut();
        let change = breaker.record(permit, outcome, trip, endpoints, moment, rng);
        match change {
            None => {}
            Some(Change::Closed) => tracing::info!(endpoint = %endpoint.whom, "is well again"),
            Some(Change::Opened(cause, pause)) => {
                self.list(endpoint);
                let last = endpoint.failed().unwrap_or_default();
                tracing::warn!(endpoint = %endpoint.whom, ?pause, "rests: {cause}; last: {last}");
            }
        }
    }

    fn has_room(&self, endpoint: &Endpoint) -> bool {
        let in_flight = endpoint.of.state.in_flight.load(Ordering::Relaxed);
        in_flight < self.config.in_flight_per_endpoint.get()
    }

    /// One more call that waits for this endpoint's answer, where it has room for it.
    pub fn admit(&self, endpoint: &Endpoint) -> Option<Count> {
        Count::admit(&endpoint.of.state.in_flight, self.config.in_flight_per_endpoint.get())
    }

    /// Takes an endpoint out until it can be connected again.
    fn take_out(self: &Rc<Self>, endpoint: &Rc<Endpoint>, fault: ConnectFault) {
        if !endpoint.set_down(Some(fault)) {
            return;
        }
        self.up.borrow_mut().retain(|other| !Rc::ptr_eq(other, endpoint));
        spawn_local(bring_back(Rc::downgrade(self), Rc::downgrade(endpoint)));
    }

    /// New calls go out on new connections.
    pub fn retire_connections(&self) {
        for endpoint in self.endpoints.borrow().iter() {
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
        let up = self.up.borrow();
        // What is only full is not broken.
        if let Some(one) = up.first().filter(|_| up.iter().all(|one| !self.has_room(one))) {
            let limit = self.config.in_flight_per_endpoint.get();
            let message = format!("{limit} calls wait for an answer of {} already", one.whom);
            return Fault::undelivered(Reason::Overloaded, message);
        }
        drop(up);
        let endpoints = self.endpoints.borrow();
        let critical = self.snapshot.borrow().as_ref().map_or(0, |snapshot| snapshot.critical);
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
        let resting = || endpoints.iter().filter(|one| one.is_up() && !one.is_admitting(now));
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
            let is_member = upstream.endpoints.borrow().iter().any(|e| Rc::ptr_eq(e, &endpoint));
            if is_member {
                upstream.up.borrow_mut().push(endpoint);
            }
            return;
        }
    }
}
