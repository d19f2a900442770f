//! Plain clients and apps of other languages, the pair between each two: grpcio and grpc-js, and
//! HTTP/1.1. The clients say themselves which facts hold.

use std::path::Path;
use std::process::Command;

use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::exceptions::judge;
use super::pair::{CALLEE, Pair, app, file, run};
use super::peer::peer;
use super::ports::free;

#[derive(Deserialize)]
struct Fact {
    fact: String,
    fault: Option<String>,
}

/// Runs a client and judges what it found.
async fn hold(suite: &str, mut client: Command, expected: usize) {
    let (status, said) = run(suite, &mut client).await;
    let lines = said.lines().filter(|line| line.starts_with('{'));
    let facts: Vec<Fact> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(status.success() && facts.len() == expected, "{suite}: not all was tried:\n{said}");
    let faults: Vec<_> = facts.into_iter().filter_map(|f| Some((f.fact, f.fault?))).collect();
    let told: String = faults.iter().map(|(fact, fault)| format!("{fact}: {fault}\n")).collect();
    judge(suite, &faults.into_iter().map(|(fact, _)| fact).collect(), &told);
}

fn python(program: &Path, script: &str) -> Command {
    let mut command = Command::new(program);
    // No __pycache__ beside the sources.
    command.arg("-B").arg(file("python").join(script));
    command
}

fn node(modules: &Path, script: &str) -> Command {
    let mut command = Command::new("node");
    command.env("NODE_PATH", modules).arg(file("node").join(script));
    command
}

/// Both clients against one app.
async fn clients(name: &str, serve: impl Fn(&Path, &Path) -> Command) {
    let (Some(python_program), Some(modules)) = (peer("python"), peer("node")) else { return };
    let address = free();
    let mut command = serve(&python_program, &modules);
    let _app = app(name, command.arg(address.port().to_string())).await;
    let pair = Pair::start(address, "grpc").await;
    let port = pair.outbound.port().to_string();
    let mut grpcio = python(&python_program, "client.py");
    grpcio.args([&port, CALLEE]);
    let mut grpc_js = node(&modules, "client.js");
    grpc_js.args([&port, CALLEE]);
    let suites = [format!("grpcio to {name}"), format!("grpc-js to {name}")];
    tokio::join!(hold(&suites[0], grpcio, 14), hold(&suites[1], grpc_js, 14));
}

#[tokio::test]
async fn grpcio_and_grpc_js_call_a_grpcio_app_as_if_no_sidecar_were_there() {
    clients("grpcio", |program, _| python(program, "app.py")).await;
}

#[tokio::test]
async fn grpcio_and_grpc_js_call_a_grpc_js_app_as_if_no_sidecar_were_there() {
    clients("grpc-js", |_, modules| node(modules, "app.js")).await;
}

/// HTTP/1.1 callers of both languages and the web app, which speaks this.
async fn web(protocol: &str, app_speaks: &str) {
    let (Some(python_program), Some(modules)) = (peer("python"), peer("node")) else { return };
    let address = free();
    let mut command = node(&modules, "web.js");
    let _app = app("web", command.arg(address.port().to_string()).arg(app_speaks)).await;
    let pair = Pair::start(address, protocol).await;
    let port = pair.outbound.port().to_string();
    let mut raw = python(&python_program, "web.py");
    raw.arg(&port);
    hold("http1", raw, 19).await;
    let mut fetch = node(&modules, "fetch.js");
    fetch.arg(&port);
    hold("fetch", fetch, 8).await;
}

#[tokio::test]
async fn http1_callers_call_an_http1_app_as_if_no_sidecar_were_there() {
    web("http1", "http1").await;
}

#[tokio::test]
async fn http1_callers_call_an_app_that_speaks_http2() {
    web("grpc", "h2c").await;
}

/// An app that closes after each answer, whose length in HTTP/1.0 nothing but that tells.
#[tokio::test]
async fn an_app_of_either_http1_version_that_closes_its_connections_is_called_again_and_again() {
    let Some(python_program) = peer("python") else { return };
    for version in ["HTTP/1.0", "HTTP/1.1"] {
        let address = free();
        let mut command = python(&python_program, "page.py");
        let _app = app("page", command.arg(address.port().to_string()).arg(version)).await;
        let pair = Pair::start(address, "http1").await;
        for n in 0..20 {
            let body = format!("{n:>10}");
            let ask = format!(
                "POST / HTTP/1.0\r\nhost: page\r\ncontent-length: {}\r\n\r\n{body}",
                body.len(),
            );
            let mut stream = TcpStream::connect(pair.outbound).await.unwrap();
            stream.write_all(ask.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.0 200 "), "{answer}");
            assert!(answer.ends_with(&format!("\r\n\r\n{body}")), "{answer}");
        }
    }
}
