//! h2spec against the outbound port and, through a tunnel, the inbound port; and h2specd, its
//! sibling, as servers that the outbound sidecar calls and that break the rules.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::SocketAddr;
use std::process::Command;

use bytes::Bytes;
use tokio::net::TcpListener;

use super::exceptions::judge;
use super::pair::{Authority, CALLEE, CALLER, Pair, file, run};
use super::peer::peer;
use super::ports::free;
use super::tunnel;

/// What h2spec takes for granted, whatever SETTINGS_MAX_FRAME_SIZE says: its frames that are too
/// large are so by HTTP/2's default.
const FRAMES: &str = "[limits]\nframe = \"16KiB\"\n";

/// An app that reads a request to its end and answers with a few bytes.
async fn app() -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    tokio::spawn(async move {
                        let head = request.method() == http::Method::HEAD;
                        let mut body = request.into_body();
                        while let Some(Ok(data)) = body.data().await {
                            let _ = body.flow_control().release_capacity(data.len());
                        }
                        let answer = http::Response::new(());
                        if let Ok(mut send) = respond.send_response(answer, head)
                            && !head
                        {
                            let _ = send.send_data(Bytes::from_static(b"a few bytes"), true);
                        }
                    });
                }
            });
        }
    });
    address
}

/// The cases that failed by the report's last part, `SECTION DESCRIPTION` each.
fn failed(said: &str) -> BTreeSet<String> {
    let mut section = "";
    let mut failed = BTreeSet::new();
    let (_, report) = said.split_once("Failures:").unwrap_or_default();
    for line in report.lines().map(str::trim_start) {
        if let Some(case) = line.strip_prefix("× ") {
            let (_, description) = case.split_once(": ").unwrap();
            failed.insert(format!("{section} {description}"));
        } else if line.starts_with(|first: char| first.is_ascii_digit())
            && let Some((number, _)) = line.split_once(' ')
        {
            section = number;
        }
    }
    failed
}

async fn server(suite: &str, port: SocketAddr) {
    let Some(programs) = peer("h2spec") else { return };
    let mut command = Command::new(programs.join("h2spec"));
    command.args(["--strict", "--timeout", "5", "--host", "127.0.0.1"]);
    command.args(["--port", &port.port().to_string()]);
    let (_, said) = run(suite, &mut command).await;
    assert!(said.contains("146 tests, ") && said.contains(" 0 skipped, "), "not all ran:\n{said}");
    judge(suite, &failed(&said), &said);
}

#[tokio::test]
async fn the_outbound_port_keeps_the_rules_of_http2() {
    let pair = Pair::with(app().await, "grpc", FRAMES).await;
    server("h2spec: outbound", pair.outbound).await;
}

#[tokio::test]
async fn the_inbound_port_keeps_the_rules_of_http2() {
    let pair = Pair::with(app().await, "grpc", FRAMES).await;
    let with = tunnel::open(&pair.authority, pair.inbound, true).await;
    server("h2spec: inbound", with).await;
    let without = tunnel::open(&pair.authority, pair.inbound, false).await;
    server("h2spec: inbound without ALPN", without).await;
}

/// h2specd's cases, each of which is a server on a port of its own, one after another.
const SERVERS: u16 = 57;

fn ports() -> u16 {
    loop {
        let first = free().port();
        if (first + 1..first + SERVERS).all(|next| free().port() == next) {
            return first;
        }
    }
}

#[tokio::test]
async fn servers_that_break_the_rules_of_http2_are_told_so() {
    let (Some(programs), Some(python)) = (peer("h2spec"), peer("python")) else { return };
    let authority = Authority::new();
    let (first, outbound) = (ports(), free());
    // Each server breaks a rule each time: it is asked each time, once, and does not rest for it.
    let mut sections = format!(
        "[outbound]\nlisten = \"{outbound}\"\n[retry]\nattempts = 1\n[breaker]\n\
         consecutive = 1000000\nsuccess_rate = 0\n{FRAMES}"
    );
    let identity = Authority::id(CALLEE);
    for port in first..first + SERVERS {
        writeln!(
            sections,
            "[upstreams.server-{port}]\nendpoints = [\"127.0.0.1:{port}\"]\nidentity = {identity:?}"
        )
        .unwrap();
    }
    let _caller = authority.sidecar(CALLER, "", &sections).await;
    let (certificate, key) = authority.leaf(CALLEE);
    let fetch = file("python/fetch.py");
    let mut command = Command::new(programs.join("h2specd"));
    command.args(["--strict", "--tls", "--cert-file"]).arg(certificate);
    command.arg("--cert-key-file").arg(key).args(["--from-port", &first.to_string(), "--exec"]);
    command.arg(format!("{} {} {}", python.display(), fetch.display(), outbound.port()));
    let mut said = String::new();
    // h2specd gives a case 3 s, and gives up altogether where a busy machine takes longer.
    for _ in 0..3 {
        said = run("h2specd", &mut command).await.1;
        if said.contains(&format!("{SERVERS} tests, ")) {
            break;
        }
    }
    let said: Vec<_> = said.lines().filter(|line| !line.contains("closed network")).collect();
    let said = said.join("\n");
    assert!(said.contains(&format!("{SERVERS} tests, ")), "not all ran:\n{said}");
    judge("h2spec: client", &failed(&said), &said);
}
