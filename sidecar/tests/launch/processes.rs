//! Processes as a test of `up` sees them: the program that it starts, and all that comes of it.
//! What is left when a test fails is killed with it.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::mark::Mark;

const PATIENCE: Duration = Duration::from_secs(60);

/// One run of the program, and everything that comes of it.
pub(crate) struct Run {
    mark: Mark,
    pub(crate) child: Child,
    lines: mpsc::UnboundedReceiver<String>,
    seen: String,
}

impl Run {
    /// Starts `outrigger` with these arguments in this folder.
    pub(crate) fn start(dir: &Path, args: &[&str]) -> Self {
        let mark = Mark::new();
        let mut command = Command::new(env!("CARGO_BIN_EXE_outrigger"));
        mark.put_on(&mut command);
        let mut child = command
            .args(args)
            .current_dir(dir)
            .env_remove("CONSUL_HTTP_ADDR")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let (lines_in, lines) = mpsc::unbounded_channel();
        follow(child.stdout.take().unwrap(), lines_in.clone());
        follow(child.stderr.take().unwrap(), lines_in);
        Self { mark, child, lines, seen: String::new() }
    }

    /// Waits until a line holds `text`, and returns it.
    pub(crate) async fn line(&mut self, text: &str) -> String {
        let next = async {
            while let Some(line) = self.lines.recv().await {
                self.seen.push_str(&line);
                self.seen.push('\n');
                if line.contains(text) {
                    return Some(line);
                }
            }
            None
        };
        let line = tokio::time::timeout(PATIENCE, next).await.ok().flatten();
        line.unwrap_or_else(|| panic!("no line with {text:?} in:\n{}", self.seen))
    }

    /// Sends a signal to the program alone.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits until the program has ended; its lines are complete then.
    pub(crate) async fn ended(&mut self) -> (ExitStatus, String) {
        let mut status = None;
        until("the program has ended", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        let rest = async {
            while let Some(line) = self.lines.recv().await {
                self.seen.push_str(&line);
                self.seen.push('\n');
            }
        };
        let _ = tokio::time::timeout(PATIENCE, rest).await;
        (status.unwrap(), self.seen.clone())
    }

    /// The processes that have come of this run and are there, zombies apart.
    pub(crate) fn left(&self) -> Vec<(Pid, String)> {
        self.mark.left()
    }

    /// Waits until a process of this run has `text` in its command line.
    pub(crate) async fn has(&self, text: &str) {
        until(text, || self.left().iter().any(|(_, command)| command.starts_with(text))).await;
    }

    /// Waits until nothing is left of this run.
    pub(crate) async fn nothing_left(&self) {
        self.mark.nothing_left().await;
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // The mark ends what has come of it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until a condition holds.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn follow(pipe: impl Read + Send + 'static, lines: mpsc::UnboundedSender<String>) {
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            let _ = lines.send(line);
        }
    });
}
