//! Watches: what they ask for, what they tell, how they fare when Consul fails.

use std::time::Duration;

use consul::{Change, Event, Watch};
use tokio::time::timeout;

use crate::server::{Server, answer};

const LIMIT: Duration = Duration::from_secs(10);

async fn next<T>(watch: &mut Watch<T>) -> Event<T> {
    timeout(LIMIT, watch.next()).await.expect("an event")
}

fn lines(server: &Server) -> Vec<String> {
    server.asked().into_iter().map(|asked| asked.line).collect()
}

/// `/v1/status/peers` stands for any list.
async fn watch(server: &Server) -> Watch<Vec<String>> {
    server.client().await.status().peers().watch()
}

#[tokio::test]
async fn the_first_question_does_not_wait_and_the_next_asks_from_the_index_on() {
    let server = Server::new(|before, _| match before {
        0 => answer(200, 5, "[]"),
        1 => answer(200, 9, "[\"a\"]"),
        _ => None,
    });
    let mut watch = watch(&server).await;
    assert!(
        matches!(next(&mut watch).await, Event::Changed(Change { value, .. }) if value.is_empty())
    );
    assert!(
        matches!(next(&mut watch).await, Event::Changed(Change { value, .. }) if value == ["a"])
    );
    assert!(timeout(Duration::from_millis(500), watch.next()).await.is_err());
    assert_eq!(
        lines(&server),
        [
            "GET /v1/status/peers",
            "GET /v1/status/peers?index=5&wait=60s",
            "GET /v1/status/peers?index=9&wait=60s",
        ]
    );
    assert_eq!(server.connections(), 1, "one connection of its own");
}

#[tokio::test]
async fn an_answer_that_says_nothing_new_is_not_told() {
    let server = Server::new(|before, _| match before {
        0..4 => answer(200, 5 + before as u64, "[]"),
        4 => answer(200, 20, "[\"a\"]"),
        _ => None,
    });
    let mut watch = watch(&server).await;
    next(&mut watch).await;
    assert!(
        matches!(next(&mut watch).await, Event::Changed(Change { value, .. }) if value == ["a"])
    );
}

#[tokio::test]
async fn an_impatient_caller_does_not_ask_twice() {
    let server = Server::new(|before, _| if before == 0 { answer(200, 5, "[]") } else { None });
    let mut watch = watch(&server).await;
    next(&mut watch).await;
    for _ in 0..20 {
        assert!(timeout(Duration::from_millis(10), watch.next()).await.is_err());
    }
    assert_eq!(server.asked().len(), 2);
}

#[tokio::test]
async fn an_index_that_goes_backwards_is_told_even_with_the_same_value() {
    let server = Server::new(|before, _| match before {
        0 => answer(200, 50, "[]"),
        1 => answer(200, 3, "[]"),
        2 => answer(200, 3, "[\"a\"]"),
        _ => None,
    });
    let mut watch = watch(&server).await;
    assert!(matches!(next(&mut watch).await, Event::Changed(Change { regressed: false, .. })));
    assert!(matches!(next(&mut watch).await, Event::Changed(Change { regressed: true, .. })));
    assert!(matches!(next(&mut watch).await, Event::Changed(Change { regressed: false, .. })));
    assert_eq!(lines(&server)[2], "GET /v1/status/peers", "asked for the state of things again");
}

#[tokio::test]
async fn failures_are_told_once_a_kind_and_the_recovery_too() {
    let server = Server::new(|before, _| match before {
        0 => answer(200, 5, "[]"),
        1 | 2 => answer(500, 0, "No cluster leader"),
        3 => answer(403, 0, "ACL not found"),
        4 => answer(200, 5, "[]"),
        5 => answer(200, 6, "[\"a\"]"),
        _ => None,
    });
    let mut watch = watch(&server).await;
    next(&mut watch).await;
    assert!(matches!(next(&mut watch).await, Event::Failed(error) if error.is_outage()));
    assert!(matches!(next(&mut watch).await, Event::Failed(error) if error.is_forbidden()));
    assert!(matches!(next(&mut watch).await, Event::Restored(_)));
    assert!(matches!(next(&mut watch).await, Event::Changed(_)));
    assert!(lines(&server)[2..5].iter().all(|line| line == "GET /v1/status/peers"));
}

/// Where a load balancer or a service of the platform leads to another Consul, the next connection
/// succeeds at once, and only the breaking of the one before tells of it.
#[tokio::test]
async fn a_question_that_broke_off_is_an_outage_and_the_next_does_not_wait() {
    let server = Server::new(|before, _| match before {
        0 => answer(200, 50, "[\"a\"]"),
        2 => answer(200, 60, "[]"),
        _ => None,
    });
    let mut watch = watch(&server).await;
    next(&mut watch).await;
    let asked = async {
        while server.asked().len() < 2 {
            assert!(timeout(Duration::from_millis(10), watch.next()).await.is_err());
        }
    };
    timeout(LIMIT, asked).await.expect("the question is held");
    server.break_connections();
    assert!(matches!(next(&mut watch).await, Event::Failed(error) if error.is_outage()));
    assert!(
        matches!(next(&mut watch).await, Event::Changed(Change { value, .. }) if value.is_empty())
    );
    assert_eq!(lines(&server)[2], "GET /v1/status/peers", "no index of another Consul");
}

#[tokio::test]
async fn an_answer_that_does_not_parse_is_a_failure_and_asked_again() {
    let server = Server::new(|before, _| match before {
        0 => answer(200, 5, "{"),
        1 => answer(200, 5, "[]"),
        _ => None,
    });
    let mut watch = watch(&server).await;
    assert!(matches!(next(&mut watch).await, Event::Failed(_)));
    assert!(matches!(next(&mut watch).await, Event::Changed(_)));
}

#[tokio::test]
async fn answers_that_come_at_once_are_not_asked_for_in_a_storm() {
    let server = Server::new(|before, _| answer(200, before as u64 + 1, "[]"));
    let mut watch = watch(&server).await;
    next(&mut watch).await;
    assert!(timeout(Duration::from_secs(1), watch.next()).await.is_err());
    let asked = server.asked().len();
    assert!((3..=7).contains(&asked), "{asked} in a second");
}
