//! What is sent again and what is not, to whom, with what, and what the caller sees of it.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, Request, Response};
use outrigger::discovery::methods::Methods;
use outrigger::discovery::snapshot::Upstream;
use tokio::time::Instant;

use super::net::{Answer, Mesh, address, echo, grpc_request, inbound_address, request, sidecar};

const IDEMPOTENT: &str = "[retry]\nidempotent = true\n[hedge]\nafter = \"never\"";

/// Calls that stall are sent to a second endpoint, too.
const STALLED: &str = "[retry]\nidempotent = true";

/// What the callees saw: when, where, which head, which body.
type Seen = Rc<RefCell<Vec<(Instant, SocketAddr, HeaderMap, Vec<u8>)>>>;

/// How a callee answers a call.
#[derive(Clone, Debug)]
enum Does {
    Echo,
    Refuses,
    Resets,
    /// With this status in the head.
    Says(&'static [(&'static str, &'static str)]),
    /// With a head, and this status in trailers.
    Trails(&'static [(&'static str, &'static str)]),
    /// With a message, and this status in trailers.
    Begins(&'static [(&'static str, &'static str)]),
    Hangs,
    /// Echoes after a second.
    Slow,
    /// A head at once, and a message after a second.
    Streams,
}

/// Two endpoints that together answer as scripted, call for call; what comes after is echoed.
fn script(mesh: &Mesh, does: &[Does]) -> Seen {
    let both = [inbound_address(), address("127.0.0.2:21000")];
    mesh.endpoints(&both.map(|at| (at, "echo")));
    let (seen, script) = (Seen::default(), Rc::new(RefCell::new(does.to_vec())));
    for at in both {
        let (seen, script) = (seen.clone(), script.clone());
        sidecar(mesh, at, move |request, respond| {
            let does =
                if script.borrow().is_empty() { Does::Echo } else { script.borrow_mut().remove(0) };
            answer(does, at, seen.clone(), request, respond)
        });
    }
    seen
}

async fn answer(
    does: Does,
    at: SocketAddr,
    seen: Seen,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    let (when, head) = (Instant::now(), request.headers().clone());
    let place = seen.borrow().len();
    seen.borrow_mut().push((when, at, head, Vec::new()));
    let fields = |pairs: &[(&'static str, &'static str)]| -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    };
    let head = || Response::builder().header("content-type", "application/grpc").body(()).unwrap();
    let mut body = request.into_body();
    match does {
        Does::Echo => return echo_kept(&seen, place, body, respond).await,
        Does::Refuses => respond.send_reset(h2::Reason::REFUSED_STREAM),
        Does::Resets => respond.send_reset(h2::Reason::INTERNAL_ERROR),
        Does::Says(pairs) => {
            while let Some(Ok(data)) = body.data().await {
                let _ = body.flow_control().release_capacity(data.len());
            }
            let mut head = head();
            head.headers_mut().extend(fields(pairs));
            respond.send_response(head, true).unwrap();
        }
        Does::Trails(pairs) => {
            let mut send = respond.send_response(head(), false).unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
            send.send_trailers(fields(pairs)).unwrap();
        }
        Does::Begins(pairs) => {
            let mut send = respond.send_response(head(), false).unwrap();
            send.send_data(Bytes::from_static(b"message"), false).unwrap();
            send.send_trailers(fields(pairs)).unwrap();
        }
        Does::Slow => {
            tokio::time::sleep(Duration::from_secs(1)).await;
            echo_kept(&seen, place, body, respond).await;
        }
        Does::Streams => {
            let mut send = respond.send_response(head(), false).unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
            send.send_data(Bytes::from_static(b"late"), false).unwrap();
            send.send_trailers(fields(&[("grpc-status", "0")])).unwrap();
        }
        Does::Hangs => {
            let reason = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
            assert_eq!(reason.unwrap(), h2::Reason::CANCEL);
            seen.borrow_mut()[place].3 = b"cancelled".to_vec();
        }
    }
}

async fn echo_kept(
    seen: &Seen,
    place: usize,
    mut body: RecvStream,
    mut respond: SendResponse<Bytes>,
) {
    let mut whole = Vec::new();
    while let Some(Ok(data)) = body.data().await {
        let _ = body.flow_control().release_capacity(data.len());
        whole.extend_from_slice(&data);
    }
    let head = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
    let mut send = respond.send_response(head, false).unwrap();
    send.reserve_capacity(whole.len());
    send.send_data(Bytes::from(whole.clone()), false).unwrap();
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    send.send_trailers(trailers).unwrap();
    seen.borrow_mut()[place].3 = whole;
}

/// One call against a script: its answer, and what the callees saw.
async fn call(config: &str, does: &[Does]) -> (Answer, Seen, Mesh) {
    let mesh = Mesh::with_caller(config);
    let seen = script(&mesh, does);
    let answer = mesh.client().await.call(grpc_request(), b"asked").await.unwrap();
    (answer, seen, mesh)
}

const UNAVAILABLE: &[(&str, &str)] = &[("grpc-status", "14"), ("grpc-message", "busy")];

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
async fn what_the_sidecar_asks_an_upstream_is_no_use_of_it() {
    let mesh = Mesh::new();
    script(&mesh, &[]);
    let endpoint = (inbound_address(), mesh.id("echo"), Arc::from("echo"));
    let snapshot = Arc::new(Upstream::succeed(None, "echo".into(), [endpoint], 0));
    mesh.web.set_upstream(snapshot.clone());
    let mut client = mesh.client().await;
    for (path, is_use) in [
        ("grpc.reflection.v1.ServerReflection/ServerReflectionInfo", false),
        ("grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", false),
        ("echo.v1.Echo/Say", true),
    ] {
        let asked = request().uri(format!("http://echo/{path}")).body(()).unwrap();
        assert_eq!(client.call(asked, b"").await.unwrap().status().0, "0");
        assert_eq!(snapshot.state.used.load(Ordering::Relaxed), is_use, "{path}");
    }
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
async fn an_endpoint_that_fails_rests_and_is_asked_once_whether_it_is_well() {
    let mesh = Mesh::new();
    mesh.endpoints(&[(inbound_address(), "echo")]);
    let (seen, well) = (Rc::new(RefCell::new(0)), Rc::new(RefCell::new(false)));
    let (count, is_well) = (seen.clone(), well.clone());
    sidecar(&mesh, inbound_address(), move |request, mut respond| {
        *count.borrow_mut() += 1;
        let is_well = *is_well.borrow();
        async move {
            if is_well {
                return echo(request, respond).await;
            }
            let head = Response::builder().header("content-type", "application/grpc");
            let head = head.header("grpc-status", "14").header("grpc-message", "no database");
            respond.send_response(head.body(()).unwrap(), true).unwrap();
        }
    });
    let mut client = mesh.client().await;
    for _ in 0..5 {
        assert_eq!(client.call(grpc_request(), b"").await.unwrap().status().1, "no database");
    }
    let (status, message, reason) = client.call(grpc_request(), b"").await.unwrap().status();
    assert_eq!((status.as_str(), reason.as_str()), ("14", "breaker_open"));
    assert!(
        message.contains("1 known, 1 with an open breaker") && message.contains("no database"),
        "{message}"
    );
    assert_eq!(*seen.borrow(), 5);
    tokio::time::sleep(Duration::from_millis(1_001)).await;
    assert_eq!(client.call(grpc_request(), b"").await.unwrap().status().1, "no database");
    assert_eq!(client.call(grpc_request(), b"").await.unwrap().status().2, "breaker_open");
    assert_eq!(*seen.borrow(), 6, "one call asked, and it rests for twice as long");
    *well.borrow_mut() = true;
    tokio::time::sleep(Duration::from_millis(2_001)).await;
    for _ in 0..10 {
        assert_eq!(client.call(grpc_request(), b"").await.unwrap().status().0, "0");
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_budget_and_a_breaker_hold_for_all_workers_of_a_process() {
    for workers in [1, 4] {
        let mesh = Mesh::with_caller("[retry_budget]\npercent = 0\nfloor = 3");
        let callers = mesh.callers(workers);
        let refuse = vec![Does::Refuses; 100];
        let seen = script(&mesh, &refuse);
        mesh.endpoints(&[(address("127.0.0.2:21000"), "echo")]);
        let mut clients = Vec::new();
        for caller in &callers {
            clients.push(mesh.client_of(caller).await);
        }
        let mut reasons = Vec::new();
        for n in 0..12 {
            let answer = clients[n % workers].call(grpc_request(), b"").await.unwrap();
            reasons.push(answer.status().2);
        }
        // Five failures in a row, three of them of retries.
        assert_eq!(seen.borrow().len(), 5, "{workers} workers: {reasons:?}");
        assert!(reasons[3..].iter().all(|reason| reason == "breaker_open"), "{reasons:?}");
        tokio::time::sleep(Duration::from_millis(1_001)).await;
        for n in 0..12 {
            let _ = clients[n % workers].call(grpc_request(), b"").await.unwrap();
        }
        assert_eq!(seen.borrow().len(), 6, "{workers} workers: one call asks for all of them");
    }
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
async fn an_endpoint_that_fails_quickly_for_its_own_reasons_draws_few_calls() {
    let mesh = Mesh::new();
    let broken = address("127.0.0.2:21000");
    mesh.endpoints(&[(inbound_address(), "echo"), (broken, "echo")]);
    sidecar(&mesh, inbound_address(), |request, respond| async move {
        tokio::time::sleep(Duration::from_millis(20)).await;
        echo(request, respond).await;
    });
    sidecar(&mesh, broken, |_request, mut respond| async move {
        let head = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
        let mut send = respond.send_response(head, false).unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "13".parse().unwrap());
        send.send_trailers(trailers).unwrap();
    });
    let mut client = mesh.client().await;
    let mut failed = 0;
    for _ in 0..200 {
        let answer = client.call(grpc_request(), b"").await.unwrap();
        failed += usize::from(answer.status().0 != "0");
    }
    assert!(failed < 20, "{failed} of 200 calls went to the endpoint that fails");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_method_slower_than_a_rest_closes_its_breaker_all_the_same() {
    let mesh = Mesh::new();
    mesh.endpoints(&[(inbound_address(), "echo")]);
    let is_well = Rc::new(RefCell::new(false));
    let also = is_well.clone();
    sidecar(&mesh, inbound_address(), move |request, mut respond| {
        let is_well = *also.borrow();
        async move {
            if is_well {
                tokio::time::sleep(Duration::from_secs(6)).await;
                return echo(request, respond).await;
            }
            let head = Response::builder().header("content-type", "application/grpc");
            respond
                .send_response(head.header("grpc-status", "14").body(()).unwrap(), true)
                .unwrap();
        }
    });
    let mut client = mesh.client().await;
    for _ in 0..5 {
        client.call(grpc_request(), b"").await.unwrap();
    }
    *is_well.borrow_mut() = true;
    let begin = Instant::now();
    let mut open = Vec::new();
    while begin.elapsed() < Duration::from_secs(20) {
        let (answer, mut send) = client.open(grpc_request());
        send.send_data(Bytes::new(), true).unwrap();
        open.push(answer);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let answer = client.call(grpc_request(), b"").await.unwrap();
    assert_eq!(answer.status().0, "0", "{:?}", answer.status());
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
