//! What a sidecar learns of its upstreams' methods, with real processes: it asks through the mesh.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use super::peer::peer;
use super::pki::Pki;
use super::ports::free;
use super::process::{Process, until};
use super::programs::service;
use super::sidecar::Sidecar;

const DEBUG: &str = "[log]\nlevel = \"debug\"\n";

/// A caller's sidecar has learned of so many idempotent methods of the service at this address.
async fn is_known(name: &str, app: SocketAddr, idempotent: usize) {
    let pki = Pki::new();
    let callee = Sidecar::guarding(&pki, name, app, &["web"], "").await;
    let mut caller = Sidecar::calling_with(&pki, "web", name, &[callee.inbound], DEBUG).await;
    let count = format!("idempotent={idempotent}");
    caller.process.line(&["its methods are known", name, &count]).await;
    let asked = ["outrigger_requests_total", "ServerReflectionInfo", "outbound", "\"OK\""];
    until("the question is counted as any call is", async || caller.metric(&asked).await >= 2.0)
        .await;
}

#[tokio::test]
async fn the_methods_of_a_tonic_service_are_known_to_its_callers_sidecar() {
    let (store, address) = (tempfile::tempdir().unwrap(), free());
    let mut command = Command::new(service("user-service"));
    command.env("ADDR", address.to_string());
    command.env("DATABASE_URL", format!("sqlite:{}/user.db", store.path().display()));
    let mut app = Process::start("user-service", &mut command);
    app.line(&["listening on"]).await;
    is_known("user-service", address, 5).await;
}

#[tokio::test]
async fn the_methods_of_a_grpcio_service_are_known_to_its_callers_sidecar() {
    let Some(python) = peer("python") else { return };
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (stubs, address) = (tempfile::tempdir().unwrap(), free());
    let mut command = Command::new(python);
    command.arg(here.join("tests/mesh/python/reflecting.py")).arg(address.port().to_string());
    command.arg(stubs.path()).arg(here.join("../proto"));
    let mut app = Process::start("grpcio", &mut command);
    app.line(&["listening"]).await;
    is_known("user-service", address, 5).await;
}
