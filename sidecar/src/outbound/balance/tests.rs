//! Shares by weight, zone, warmth and hash, with endpoints that answer when the test says.

use std::collections::HashMap;
use std::future::pending;
use std::net::SocketAddr;

use certs::SpiffeId;

use super::*;
use crate::discovery::snapshot::{Found, Upstream};
use crate::outbound::ewma::PeakEwma;
use crate::resilience::balance::zones::Zones;
use crate::transport::pool::{self, Connect, ConnectFault, Opened, Pool};

const ROOM: usize = 16;
const SLOW_START: Duration = Duration::from_secs(10);

struct Nowhere;

impl Connect for Nowhere {
    fn connect(
        &self,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<Opened, ConnectFault>> + '_>> {
        Box::pin(pending())
    }
}

fn pool() -> Rc<Pool> {
    let settings = pool::Settings {
        stream_window: 65_535,
        connection_window: 65_535,
        max_frame: 16_384,
        max_header_list: 65_536,
        connections: 1,
        keepalive: None,
        first_bytes: SLOW_START,
        idle: SLOW_START,
    };
    Pool::new(Box::new(Nowhere), Rc::new(settings))
}

/// What is known of one: port, weight, whether it is near.
type One = (u16, u16, bool);

struct Bench {
    balance: Balance,
    now: Instant,
    made: usize,
}

impl Bench {
    fn of(all: &[One]) -> Self {
        let rules = Rules { slow_start: SLOW_START, room: ROOM, trip: Trip::default() };
        let mut balance = Balance::new(rules);
        balance.rng = Rng::with_seed(1);
        let mut bench = Self { balance, now: Instant::now(), made: 0 };
        bench.learn(all, |snapshot| snapshot);
        bench
    }

    fn learn(&mut self, all: &[One], change: impl FnOnce(Upstream) -> Upstream) {
        let identity = SpiffeId::for_consul("td.consul", "default", "dc1", "user").unwrap();
        let found = |(port, weight, is_near): &One| Found {
            weight: *weight,
            is_near: *is_near,
            ..(SocketAddr::from(([127, 0, 0, 1], *port)), identity.clone(), "user".into()).into()
        };
        let before = self.balance.snapshot().cloned();
        let next = Upstream::succeed(before.as_deref(), "user".into(), all.iter().map(found), 0);
        let (now, clock) = (self.now, next.state.clock);
        let made = &mut self.made;
        let make = |of: &snapshot::Endpoint| {
            *made += 1;
            Endpoint::new("user", of.clone(), clock, pool(), now)
        };
        self.balance.apply(Arc::new(change(next)), make, now);
    }

    fn at(&self, port: u16) -> Rc<Endpoint> {
        self.balance.iter().find(|one| one.address().port() == port).unwrap().clone()
    }

    fn pick(&mut self, tried: &[Rc<Endpoint>], hash: Option<u64>) -> Option<(u16, Permit)> {
        let tried = Tried { sent: tried, passed: &[] };
        let (endpoint, permit) = self.balance.pick(tried, hash, Probing::First, self.now)?;
        Some((endpoint.address().port(), permit))
    }

    fn has_other(&self, tried: &[Rc<Endpoint>]) -> bool {
        self.balance.has_other(tried, self.now)
    }

    /// The share of the calls that each gets where all answer at once.
    fn shares(&mut self, calls: u32) -> HashMap<u16, f64> {
        self.shares_after(&[], calls)
    }

    /// That of calls which were sent to some before.
    fn shares_after(&mut self, tried: &[Rc<Endpoint>], calls: u32) -> HashMap<u16, f64> {
        let mut counts: HashMap<_, u32> = HashMap::new();
        for _ in 0..calls {
            let (port, _) = self.pick(tried, None).unwrap();
            *counts.entry(port).or_default() += 1;
        }
        counts.into_iter().map(|(at, n)| (at, f64::from(n) / f64::from(calls))).collect()
    }

    /// Its breaker opens, for some other worker's calls.
    fn open(&self, port: u16) {
        let state = self.at(port).of.state.clone();
        let (trip, moment) = (Trip::default(), self.at(port).moment(self.now));
        for _ in 0..5 {
            let permit = state.breaker.admit(&trip, moment).unwrap();
            let outcome = crate::resilience::outcome::Outcome::Down;
            state.breaker.record(permit, outcome, &trip, 3, moment, &mut Rng::with_seed(1));
        }
    }

    fn fill(&self, port: u16, calls: usize) {
        self.at(port).of.state.in_flight.store(calls, Ordering::Relaxed);
    }
}

fn is_about(found: f64, expected: f64) -> bool {
    (found - expected).abs() < 0.02
}

#[test]
fn at_equal_speed_shares_are_by_weight() {
    for weights in [vec![1, 2], vec![1, 1, 2], vec![1, 3, 8, 20], vec![100, 200]] {
        let all: Vec<_> = weights.iter().zip(1..).map(|(w, port)| (port, *w, false)).collect();
        let shares = Bench::of(&all).shares(20_000);
        let sum: u16 = weights.iter().sum();
        for (port, weight, _) in all {
            let expected = f64::from(weight) / f64::from(sum);
            assert!(is_about(shares[&port], expected), "{weights:?}: {shares:?}");
        }
    }
}

#[test]
fn one_that_weighs_nothing_is_called_only_where_no_other_takes_calls() {
    let mut bench = Bench::of(&[(1, 0, true), (2, 1, false)]);
    assert_eq!(bench.shares(1_000)[&2], 1.0);
    bench.fill(2, ROOM);
    assert_eq!(bench.shares(10)[&1], 1.0);
    assert_eq!(Bench::of(&[(1, 0, false), (2, 0, false)]).shares(1_000).len(), 2);
}

#[test]
fn a_call_that_is_sent_again_goes_by_weight_too() {
    for weights in [vec![1, 1, 3], vec![100, 1, 3], vec![1, 4, 9, 16], vec![500, 1, 2, 30, 7]] {
        let all: Vec<_> = weights.iter().zip(1..).map(|(w, port)| (port, *w, false)).collect();
        let mut bench = Bench::of(&all);
        let tried = [bench.at(1)];
        let shares = bench.shares_after(&tried, 20_000);
        let sum: u16 = weights[1..].iter().sum();
        for (port, weight, _) in &all[1..] {
            let expected = f64::from(*weight) / f64::from(sum);
            assert!(is_about(shares[port], expected), "{weights:?}: {shares:?}");
        }
    }
    let many = (0..1_000).map(|n| (n + 1, if n % 10 == 0 { 50 } else { 1 }, false));
    let mut bench = Bench::of(&many.collect::<Vec<One>>());
    let tried = [bench.at(1), bench.at(2)];
    let shares = bench.shares_after(&tried, 10_000);
    let of_heavy: f64 = shares.iter().filter(|(port, _)| *port % 10 == 1).map(|(_, s)| s).sum();
    assert!(is_about(of_heavy, 4_950.0 / 5_849.0), "{of_heavy}");
}

#[test]
fn a_call_that_is_sent_again_spares_what_warms_up_too() {
    let all = [(1, 1, false), (2, 1, false), (3, 1, false)];
    let mut bench = Bench::of(&all);
    let old = [bench.at(1)];
    bench.learn(&[&all[..], &[(4, 1, false)]].concat(), |it| it);
    let share =
        |bench: &mut Bench| bench.shares_after(&old, 20_000).get(&4).copied().unwrap_or_default();
    let first = share(&mut bench);
    assert!((0.02..0.07).contains(&first), "a tenth of a share: {first}");
    bench.now += SLOW_START / 2;
    let half = share(&mut bench);
    assert!((0.15..0.27).contains(&half), "{half}");
    bench.now += SLOW_START / 2;
    assert!(is_about(share(&mut bench), 0.33));
}

#[test]
fn a_call_that_is_sent_again_leaves_what_weighs_nothing_in_peace() {
    let mut bench = Bench::of(&[(1, 1, true), (2, 0, false), (3, 0, false)]);
    let one = [bench.at(1)];
    assert!(bench.pick(&one, None).is_none() && !bench.has_other(&one));
    // Nor does it ask whether one of them is well again.
    bench.open(2);
    let two = bench.at(2);
    bench.balance.rest(&two);
    bench.now += Duration::from_secs(1);
    assert!(
        bench
            .balance
            .pick(Tried { sent: &one, passed: &[] }, None, Probing::Last, bench.now)
            .is_none()
    );
    // One that could not take the call does not count, and neither does one that is out.
    let passed = Tried { sent: &[], passed: &one };
    assert!(bench.balance.pick(passed, None, Probing::Last, bench.now).is_some());
    bench.balance.down(&one[0]);
    assert!(bench.pick(&one, None).is_some() && bench.has_other(&one));
    let mut none = Bench::of(&[(1, 0, false), (2, 0, false)]);
    let tried = [none.at(1)];
    assert_eq!(none.shares_after(&tried, 100)[&2], 1.0, "where none weighs anything, all do");
}

#[test]
fn one_much_slower_gets_no_calls_whatever_it_weighs() {
    let mut bench = Bench::of(&[(1, 9, false), (2, 1, false), (3, 1, false)]);
    slow(&bench.at(1), Duration::from_millis(100), bench.now);
    let shares = bench.shares(10_000);
    assert!(shares.get(&1).copied().unwrap_or_default() < 0.01, "{shares:?}");
}

/// Has it answered once after so long.
fn slow(endpoint: &Endpoint, took: Duration, now: Instant) {
    let now = endpoint.moment(now);
    let mut ewma = PeakEwma::new(now);
    ewma.observe(took, now);
    endpoint.learnt(ewma);
}

#[test]
fn calls_stay_in_the_own_zone_until_it_is_full_rests_or_is_down() {
    let all = [(1, 1, true), (2, 1, false), (3, 1, false)];
    let near = |bench: &mut Bench| bench.shares(1_000).get(&1).copied().unwrap_or_default();
    let mut bench = Bench::of(&[(1, 1, true), (2, 1, false)]);
    bench
        .learn(&[(1, 1, true), (2, 1, false)], |it| it.within(Zones { near: 1, far: 1, count: 2 }));
    assert_eq!(near(&mut bench), 1.0);
    bench.fill(1, ROOM);
    assert_eq!(near(&mut bench), 0.0, "it is full");
    bench.fill(1, 0);
    bench.open(1);
    assert_eq!(near(&mut bench), 0.0, "it rests");
    let mut bench = Bench::of(&all);
    let (one, now) = (bench.at(1), bench.now);
    bench.balance.down(&one);
    assert_eq!(near(&mut bench), 0.0, "it is down");
    bench.balance.back(&one, now);
    assert!(near(&mut bench) > 0.0);
    let tried = [bench.at(1)];
    assert_ne!(bench.pick(&tried, None).unwrap().0, 1, "it was tried");
}

#[test]
fn the_last_endpoint_of_a_zone_gets_no_more_than_its_part() {
    let all: Vec<_> = (1..=9).map(|port| (port, 1, port <= 3)).collect();
    let mut bench = Bench::of(&all);
    bench.learn(&all, |it| it.within(Zones { near: 3, far: 6, count: 3 }));
    let near = |shares: HashMap<u16, f64>| -> f64 { (1..=3).filter_map(|p| shares.get(&p)).sum() };
    assert!(is_about(near(bench.shares(10_000)), 1.0));
    bench.open(2);
    bench.open(3);
    bench.shares(100);
    let share = near(bench.shares(10_000));
    assert!(is_about(share, 0.6), "1.4 times its part of what is left: {share}");
}

#[test]
fn a_zone_that_hangs_is_left_and_one_that_is_slow_or_busy_is_not() {
    let all = [(1, 1, true), (2, 1, false)];
    let mut bench = Bench::of(&all);
    bench.learn(&all, |it| it.within(Zones { near: 1, far: 1, count: 2 }));
    slow(&bench.at(1), Duration::from_millis(200), bench.now);
    (0..10).for_each(|_| bench.at(1).waits(bench.now));
    bench.now += Duration::from_secs(1);
    assert_eq!(bench.shares(1_000)[&1], 1.0);
    bench.now += Duration::from_secs(1);
    assert_eq!(bench.shares(1_000)[&2], 1.0);
}

#[test]
fn a_new_endpoint_begins_with_a_tenth_of_its_share_and_ends_with_all() {
    let mut bench = Bench::of(&[(1, 1, false), (2, 1, false), (3, 1, false)]);
    assert!(is_about(bench.shares(10_000)[&3], 0.33), "where all are new, none is spared");
    bench.learn(&[(1, 1, false), (2, 1, false), (3, 1, false), (4, 1, false)], |it| it);
    let mut share = |after| {
        bench.now += after;
        bench.shares(20_000).get(&4).copied().unwrap_or_default()
    };
    assert!(share(Duration::ZERO) < 0.05);
    let half = share(SLOW_START / 2);
    assert!((0.08..0.2).contains(&half), "{half}");
    assert!(is_about(share(SLOW_START / 2), 0.25));
}

#[test]
fn one_that_comes_back_warms_up_again() {
    let mut bench = Bench::of(&[(1, 1, false), (2, 1, false)]);
    let two = bench.at(2);
    bench.balance.down(&two);
    assert_eq!(bench.shares(100)[&1], 1.0);
    bench.balance.back(&two, bench.now);
    let shares = bench.shares(10_000);
    assert!((0.02..0.15).contains(&shares[&2]), "{shares:?}");
    bench.now += SLOW_START;
    assert!(is_about(bench.shares(10_000)[&2], 0.5));
    let off = Rules { slow_start: Duration::ZERO, ..bench.balance.rules };
    bench.balance.rules = off;
    bench.balance.down(&two);
    bench.balance.back(&two, bench.now);
    assert!(is_about(bench.shares(10_000)[&2], 0.5));
}

#[test]
fn one_that_rests_is_asked_once_it_is_due_and_then_comes_back() {
    let mut bench = Bench::of(&[(1, 1, false), (2, 1, false), (3, 1, false)]);
    bench.open(1);
    assert!(!bench.shares(1_000).contains_key(&1));
    bench.now += Duration::from_secs(1);
    let (port, probe) = bench.pick(&[], None).unwrap();
    assert!(port == 1 && probe.is_probe(), "the first call that may is the probe");
    assert!(!bench.shares(1_000).contains_key(&1), "and the only one");
    let one = bench.at(1);
    let good = crate::resilience::outcome::Outcome::Good;
    let moment = one.moment(bench.now);
    let trip = Trip::default();
    one.of.state.breaker.record(probe, good, &trip, 3, moment, &mut Rng::with_seed(1));
    bench.pick(&[], None);
    bench.now += SLOW_START;
    assert!(is_about(bench.shares(10_000)[&1], 0.33));
}

#[test]
fn calls_with_one_hash_go_to_one_endpoint_until_it_is_busier_than_others() {
    let all: Vec<_> = (1..=10).map(|port| (port, 1, false)).collect();
    let mut bench = Bench::of(&all);
    bench.learn(&all, Upstream::hashed);
    let led = |bench: &mut Bench, key: u64| bench.pick(&[], Some(key)).unwrap().0;
    let hash = |n: u32| crate::resilience::balance::hash(&n.to_be_bytes());
    let homes: Vec<_> = (0..1_000).map(|n| led(&mut bench, hash(n))).collect();
    for home in 1..=10 {
        let share = homes.iter().filter(|at| **at == home).count();
        assert!((60..140).contains(&share), "{share} of 1000 keys at one of 10 endpoints");
    }
    assert_eq!(homes, (0..1_000).map(|n| led(&mut bench, hash(n))).collect::<Vec<_>>());

    let home = homes[0];
    // 40 calls in flight: 4 is even, 5 is the bound.
    bench.balance.snapshot().unwrap().state.in_flight.store(39, Ordering::Relaxed);
    bench.fill(home, 4);
    assert_eq!(led(&mut bench, hash(0)), home);
    bench.fill(home, 5);
    let next = led(&mut bench, hash(0));
    assert!(next != home && (0..20).all(|_| led(&mut bench, hash(0)) == next), "to one other");
    bench.fill(home, 0);
    bench.open(home);
    assert_eq!(led(&mut bench, hash(0)), next, "while it rests, too");
    let tried = [bench.at(next)];
    assert!(![home, next].contains(&bench.pick(&tried, Some(hash(0))).unwrap().0));
    assert!(bench.shares(1_000).len() > 5, "calls without the header go to any");
}

#[test]
fn a_change_makes_what_is_new_and_keeps_the_rest() {
    let all: Vec<_> = (1..=100).map(|port| (port, 1, false)).collect();
    let mut bench = Bench::of(&all);
    let (two, three) = (bench.at(2), bench.at(3));
    bench.balance.down(&two);
    bench.learn(&[&[(200, 1, false), (2, 5, false), (3, 5, false)], &all[3..]].concat(), |it| it);
    assert_eq!((bench.made, bench.balance.len()), (101, 100));
    assert!(Rc::ptr_eq(&bench.at(3), &three));
    assert!(!bench.shares(1_000).contains_key(&2), "it is down still");
    // One that missed a snapshot takes in all of it.
    let other = Bench::of(&all[..50]).balance.snapshot().unwrap().clone();
    let clock = other.state.clock;
    let mut made = 0;
    let now = bench.now;
    let make = |of: &snapshot::Endpoint| {
        made += 1;
        Endpoint::new("user", of.clone(), clock, pool(), now)
    };
    bench.balance.apply(other, make, now);
    assert_eq!((made, bench.balance.len()), (1, 50));
    assert!(Rc::ptr_eq(&bench.at(3), &three) && !bench.shares(1_000).contains_key(&2));
}

#[test]
fn where_all_are_full_or_tried_none_is_picked() {
    let mut bench = Bench::of(&[(1, 1, true), (2, 1, false), (3, 0, false)]);
    (1..=3).for_each(|port| bench.fill(port, ROOM));
    assert!(bench.pick(&[], None).is_none());
    bench.fill(1, 0);
    assert!(bench.has_other(&[]));
    let tried = [bench.at(1)];
    assert!(bench.pick(&tried, None).is_none() && !bench.has_other(&tried));
}

#[test]
fn workers_share_what_breakers_and_limits_count() {
    let first = Bench::of(&[(1, 1, false), (2, 1, false)]);
    let snapshot = first.balance.snapshot().unwrap().clone();
    let others = (0..3).map(|_| {
        let mut balance = Balance::new(first.balance.rules);
        let clock = snapshot.state.clock;
        let now = first.now;
        let make = |of: &snapshot::Endpoint| Endpoint::new("user", of.clone(), clock, pool(), now);
        balance.apply(snapshot.clone(), make, now);
        Bench { balance, now, made: 0 }
    });
    let mut others: Vec<_> = others.collect();
    first.open(1);
    others[0].fill(2, ROOM);
    assert_eq!(snapshot.endpoints[1].state.in_flight.load(Ordering::Relaxed), ROOM);
    others.push(first);
    for worker in &mut others {
        assert!(worker.pick(&[], None).is_none(), "one rests and the other is full for all");
    }
    others.iter_mut().for_each(|worker| worker.now += Duration::from_secs(1));
    let probes = others.iter_mut().filter_map(|worker| worker.pick(&[], None)).count();
    assert_eq!(probes, 1, "one probe for all workers");
}
