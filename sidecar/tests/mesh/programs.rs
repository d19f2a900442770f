//! The programs that the tests run: this workspace's own, and those that others wrote.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

const OUTRIGGER: &str = env!("CARGO_BIN_EXE_outrigger");

/// `outrigger` with an environment that leads it nowhere.
pub(crate) fn outrigger() -> Command {
    let mut command = Command::new(OUTRIGGER);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CONSUL_") || text.starts_with("OUTRIGGER_") {
            command.env_remove(name);
        }
    }
    command
}

/// One of the services: from the folder that `OUTRIGGER_SERVICES_DIR` names, where they are built
/// already; else built once, as `outrigger` itself was.
pub(crate) fn service(name: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| match std::env::var_os("OUTRIGGER_SERVICES_DIR") {
        Some(folder) => folder.into(),
        None => built(),
    });
    folder.join(name)
}

fn built() -> PathBuf {
    let folder = Path::new(OUTRIGGER).parent().unwrap();
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.args(["build", "--quiet", "-p", "user", "-p", "product", "-p", "order"]);
    cargo.arg("--target-dir").arg(folder.parent().unwrap());
    if folder.ends_with("release") {
        cargo.arg("--release");
    }
    let built = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    folder.to_owned()
}

/// A program of somebody else, brought by its recipe. Without it a test fails in CI, and is told
/// to be left out elsewhere.
pub(crate) fn peer(name: &str) -> Option<PathBuf> {
    let bring = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/bring");
    let output = Command::new(bring).arg(name).output().unwrap();
    if output.status.success() {
        return Some(PathBuf::from(String::from_utf8(output.stdout).unwrap().trim()));
    }
    let why = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(std::env::var_os("CI").is_none(), "no {name} in CI:\n{why}");
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    // Past the test harness's capture: a person must see it.
    let _ = writeln!(std::io::stderr(), "NOT RUN: {test}, as there is no {name}:\n{why}");
    None
}
