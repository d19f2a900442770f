//! What is sent again and what is not, with what, and what the caller sees of it.

mod breakers;
mod hedges;
mod script;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use outrigger::discovery::snapshot::Upstream;
use tokio::time::Instant;

use super::net::{Answer, Mesh, address, grpc_request, inbound_address, request, sidecar};
use script::{Does, UNAVAILABLE, call, script};

const IDEMPOTENT: &str = "[retry]\nidempotent = true\n[hedge]\nafter = \"never\"";

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_the_app_never_saw_is_sent_again_elsewhere_whatever_it_is() {
    for does in [
        Does::Refuses,
        Does::Says(&[("grpc-status", "14"), ("outrigger-reason", "app_unreachable")]),
        Does::Says(&[("grpc-status", "14"), ("outrigger-reason", "draining")]),
        Does::Says(&[("grpc-status", "14"), ("outrigger-reason", "overloaded")]),
    ] {
        let (answer, seen, mesh) = call("", &[does]).await;
        assert_eq!((answer.status().0.as_str(), &*answer.body), ("0", &b"asked"[..]));
        let seen = seen.borrow();
        let [first, second] = &seen[..] else { panic!("sent {} times", seen.len()) };
        assert_ne!(first.1, second.1, "it went to the endpoint that had failed");
        assert!(!first.2.contains_key("grpc-previous-rpc-attempts"));
        assert_eq!(second.2["grpc-previous-rpc-attempts"], "1");
        assert_eq!(second.3, b"asked");
        let metrics = Mesh::scrape(&mesh.web_metrics);
        let retried = "outrigger_retries_total{peer=\"echo\",outcome=\"success\"} 1";
        assert!(metrics.contains(retried), "{metrics}");
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_the_app_may_have_seen_is_sent_again_only_where_it_is_idempotent() {
    for does in [Does::Resets, Does::Says(UNAVAILABLE), Does::Trails(UNAVAILABLE)] {
        let (answer, seen, _mesh) = call(IDEMPOTENT, std::slice::from_ref(&does)).await;
        assert_eq!(answer.status().0, "0", "{does:?}");
        assert_eq!(seen.borrow().len(), 2);
        let (answer, seen, _mesh) = call("", &[does]).await;
        assert_ne!(answer.status().0, "0");
        assert_eq!(seen.borrow().len(), 1);
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn nothing_is_sent_again_once_a_message_was_passed_on() {
    let (answer, seen, _mesh) = call(IDEMPOTENT, &[Does::Begins(UNAVAILABLE)]).await;
    assert_eq!((answer.status().0.as_str(), &*answer.body), ("14", &b"message"[..]));
    assert_eq!(seen.borrow().len(), 1);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn only_the_statuses_that_a_route_lists_are_retried() {
    const ABORTED: &[(&str, &str)] = &[("grpc-status", "10")];
    let (answer, seen, _mesh) = call(IDEMPOTENT, &[Does::Says(ABORTED)]).await;
    assert_eq!((answer.status().0.as_str(), seen.borrow().len()), ("10", 1));
    let on = "[upstreams.echo]\nretry = { idempotent = true, on = [\"aborted\"] }";
    let (answer, seen, _mesh) = call(on, &[Does::Says(ABORTED)]).await;
    assert_eq!((answer.status().0.as_str(), seen.borrow().len()), ("0", 2));
    let route = "[[upstreams.echo.route]]\nmatch = { path = \"/echo.v1.Echo/Say\" }\n\
                 retry = { idempotent = true, on = [\"aborted\"] }";
    let (answer, seen, _mesh) = call(route, &[Does::Says(ABORTED)]).await;
    assert_eq!((answer.status().0.as_str(), seen.borrow().len()), ("0", 2));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_call_is_sent_three_times_and_its_last_failure_is_the_callers() {
    let busy = Does::Says(UNAVAILABLE);
    let (answer, seen, mesh) = call(IDEMPOTENT, &[busy.clone(), busy.clone(), busy]).await;
    let (status, message, reason) = answer.status();
    assert_eq!((status.as_str(), message.as_str(), reason.as_str()), ("14", "busy", ""));
    assert_eq!(seen.borrow().len(), 3);
    let metrics = Mesh::scrape(&mesh.web_metrics);
    assert!(metrics.contains("outrigger_retries_total{peer=\"echo\",outcome=\"failure\"} 1"));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_server_says_when_it_is_sent_again_and_whether() {
    let later = Does::Says(&[("grpc-status", "14"), ("grpc-retry-pushback-ms", "700")]);
    let (answer, seen, _mesh) = call(IDEMPOTENT, &[later]).await;
    assert_eq!(answer.status().0, "0");
    let waited = seen.borrow()[1].0 - seen.borrow()[0].0;
    assert!(waited >= Duration::from_millis(700) && waited < Duration::from_millis(710));
    let never = Does::Says(&[("grpc-status", "14"), ("grpc-retry-pushback-ms", "-1")]);
    let (answer, seen, _mesh) = call(IDEMPOTENT, &[never]).await;
    assert_eq!((answer.status().0.as_str(), seen.borrow().len()), ("14", 1));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_call_that_is_a_retry_already_is_not_retried_again() {
    for header in [("grpc-previous-rpc-attempts", "1"), ("tracestate", "outrigger=a:1")] {
        let mesh = Mesh::with_caller(IDEMPOTENT);
        let seen = script(&mesh, &[Does::Refuses]);
        let request = request().header(header.0, header.1).body(()).unwrap();
        let answer = mesh.client().await.call(request, b"").await.unwrap();
        assert_eq!(answer.status().2, "upstream_reset");
        assert_eq!(seen.borrow().len(), 1);
        // Nor is it further on.
        assert_eq!(seen.borrow()[0].2["grpc-previous-rpc-attempts"], "1");
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_request_in_pieces_is_sent_again_whole_though_it_was_still_coming() {
    let mesh = Mesh::new();
    let seen = script(&mesh, &[Does::Refuses]);
    let mut client = mesh.client().await;
    let (response, mut send) = client.open(grpc_request());
    for piece in [&b"one"[..], b"two"] {
        send.send_data(Bytes::copy_from_slice(piece), false).unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    send.send_data(Bytes::from_static(b"three"), true).unwrap();
    let answer = Answer::read(response.await.unwrap()).await.unwrap();
    assert_eq!(answer.body, b"onetwothree");
    assert_eq!(seen.borrow().len(), 2);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_request_too_large_to_be_kept_is_sent_once() {
    let body = vec![7; 70_000];
    for (limit, times) in [("64KiB", 1), ("128KiB", 2)] {
        let mesh =
            Mesh::with_caller(&format!("{IDEMPOTENT}\n[upstreams.echo.retry]\nbody = \"{limit}\""));
        let seen = script(&mesh, &[Does::Says(UNAVAILABLE)]);
        let mut client = mesh.client().await;
        let (response, mut send) = client.open(grpc_request());
        super::net::push(&mut send, Bytes::from(body.clone())).await.unwrap();
        send.send_data(Bytes::new(), true).unwrap();
        let _ = Answer::read(response.await.unwrap()).await;
        assert_eq!(seen.borrow().len(), times, "{limit}");
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_all_requests_together_keep_is_bounded() {
    let mesh = Mesh::with_caller(&format!("{IDEMPOTENT}\n[limits]\nkept_requests = \"8KiB\""));
    let seen = script(&mesh, &[Does::Hangs, Does::Says(UNAVAILABLE), Does::Says(UNAVAILABLE)]);
    let mut client = mesh.client().await;
    let (held, mut send) = client.open(grpc_request());
    super::net::push(&mut send, Bytes::from(vec![7; 8 * 1024])).await.unwrap();
    send.send_data(Bytes::new(), true).unwrap();
    while seen.borrow().is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let answer = client.call(grpc_request(), &[7; 8 * 1024]).await.unwrap();
    assert_eq!(answer.status().0, "14", "there was room for one alone");
    drop((held, send));
    tokio::time::sleep(Duration::from_millis(5)).await;
    let answer = client.call(grpc_request(), &[7; 8 * 1024]).await.unwrap();
    assert_eq!(answer.status().0, "0", "what the first one took was given back");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn no_retry_begins_after_the_deadline() {
    let mesh = Mesh::with_caller(IDEMPOTENT);
    let seen =
        script(&mesh, &[Does::Says(&[("grpc-status", "14"), ("grpc-retry-pushback-ms", "500")])]);
    let request = request().header("grpc-timeout", "300m").body(()).unwrap();
    let begin = Instant::now();
    let answer = mesh.client().await.call(request, b"").await.unwrap();
    assert_eq!(answer.status().0, "14");
    assert!(begin.elapsed() < Duration::from_millis(50), "it waited for nothing");
    assert_eq!(seen.borrow().len(), 1);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_spent_budget_is_told() {
    let mesh = Mesh::with_caller("[retry_budget]\npercent = 0\nfloor = 1");
    script(&mesh, &[Does::Refuses, Does::Echo, Does::Refuses]);
    let mut client = mesh.client().await;
    assert_eq!(client.call(grpc_request(), b"").await.unwrap().status().0, "0");
    let (status, message, reason) = client.call(grpc_request(), b"").await.unwrap().status();
    assert_eq!((status.as_str(), reason.as_str()), ("14", "retry_budget_exhausted"));
    assert!(message.contains("REFUSED_STREAM") && message.contains("retry_budget"), "{message}");
    let metrics = Mesh::scrape(&mesh.web_metrics);
    assert!(metrics.contains("outcome=\"no_budget\"} 1"), "{metrics}");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_is_not_grpc_is_sent_again_where_http_calls_it_idempotent() {
    for (verb, times) in [("GET", 2), ("POST", 1)] {
        let mesh = Mesh::new();
        let both = [inbound_address(), address("127.0.0.2:21000")];
        mesh.endpoints(&both.map(|at| (at, "echo")));
        let seen = Rc::new(RefCell::new(0));
        for at in both {
            let seen = seen.clone();
            sidecar(&mesh, at, move |_request, mut respond| {
                *seen.borrow_mut() += 1;
                let status = if *seen.borrow() == 1 { 503 } else { 200 };
                async move {
                    let head = Response::builder().status(status).body(()).unwrap();
                    let mut send = respond.send_response(head, false).unwrap();
                    send.send_data(Bytes::from_static(b"said"), true).unwrap();
                }
            });
        }
        let request = Request::builder().method(verb).uri("http://echo/x").body(()).unwrap();
        let answer = mesh.client().await.call(request, b"").await.unwrap();
        assert_eq!(answer.body, b"said");
        assert_eq!((answer.head.status() == 200, *seen.borrow()), (times == 2, times), "{verb}");
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_call_that_a_drain_cut_off_in_the_app_is_not_sent_again() {
    let cut = Does::Says(&[
        ("grpc-status", "14"),
        ("outrigger-reason", "draining"),
        ("outrigger-delivered", "maybe"),
    ]);
    let (answer, seen, _mesh) = call("", &[cut]).await;
    assert_eq!((answer.status().0.as_str(), seen.borrow().len()), ("14", 1));
    // And the other way round: a peer whose app refused the stream.
    let refused = Does::Says(&[
        ("grpc-status", "14"),
        ("outrigger-reason", "upstream_reset"),
        ("outrigger-delivered", "no"),
    ]);
    let (answer, seen, _mesh) = call("", &[refused]).await;
    assert_eq!((answer.status().0.as_str(), seen.borrow().len()), ("0", 2));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn the_head_of_a_stream_is_held_back_for_a_moment_alone() {
    let mesh = Mesh::with_caller(IDEMPOTENT);
    script(&mesh, &[Does::Streams]);
    let mut client = mesh.client().await;
    let begin = Instant::now();
    let (response, mut send) = client.open(grpc_request());
    send.send_data(Bytes::from_static(b"asked"), true).unwrap();
    let response = response.await.unwrap();
    assert!(begin.elapsed() < Duration::from_millis(60), "{:?}", begin.elapsed());
    assert_eq!(Answer::read(response).await.unwrap().body, b"late");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_retry_that_finds_no_endpoint_tells_what_was_answered_before() {
    let mesh = Mesh::with_caller("[retry]\nidempotent = true\n[breaker]\nconsecutive = 1");
    mesh.endpoints(&[(inbound_address(), "echo")]);
    sidecar(&mesh, inbound_address(), |_request, mut respond| async move {
        let head = Response::builder().header("content-type", "application/grpc");
        let head = head.header("grpc-status", "14").header("grpc-message", "no database");
        respond.send_response(head.body(()).unwrap(), true).unwrap();
    });
    let answer = mesh.client().await.call(grpc_request(), b"").await.unwrap();
    let (_, message, reason) = answer.status();
    assert_eq!(reason, "breaker_open");
    assert!(message.ends_with("before that: Unavailable: no database"), "{message}");
}

/// A call whose request ends after the head of an answer that fails: the answer that its caller gets.
async fn ended_late(config: &str, prepare: impl FnOnce(&Mesh)) -> Answer {
    let mesh = Mesh::with_caller(config);
    prepare(&mesh);
    let _seen = script(&mesh, &[Does::Trails(UNAVAILABLE)]);
    let mut client = mesh.client().await;
    let (response, mut send) = client.open(grpc_request());
    send.send_data(Bytes::from_static(b"asked"), false).unwrap();
    // The callee has sent its head by then, and fails later.
    tokio::time::sleep(Duration::from_millis(2)).await;
    send.send_data(Bytes::from_static(b" twice"), true).unwrap();
    Answer::read(response.await.unwrap()).await.unwrap()
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_request_that_ends_behind_the_head_of_an_answer_is_sent_again_whole() {
    let answer = ended_late(IDEMPOTENT, |_| {}).await;
    assert_eq!((answer.status().0.as_str(), &answer.body[..]), ("0", &b"asked twice"[..]));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_request_that_ends_behind_the_head_of_an_answer_goes_to_another_upstream_whole() {
    let config = "[retry]\nidempotent = true\nattempts = 1\n[[upstreams.echo.route]]\n\
                  fallback = [{ upstream = \"other\" }]\n";
    let answer = ended_late(config, |mesh| {
        let endpoint = (address("127.0.0.2:21000"), mesh.id("echo"), Arc::from("echo"));
        mesh.web.set_upstream(Arc::new(Upstream::succeed(None, "other".into(), [endpoint], 0)));
    });
    let answer = answer.await;
    assert_eq!((answer.status().0.as_str(), &answer.body[..]), ("0", &b"asked twice"[..]));
}
