//! Connect's conformance suite, the pair between its clients and its servers.
//!
//! In the half that it calls `server` good clients call a good server; in the other one, `client`,
//! servers answer in every odd way, which the client must be told as it was. gRPC by grpc-go's
//! server and client, Connect and gRPC-Web by the suite's own, over HTTP/1.1 and HTTP/2.

use std::collections::BTreeSet;
use std::process::Command;

use super::exceptions::judge;
use super::pair::{Pair, file, run};
use super::peer::peer;
use super::ports::free;

struct Half {
    /// As `exceptions.toml` calls it.
    suite: &'static str,
    mode: &'static str,
    /// What the suite tests where no sidecar is between.
    program: &'static str,
    protocols: &'static str,
    /// HTTP's version, of the callers and of the app.
    version: u8,
    cases: usize,
}

impl Half {
    async fn run(self) {
        let (Some(programs), Some(python)) = (peer("conformance"), peer("python")) else { return };
        let app = free();
        let pair = Pair::start(app, if self.version == 1 { "http1" } else { "grpc" }).await;
        let features = tempfile::NamedTempFile::new().unwrap();
        let (version, protocols) = (self.version, self.protocols);
        let text = format!(
            "features:\n  versions: [HTTP_VERSION_{version}]\n  protocols: [{protocols}]\n  \
             codecs: [CODEC_PROTO]\n  supportsTls: false\n"
        );
        std::fs::write(features.path(), text).unwrap();
        let mut suite = Command::new(programs.join("connectconformance"));
        suite.args(["--mode", self.mode, "--conf"]).arg(features.path());
        match self.mode {
            "client" => suite.args(["--port", &app.port().to_string()]),
            // One after another, as all of them serve on the app's port.
            _ => suite.args(["--max-servers", "1"]),
        };
        suite.arg("--").arg(python).arg(file("python/connect.py"));
        suite.args([self.mode, &pair.outbound.port().to_string()]);
        suite.arg(programs.join(self.program));
        if self.mode == "server" {
            suite.args(["-bind", "127.0.0.1", "-port", &app.port().to_string()]);
        }
        let (_, said) = run(self.suite, &mut suite).await;
        assert!(said.contains(&format!("Total cases: {}\n", self.cases)), "not all ran:\n{said}");
        let failed = said.lines().filter_map(|line| line.strip_prefix("FAILED: "));
        let failed: BTreeSet<_> =
            failed.map(|case| case.trim_end_matches(':').to_owned()).collect();
        judge(self.suite, &failed, &said);
    }
}

const GRPC: &str = "PROTOCOL_GRPC";
const WEB: &str = "PROTOCOL_CONNECT, PROTOCOL_GRPC_WEB";

#[tokio::test]
async fn good_grpc_clients_find_behind_the_pair_the_server_that_they_know() {
    let (suite, program) = ("connect: gRPC server", "grpcserver");
    Half { suite, mode: "server", program, protocols: GRPC, version: 2, cases: 372 }.run().await;
}

#[tokio::test]
async fn odd_grpc_servers_are_told_apart_through_the_pair() {
    let (suite, program) = ("connect: gRPC client", "grpcclient");
    Half { suite, mode: "client", program, protocols: GRPC, version: 2, cases: 403 }.run().await;
}

#[tokio::test]
async fn good_web_clients_find_behind_the_pair_the_server_that_they_know() {
    let (suite, mode, program) = ("connect: web server", "server", "referenceserver");
    Half { suite, mode, program, protocols: WEB, version: 1, cases: 327 }.run().await;
    Half { suite, mode, program, protocols: WEB, version: 2, cases: 421 }.run().await;
}

#[tokio::test]
async fn odd_web_servers_are_told_apart_through_the_pair() {
    let (suite, mode, program) = ("connect: web client", "client", "referenceclient");
    Half { suite, mode, program, protocols: WEB, version: 1, cases: 531 }.run().await;
    Half { suite, mode, program, protocols: WEB, version: 2, cases: 671 }.run().await;
}
