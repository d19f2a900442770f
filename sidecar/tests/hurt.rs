//! The short form of `benches/hurt/run`: what callers see when one of three instances is hurt, with
//! bounds so wide that a busy machine keeps them too. (Not one whose host takes the time that it asks
//! for: the run makes such a row again.)
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test ends where a part of it is missing")]

use std::path::Path;
use std::process::Command;

use serde_json::Value;

const OUTRIGGER: &str = env!("CARGO_BIN_EXE_outrigger");
/// Of 1,000 calls.
const FAILED: f64 = 0.01;
/// From a second after the hurt began, in ms.
const P99: f64 = 1_000.0;

/// Builds what a test run of this file alone does not; returns the folder of all programs.
fn programs() -> &'static Path {
    let folder = Path::new(OUTRIGGER).parent().unwrap();
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.args(["build", "--quiet", "-p", "outrigger", "--example", "app", "--example", "load"]);
    cargo.arg("--target-dir").arg(folder.parent().unwrap());
    if folder.ends_with("release") {
        cargo.arg("--release");
    }
    let built = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    folder
}

#[test]
fn an_instance_that_is_hurt_in_any_way_costs_callers_next_to_nothing() {
    let files = tempfile::tempdir().unwrap();
    let figures = files.path().join("figures.json");
    let mut run = Command::new("python3");
    run.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/hurt/run"));
    run.args(["--short", "--peers", "outrigger", "--methods", "idempotent"]);
    run.arg("--prebuilt").arg(programs()).arg("--json").arg(&figures);
    let ran = run.output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{said}\n{}", String::from_utf8_lossy(&ran.stderr));
    let figures: Value = serde_json::from_slice(&std::fs::read(figures).unwrap()).unwrap();
    let rows = figures["methods"]["idempotent"].as_object().unwrap();
    assert_eq!(rows.len(), 7, "{said}");
    for (row, found) in rows {
        let ours = &found["outrigger"];
        let number = |key: &str| ours[key].as_f64().unwrap();
        let said = format!("{:.0} % of the time was stolen\n{said}", 100.0 * number("stolen"));
        assert!(number("calls") >= 1_000.0, "{row}:\n{said}");
        assert!(number("failed") <= FAILED * number("calls"), "{row}:\n{said}");
        assert!(number("later p99") <= P99, "{row}:\n{said}");
    }
}
