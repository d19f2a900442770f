//! Processes as a test of `up` sees them: started with a mark in their environment, which
//! everything they start inherits, and found by it in `/proc`. What is left when a test fails is
//! killed with it.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::mpsc;
use tokio::time::Instant;

const MARK: &str = "LAUNCH_TEST_MARK";
const PATIENCE: Duration = Duration::from_secs(60);

/// One run of the program, and everything that comes of it.
pub(crate) struct Run {
    mark: String,
    pub(crate) child: Child,
    lines: mpsc::UnboundedReceiver<String>,
    seen: String,
}

impl Run {
    /// Starts `outrigger` with these arguments in this folder.
    pub(crate) fn start(dir: &Path, args: &[&str]) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let mark = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let mut child = Command::new(env!("CARGO_BIN_EXE_outrigger"))
            .args(args)
            .current_dir(dir)
            .env(MARK, &mark)
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
        let mark = format!("{MARK}={}", self.mark);
        let marked = |pid: i32| {
            let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environ.split(|byte| *byte == 0).any(|word| word == mark.as_bytes())
        };
        let pids = fs::read_dir("/proc").unwrap().flatten();
        pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
            .filter(|pid| marked(*pid))
            .map(|pid| {
                let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                let command = String::from_utf8_lossy(&command).replace('\0', " ");
                (Pid::from_raw(pid).unwrap(), command)
            })
            .collect()
    }

    /// Waits until a process of this run has `text` in its command line.
    pub(crate) async fn has(&self, text: &str) {
        until(text, || self.left().iter().any(|(_, command)| command.starts_with(text))).await;
    }

    /// Waits until nothing is left of this run.
    pub(crate) async fn nothing_left(&self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = self.left();
            if left.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "still there: {left:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        for (pid, _) in self.left() {
            let _ = kill_process(pid, Signal::KILL);
        }
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
