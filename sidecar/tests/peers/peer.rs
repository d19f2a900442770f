//! Programs that others wrote. The tests of the crate `consul` include this file too.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

/// What is told of each: where it is, or why there is none.
static BROUGHT: Mutex<BTreeMap<String, Result<PathBuf, String>>> = Mutex::new(BTreeMap::new());

/// A program of somebody else, brought by its recipe. Without it a test fails in CI, and is told
/// to be left out elsewhere.
pub(crate) fn peer(name: &str) -> Option<PathBuf> {
    let mut brought = BROUGHT.lock().unwrap();
    let why = match brought.entry(name.to_owned()).or_insert_with(|| bring(name)) {
        Ok(program) => return Some(program.clone()),
        Err(why) => why.clone(),
    };
    drop(brought);
    assert!(std::env::var_os("CI").is_none(), "no {name} in CI:\n{why}");
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    // Past the test harness's capture: a person must see it.
    let _ = writeln!(std::io::stderr(), "NOT RUN: {test}, as there is no {name}:\n{why}");
    None
}

fn bring(name: &str) -> Result<PathBuf, String> {
    let bring = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sidecar/tests/peers/bring");
    let output = Command::new(bring).arg(name).output().unwrap();
    if output.status.success() {
        return Ok(PathBuf::from(String::from_utf8(output.stdout).unwrap().trim()));
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned())
}
