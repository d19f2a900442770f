//! The hidden mode `outrigger guard -- command…` that every process of a local mesh runs under.
//!
//! It starts the command in a process group of its own and holds the read end of a pipe whose
//! write end is in `outrigger up`. The pipe closes when `up` ends in any way, a panic and a
//! `kill -9` included, and then the group is ended: SIGTERM, and SIGKILL once the grace time is
//! over. Invariant: the guard never ends before the group is empty, so a guard that is gone
//! means that nothing of its command is left.

use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::signal::unix::{self, SignalKind};
use tokio::time::Instant;

/// Written to a guard's pipe: end the group, with the grace time. So does the pipe's end.
pub(crate) const STOP: u8 = b's';

/// Written to a guard's pipe: end the group now, without the grace time.
pub(crate) const KILL: u8 = b'k';

/// Exit code of a guard whose command could not be started (as in a shell).
const NOT_STARTED: u8 = 127;

/// How often a group that is being ended is looked at again: a process of it whose parent is in
/// another group tells the guard nothing when it ends.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What `outrigger guard` is told.
#[derive(Debug, clap::Args)]
pub struct GuardArgs {
    /// Seconds between SIGTERM and SIGKILL
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(..=3600))]
    grace: u64,
    /// The command to run, and its arguments
    #[arg(required = true, last = true)]
    command: Vec<OsString>,
}

/// Runs the command until it ends by itself, the pipe on standard input closes, or a signal to
/// end arrives. The exit code is the command's own, or 128 and the number of the signal that
/// ended it.
pub fn guard(args: GuardArgs) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.and_then(|runtime| runtime.block_on(watch(args))) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("outrigger guard: {error}");
            ExitCode::from(NOT_STARTED)
        }
    }
}

async fn watch(args: GuardArgs) -> io::Result<ExitCode> {
    // Everything that can end the command is listened to before there is a command.
    let mut child_changed = unix::signal(SignalKind::child())?;
    let mut asked = [
        unix::signal(SignalKind::terminate())?,
        unix::signal(SignalKind::interrupt())?,
        unix::signal(SignalKind::hangup())?,
    ];
    let pipe = io::stdin().as_fd().try_clone_to_owned()?;
    let mut pipe = pipe::Receiver::from_owned_fd(pipe)?;
    adopt_orphans();
    let mut group = Group::start(&args.command)?;
    let grace = Duration::from_secs(args.grace);
    let mut pipe_open = true;
    let mut deadline = None;

    while !group.is_empty() {
        let mut stop = group.leader_ended();
        let [terminate, interrupt, hangup] = &mut asked;
        tokio::select! {
            _ = child_changed.recv() => {}
            told = pipe.read_u8(), if pipe_open => {
                pipe_open = told.is_ok();
                stop = true;
                if matches!(told, Ok(KILL)) {
                    deadline = Some(Instant::now());
                }
            }
            _ = terminate.recv() => stop = true,
            _ = interrupt.recv() => stop = true,
            _ = hangup.recv() => stop = true,
            () = tokio::time::sleep(LOOK_AGAIN), if deadline.is_some() => {}
        }
        group.reap();
        stop |= group.leader_ended();
        match deadline {
            None if stop => {
                group.signal(Signal::TERM);
                deadline = Some(Instant::now() + grace);
            }
            Some(deadline) if Instant::now() >= deadline => group.signal(Signal::KILL),
            _ => {}
        }
    }
    Ok(group.exit_code())
}

/// The process group of the command. The leader's number is the group's.
struct Group {
    id: Pid,
    leader: Option<WaitStatus>,
}

impl Group {
    fn start(command: &[OsString]) -> io::Result<Self> {
        let mut words = command.iter();
        let program = words.next().ok_or(io::ErrorKind::InvalidInput)?;
        let child = Command::new(program)
            .args(words)
            .stdin(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(|error| {
                io::Error::new(
                    error.kind(),
                    format!("cannot start `{}`: {error}", program.display()),
                )
            })?;
        let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        Ok(Self { id: id.ok_or(io::ErrorKind::InvalidData)?, leader: None })
    }

    /// Takes note of everything that ended, so that no zombie keeps the group's number alive.
    fn reap(&mut self) {
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            if pid == self.id && !status.stopped() {
                self.leader = Some(status);
            }
        }
    }

    fn leader_ended(&self) -> bool {
        self.leader.is_some()
    }

    /// A group whose leader was not reaped is never empty: its zombie still counts.
    fn is_empty(&self) -> bool {
        self.leader_ended() && rustix::process::test_kill_process_group(self.id).is_err()
    }

    /// Fails only for a group that is empty by now, which the next look finds out.
    fn signal(&self, signal: Signal) {
        let _ = rustix::process::kill_process_group(self.id, signal);
    }

    fn exit_code(&self) -> ExitCode {
        let Some(status) = self.leader else { return ExitCode::FAILURE };
        let code = match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => code,
            (None, Some(signal)) => 128 + signal,
            (None, None) => 1,
        };
        ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
    }
}

/// Processes of the group that lose their parent become the guard's own, which then hears of
/// their end; elsewhere than on Linux the guard looks again until the group is empty.
fn adopt_orphans() {
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
}
