//! Callers and endpoints in virtual time: what a sidecar does with a call, from the real policies.
//!
//! A caller stands for one process with its own budget, breakers and averages. An endpoint does
//! what the test says, at any load.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use tonic::Code;

use crate::outbound::ewma::PeakEwma;
use crate::resilience::breaker::{Breaker, Permit, Resting, State, Trip};
use crate::resilience::budget::Budget;
use crate::resilience::idempotency::Idempotency;
use crate::resilience::in_flight::InFlight;
use crate::resilience::moment::Moment;
use crate::resilience::outcome::{Failure, Outcome};
use crate::resilience::retry::{Attempt, Call, Policy, Verdict};

/// Each call's deadline, from when it was due.
const DEADLINE: Duration = Duration::from_secs(2);

/// What callers do: evenly spaced calls, each caller at its own time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    /// Calls a second, of all callers together.
    pub(super) rate: u64,
    pub(super) callers: usize,
}

/// What an endpoint does with a call.
#[derive(Clone, Copy, Debug)]
pub(super) enum Behaviour {
    /// Answers after half to one and a half of this.
    Answers(Duration),
    /// Says UNAVAILABLE after 5 ms.
    Fails,
    /// Resets the stream after 5 ms.
    Resets,
    /// Cannot be connected; known after so long.
    Refuses(Duration),
    /// Does nothing until then, and then answers at once.
    Hangs(Duration),
}

/// All there is.
pub(super) struct World {
    load: Load,
    behaviour: Box<dyn Fn(usize, Duration) -> Behaviour>,
    pub(super) trip: Trip,
    pub(super) idempotency: Idempotency,
    policy: Policy,
    callers: Vec<Caller>,
    /// What happens when; the number keeps the order of what happens at once.
    events: BTreeMap<(Duration, u64), Event>,
    events_made: u64,
    now: Duration,
    rng: Rng,
    seconds: Vec<Second>,
}

struct Caller {
    budget: Budget,
    resting: Arc<Resting>,
    endpoints: Vec<Endpoint>,
}

struct Endpoint {
    breaker: Breaker,
    ewma: PeakEwma,
    in_flight: InFlight,
}

/// What happened in a second.
#[derive(Clone, Default)]
struct Second {
    called: u64,
    /// Of the calls due in this second, those that failed in the end.
    failed: u64,
    sent_to: Vec<u64>,
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Due { caller: usize },
    Send(Sending),
    End { sending: Sending, endpoint: usize, permit: Permit, sent: Duration, end: End },
}

/// One call on its way.
#[derive(Clone, Copy, Debug)]
struct Sending {
    caller: usize,
    due: Duration,
    /// How often it was sent.
    times: u32,
    /// Bits of the endpoints that it was sent to.
    tried: u32,
}

#[derive(Clone, Copy, Debug)]
enum End {
    Good,
    Unavailable,
    Reset,
    Refused,
    Late,
}

impl World {
    pub(super) fn new(
        load: Load,
        endpoints: usize,
        behaviour: impl Fn(usize, Duration) -> Behaviour + 'static,
    ) -> Self {
        let mut rng = Rng::with_seed(42);
        let caller = || {
            let resting = Arc::new(Resting::default());
            let endpoint = || Endpoint {
                breaker: Breaker::new(resting.clone()),
                ewma: PeakEwma::new(Moment::default()),
                in_flight: InFlight::default(),
            };
            let endpoints = (0..endpoints).map(|_| endpoint()).collect();
            Caller { budget: Budget::default(), resting, endpoints }
        };
        let mut world = Self {
            load,
            behaviour: Box::new(behaviour),
            trip: Trip::default(),
            idempotency: Idempotency::Declared,
            policy: Policy::default(),
            callers: (0..load.callers).map(|_| caller()).collect(),
            events: BTreeMap::new(),
            events_made: 0,
            now: Duration::ZERO,
            rng: Rng::with_seed(rng.u64(..)),
            seconds: Vec::new(),
        };
        for caller in 0..load.callers {
            // Evenly, so that whatever is uneven comes from the policies.
            let phase = (caller as f64 + rng.f64()) / load.callers as f64;
            let phase = world.interval().mul_f64(phase);
            world.at(phase, Event::Due { caller });
        }
        world
    }

    /// Lets time pass until then.
    pub(super) fn run(&mut self, until: Duration) {
        while let Some(next) = self.events.first_entry().filter(|next| next.key().0 < until) {
            self.now = next.key().0;
            match next.remove() {
                Event::Due { caller } => {
                    self.at(self.now + self.interval(), Event::Due { caller });
                    self.second(self.now).called += 1;
                    self.callers[caller].budget.call(self.now());
                    self.send(Sending { caller, due: self.now, times: 0, tried: 0 });
                }
                Event::Send(sending) => self.send(sending),
                Event::End { sending, endpoint, permit, sent, end } => {
                    self.end(sending, endpoint, permit, sent, end);
                }
            }
        }
        self.now = until;
    }

    pub(super) fn now(&self) -> Moment {
        Moment::after_origin(self.now)
    }

    pub(super) fn breakers(&self) -> impl Iterator<Item = &Breaker> {
        self.callers.iter().flat_map(|caller| &caller.endpoints).map(|e| &e.breaker)
    }

    /// Calls that were due in these seconds.
    pub(super) fn called(&self, seconds: Range<u64>) -> u64 {
        self.sum(seconds, |second| second.called)
    }

    /// Those of them that failed.
    pub(super) fn failed(&self, seconds: Range<u64>) -> u64 {
        self.sum(seconds, |second| second.failed)
    }

    /// Calls and retries that went to the upstream in these seconds.
    pub(super) fn sent(&self, seconds: Range<u64>) -> u64 {
        self.sum(seconds, |second| second.sent_to.iter().sum())
    }

    /// Those of them that went to one endpoint.
    pub(super) fn sent_to(&self, endpoint: usize, seconds: Range<u64>) -> u64 {
        self.sum(seconds, |second| second.sent_to.get(endpoint).copied().unwrap_or(0))
    }

    fn sum(&self, seconds: Range<u64>, of: impl Fn(&Second) -> u64) -> u64 {
        let skipped = self.seconds.iter().skip(seconds.start as usize);
        skipped.take((seconds.end - seconds.start) as usize).map(of).sum()
    }

    /// Between two calls of one caller.
    fn interval(&self) -> Duration {
        Duration::from_secs(self.load.callers as u64).div_f64(self.load.rate as f64)
    }

    fn at(&mut self, at: Duration, event: Event) {
        self.events_made += 1;
        self.events.insert((at, self.events_made), event);
    }

    fn second(&mut self, at: Duration) -> &mut Second {
        let second = at.as_secs() as usize;
        if self.seconds.len() <= second {
            self.seconds.resize(second + 1, Second::default());
        }
        &mut self.seconds[second]
    }

    fn send(&mut self, mut sending: Sending) {
        let Some((endpoint, permit)) = self.pick(&sending) else {
            self.second(sending.due).failed += 1;
            return;
        };
        let endpoints = self.callers[sending.caller].endpoints.len();
        let now = self.now();
        self.callers[sending.caller].endpoints[endpoint].in_flight.begin(now);
        let second = self.second(self.now);
        second.sent_to.resize(endpoints, 0);
        second.sent_to[endpoint] += 1;
        sending.times += 1;
        sending.tried |= 1 << endpoint;

        let quick = self.now + Duration::from_millis(5);
        let (at, end) = match (self.behaviour)(endpoint, self.now) {
            Behaviour::Answers(took) => (self.now + took.mul_f64(0.5 + self.rng.f64()), End::Good),
            Behaviour::Fails => (quick, End::Unavailable),
            Behaviour::Resets => (quick, End::Reset),
            Behaviour::Refuses(after) => (self.now + after, End::Refused),
            Behaviour::Hangs(until) => (until, End::Good),
        };
        let late = sending.due + DEADLINE;
        let (at, end) = if at > late { (late, End::Late) } else { (at, end) };
        self.at(at, Event::End { sending, endpoint, permit, sent: self.now, end });
    }

    /// An endpoint that is due for its probe, so that none waits for the others to be busy; else
    /// the better of two. One that failed this call already only where there is no other.
    fn pick(&mut self, sending: &Sending) -> Option<(usize, Permit)> {
        let now = self.now();
        let caller = &self.callers[sending.caller];
        let is_tried = |endpoint: usize| sending.tried & (1 << endpoint) != 0;
        let mut open: Vec<_> = (0..caller.endpoints.len())
            .filter(|e| caller.endpoints[*e].breaker.would_admit(now))
            .collect();
        if open.iter().any(|e| !is_tried(*e)) {
            open.retain(|e| !is_tried(*e));
        }
        let is_due = |e: usize| caller.endpoints[e].breaker.state(now) != State::Closed;
        let due = if caller.resting.count() > 0 { open.iter().find(|e| is_due(**e)) } else { None };
        let load = |e: usize| {
            let endpoint = &caller.endpoints[e];
            endpoint.in_flight.load(endpoint.ewma.cost(now), 1.0, now)
        };
        let chosen = match (due, open.len()) {
            (Some(due), _) => *due,
            (None, 0) => return None,
            (None, 1) => open[0],
            (None, n) => {
                let first = self.rng.usize(..n);
                let second = (first + self.rng.usize(1..n)) % n;
                let (first, second) = (open[first], open[second]);
                if load(first) <= load(second) { first } else { second }
            }
        };
        let permit = caller.endpoints[chosen].breaker.admit(&self.trip, now)?;
        Some((chosen, permit))
    }

    fn end(&mut self, sending: Sending, which: usize, permit: Permit, sent: Duration, end: End) {
        let now = self.now();
        let caller = &mut self.callers[sending.caller];
        let endpoints = caller.endpoints.len();
        let endpoint = &mut caller.endpoints[which];
        endpoint.in_flight.end(Moment::after_origin(sent));
        let took = self.now - sent;
        let (outcome, failure) = match end {
            End::Good => (Outcome::Good, None),
            End::Unavailable => (
                Outcome::of_status(Code::Unavailable),
                Some(Failure::of_answer(Code::Unavailable, None, None)),
            ),
            End::Reset => (Outcome::Down, Some(Failure::Reset)),
            End::Refused => (Outcome::Down, Some(Failure::Undelivered)),
            End::Late => (
                Outcome::of_status(Code::DeadlineExceeded),
                Some(Failure::Answered(Code::DeadlineExceeded)),
            ),
        };
        // As the sidecar does: what fails at once is not quick.
        let seen = if failure.is_none() { took } else { took.max(Duration::from_millis(100)) };
        endpoint.ewma.observe(seen, now);
        let _ = endpoint.breaker.record(permit, outcome, &self.trip, endpoints, now, &mut self.rng);
        let Some(failure) = failure else { return };
        let call = Call {
            idempotency: self.idempotency,
            is_retry_already: false,
            deadline: Some(Moment::after_origin(sending.due + DEADLINE)),
        };
        let attempt =
            Attempt { sent: sending.times, failure, pushback: None, can_be_replayed: true };
        match self.policy.decide(&call, &attempt, &caller.budget, now, &mut self.rng) {
            Verdict::Again(wait) => self.at(self.now + wait, Event::Send(sending)),
            Verdict::Stop(_) => self.second(sending.due).failed += 1,
        }
    }
}
