//! The processes of the mesh: started, listened to, waited for, ended.
//! Each runs under a guard (see `guard`) whose pipe is held here, so that none of them outlives
//! `up`. Nothing is started again: what ends by itself is reported once, and is gone.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::io::{self, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::guard;
use super::log::Log;

/// What a process is in the mesh; they are ended in this order, callers first, so that nothing
/// is called that is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    Build,
    /// A sidecar without an app: where calls come in.
    Caller,
    Sidecar,
    App,
    Consul,
}

impl Role {
    const IN_ORDER: [Self; 5] = [Self::Build, Self::Caller, Self::Sidecar, Self::App, Self::Consul];
}

/// A process to start.
#[derive(Debug)]
pub(crate) struct Process {
    /// Its name before its lines.
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) command: Vec<OsString>,
    pub(crate) env: BTreeMap<String, String>,
    /// What it must not inherit.
    pub(crate) without: &'static [&'static str],
    /// Between SIGTERM and SIGKILL.
    pub(crate) grace: Duration,
}

/// A process that is gone.
#[derive(Debug)]
pub(crate) struct Exit {
    pub(crate) name: String,
    pub(crate) ending: Ending,
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.ending)
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Code(i32),
    Signal(i32),
}

impl From<ExitStatus> for Ending {
    fn from(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            // The guard passes a signal on as a shell does.
            (Some(code), _) if code > 128 => Self::Signal(code - 128),
            (Some(code), _) => Self::Code(code),
            (None, signal) => Self::Signal(signal.unwrap_or_default()),
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "ended with exit code {code}"),
            Self::Signal(number) => {
                let name = match number {
                    1 => " (SIGHUP)",
                    2 => " (SIGINT)",
                    6 => " (SIGABRT)",
                    9 => " (SIGKILL)",
                    11 => " (SIGSEGV)",
                    15 => " (SIGTERM)",
                    _ => "",
                };
                write!(f, "was ended by signal {number}{name}")
            }
        }
    }
}

/// All processes that `up` has started and that have not ended.
pub(crate) struct Children {
    guard: PathBuf,
    dir: PathBuf,
    log: Log,
    running: Vec<Running>,
    changed: Signal,
}

struct Running {
    name: String,
    role: Role,
    guard: Child,
    /// What is written to it ends the process, and so does its end.
    pipe: ChildStdin,
}

impl Running {
    /// Fails only where the guard is gone, which the next look finds out.
    fn tell(&mut self, word: u8) {
        let _ = self.pipe.write_all(&[word]);
    }
}

impl Children {
    /// None yet. They will run in `dir`, under the guard of the program `outrigger`.
    pub(crate) fn new(outrigger: &Path, dir: &Path, log: Log) -> io::Result<Self> {
        Ok(Self {
            guard: outrigger.to_owned(),
            dir: dir.to_owned(),
            log,
            running: Vec::new(),
            changed: signal(SignalKind::child())?,
        })
    }

    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    /// Starts a process. A command that cannot be run shows as an exit with code 127.
    pub(crate) fn start(&mut self, process: Process) -> io::Result<()> {
        let mut command = Command::new(&self.guard);
        command
            .arg("guard")
            .arg(format!("--grace={}", process.grace.as_secs()))
            .arg("--")
            .args(&process.command)
            .current_dir(&self.dir)
            .envs(&process.env)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A Ctrl-C in the terminal is for `up` alone, which ends the mesh in order.
            .process_group(0);
        for name in process.without {
            command.env_remove(name);
        }
        let mut guard = command.spawn()?;
        let pipe = guard.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let output = [guard.stdout.take().map(Into::into), guard.stderr.take().map(Into::into)];
        let Process { name, role, .. } = process;
        let followed = self.log.follow(&name, output.into_iter().flatten());
        self.running.push(Running { name, role, guard, pipe });
        followed
    }

    /// The next process that ends. Safe to drop and to call again; waits for ever where none
    /// is running.
    pub(crate) async fn next_exit(&mut self) -> Exit {
        loop {
            if let Some(exit) = self.take_exit() {
                return exit;
            }
            self.changed.recv().await;
        }
    }

    fn take_exit(&mut self) -> Option<Exit> {
        let ended = self.running.iter_mut().enumerate().find_map(|(at, running)| {
            let status = running.guard.try_wait().ok().flatten()?;
            Some((at, status))
        });
        let (at, status) = ended?;
        let name = self.running.remove(at).name;
        Some(Exit { name, ending: status.into() })
    }

    /// Ends everything, role by role, and waits until it is gone; each process has its grace.
    pub(crate) async fn stop(&mut self) {
        for role in Role::IN_ORDER {
            for running in self.running.iter_mut().filter(|running| running.role == role) {
                running.tell(guard::STOP);
            }
            self.gone(|running| running.role == role).await;
        }
    }

    /// Ends everything at once, without grace, and waits until it is gone.
    pub(crate) async fn kill(&mut self) {
        for running in &mut self.running {
            running.tell(guard::KILL);
        }
        self.gone(|_| true).await;
    }

    async fn gone(&mut self, which: impl Fn(&Running) -> bool) {
        while self.running.iter().any(&which) {
            self.next_exit().await;
        }
    }

    /// Waits until the last lines of the processes are written.
    pub(crate) async fn finish(self) {
        self.log.finish().await;
    }
}
