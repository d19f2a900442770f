//! grpc-go's interop client against its own server, the pair between them.

use std::collections::BTreeSet;
use std::process::Command;

use super::exceptions::judge;
use super::pair::{Pair, run};
use super::peer::peer;
use super::ports::free;
use super::process::{Process, until};

/// Those that need no cloud.
const CASES: [&str; 14] = [
    "empty_unary",
    "large_unary",
    "client_streaming",
    "server_streaming",
    "ping_pong",
    "empty_stream",
    "timeout_on_sleeping_server",
    "cancel_after_begin",
    "cancel_after_first_response",
    "status_code_and_message",
    "special_status_message",
    "custom_metadata",
    "unimplemented_method",
    "unimplemented_service",
];

#[tokio::test]
async fn grpc_gos_interop_cases_pass() {
    let Some(programs) = peer("interop") else { return };
    let app = free();
    let mut server = Command::new(programs.join("server"));
    let mut server = Process::start("server", server.args(["-port", &app.port().to_string()]));
    until("the server listens", async || {
        assert!(server.lives(), "{}", server.said());
        tokio::net::TcpStream::connect(app).await.is_ok()
    })
    .await;
    let pair = Pair::start(app, "grpc").await;

    let mut failed = BTreeSet::new();
    let mut all = String::new();
    for case in CASES {
        let mut client = Command::new(programs.join("client"));
        client.args(["-server_host", "127.0.0.1", "-test_case", case]);
        client.args(["-server_port", &pair.outbound.port().to_string()]);
        let (status, said) = run(case, &mut client).await;
        if !status.success() {
            failed.insert(case.to_owned());
            all.push_str(&said);
        }
    }
    judge("interop", &failed, &all);
}
