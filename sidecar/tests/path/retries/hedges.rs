//! What is asked of a second endpoint while the first still works on it, and when.

use std::sync::Arc;
use std::time::Duration;

use http::Request;
use outrigger::discovery::methods::Methods;
use tokio::time::Instant;

use super::script::{Does, UNAVAILABLE, call, script};
use crate::path::net::{Mesh, grpc_request, request};

/// Calls that stall are sent to a second endpoint, too.
const STALLED: &str = "[retry]\nidempotent = true";

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_idempotent_call_that_stalls_is_asked_elsewhere_and_given_up_there() {
    let (answer, seen, mesh) = call(STALLED, &[Does::Hangs]).await;
    assert_eq!(answer.status().0, "0");
    {
        let seen = seen.borrow();
        assert_eq!(seen.len(), 2);
        assert_ne!(seen[0].1, seen[1].1);
        // Three times 50 ms, as nothing is known of the method yet.
        let waited = seen[1].0 - seen[0].0;
        assert!(
            waited >= Duration::from_millis(140) && waited < Duration::from_millis(160),
            "{waited:?}"
        );
    }
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!(seen.borrow()[0].3, b"cancelled");
    assert!(Mesh::scrape(&mesh.web_metrics).contains("outcome=\"hedge_won\"} 1"));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_is_not_idempotent_is_never_asked_twice() {
    let mesh = Mesh::new();
    let seen = script(&mesh, &[Does::Hangs]);
    let request = request().header("grpc-timeout", "2S").body(()).unwrap();
    let answer = mesh.client().await.call(request, b"").await.unwrap();
    assert_eq!(answer.status().0, "4");
    assert_eq!(seen.borrow().len(), 1);
}

/// How often a call that hangs is sent; the methods of `echo` are known.
async fn sent(config: &str, request: http::request::Builder) -> usize {
    let mesh = Mesh::with_caller(config);
    let methods = Methods::of_set(proto::FILE_DESCRIPTOR_SET).unwrap();
    mesh.web.set_methods("echo", Arc::new(methods));
    let seen = script(&mesh, &[Does::Hangs]);
    let _ended = mesh.client().await.call(request.body(()).unwrap(), b"").await;
    seen.take().len()
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn unless_the_config_says_so_only_what_is_declared_idempotent_is_asked_elsewhere_at_once() {
    let hedge = "[hedge]\nafter = \"stalled\"";
    let of_one = "[upstreams.echo]\nhedge = { after = \"80ms\" }";
    let never = "[hedge]\nafter = \"never\"";
    for (config, method, times) in [
        ("", "GetUser", 2),
        ("", "UpdateUser", 2),
        ("", "CreateUser", 1),
        (never, "GetUser", 1),
        (never, "UpdateUser", 1),
        (of_one, "UpdateUser", 2),
        (of_one, "CreateUser", 1),
        (STALLED, "CreateUser", 2),
        ("[retry]\nidempotent = false", "GetUser", 1),
    ] {
        let uri = format!("http://echo/user.v1.UserService/{method}");
        assert_eq!(sent(config, request().uri(uri)).await, times, "{config}: {method}");
    }
    for (config, verb, times) in [
        ("", "GET", 2),
        ("", "PUT", 1),
        ("", "DELETE", 1),
        (hedge, "PUT", 2),
        (hedge, "POST", 1),
        (STALLED, "PUT", 2),
    ] {
        let request = Request::builder().method(verb).uri("http://echo/x");
        assert_eq!(sent(config, request).await, times, "{config}: {verb}");
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_method_that_is_known_is_hedged_after_what_most_of_its_calls_take() {
    let mesh = Mesh::with_caller(
        "[upstreams.echo]\nretry = { idempotent = true }\nhedge = { after = \"p95\" }",
    );
    let does: Vec<_> = (0..40).map(|_| Does::Echo).chain([Does::Hangs]).collect();
    let seen = script(&mesh, &does);
    let mut client = mesh.client().await;
    for _ in 0..41 {
        assert_eq!(client.call(grpc_request(), b"").await.unwrap().status().0, "0");
    }
    let seen = seen.borrow();
    let waited = seen[41].0 - seen[40].0;
    assert!(waited < Duration::from_millis(5), "{waited:?}");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_answer_that_is_no_use_to_retry_wins_over_an_attempt_that_hangs() {
    const NOT_FOUND: &[(&str, &str)] = &[("grpc-status", "5")];
    let begin = Instant::now();
    let (answer, seen, _mesh) = call(STALLED, &[Does::Hangs, Does::Says(NOT_FOUND)]).await;
    assert_eq!((answer.status().0.as_str(), seen.borrow().len()), ("5", 2));
    assert!(begin.elapsed() < Duration::from_secs(1), "it waited for the one that hangs");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_hedge_that_fails_leaves_the_first_attempt_to_its_end() {
    let config = format!("{STALLED}\nattempts = 2");
    let (answer, seen, _mesh) = call(&config, &[Does::Slow, Does::Says(UNAVAILABLE)]).await;
    assert_eq!((answer.status().0.as_str(), seen.borrow().len()), ("0", 2));
}
