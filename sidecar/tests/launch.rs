//! `outrigger up` with real processes: what it says before it starts anything, and that nothing
//! outlives it.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test ends where a part of it is missing")]

#[path = "launch/guard.rs"]
mod guard;
#[path = "launch/mark.rs"]
mod mark;
#[path = "peers/ports.rs"]
mod ports;
#[path = "launch/processes.rs"]
mod processes;

use std::net::TcpListener;
use std::path::Path;

use ports::free;
use processes::Run;
use rustix::process::Signal;
use tempfile::TempDir;

/// A mesh that is kept in its build, so that the tests need nothing but a shell.
fn building(script: &str) -> TempDir {
    let [app, inbound, outbound, admin, client, client_admin] = [(); 6].map(|()| free().port());
    mesh(&format!(
        "[[service]]\nname = \"a\"\nbuild = {script:?}\ncommand = [\"true\"]\n\
         app = {app}\ninbound = {inbound}\noutbound = {outbound}\nadmin = {admin}\n\
         [[service]]\nname = \"client\"\noutbound = {client}\nadmin = {client_admin}\n"
    ))
}

fn mesh(text: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("mesh.toml"), text).unwrap();
    dir
}

fn up(dir: &Path) -> Run {
    let [http, dns] = [(); 2].map(|()| free().to_string());
    Run::start(dir, &["up", "--consul-http", &http, "--consul-dns", &dns])
}

const STUBBORN: &str = "trap '' TERM; echo at work; while :; do sleep 1000; done";

#[tokio::test]
async fn a_bad_mesh_is_told_with_every_error_and_its_line() {
    let dir = mesh("[[service]]\nname = \"A\"\nadmin = 0\n\n[[intention]]\nsorce = \"a\"\n");
    let (status, said) = up(dir.path()).ended().await;
    assert_eq!(status.code(), Some(2), "{said}");
    for line in ["mesh.toml:2: ", "mesh.toml:3: ", "mesh.toml:6: "] {
        assert!(said.contains(line), "no {line} in:\n{said}");
    }
}

#[tokio::test]
async fn a_mesh_that_is_not_there_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (status, said) = up(dir.path()).ended().await;
    assert_eq!(status.code(), Some(2), "{said}");
    assert!(said.contains("mesh.toml: "), "{said}");
}

#[tokio::test]
async fn a_taken_port_names_its_holder_before_anything_is_built() {
    let dir = building("touch built");
    let text = std::fs::read_to_string(dir.path().join("mesh.toml")).unwrap();
    let port: u16 = text.split("admin = ").nth(1).unwrap().lines().next().unwrap().parse().unwrap();
    let _taken = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let (status, said) = up(dir.path()).ended().await;
    assert_eq!(status.code(), Some(1), "{said}");
    let pid = std::process::id();
    let expected = format!("127.0.0.1:{port} (the admin port of a-1): taken by process {pid}: ");
    assert!(said.contains(&expected), "no {expected:?} in:\n{said}");
    assert!(!dir.path().join("built").exists());
}

#[tokio::test]
async fn a_second_up_says_what_is_in_the_way() {
    let dir = building("echo at work; sleep 1000");
    let mut first = up(dir.path());
    first.line("at work").await;
    let (status, said) = up(dir.path()).ended().await;
    assert_eq!(status.code(), Some(1), "{said}");
    let expected = format!("process {} (", first.child.id());
    assert!(said.contains(&expected), "no {expected:?} in:\n{said}");
}

#[tokio::test]
async fn a_build_that_fails_ends_it() {
    let dir = building("echo no compiler; exit 3");
    let mut run = up(dir.path());
    let (status, said) = run.ended().await;
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("build            | no compiler"), "{said}");
    assert!(said.contains("exit 3` ended with exit code 3"), "{said}");
    run.nothing_left().await;
}

#[tokio::test]
async fn ctrl_c_leaves_no_process_behind() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let dir = building("echo at work; sleep 1000");
        let mut run = up(dir.path());
        run.line("at work").await;
        run.signal(signal);
        let (status, said) = run.ended().await;
        assert_eq!(status.code(), Some(0), "{said}");
        assert!(run.left().is_empty(), "{:?}", run.left());
    }
}

#[tokio::test]
async fn a_second_ctrl_c_ends_at_once_what_ignores_the_first() {
    let dir = building(STUBBORN);
    let mut run = up(dir.path());
    run.line("at work").await;
    run.signal(Signal::INT);
    run.line("ending the mesh").await;
    run.signal(Signal::INT);
    let (status, said) = run.ended().await;
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(run.left().is_empty(), "{:?}", run.left());
}

#[tokio::test]
async fn a_kill_of_up_itself_leaves_no_process_behind() {
    let dir = building(STUBBORN);
    let mut run = up(dir.path());
    run.line("at work").await;
    run.has("/bin/sh -c trap").await;
    run.signal(Signal::KILL);
    run.nothing_left().await;
}
