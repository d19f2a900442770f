//! One endpoint of an upstream as one worker knows it: its connections, its speed, whether it can
//! be connected.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::ewma::PeakEwma;
use crate::discovery::snapshot;
use crate::transport::pool::{ConnectFault, Pool};

/// An endpoint that has failed a call gets another so long after, where others do not fail.
const FAILED: Duration = Duration::from_secs(1);

/// More than any load in seconds and calls.
const BEHIND: f64 = 1e12;

/// One address that takes calls.
pub struct Endpoint {
    /// What is known of it.
    pub of: snapshot::Endpoint,
    /// For people: `"user-service" at 127.0.0.1:21001`.
    pub whom: Rc<str>,
    /// Its connections.
    pub pool: Rc<Pool>,
    ewma: RefCell<PeakEwma>,
    in_flight: Cell<u32>,
    /// When its last answer was a failure.
    failed: Cell<Option<Instant>>,
    down: RefCell<Option<ConnectFault>>,
}

impl Endpoint {
    /// An endpoint that no call went to yet.
    pub fn new(service: &str, of: snapshot::Endpoint, pool: Rc<Pool>, now: Instant) -> Rc<Self> {
        let whom = format!("\"{service}\" at {}", of.address).into();
        let ewma = RefCell::new(PeakEwma::new(now));
        Rc::new(Self {
            of,
            whom,
            pool,
            ewma,
            in_flight: Cell::new(0),
            failed: Cell::new(None),
            down: RefCell::new(None),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.of.address
    }

    /// What a call to it is expected to cost now; lower is better.
    pub fn load(&self, now: Instant) -> f64 {
        let load = self.ewma.borrow().cost(now) * f64::from(self.in_flight.get() + 1);
        if self.is_behind(now) { load + BEHIND } else { load }
    }

    /// Whether it comes after all that did not fail: for a second after each failure, however quickly
    /// it fails.
    pub fn is_behind(&self, now: Instant) -> bool {
        self.failed.get().is_some_and(|at| now.saturating_duration_since(at) < FAILED)
    }

    /// Why it cannot be connected, while it cannot.
    pub fn down(&self) -> Option<ConnectFault> {
        self.down.borrow().clone()
    }

    /// Takes it out, or in again. Returns whether that changed anything.
    pub fn set_down(&self, fault: Option<ConnectFault>) -> bool {
        let was = self.down.replace(fault).is_some();
        was != self.down.borrow().is_some()
    }
}

/// A call that waits for its response head: counted in every limit that says "in flight".
pub struct Pending {
    endpoint: Rc<Endpoint>,
    begin: Instant,
    end: End,
    _in_endpoint: Count,
    in_upstream: Option<Count>,
}

/// What the end of the wait tells of the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Its speed.
    Answered,
    /// That it took no work, or lost it.
    Failed,
    /// That it is no quicker than it was waited for.
    GivenUp,
    /// Nothing.
    Unsent,
}

/// One more in a count of the whole process, until it is dropped.
#[derive(Debug)]
pub struct Count(Arc<AtomicUsize>);

impl Count {
    /// One more, unless `limit` is reached.
    pub fn admit(count: &Arc<AtomicUsize>, limit: usize) -> Option<Self> {
        let held = count.fetch_add(1, Ordering::Relaxed);
        // Where it is not admitted, dropping it takes the one more back.
        Some(Self(count.clone())).filter(|_| held < limit)
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Pending {
    /// A call that is about to go to this endpoint.
    pub fn new(endpoint: Rc<Endpoint>, in_endpoint: Count, now: Instant) -> Self {
        endpoint.in_flight.set(endpoint.in_flight.get() + 1);
        let end = End::GivenUp;
        Self { endpoint, begin: now, end, _in_endpoint: in_endpoint, in_upstream: None }
    }

    /// Keeps its place in the upstream's count, too.
    pub fn hold(&mut self, in_upstream: Count) {
        self.in_upstream = Some(in_upstream);
    }

    /// Nothing was sent, and not by a failure: it tells nothing of the endpoint's speed.
    pub fn unsent(mut self) {
        self.end = End::Unsent;
    }

    /// The endpoint failed: it took no work, or lost it.
    pub fn failed(mut self) {
        self.end = End::Failed;
    }

    /// The head came: the time it took is the endpoint's speed.
    pub fn answered(mut self) {
        self.end = End::Answered;
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let Self { endpoint, begin, end, .. } = self;
        endpoint.in_flight.set(endpoint.in_flight.get() - 1);
        if *end == End::Unsent {
            return;
        }
        let now = Instant::now();
        let mut took = now - *begin;
        match end {
            End::Answered => endpoint.failed.set(None),
            End::Failed => endpoint.failed.set(Some(now)),
            End::GivenUp | End::Unsent => {}
        }
        if *end != End::Answered {
            // At least as slow as it was waited for, and never a quick success, so that an endpoint
            // that fails at once does not draw every call.
            took = took.max(Duration::from_millis(100));
        }
        endpoint.ewma.borrow_mut().observe(took, now);
    }
}
