//! Facts about the admin server on a real socket.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::*;
use crate::telemetry::labels::Direction;
use crate::telemetry::metrics::Bounds;
use crate::telemetry::metrics::tests::exposition;

struct Server {
    address: SocketAddr,
    metrics: Arc<Metrics>,
    readiness: Arc<Readiness>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// At a time.
const CLIENTS: Count = Count::new(8);

async fn server() -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let metrics = Metrics::new("order-service", Bounds::default());
    let readiness = Readiness::new();
    let (stop, stopped) = oneshot::channel::<()>();
    let shutdown = async {
        let _ = stopped.await;
    };
    let task = tokio::spawn(serve(listener, CLIENTS, metrics.clone(), readiness.clone(), shutdown));
    Server { address, metrics, readiness, stop, task }
}

struct Answer {
    head: String,
    body: String,
}

impl Answer {
    fn status(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(found, _)| *found == name).map(|(_, value)| value)
    }
}

impl Server {
    async fn ask(&self, request: &str) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        Answer { head: head.to_owned(), body: body.to_owned() }
    }

    async fn get(&self, path: &str, headers: &str) -> Answer {
        self.ask(&request("GET", path, headers)).await
    }
}

fn request(method: &str, path: &str, headers: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n{headers}\r\n")
}

#[tokio::test]
async fn ready_tells_each_thing_it_waits_for_and_each_that_is_amiss() {
    let server = server().await;
    let leaf = server.readiness.block("first leaf certificate");
    let roots = server.readiness.block("roots");
    let degraded = server.readiness.degrade("Consul", "connection refused".to_owned());
    let answer = server.get("/ready", "").await;
    assert_eq!(answer.status(), "503");
    assert_eq!(
        answer.body,
        "waiting for first leaf certificate\nwaiting for roots\n\
         degraded: Consul: connection refused\n"
    );
    drop((leaf, roots));
    let answer = server.get("/ready", "").await;
    assert_eq!(answer.status(), "200");
    assert_eq!(answer.body, "ready\ndegraded: Consul: connection refused\n");
    drop(degraded);
    assert_eq!(server.get("/ready", "").await.body, "ready\n");
}

#[tokio::test]
async fn live_answers_while_the_sidecar_is_not_ready() {
    let server = server().await;
    let _blocker = server.readiness.block("roots");
    let answer = server.get("/live", "").await;
    assert_eq!((answer.status(), answer.body.as_str()), ("200", "live\n"));
}

#[tokio::test]
async fn metrics_come_in_the_format_that_was_asked_for() {
    let server = server().await;
    let shard = server.metrics.shard();
    shard.calls(Direction::Inbound, "client", "/a.B/C").end(Some(0), Duration::from_millis(1));
    let accept = "accept: application/openmetrics-text;version=1.0.0,*/*;q=0.1\r\n";
    let open = server.get("/metrics", accept).await;
    assert_eq!(open.status(), "200");
    let open_metrics = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!(open.header("content-type"), Some(open_metrics));
    let samples = exposition::parse(&open.body).unwrap();
    assert!(samples.iter().any(|sample| sample.name == "outrigger_requests_total"));
    let plain = server.get("/metrics", "").await;
    let of_plain = "text/plain; version=0.0.4; charset=utf-8";
    assert_eq!(plain.header("content-type"), Some(of_plain));
    assert!(plain.body.contains("# TYPE outrigger_requests_total counter\n"));
    assert!(!plain.body.contains("# EOF"));
}

#[tokio::test]
async fn a_head_gets_the_head_of_the_get() {
    let server = server().await;
    let answer = server.ask(&request("HEAD", "/live", "")).await;
    assert_eq!(answer.status(), "200");
    assert_eq!(answer.header("content-length"), Some("5"));
    assert_eq!(answer.body, "");
}

#[tokio::test]
async fn what_is_not_there_is_answered_with_what_is() {
    let server = server().await;
    let answer = server.get("/metric", "").await;
    assert_eq!(answer.status(), "404");
    for path in ["/metric;", "/live", "/metrics", "/ready"] {
        assert!(answer.body.contains(path), "{path} in {}", answer.body);
    }
    let answer = server.ask(&request("POST", "/ready", "content-length: 0\r\n")).await;
    assert_eq!(answer.status(), "405");
    assert_eq!(answer.header("allow"), Some("GET, HEAD"));
    assert!(answer.body.contains("GET /ready"));
}

#[tokio::test]
async fn a_head_over_the_limit_is_refused() {
    let server = server().await;
    let long = format!("x: {}\r\n", "x".repeat(MAX_HEADER_BYTES));
    assert_eq!(server.get("/live", &long).await.status(), "431");
    let many: String = (0..=MAX_HEADERS).map(|n| format!("x-{n}: x\r\n")).collect();
    assert_eq!(server.get("/live", &many).await.status(), "431");
}

#[tokio::test]
async fn what_is_not_http_is_refused_and_harms_nobody() {
    let server = server().await;
    assert_eq!(server.ask("\x16\x03\x01\0\0\r\n\r\n").await.status(), "400");
    assert_eq!(server.get("/live", "").await.status(), "200");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_nothing_loses_its_place_to_one_that_waits() {
    let server = server().await;
    let began = Instant::now();
    let mut idle = Vec::new();
    for _ in 0..CLIENTS.get() {
        idle.push(TcpStream::connect(server.address).await.unwrap());
    }
    assert_eq!(server.get("/live", "").await.status(), "200");
    assert!(began.elapsed() >= HEAD_TIMEOUT);
}

#[tokio::test(start_paused = true)]
async fn shutting_down_ends_idle_connections_and_closes_the_port() {
    let server = server().await;
    let mut kept = TcpStream::connect(server.address).await.unwrap();
    kept.write_all(b"GET /live HTTP/1.1\r\nhost: admin\r\n\r\n").await.unwrap();
    let mut first = [0; 15];
    kept.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200 OK");
    let began = Instant::now();
    server.stop.send(()).unwrap();
    let mut rest = Vec::new();
    kept.read_to_end(&mut rest).await.unwrap();
    server.task.await.unwrap();
    assert!(began.elapsed() < GRACE, "ended by the time limit only");
    assert!(TcpStream::connect(server.address).await.is_err());
}
