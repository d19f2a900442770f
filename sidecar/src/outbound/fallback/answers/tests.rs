use http::{HeaderName, HeaderValue};
use proptest::prelude::*;

use super::*;

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    headers
}

fn asked(
    upstream: &str,
    path: &str,
    said: &[(&'static str, &'static str)],
    body: &str,
) -> Question {
    Question::new(upstream, path, &headers(said), [&Bytes::copy_from_slice(body.as_bytes())])
}

fn answer(message: usize, at: Instant) -> Kept {
    let message = Bytes::from(vec![7; message]);
    Kept { head: HeaderMap::new(), message, trailers: HeaderMap::new(), at }
}

const MANY: Bounds = Bounds { answers: 1_000, bytes: 1 << 20 };

#[test]
fn nobody_gets_the_answer_to_anothers_question() {
    let own = asked("user", "/p.S/Get", &[("authorization", "Bearer a")], "1");
    for other in [
        asked("user", "/p.S/Get", &[("authorization", "Bearer b")], "1"),
        asked("user", "/p.S/Get", &[], "1"),
        asked("user", "/p.S/Get", &[("authorization", "Bearer a")], "2"),
        asked("user", "/p.S/Put", &[("authorization", "Bearer a")], "1"),
        asked("users", "/p.S/Get", &[("authorization", "Bearer a")], "1"),
        asked("user", "/p.S/Get", &[("authorization", "Bearer a"), ("cookie", "x")], "1"),
        asked("user", "/p.S/Get", &[("authorization", "Bearer a"), ("x-tenant", "x")], "1"),
        asked("user", "/p.S/Get", &[("authorizationbearer", "a")], "1"),
    ] {
        assert_ne!(own, other);
    }
}

#[test]
fn the_same_question_at_another_time_on_another_trace_is_the_same() {
    let first = [("authorization", "a"), ("traceparent", "00-1"), ("grpc-timeout", "1S")];
    let again = [
        ("grpc-timeout", "20m"),
        ("x-request-id", "7"),
        ("grpc-previous-rpc-attempts", "1"),
        ("traceparent", "00-2"),
        ("authorization", "a"),
    ];
    assert_eq!(asked("user", "/p.S/Get", &first, "1"), asked("user", "/p.S/Get", &again, "1"));
}

#[test]
fn a_body_is_the_same_however_it_was_cut() {
    let of = |pieces: &[&'static str]| {
        let pieces: Vec<_> = pieces.iter().map(|p| Bytes::from_static(p.as_bytes())).collect();
        Question::new("user", "/p.S/Get", &HeaderMap::new(), &pieces)
    };
    assert_eq!(of(&["ab", "c"]), of(&["a", "bc"]));
    assert_ne!(of(&["ab", "c"]), of(&["ab"]));
}

#[test]
fn the_last_good_answer_is_found_until_it_is_too_old() {
    let (answers, now) = (Answers::new(MANY), Instant::now());
    let question = asked("user", "/p.S/Get", &[], "1");
    answers.keep(question, answer(1, now));
    answers.keep(question, answer(2, now + Duration::from_secs(10)));
    let found = |after| {
        let now = now + Duration::from_secs(after);
        answers.find(&question, Duration::from_secs(60), now).map(|kept| kept.message.len())
    };
    assert_eq!(found(70), Some(2));
    assert_eq!(found(71), None);
    let other = asked("user", "/p.S/Get", &[], "2");
    assert!(answers.find(&other, Duration::MAX, now).is_none());
}

#[test]
fn those_kept_the_longest_go_first() {
    let (answers, now) = (Answers::new(Bounds { answers: 3, bytes: 1 << 20 }), Instant::now());
    let question = |n: &str| asked("user", "/p.S/Get", &[], n);
    for n in ["1", "2", "3", "1", "4"] {
        answers.keep(question(n), answer(1, now));
    }
    let found =
        ["1", "2", "3", "4"].map(|n| answers.find(&question(n), Duration::MAX, now).is_some());
    assert_eq!(found, [true, false, true, true], "the first was renewed");
}

#[test]
fn one_that_is_larger_than_all_may_be_displaces_nothing() {
    let (answers, now) = (Answers::new(Bounds { answers: 3, bytes: 4_096 }), Instant::now());
    let question = |n: &str| asked("user", "/p.S/Get", &[], n);
    answers.keep(question("1"), answer(1, now));
    answers.keep(question("2"), answer(10_000, now));
    assert!(answers.find(&question("1"), Duration::MAX, now).is_some());
    assert!(answers.find(&question("2"), Duration::MAX, now).is_none());
}

proptest! {
    #[test]
    fn what_is_kept_is_within_its_bounds_and_counted_right(
        kept in prop::collection::vec((0u8..20, 0usize..3_000), 0..200),
    ) {
        let bounds = Bounds { answers: 7, bytes: 8_192 };
        let (answers, now) = (Answers::new(bounds), Instant::now());
        for (question, size) in kept {
            let question = asked("user", "/p.S/Get", &[], &question.to_string());
            answers.keep(question, answer(size, now));
            let store = answers.store.lock().unwrap();
            let bytes: usize = store.answers.values().map(|(_, kept)| kept.bytes()).sum();
            prop_assert_eq!(bytes, store.bytes);
            prop_assert_eq!(store.order.len(), store.answers.len());
            prop_assert!(bytes <= bounds.bytes && store.answers.len() <= bounds.answers);
        }
    }
}
