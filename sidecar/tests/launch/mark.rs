//! The processes of one test: started with a mark in their environment, which everything that they
//! start inherits, and found by it in `/proc`, whoever their parent is by then.

use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

const NAME: &str = "LAUNCH_TEST_MARK";
const PATIENCE: Duration = Duration::from_secs(60);

/// A mark of one's own. What still has it when this is dropped is killed.
pub(crate) struct Mark(String);

impl Mark {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        Self(format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)))
    }

    /// Marks what this command starts.
    pub(crate) fn put_on(&self, command: &mut Command) {
        command.env(NAME, &self.0);
    }

    /// The processes that have it and are there, zombies apart, with their command lines.
    pub(crate) fn left(&self) -> Vec<(Pid, String)> {
        let mark = format!("{NAME}={}", self.0);
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

    /// Waits until nothing has it.
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

impl Drop for Mark {
    fn drop(&mut self) {
        for (pid, _) in self.left() {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}
