//! Facts about probes, each against a real listener on loopback.

use std::collections::BTreeMap;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

const TIMEOUT: Duration = Duration::from_secs(10);

/// Answers one connection with these bytes.
async fn scripted(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 1024];
        let _ = stream.read(&mut request).await.unwrap();
        stream.write_all(answer.as_bytes()).await.unwrap();
    });
    address.to_string()
}

async fn http(answer: &'static str) -> (Status, String) {
    let url = format!("http://{}/health", scripted(answer).await);
    let (method, body) = ("GET".to_owned(), String::new());
    run(&Target::Http { url, method, headers: BTreeMap::new(), body }, TIMEOUT).await
}

#[tokio::test]
async fn an_http_probe_judges_by_the_class_of_the_status() {
    let (status, output) = http("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_eq!(status, Status::Passing, "{output}");
    let (status, output) =
        http("HTTP/1.1 429 Too Many Requests\r\ncontent-length: 4\r\n\r\nbusy").await;
    assert_eq!(status, Status::Warning);
    assert!(output.ends_with("429 Too Many Requests Output: busy"), "{output}");
    let (status, _) = http("HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n").await;
    assert_eq!(status, Status::Critical);
    let (status, _) = http("no http at all\r\n\r\n").await;
    assert_eq!(status, Status::Critical);
}

#[tokio::test]
async fn a_tcp_probe_passes_while_the_port_accepts() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let target = Target::Tcp(address.clone());
    let (status, output) = run(&target, TIMEOUT).await;
    assert_eq!((status, output), (Status::Passing, format!("TCP connect {address}: Success")));
    drop(listener);
    let (status, output) = run(&target, TIMEOUT).await;
    assert_eq!(status, Status::Critical);
    assert!(output.ends_with("connect: connection refused"), "{output}");
}

#[tokio::test]
async fn a_probe_that_gets_no_answer_ends_with_its_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = Target::Grpc(listener.local_addr().unwrap().to_string());
    let (status, output) = run(&target, Duration::from_millis(50)).await;
    assert_eq!(status, Status::Critical);
    assert!(output.contains("DeadlineExceeded"), "{output}");
}

#[tokio::test]
async fn a_grpc_probe_asks_the_named_service() {
    let (reporter, service) = tonic_health::server::health_reporter();
    reporter.set_service_status("web", tonic_health::ServingStatus::Serving).await;
    reporter.set_service_status("ill", tonic_health::ServingStatus::NotServing).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    tokio::spawn(
        tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming),
    );
    for (name, expected) in
        [("web", Status::Passing), ("ill", Status::Critical), ("unknown", Status::Critical)]
    {
        let (status, output) = run(&Target::Grpc(format!("{address}/{name}")), TIMEOUT).await;
        assert_eq!(status, expected, "{output}");
    }
}
