//! What the binary does with a config: its exit codes, and where it says what is wrong.

#![expect(clippy::unwrap_used, reason = "a test may fail wherever it stands")]

use std::fs;
use std::process::{Command, Output};

/// Runs the binary with no variable of ours or of Consul's around it.
fn outrigger(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_outrigger")).args(words).env_clear().output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn a_bad_config_ends_run_and_check_with_code_2_and_one_line_a_fault() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sidecar.toml");
    fs::write(&file, "[service]\nname = \"A\"\napp = 1\n[inbuond]\n").unwrap();
    let file = file.to_str().unwrap();
    for words in [&["run", "--config", file][..], &["check", file]] {
        let output = outrigger(words);
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        assert_eq!(text(&output.stdout), "");
        let lines: Vec<_> = text(&output.stderr).lines().collect();
        assert_eq!(lines.len(), 3, "{lines:?}");
        for (line, key) in lines.iter().zip(["2: service.name", "3: service.app", "4: inbuond"]) {
            assert!(line.starts_with(&format!("{file}:{key}: ")), "{line}");
        }
    }
}

#[test]
fn check_tells_what_a_config_resolves_to_and_whence() {
    let output = outrigger(&["check", "--service", "web", "--set", "drain.timeout=5s"]);
    assert_eq!(output.status.code(), Some(0));
    let said = text(&output.stdout);
    let line = |start: &str| said.lines().find(|line| line.starts_with(start)).unwrap();
    assert!(line("drain.timeout = \"5s\"").ends_with("# --set drain.timeout"), "{said}");
    assert!(line("service.name = \"web\"").ends_with("# --service"), "{said}");
    assert_eq!(line("timeouts.response"), "timeouts.response = \"15s\"");
}

#[test]
fn certificates_are_made_shown_and_taken_by_a_config() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().to_str().unwrap();
    let made = outrigger(&["certs", "init", "--dir", dir, "--trust-domain", "example.org"]);
    assert_eq!(made.status.code(), Some(0), "{}", text(&made.stderr));
    let again = outrigger(&["certs", "init", "--dir", dir]);
    assert_eq!(again.status.code(), Some(1), "a CA was overwritten");
    let issued = outrigger(&["certs", "issue", "web", "--dir", dir, "--ttl", "1h"]);
    assert_eq!(issued.status.code(), Some(0), "{}", text(&issued.stderr));
    let cert = format!("{dir}/web.pem");
    let shown = outrigger(&["certs", "show", &cert]);
    assert!(text(&shown.stdout).contains("spiffe://example.org/ns/default/dc/dc1/svc/web"));
    let set = |key: &str, name: &str| format!("identity.{key}={dir}/{name}");
    let checked = outrigger(&[
        "check",
        "--service=web",
        "--set=identity.source=files",
        &format!("--set={}", set("cert", "web.pem")),
        &format!("--set={}", set("key", "web-key.pem")),
        &format!("--set={}", set("roots", "ca.pem")),
    ]);
    assert_eq!(checked.status.code(), Some(0), "{}", text(&checked.stderr));
}
