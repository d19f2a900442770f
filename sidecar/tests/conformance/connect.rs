//! The gRPC part of Connect's conformance suite: its clients against grpc-go's server, and grpc-go's
//! client against its servers, which answer in every odd way; the pair between them.

use std::collections::BTreeSet;
use std::process::Command;

use super::exceptions::judge;
use super::pair::{Pair, file, run};
use super::peer::peer;
use super::ports::free;

/// Runs one half of the suite; `program` is what is tested by it when no sidecar is there.
async fn half(mode: &str, program: &str, cases: usize) {
    let (Some(programs), Some(python)) = (peer("conformance"), peer("python")) else { return };
    let app = free();
    let pair = Pair::start(app, "grpc").await;
    let mut suite = Command::new(programs.join("connectconformance"));
    suite.args(["--mode", mode, "--conf"]).arg(file("connect.yaml"));
    match mode {
        "client" => suite.args(["--port", &app.port().to_string()]),
        // One after another, as all of them serve on the app's port.
        _ => suite.args(["--max-servers", "1"]),
    };
    suite.arg("--").arg(python).arg(file("python/connect.py"));
    suite.args([mode, &pair.outbound.port().to_string()]).arg(programs.join(program));
    if mode == "server" {
        suite.args(["-bind", "127.0.0.1", "-port", &app.port().to_string()]);
    }
    let (_, said) = run(mode, &mut suite).await;
    assert!(said.contains(&format!("Total cases: {cases}\n")), "not all ran:\n{said}");
    let failed = said.lines().filter_map(|line| line.strip_prefix("FAILED: "));
    let failed: BTreeSet<_> = failed.map(|case| case.trim_end_matches(':').to_owned()).collect();
    judge(&format!("connect: {mode}"), &failed, &said);
}

#[tokio::test]
async fn connects_clients_find_behind_the_pair_the_server_that_they_know() {
    half("server", "grpcserver", 372).await;
}

#[tokio::test]
async fn connects_servers_are_told_apart_through_the_pair_as_without_it() {
    half("client", "grpcclient", 403).await;
}
