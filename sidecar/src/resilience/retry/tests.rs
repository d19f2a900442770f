//! When a call is sent again and when not.

use fastrand::Rng;
use proptest::prelude::*;

use super::*;

const CALL: Call =
    Call { idempotency: Idempotency::ByVerb, is_retry_already: false, deadline: None };
const FAILED: Attempt =
    Attempt { sent: 1, failure: Failure::Reset, pushback: None, can_be_replayed: true };

fn at(millis: u64) -> Moment {
    Moment::after_origin(Duration::from_millis(millis))
}

fn decide(call: Call, attempt: Attempt) -> Verdict {
    Policy::default().decide(&call, &attempt, &Budget::default(), at(0), &mut Rng::with_seed(7))
}

fn stopped(call: Call, attempt: Attempt) -> Option<Why> {
    match decide(call, attempt) {
        Verdict::Again(_) => None,
        Verdict::Stop(why) => Some(why),
    }
}

#[test]
fn a_call_that_may_have_been_seen_is_sent_again_only_where_it_is_idempotent() {
    let other = Call { idempotency: Idempotency::Unknown, ..CALL };
    let declared = Call { idempotency: Idempotency::Declared, ..CALL };
    for failure in [Failure::Reset, Failure::Answered(Code::Unavailable)] {
        assert_eq!(stopped(CALL, Attempt { failure, ..FAILED }), None);
        assert_eq!(stopped(declared, Attempt { failure, ..FAILED }), None);
        assert_eq!(stopped(other, Attempt { failure, ..FAILED }), Some(Why::NotIdempotent));
    }
    assert_eq!(stopped(other, Attempt { failure: Failure::Undelivered, ..FAILED }), None);
}

#[test]
fn a_status_that_is_not_listed_is_the_callers_answer() {
    for failure in [Failure::Final, Failure::Answered(Code::Internal)] {
        assert_eq!(stopped(CALL, Attempt { failure, ..FAILED }), Some(Why::NotRetryable));
    }
}

#[test]
fn retries_do_not_multiply_over_hops() {
    let call = Call { is_retry_already: true, ..CALL };
    let attempt = Attempt { failure: Failure::Undelivered, ..FAILED };
    assert_eq!(stopped(call, attempt), Some(Why::RetryAlready));
}

#[test]
fn a_call_is_sent_three_times_in_all() {
    assert_eq!(stopped(CALL, Attempt { sent: 2, ..FAILED }), None);
    assert_eq!(stopped(CALL, Attempt { sent: 3, ..FAILED }), Some(Why::Attempts));
}

#[test]
fn a_request_that_is_not_at_hand_is_not_sent_again() {
    let attempt = Attempt { can_be_replayed: false, ..FAILED };
    assert_eq!(stopped(CALL, attempt), Some(Why::NotReplayable));
}

#[test]
fn the_servers_pushback_is_the_wait() {
    let with = |value: &[u8]| Attempt { pushback: Some(Pushback::parse(value)), ..FAILED };
    assert_eq!(decide(CALL, with(b"1500")), Verdict::Again(Duration::from_millis(1500)));
    assert_eq!(decide(CALL, with(b"0")), Verdict::Again(Duration::ZERO));
    for stop in [&b"-1"[..], b"", b"soon", b"99999999999", b"\xff"] {
        assert_eq!(stopped(CALL, with(stop)), Some(Why::Pushback));
    }
    let call = Call { deadline: Some(at(1500)), ..CALL };
    assert_eq!(stopped(call, with(b"1500")), Some(Why::Deadline));
}

#[test]
fn a_spent_budget_stops_retries_and_what_is_not_sent_again_spends_nothing() {
    let (policy, budget, mut rng) = (Policy::default(), Budget::default(), Rng::with_seed(7));
    let late = Call { deadline: Some(at(0)), ..CALL };
    for _ in 0..10 {
        let verdict = policy.decide(&late, &FAILED, &budget, at(0), &mut rng);
        assert_eq!(verdict, Verdict::Stop(Why::Deadline));
    }
    for _ in 0..3 {
        let verdict = policy.decide(&CALL, &FAILED, &budget, at(0), &mut rng);
        assert!(matches!(verdict, Verdict::Again(_)));
    }
    let verdict = policy.decide(&CALL, &FAILED, &budget, at(0), &mut rng);
    assert_eq!(verdict, Verdict::Stop(Why::Budget));
}

fn failures() -> impl Strategy<Value = Failure> {
    prop_oneof![
        Just(Failure::Undelivered),
        Just(Failure::Reset),
        Just(Failure::Final),
        (0..17).prop_map(|n| Failure::Answered(Code::from(n))),
    ]
}

fn pushbacks() -> impl Strategy<Value = Option<Pushback>> {
    prop::option::of(prop_oneof![
        Just(Pushback::Stop),
        (0u64..5_000).prop_map(|n| Pushback::After(Duration::from_millis(n))),
    ])
}

fn levels() -> impl Strategy<Value = Idempotency> {
    use Idempotency::{ByVerb, Declared, Unknown};
    prop::sample::select(vec![Unknown, ByVerb, Declared])
}

proptest! {
    #[test]
    fn nothing_is_sent_again_that_must_not_be(
        idempotency in levels(), is_retry_already in any::<bool>(),
        deadline in prop::option::of(0u64..3_000), sent in 1u32..6,
        failure in failures(), pushback in pushbacks(), can_be_replayed in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let call = Call { idempotency, is_retry_already, deadline: deadline.map(at) };
        let attempt = Attempt { sent, failure, pushback, can_be_replayed };
        let (policy, budget) = (Policy::default(), Budget::default());
        let left = budget.left(&policy.budget, at(100));
        let verdict = policy.decide(&call, &attempt, &budget, at(100), &mut Rng::with_seed(seed));
        let spent = left - budget.left(&policy.budget, at(100));
        if let Verdict::Again(wait) = verdict {
            prop_assert_eq!(spent, 1);
            prop_assert!(idempotency.may_repeat() || failure == Failure::Undelivered);
            prop_assert!(!is_retry_already && can_be_replayed && sent < 3);
            prop_assert!(pushback != Some(Pushback::Stop) && failure != Failure::Final);
            prop_assert!(deadline.is_none_or(|deadline| at(100) + wait < at(deadline)));
            prop_assert!(pushback.is_some() || wait <= policy.backoff.last);
        } else {
            prop_assert_eq!(spent, 0);
        }
    }
}
