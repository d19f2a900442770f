//! `outrigger guard`: what it starts ends with the pipe on its standard input, whatever it does.

use std::io::Write;
use std::path::Path;

use super::processes::Run;
use rustix::process::Signal;

/// A shell that says so when it is up.
fn guarded(grace: &str, script: &str) -> Run {
    let args = ["guard", "--grace", grace, "--", "/bin/sh", "-c", script];
    Run::start(Path::new("/"), &args)
}

#[tokio::test]
async fn the_exit_code_of_the_command_is_passed_on() {
    let (status, _) = guarded("5", "exit 42").ended().await;
    assert_eq!(status.code(), Some(42));
}

#[tokio::test]
async fn a_signal_that_ended_the_command_is_passed_on_as_a_shell_does() {
    let (status, _) = guarded("5", "kill -9 $$").ended().await;
    assert_eq!(status.code(), Some(128 + 9));
}

#[tokio::test]
async fn a_command_that_is_not_there_is_named() {
    let mut run = Run::start(Path::new("/"), &["guard", "--", "/no/such/program"]);
    let (status, said) = run.ended().await;
    assert_eq!(status.code(), Some(127));
    assert!(said.contains("cannot start `/no/such/program`: No such file"), "{said}");
}

#[tokio::test]
async fn a_pipe_that_closes_ends_the_whole_group() {
    let mut run = guarded("30", "sleep 1000 & echo up; wait");
    run.line("up").await;
    drop(run.child.stdin.take());
    let (status, _) = run.ended().await;
    assert_eq!(status.code(), Some(128 + 15));
    assert!(run.left().is_empty());
}

#[tokio::test]
async fn a_command_that_ignores_sigterm_is_killed_after_its_grace() {
    let mut run = guarded("1", "trap '' TERM; echo up; while :; do sleep 1000; done");
    run.line("up").await;
    drop(run.child.stdin.take());
    let (status, _) = run.ended().await;
    assert_eq!(status.code(), Some(128 + 9));
    assert!(run.left().is_empty());
}

#[tokio::test]
async fn a_command_that_is_to_be_killed_gets_no_grace() {
    let mut run = guarded("3600", "trap '' TERM; echo up; while :; do sleep 1000; done");
    run.line("up").await;
    run.child.stdin.as_mut().unwrap().write_all(b"s").unwrap();
    run.child.stdin.as_mut().unwrap().write_all(b"k").unwrap();
    let (status, _) = run.ended().await;
    assert_eq!(status.code(), Some(128 + 9));
    assert!(run.left().is_empty());
}

#[tokio::test]
async fn what_a_command_leaves_behind_in_its_group_ends_with_it() {
    let mut run = guarded("30", "sleep 1000 & exit 3");
    let (status, _) = run.ended().await;
    assert_eq!(status.code(), Some(3));
    assert!(run.left().is_empty());
}

#[tokio::test]
async fn a_guard_that_is_asked_to_end_ends_its_group_first() {
    let mut run =
        guarded("30", "trap 'echo down; exit 7' TERM; echo up; while :; do sleep 0.1; done");
    run.line("up").await;
    run.signal(Signal::TERM);
    let (status, said) = run.ended().await;
    assert_eq!(status.code(), Some(7));
    assert!(said.contains("down"), "{said}");
    assert!(run.left().is_empty());
}
