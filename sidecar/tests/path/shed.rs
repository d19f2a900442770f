//! The limit of calls that wait for the app, and the queue before it.

mod full;
mod still;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, Request, Response};
use tokio::sync::Semaphore;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep};

use super::net::{Answer, Client, Mesh, allow, app, echo, request};
use outrigger::worker::Worker;

/// What an app has seen: how many calls it works on, how many those were at most, and the names of
/// the calls in the order in which they came.
#[derive(Clone, Default)]
struct Seen {
    now: Rc<Cell<usize>>,
    most: Rc<Cell<usize>>,
    names: Rc<RefCell<Vec<String>>>,
}

impl Seen {
    fn calls(&self) -> usize {
        self.names.borrow().len()
    }
}

struct Working(Seen);

impl Drop for Working {
    fn drop(&mut self) {
        self.0.now.set(self.0.now.get() - 1);
    }
}

/// An app that works so long on each call.
fn app_that_takes(mesh: &Mesh, work: Duration) -> Seen {
    let seen = Seen::default();
    let also = seen.clone();
    app(mesh, move |request, respond| work_on(also.clone(), work, request, respond));
    seen
}

async fn work_on(
    seen: Seen,
    work: Duration,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    let name = request.headers().get("x-name").map(|name| name.to_str().unwrap().to_owned());
    seen.names.borrow_mut().push(name.unwrap_or_default());
    seen.now.set(seen.now.get() + 1);
    seen.most.set(seen.most.get().max(seen.now.get()));
    let _working = Working(seen);
    tokio::select! {
        () = sleep(work) => {}
        _ = std::future::poll_fn(|cx| respond.poll_reset(cx)) => return,
    }
    let head = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
    let Ok(mut send) = respond.send_response(head, false) else { return };
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    let _ = send.send_trailers(trailers);
}

/// A call that runs by itself, told by its name.
fn spawn(client: &mut Client, name: &str) -> tokio::task::JoinHandle<Outcome> {
    let request = request().header("x-name", name).body(()).unwrap();
    spawn_request(client, request)
}

#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    status: String,
    reason: String,
    message: String,
    after: Duration,
}

fn spawn_request(client: &mut Client, request: Request<()>) -> tokio::task::JoinHandle<Outcome> {
    let begin = Instant::now();
    let (answer, mut send) = client.open(request);
    send.send_data(Bytes::new(), true).unwrap();
    spawn_local(async move {
        let answer = Answer::read(answer.await.unwrap()).await.unwrap();
        let (status, message, reason) = answer.status();
        Outcome { status, reason, message, after: begin.elapsed() }
    })
}

const FIXED: &str = "[inbound.concurrency]\nadaptive = false\n";

fn fixed(more: &str) -> Mesh {
    let mesh = Mesh::with_app(&format!("{FIXED}{more}"));
    mesh.echo.set_intentions(allow(&["web", "shop"]));
    mesh
}

/// One worker's, then four workers': clients of each in turn.
async fn clients(mesh: &Mesh, workers: usize, count: usize) -> Vec<Client> {
    let mut echo: Vec<Rc<Worker>> = vec![mesh.echo.clone()];
    echo.extend((1..workers).map(|_| mesh.fellow()));
    let mut clients = Vec::new();
    for n in 0..count {
        clients.push(mesh.peer("web", &echo[n % workers]).await);
    }
    clients
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn the_app_gets_no_more_calls_at_a_time_than_the_limit_whatever_the_workers() {
    for workers in [1, 4] {
        let mesh = fixed("most = 5\nqueue_timeout = \"10s\"\n");
        let seen = app_that_takes(&mesh, Duration::from_millis(100));
        let mut clients = clients(&mesh, workers, 8).await;
        let calls: Vec<_> = (0..40).map(|n| spawn(&mut clients[n % 8], "")).collect();
        let begin = Instant::now();
        for call in calls {
            assert_eq!(call.await.unwrap().status, "0");
        }
        assert_eq!(seen.most.get(), 5, "{workers} workers");
        // And never fewer: nobody forgets who waits.
        assert_eq!(begin.elapsed().as_millis() / 100, 8, "{workers} workers");
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_call_over_the_limit_is_refused_undelivered_when_its_wait_is_over() {
    let mesh = fixed("most = 1\n");
    let seen = app_that_takes(&mesh, Duration::from_secs(10));
    let mut client = mesh.peer("web", &mesh.echo).await;
    let first = spawn(&mut client, "");
    let Outcome { status, reason, message, after } = spawn(&mut client, "").await.unwrap();
    assert_eq!((status.as_str(), reason.as_str()), ("14", "overloaded"));
    assert!(message.contains("1 calls at a time") && message.contains("100ms"), "{message}");
    assert!((100..103).contains(&after.as_millis()), "{after:?}");
    // Nor does a call wait past its deadline.
    let request = request().header("grpc-timeout", "30m").body(()).unwrap();
    let late = spawn_request(&mut client, request).await.unwrap();
    assert_eq!((late.status.as_str(), late.reason.as_str()), ("4", "deadline_exceeded"));
    assert!((29..33).contains(&late.after.as_millis()), "{:?}", late.after);
    assert_eq!(first.await.unwrap().status, "0");
    assert_eq!(seen.calls(), 1);
    let metrics = Mesh::scrape(&mesh.echo_metrics);
    for cause in ["deadline", "queue_timeout"] {
        let line = format!("outrigger_shed_total{{cause=\"{cause}\"}} 1\n");
        assert!(metrics.contains(&line), "{line} in {metrics}");
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_burst_is_served_in_its_order_and_an_overload_newest_first() {
    let mesh = fixed("most = 1\nqueue_timeout = \"1s\"\n");
    let seen = app_that_takes(&mesh, Duration::from_millis(300));
    let mut client = mesh.peer("web", &mesh.echo).await;
    let mut calls = Vec::new();
    for name in ["a", "b", "c", "d", "e"] {
        calls.push(spawn(&mut client, name));
        sleep(Duration::from_millis(10)).await;
    }
    let mut outcomes = Vec::new();
    for call in calls {
        outcomes.push(call.await.unwrap().reason);
    }
    // At 300 ms the oldest has waited for 290, at 600 ms for 580.
    assert_eq!(*seen.names.borrow(), ["a", "b", "e", "d"]);
    assert_eq!(outcomes, ["", "", "overloaded", "", ""]);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn under_overload_what_is_sent_again_comes_after_all_that_is_not() {
    let mesh = fixed("most = 1\nqueue = 4\nqueue_timeout = \"1500ms\"\n");
    let seen = app_that_takes(&mesh, Duration::from_millis(500));
    let mut client = mesh.peer("web", &mesh.echo).await;
    let mut calls = Vec::new();
    for (name, attempts) in [("a", 0), ("b", 0), ("again", 1), ("c", 0), ("d", 0), ("more", 1)] {
        let mut request = request().header("x-name", name);
        if attempts > 0 {
            request = request.header("grpc-previous-rpc-attempts", attempts.to_string());
        }
        calls.push(spawn_request(&mut client, request.body(()).unwrap()));
        sleep(Duration::from_millis(10)).await;
    }
    let mut outcomes = Vec::new();
    for call in calls {
        outcomes.push(call.await.unwrap().reason);
    }
    // "more" is one too many: the oldest of its kind goes. At 500 ms it is a burst, at 1 s no more.
    assert_eq!(*seen.names.borrow(), ["a", "b", "d", "c"]);
    assert_eq!(outcomes, ["", "", "overloaded", "", "", "overloaded"]);
    let metrics = Mesh::scrape(&mesh.echo_metrics);
    for line in [
        "outrigger_shed_total{cause=\"queue_full\"} 1",
        "outrigger_shed_total{cause=\"queue_timeout\"} 1",
        "outrigger_shed_total{cause=\"rate\"} 0",
        "outrigger_concurrency_limit{} 1\n",
        "outrigger_queued{} 0\n",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    assert!(!Mesh::scrape(&mesh.web_metrics).contains("outrigger_concurrency_limit"));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn where_the_queue_is_full_the_oldest_is_refused_at_once() {
    let mesh = fixed("most = 1\nqueue = 2\nqueue_timeout = \"10s\"\n");
    let seen = app_that_takes(&mesh, Duration::from_secs(1));
    let mut client = mesh.peer("web", &mesh.echo).await;
    let mut calls = Vec::new();
    for name in ["a", "b", "c", "d"] {
        calls.push(spawn(&mut client, name));
        sleep(Duration::from_millis(10)).await;
    }
    let mut outcomes = Vec::new();
    for call in calls {
        outcomes.push(call.await.unwrap());
    }
    assert_eq!(outcomes[1].reason, "overloaded");
    assert!(outcomes[1].message.contains("others wait"), "{}", outcomes[1].message);
    assert!(outcomes[1].after < Duration::from_millis(30), "{:?}", outcomes[1].after);
    assert_eq!(*seen.names.borrow(), ["a", "c", "d"]);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_call_that_is_cancelled_while_it_waits_makes_room_for_another() {
    let mesh = fixed("most = 1\nqueue = 2\nqueue_timeout = \"10s\"\n");
    let seen = app_that_takes(&mesh, Duration::from_secs(1));
    let mut client = mesh.peer("web", &mesh.echo).await;
    let first = spawn(&mut client, "first");
    sleep(Duration::from_millis(10)).await;
    let waits = spawn(&mut client, "waits");
    sleep(Duration::from_millis(10)).await;
    let gone = client.open(request().header("x-name", "gone").body(()).unwrap());
    sleep(Duration::from_millis(10)).await;
    drop(gone);
    sleep(Duration::from_millis(10)).await;
    // Were it still there, the queue would be full, and its oldest refused.
    let second = spawn(&mut client, "second");
    assert_eq!(first.await.unwrap().status, "0");
    assert_eq!(waits.await.unwrap().status, "0");
    assert_eq!(second.await.unwrap().status, "0");
    assert_eq!(*seen.names.borrow(), ["first", "waits", "second"]);
    // And none of them keeps a place.
    let third = spawn(&mut client, "third").await.unwrap();
    assert_eq!((third.status.as_str(), third.after.as_millis() / 1000), ("0", 1));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_cancelled_call_gives_its_place_to_one_that_waits() {
    let mesh = fixed("most = 1\nqueue_timeout = \"10s\"\n");
    let seen = app_that_takes(&mesh, Duration::from_secs(1));
    let mut client = mesh.peer("web", &mesh.echo).await;
    let first = client.open(request().body(()).unwrap());
    sleep(Duration::from_millis(10)).await;
    let second = spawn(&mut client, "second");
    sleep(Duration::from_millis(10)).await;
    drop(first);
    let second = second.await.unwrap();
    assert!(second.after < Duration::from_millis(1030), "{:?}", second.after);
    assert_eq!(seen.calls(), 2);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_stream_counts_until_its_head_and_no_longer() {
    let mesh = fixed("most = 1\n");
    app(&mesh, echo);
    let mut client = mesh.peer("web", &mesh.echo).await;
    let mut streams = Vec::new();
    for _ in 0..20 {
        let (answer, send) = client.open(request().body(()).unwrap());
        streams.push((answer.await.unwrap(), send));
    }
    assert_eq!(spawn(&mut client, "").await.unwrap().status, "0");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_app_that_is_not_there_keeps_no_place() {
    let mesh = fixed("most = 1\n");
    let mut client = mesh.peer("web", &mesh.echo).await;
    for _ in 0..5 {
        assert_eq!(spawn(&mut client, "").await.unwrap().reason, "app_unreachable");
    }
    app(&mesh, echo);
    assert_eq!(spawn(&mut client, "").await.unwrap().status, "0");
}

/// By default: 200 calls of a second each beside calls of a millisecond.
#[tokio::test(flavor = "local", start_paused = true)]
async fn a_slow_app_and_a_mix_of_methods_lose_no_call_to_the_default_limit() {
    for workers in [1, 4] {
        let mesh = Mesh::new();
        app(&mesh, |request, respond| {
            let slow = request.uri().path().ends_with("Slow");
            let work = Duration::from_millis(if slow { 1000 } else { 1 });
            work_on(Seen::default(), work, request, respond)
        });
        let mut clients = clients(&mesh, workers, 8).await;
        let mut calls = Vec::new();
        for n in 0..4_000 {
            let path = if n % 10 == 0 { "Slow" } else { "Quick" };
            let request = Request::post(format!("http://echo/echo.v1.Echo/{path}"))
                .header("content-type", "application/grpc");
            let request = request.body(()).unwrap();
            calls.push(spawn_request(&mut clients[n % 8], request));
            if n % 2 == 0 {
                sleep(Duration::from_millis(1)).await;
            }
        }
        for call in calls {
            let Outcome { status, message, .. } = call.await.unwrap();
            assert_eq!(status, "0", "{message}");
        }
    }
}
