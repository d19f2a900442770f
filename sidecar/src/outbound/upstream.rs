//! One upstream as one worker knows it: its endpoints, and the choice among them.
//!
//! An endpoint that cannot be connected is out until a connection in the background succeeds. The
//! choice looks at two endpoints, however many there are, and at more only where those are full or
//! have just failed.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep};

use super::endpoint::{Count, Endpoint};
use crate::config;
use crate::discovery::methods::Methods;
use crate::discovery::snapshot;
use crate::fault::{Fault, Reason};
use crate::telemetry::metrics::AtHand;
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
    snapshot: RefCell<Option<Arc<snapshot::Upstream>>>,
    endpoints: RefCell<Vec<Rc<Endpoint>>>,
    /// Those that calls go to.
    up: RefCell<Vec<Rc<Endpoint>>>,
    arrived: Notify,
    /// What its descriptors say of its methods.
    methods: RefCell<Arc<Methods>>,
    /// Its methods in the metrics.
    pub series: AtHand,
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
            methods: RefCell::default(),
            series: AtHand::new(methods),
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

    /// Whether a call of this path may be sent twice, as far as the upstream's descriptors say.
    pub fn is_idempotent(&self, path: &str) -> bool {
        self.methods.borrow().is_idempotent(path)
    }

    /// Takes in what the upstream's descriptors say.
    pub fn set_methods(&self, methods: Arc<Methods>) {
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
                known
                    .remove(&(of.address, of.identity.clone()))
                    .unwrap_or_else(|| self.endpoint(of, pool(of), now))
            })
            .collect();
        *self.up.borrow_mut() = endpoints.iter().filter(|e| e.down().is_none()).cloned().collect();
        *self.endpoints.borrow_mut() = endpoints;
        *self.snapshot.borrow_mut() = Some(snapshot);
        self.arrived.notify_waiters();
    }

    fn endpoint(
        self: &Rc<Self>,
        of: &snapshot::Endpoint,
        pool: Rc<Pool>,
        now: Instant,
    ) -> Rc<Endpoint> {
        let endpoint = Endpoint::new(&self.name, of.clone(), pool, now);
        let (upstream, known) = (Rc::downgrade(self), Rc::downgrade(&endpoint));
        endpoint.pool.on_fault(move |fault| {
            if let (Some(upstream), Some(endpoint)) = (upstream.upgrade(), known.upgrade()) {
                upstream.take_out(&endpoint, fault.clone());
            }
        });
        endpoint
    }

    /// The better of two endpoints chosen at random (P2C) among those that have room for a call;
    /// none that was tried before.
    pub fn pick(&self, tried: &[Rc<Endpoint>], now: Instant) -> Option<Rc<Endpoint>> {
        let up = self.up.borrow();
        let n = up.len();
        if n > 2 && tried.is_empty() {
            let first = fastrand::usize(..n);
            let second = (first + fastrand::usize(1..n)) % n;
            let (first, second) = (&up[first], &up[second]);
            let better = if first.load(now) <= second.load(now) { first } else { second };
            if self.has_room(better) && !better.is_behind(now) {
                return Some(better.clone());
            }
        }
        // From a random place on, so that equals share.
        let start = if n > 1 { fastrand::usize(..n) } else { 0 };
        let turned = up[start..].iter().chain(&up[..start]);
        let fresh = |endpoint: &&Rc<Endpoint>| !tried.iter().any(|t| Rc::ptr_eq(t, endpoint));
        let candidates = turned.filter(|endpoint| fresh(endpoint) && self.has_room(endpoint));
        let mut best: Option<(f64, &Rc<Endpoint>)> = None;
        let mut seen = 0;
        for endpoint in candidates {
            let load = endpoint.load(now);
            if best.is_none_or(|(least, _)| load < least) {
                best = Some((load, endpoint));
            }
            // Two are enough, save where all that were seen have just failed.
            seen += 1;
            if seen >= 2 && best.is_some_and(|(_, best)| !best.is_behind(now)) {
                break;
            }
        }
        best.map(|(_, endpoint)| endpoint.clone())
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
    pub fn none_left(&self, full: Option<ConnectFault>) -> Fault {
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
        if critical > 0 {
            message.push_str(&format!(", {critical} critical in Consul"));
        }
        let mut reason = Reason::NoEndpoints;
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
