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
use super::method::Method;
use super::upstream::Upstream;
use crate::discovery::snapshot;
use crate::resilience::breaker::{Permit, State};
use crate::resilience::in_flight::InFlight;
use crate::resilience::moment::{Clock, Moment};
use crate::resilience::outcome::Outcome;
use crate::transport::pool::{ConnectFault, Pool};

/// What a failure costs at least, however quickly it came: an endpoint that fails at once must not
/// draw every call.
const PENALTY: Duration = Duration::from_millis(100);

/// Calls that have waited longer than this, and so many times as long as is usual, hang.
const HANGS: Duration = Duration::from_millis(50);
const HANGS_BY: f64 = 8.0;

/// A call that was overtaken counts for so many times what it was waited for.
const OVERTAKEN: u32 = 4;

/// One address that takes calls.
///
/// In this order, as a choice among thousands waits for memory above all: what it asks of one that
/// it takes is in one line of the cache with the count of those who hold it.
#[repr(C)]
pub struct Endpoint {
    speed: Speed,
    /// As in `of`.
    pub state: Arc<snapshot::EndpointState>,
    /// What is known of it.
    pub of: snapshot::Endpoint,
    /// For people: `"user-service" at 127.0.0.1:21001`.
    pub whom: Rc<str>,
    /// Its connections.
    pub pool: Rc<Pool>,
    clock: Clock,
    down: RefCell<Option<ConnectFault>>,
}

/// What a choice compares.
struct Speed {
    ewma: Cell<PeakEwma>,
    in_flight: Cell<InFlight>,
}

impl Speed {
    /// An answer took so long, or would have.
    fn observe(&self, took: Duration, now: Moment) {
        let mut ewma = self.ewma.get();
        ewma.observe(took, now);
        self.ewma.set(ewma);
    }
}

impl Endpoint {
    /// An endpoint that no call went to yet.
    pub fn new(
        service: &str,
        of: snapshot::Endpoint,
        clock: Clock,
        pool: Rc<Pool>,
        now: Instant,
    ) -> Rc<Self> {
        let whom = format!("\"{service}\" at {}", of.address).into();
        let ewma = Cell::new(PeakEwma::new(clock.moment(now)));
        let speed = Speed { ewma, in_flight: Cell::default() };
        let (state, down) = (of.state.clone(), RefCell::default());
        Rc::new(Self { speed, state, of, whom, pool, clock, down })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.of.address
    }

    /// This time, as its counts have it.
    pub fn moment(&self, at: Instant) -> Moment {
        self.clock.moment(at)
    }

    /// What a call to it is expected to cost now, where it weighs `weight` times what is usual;
    /// lower is better.
    pub fn load(&self, weight: f64, now: Moment) -> f64 {
        self.speed.in_flight.get().load(self.speed.ewma.get().cost(now), weight, now)
    }

    /// Whether what it has in flight is much older than its answers ever took of late.
    pub fn hangs(&self, now: Moment) -> bool {
        let age = self.speed.in_flight.get().mean_age(now);
        age > HANGS && age.as_secs_f64() > HANGS_BY * self.speed.ewma.get().seconds()
    }

    /// Has it answered so far as the test says.
    #[cfg(test)]
    pub fn learnt(&self, ewma: PeakEwma) {
        self.speed.ewma.set(ewma);
    }

    /// Has it one more call in flight.
    #[cfg(test)]
    pub fn waits(&self, since: Instant) {
        let mut in_flight = self.speed.in_flight.get();
        in_flight.begin(self.clock.moment(since));
        self.speed.in_flight.set(in_flight);
    }

    /// What its breaker does.
    pub fn breaker(&self, now: Instant) -> State {
        self.state.breaker.state(self.clock.moment(now))
    }

    /// What its last failure was, in words.
    pub fn failed(&self) -> Option<Arc<str>> {
        self.state.failed()
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

/// A call at an endpoint: counted in every limit that says "in flight" until its response head, and
/// judged by how it ends.
pub struct Sent {
    upstream: Rc<Upstream>,
    endpoint: Rc<Endpoint>,
    method: Rc<Method>,
    begin: Moment,
    deadline: Option<Instant>,
    /// Until it is judged.
    permit: Option<Permit>,
    /// Until the head: it counts as in flight.
    waits: bool,
}

impl Sent {
    /// A call that is about to go to this endpoint; none where as many as `limit` wait for its answer
    /// already.
    pub fn new(
        (upstream, endpoint, method): (Rc<Upstream>, Rc<Endpoint>, Rc<Method>),
        (permit, limit): (Permit, usize),
        begin: Instant,
        deadline: Option<Instant>,
    ) -> Option<Self> {
        let shared = &endpoint.state.in_flight;
        if shared.fetch_add(1, Ordering::Relaxed) >= limit {
            shared.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let (begin, permit) = (endpoint.moment(begin), Some(permit));
        let mut in_flight = endpoint.speed.in_flight.get();
        in_flight.begin(begin);
        endpoint.speed.in_flight.set(in_flight);
        Some(Self { upstream, endpoint, method, begin, deadline, permit, waits: true })
    }

    /// Whether the breaker learns by this call whether the endpoint is well again.
    pub fn is_probe(&self) -> bool {
        self.permit.is_some_and(Permit::is_probe)
    }

    /// Nothing was sent, and not by a failure: it tells nothing of the endpoint.
    pub fn unsent(mut self) {
        self.leave();
    }

    /// The head came: the time it took is the endpoint's speed, unless it took no work.
    pub fn headed(&mut self, failed: bool, now: Instant) {
        let now = self.endpoint.moment(now);
        self.observe(now, failed);
    }

    /// The call has ended so; `why` is asked for where it failed.
    pub fn judge(mut self, outcome: Outcome, now: Instant, why: impl FnOnce() -> String) {
        let now = self.endpoint.moment(now);
        let failed = matches!(outcome, Outcome::Bad | Outcome::Down);
        if !self.observe(now, failed) && failed {
            // It began quickly, and failed all the same.
            self.endpoint.speed.observe(PENALTY, now);
        }
        self.record(outcome, now, why);
    }

    /// Another endpoint answered first: this one would have taken longer still, nobody knows how
    /// long. Taken for what it was waited for, it would soon be asked again.
    pub fn overtaken(mut self) {
        let now = self.endpoint.moment(Instant::now());
        if self.leave() {
            let waited = now.since(self.begin);
            self.endpoint.speed.observe(waited * OVERTAKEN, now);
        }
        if self.is_probe() {
            // It is not well yet.
            self.record(Outcome::Bad, now, || "another endpoint answered before it".into());
        }
    }

    fn record(&mut self, outcome: Outcome, now: Moment, why: impl FnOnce() -> String) {
        let Some(permit) = self.permit.take() else { return };
        if matches!(outcome, Outcome::Bad | Outcome::Down) {
            self.endpoint.state.set_failed(&why());
        }
        self.upstream.record(&self.endpoint, permit, outcome, now);
    }

    /// The wait has ended. Returns whether it had not before.
    fn observe(&mut self, now: Moment, failed: bool) -> bool {
        if !self.leave() {
            return false;
        }
        let took = now.since(self.begin);
        if !failed {
            self.method.answered(took, now);
        }
        let took = if failed { took.max(PENALTY) } else { took };
        self.endpoint.speed.observe(took, now);
        true
    }

    /// It waits no more. Returns whether it had.
    fn leave(&mut self) -> bool {
        let waited = std::mem::take(&mut self.waits);
        if waited {
            self.endpoint.state.in_flight.fetch_sub(1, Ordering::Relaxed);
            let mut in_flight = self.endpoint.speed.in_flight.get();
            in_flight.end(self.begin);
            self.endpoint.speed.in_flight.set(in_flight);
        }
        waited
    }

    /// It ends, and nobody told how.
    #[cold]
    fn given_up(&mut self) {
        let now = self.endpoint.moment(Instant::now());
        let waited = self.leave();
        // At least as slow as it was waited for; how quick it would have been is not known.
        let took = now.since(self.begin);
        let speed = &self.endpoint.speed;
        if waited && took.as_secs_f64() > speed.ewma.get().cost(now) {
            speed.observe(took, now);
        }
        // Whoever gives up about when his time is up did so because of it.
        let allowed = self.deadline.map(|at| self.endpoint.moment(at).since(self.begin));
        let is_late = allowed.is_some_and(|allowed| took >= allowed.mul_f64(0.95));
        let outcome = if waited && is_late { Outcome::Bad } else { Outcome::Unknown };
        self.record(outcome, now, String::new);
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        if self.permit.is_some() || self.waits {
            self.given_up();
        }
    }
}
