//! The programs of this workspace that the tests run.

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
