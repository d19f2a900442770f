//! What callers get once an upstream has failed: each step, their order, how they are marked, and
//! that what a caller did wrong never comes to them.

use std::cell::{Cell, RefCell};
use std::io::Write;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, Request, Response};
use outrigger::discovery::methods::Methods;
use outrigger::discovery::snapshot::Upstream;
use tokio::time::Instant;

use super::net::{Answer, Mesh, address, inbound_address, request, sidecar};

const PATH: &str = "/user.v1.UserService/GetUser";

/// How the upstream does: it answers with a message, says a status in its head or in its trailers,
/// breaks, or does nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Does {
    Answers(&'static [u8]),
    Says(u8),
    Trails(u8),
    Refuses,
    Resets,
    Hangs,
}

/// `GetUserResponse { user: { name: "nobody" } }`.
const NOBODY: &[u8] = b"\0\0\0\0\x0a\x0a\x08\x1a\x06nobody";
const ADA: &[u8] = b"\0\0\0\0\x07\x0a\x05\x1a\x03Ada";
const EVE: &[u8] = b"\0\0\0\0\x07\x0a\x05\x1a\x03Eve";

/// What the upstreams saw: which, which head, which body.
type Seen = Rc<RefCell<Vec<(&'static str, HeaderMap, Vec<u8>)>>>;

struct Scene {
    mesh: Mesh,
    echo: Rc<Cell<Does>>,
    spare: Rc<Cell<Does>>,
    seen: Seen,
    _descriptors: tempfile::NamedTempFile,
}

impl Scene {
    /// A route to `echo` with these steps, and one that says more of the route.
    fn new(steps: &str, more: &str) -> Self {
        let mut descriptors = tempfile::NamedTempFile::new().unwrap();
        descriptors.write_all(proto::FILE_DESCRIPTOR_SET).unwrap();
        let config = format!(
            "[hedge]\nafter = \"never\"\n[upstreams.echo]\ndescriptors = {:?}\n\
             [[upstreams.echo.route]]\nmatch = {{ path = {PATH:?} }}\nfallback = [ {steps} ]\n{more}\n",
            descriptors.path()
        );
        let mesh = Mesh::with_caller(&config);
        let echo = Rc::new(Cell::new(Does::Answers(ADA)));
        let spare = Rc::new(Cell::new(Does::Answers(EVE)));
        let seen = Rc::default();
        let spare_at = address("127.0.0.9:21000");
        serve(&mesh, "echo", inbound_address(), &echo, &seen);
        serve(&mesh, "spare", spare_at, &spare, &seen);
        let endpoint = (spare_at, mesh.id("echo"), Arc::from("spare"));
        mesh.web.set_upstream(Arc::new(Upstream::succeed(None, "spare".into(), [endpoint], 0)));
        Self { mesh, echo, spare, seen, _descriptors: descriptors }
    }

    fn does(self, does: Does) -> Self {
        self.echo.set(does);
        self
    }

    async fn call_as(&self, who: &str, body: &[u8]) -> Answer {
        let request = request().uri(format!("http://echo{PATH}")).header("authorization", who);
        self.mesh.client().await.call(request.body(()).unwrap(), body).await.unwrap()
    }

    async fn call(&self) -> Answer {
        self.call_as("ada", b"asked").await
    }

    fn calls(&self, of: &str) -> usize {
        self.seen.borrow().iter().filter(|(name, ..)| *name == of).count()
    }

    fn counted(&self, kind: &str) -> bool {
        let line = format!("outrigger_fallbacks_total{{peer=\"echo\",kind=\"{kind}\"}} 1");
        Mesh::scrape(&self.mesh.web_metrics).contains(&line)
    }
}

fn serve(
    mesh: &Mesh,
    name: &'static str,
    at: std::net::SocketAddr,
    does: &Rc<Cell<Does>>,
    seen: &Seen,
) {
    let (does, seen) = (does.clone(), seen.clone());
    sidecar(mesh, at, move |request, respond| {
        answer(name, does.get(), seen.clone(), request, respond)
    });
}

async fn answer(
    name: &'static str,
    does: Does,
    seen: Seen,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    let (parts, mut body) = request.into_parts();
    let mut whole = Vec::new();
    while let Some(Ok(data)) = body.data().await {
        let _ = body.flow_control().release_capacity(data.len());
        whole.extend_from_slice(&data);
    }
    seen.borrow_mut().push((name, parts.headers, whole));
    let head = Response::builder().header("content-type", "application/grpc").header("x-own", "1");
    let status = |code: u8| {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", code.to_string().parse().unwrap());
        trailers
    };
    match does {
        Does::Answers(message) => {
            let mut send = respond.send_response(head.body(()).unwrap(), false).unwrap();
            send.send_data(Bytes::from_static(message), false).unwrap();
            send.send_trailers(status(0)).unwrap();
        }
        Does::Says(code) => {
            let mut head = head.body(()).unwrap();
            head.headers_mut().extend(status(code));
            respond.send_response(head, true).unwrap();
        }
        Does::Trails(code) => {
            let mut send = respond.send_response(head.body(()).unwrap(), false).unwrap();
            send.send_trailers(status(code)).unwrap();
        }
        Does::Refuses => respond.send_reset(h2::Reason::REFUSED_STREAM),
        Does::Resets => respond.send_reset(h2::Reason::INTERNAL_ERROR),
        Does::Hangs => {
            let _ = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
        }
    }
}

fn mark(answer: &Answer) -> Option<&str> {
    answer.head.headers().get("outrigger-fallback").map(|mark| mark.to_str().unwrap())
}

const FIXED: &str = r#"{ answer = '{"user": {"name": "nobody"}}' }"#;

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_fixed_answer_is_given_whatever_way_the_upstream_failed() {
    let ways = [
        Does::Says(14),
        Does::Says(13),
        Does::Trails(14),
        Does::Refuses,
        Does::Resets,
        Does::Hangs,
    ];
    for does in ways {
        let scene = Scene::new(FIXED, "timeout = \"1s\"").does(does);
        let answer = scene.call().await;
        assert_eq!(answer.status().0, "0", "{does:?}");
        assert_eq!((answer.body.as_slice(), mark(&answer)), (NOBODY, Some("answer")), "{does:?}");
        assert_eq!(answer.head.headers()["content-type"], "application/grpc");
        assert!(scene.counted("answer"), "{}", Mesh::scrape(&scene.mesh.web_metrics));
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_upstream_without_endpoints_has_failed_too() {
    let scene = Scene::new(FIXED, "");
    scene.mesh.endpoints(&[]);
    let answer = scene.call().await;
    assert_eq!((answer.body.as_slice(), mark(&answer)), (NOBODY, Some("answer")));
    scene.mesh.endpoints(&[(address("127.0.0.1:1"), "echo")]);
    assert_eq!(scene.call().await.body, NOBODY);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_good_answer_is_not_marked() {
    let scene = Scene::new(FIXED, "");
    let answer = scene.call().await;
    assert_eq!((answer.body.as_slice(), mark(&answer)), (ADA, None));
    assert!(!Mesh::scrape(&scene.mesh.web_metrics).contains("outrigger_fallbacks_total{"));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_the_caller_did_wrong_is_its_own_answer() {
    for code in [1, 3, 5, 6, 7, 8, 9, 10, 11, 12, 16] {
        for does in [Does::Says(code), Does::Trails(code)] {
            let scene = Scene::new(FIXED, "").does(does);
            let answer = scene.call().await;
            assert_eq!((answer.status().0, mark(&answer)), (code.to_string(), None), "{does:?}");
        }
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn past_the_callers_deadline_there_is_no_fallback() {
    let scene = Scene::new(FIXED, "").does(Does::Hangs);
    let request = request().uri(format!("http://echo{PATH}")).header("grpc-timeout", "100m");
    let begin = Instant::now();
    let mut client = scene.mesh.client().await;
    let answer = client.call(request.body(()).unwrap(), b"asked").await.unwrap();
    assert_eq!((answer.status().0.as_str(), mark(&answer)), ("4", None));
    assert!(begin.elapsed() < Duration::from_millis(150), "{:?}", begin.elapsed());
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_fixed_status_has_its_message_and_mark() {
    let steps = "{ status = \"resource_exhausted\", message = \"at most 5 %\" }";
    let scene = Scene::new(steps, "").does(Does::Says(14));
    let answer = scene.call().await;
    let (status, message, reason) = answer.status();
    assert_eq!((&*status, &*message, &*reason), ("8", "at most 5 %25", ""));
    assert_eq!(mark(&answer), Some("status"));
    assert!(scene.counted("status"));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn another_upstream_gets_the_whole_call_once() {
    for does in [Does::Says(14), Does::Resets, Does::Refuses] {
        let scene = Scene::new("{ upstream = \"spare\" }", "").does(does);
        let answer = scene.call().await;
        assert_eq!((answer.body.as_slice(), mark(&answer)), (EVE, Some("upstream")), "{does:?}");
        assert_eq!(answer.head.headers()["x-own"], "1");
        let seen = scene.seen.borrow();
        let (name, headers, body) = seen.last().unwrap();
        assert_eq!((*name, body.as_slice()), ("spare", &b"asked"[..]));
        assert_eq!(headers["authorization"], "ada");
        assert!(headers.contains_key("grpc-previous-rpc-attempts"), "{headers:?}");
        drop(seen);
        assert_eq!(scene.calls("spare"), 1);
        assert!(scene.counted("upstream"));
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_spare_upstream_that_fails_is_not_tried_twice_and_the_first_ones_end_is_told() {
    let scene = Scene::new("{ upstream = \"spare\" }", "").does(Does::Says(13));
    scene.spare.set(Does::Says(14));
    let answer = scene.call().await;
    assert_eq!((answer.status().0.as_str(), mark(&answer)), ("13", None));
    assert_eq!(scene.calls("spare"), 1);
    assert_eq!(answer.head.headers()["x-own"], "1", "its own answer, as it came");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_call_that_may_have_been_done_goes_to_no_other_upstream() {
    let more = "retry = { idempotent = false }";
    for (does, elsewhere) in [(Does::Refuses, true), (Does::Says(14), false), (Does::Resets, false)]
    {
        let scene = Scene::new("{ upstream = \"spare\" }", more).does(does);
        let answer = scene.call().await;
        assert_eq!(mark(&answer).is_some(), elsewhere, "{does:?}");
        assert_eq!(scene.calls("spare"), usize::from(elsewhere), "{does:?}");
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn the_last_good_answer_is_given_to_who_got_it_and_asks_the_same_until_it_is_too_old() {
    let scene = Scene::new("{ stale = \"5m\" }", "");
    assert_eq!(scene.call_as("ada", b"1").await.body, ADA);
    scene.echo.set(Does::Says(14));
    tokio::time::sleep(Duration::from_secs(200)).await;
    let answer = scene.call_as("ada", b"1").await;
    assert_eq!((answer.body.as_slice(), mark(&answer)), (ADA, Some("stale")));
    assert_eq!(answer.status().0, "0");
    assert_eq!(answer.head.headers()["x-own"], "1");
    assert_eq!(answer.head.headers()["age"], "200");
    assert!(scene.counted("stale"));
    for (who, body) in [("eve", b"1"), ("ada", b"2")] {
        let answer = scene.call_as(who, body).await;
        assert_eq!((answer.status().0.as_str(), mark(&answer)), ("14", None), "{who} {body:?}");
    }
    tokio::time::sleep(Duration::from_secs(200)).await;
    assert_eq!(scene.call_as("ada", b"1").await.status().0, "14");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_answer_that_is_too_large_is_not_kept() {
    let scene = Scene::new("{ stale = \"5m\" }", "[limits]\nkept_answer = \"8B\"");
    assert_eq!(scene.call().await.body, ADA);
    scene.echo.set(Does::Says(14));
    assert_eq!(scene.call().await.status().0, "14");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_is_no_single_message_is_not_kept() {
    for odd in [&b""[..], b"\0\0\0\0\x01", b"\0\0\0\0\0\0\0\0\0\0"] {
        let scene = Scene::new("{ stale = \"5m\" }", "");
        scene.echo.set(if odd.is_empty() { Does::Trails(0) } else { Does::Answers(odd) });
        assert_eq!(scene.call().await.status().0, "0");
        scene.echo.set(Does::Says(14));
        assert_eq!(scene.call().await.status().0, "14", "{odd:?}");
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn the_steps_are_taken_in_their_order() {
    let steps = format!("{{ upstream = \"spare\" }}, {{ stale = \"5m\" }}, {FIXED}");
    let scene = Scene::new(&steps, "");
    assert_eq!(mark(&scene.call().await), None);
    scene.echo.set(Does::Says(14));
    assert_eq!(mark(&scene.call().await), Some("upstream"));
    scene.spare.set(Does::Says(14));
    assert_eq!(mark(&scene.call().await), Some("stale"));
    let answer = scene.call_as("eve", b"asked").await;
    assert_eq!((answer.body.as_slice(), mark(&answer)), (NOBODY, Some("answer")));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn other_routes_have_no_fallback_and_what_is_no_grpc_has_none() {
    let scene = Scene::new(FIXED, "").does(Does::Says(14));
    let mut client = scene.mesh.client().await;
    let other = request().uri("http://echo/user.v1.UserService/CreateUser").body(()).unwrap();
    let answer = client.call(other, b"asked").await.unwrap();
    assert_eq!((answer.status().0.as_str(), mark(&answer)), ("14", None));
    let json =
        Request::post(format!("http://echo{PATH}")).header("content-type", "application/json");
    let answer = client.call(json.body(()).unwrap(), b"asked").await.unwrap();
    assert_eq!(mark(&answer), None);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_method_is_sent_again_as_its_descriptors_say_also_where_they_say_so_later() {
    let mesh = Mesh::with_caller("[hedge]\nafter = \"never\"\n[breaker]\nconsecutive = 100");
    let (does, seen) = (Rc::new(Cell::new(Does::Says(14))), Seen::default());
    serve(&mesh, "echo", inbound_address(), &does, &seen);
    let mut client = mesh.client().await;
    let mut sent = async |method: &str| {
        let before = seen.borrow().len();
        let uri = format!("http://echo/user.v1.UserService/{method}");
        client.call(request().uri(uri).body(()).unwrap(), b"asked").await.unwrap();
        seen.borrow().len() - before
    };
    assert_eq!(sent("GetUser").await, 1, "nothing is known yet");
    let methods = Methods::of_set(proto::FILE_DESCRIPTOR_SET).unwrap();
    mesh.web.set_methods("echo", Arc::new(methods));
    assert_eq!((sent("GetUser").await, sent("CreateUser").await), (3, 1));
    mesh.web.set_methods("echo", Arc::default());
    assert_eq!(sent("GetUser").await, 1);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn another_upstream_gets_the_whole_call_though_an_old_answer_was_looked_for_first() {
    let scene = Scene::new("{ stale = \"5m\" }, { upstream = \"spare\" }", "").does(Does::Says(14));
    let answer = scene.call().await;
    assert_eq!((answer.body.as_slice(), mark(&answer)), (EVE, Some("upstream")));
    let seen = scene.seen.borrow();
    let (name, _, body) = seen.last().unwrap();
    assert_eq!((*name, body.as_slice()), ("spare", &b"asked"[..]));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn whom_the_callers_baggage_names_gets_no_others_answer() {
    let scene = Scene::new("{ stale = \"5m\" }", "");
    let call = async |user: &str| {
        let request = request().uri(format!("http://echo{PATH}")).header("baggage", user);
        scene.mesh.client().await.call(request.body(()).unwrap(), b"1").await.unwrap()
    };
    assert_eq!(call("user=ada").await.body, ADA);
    scene.echo.set(Does::Says(14));
    assert_eq!(mark(&call("user=ada").await), Some("stale"));
    assert_eq!(mark(&call("user=eve").await), None);
}
