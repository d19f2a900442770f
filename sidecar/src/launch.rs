//! `outrigger up`: a whole mesh on this machine, from `mesh.toml`.
//!
//! The order of the start, one screen: the file, the lock, the ports, the builds, Consul, the
//! intentions, the apps and their sidecars, readiness. Invariant: whatever happens to `up`, no
//! process that it started outlives it (see `guard`), and nothing is started a second time.

mod children;
mod consul;
mod guard;
mod lock;
mod log;
mod mesh;
mod plan;
mod ports;
mod ready;
mod table;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

pub use self::guard::{GuardArgs, guard};

use self::children::{Children, Ending, Process, Role};
use self::consul::{Consul, Loss};
use self::lock::Lock;
use self::log::Log;
use self::mesh::Mesh;
use self::ports::Port;

/// What is wrong with the call itself: a config that cannot be used.
const BAD_CONFIG: u8 = 2;

/// From the first process to the last one ready.
const READY: Duration = Duration::from_secs(60);

/// How long a build may take to end.
const BUILD_GRACE: Duration = Duration::from_secs(10);

/// What `outrigger up` is told.
#[derive(Debug, clap::Args)]
pub struct UpArgs {
    /// The mesh to run
    #[arg(long, value_name = "FILE", default_value = "mesh.toml")]
    config: PathBuf,
    /// Where the embedded Consul agent's HTTP API listens
    #[arg(long, value_name = "ADDR", default_value_t = SocketAddr::from((Ipv4Addr::LOCALHOST, 8500)))]
    consul_http: SocketAddr,
    /// Where the embedded Consul agent's DNS listens
    #[arg(long, value_name = "ADDR", default_value_t = SocketAddr::from((Ipv4Addr::LOCALHOST, 8600)))]
    consul_dns: SocketAddr,
}

/// Runs the mesh until a signal ends it. The exit code is 0, 1 where something failed or a
/// process ended by itself, 2 for a `mesh.toml` that cannot be used.
pub fn up(args: UpArgs) -> ExitCode {
    let mesh = match Mesh::read(&args.config) {
        Ok(mesh) => mesh,
        Err(problems) => {
            eprintln!("{problems}");
            return ExitCode::from(BAD_CONFIG);
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ran = runtime.map_err(Failed::from).and_then(|runtime| runtime.block_on(run(mesh, args)));
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failed::Here(why)) => {
            eprintln!("outrigger up: {why}");
            ExitCode::FAILURE
        }
        Err(Failed::Told) => ExitCode::FAILURE,
    }
}

/// Why the mesh does not run, or did not run to its end.
enum Failed {
    Here(String),
    /// The log has it already.
    Told,
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Here(error.to_string())
    }
}

impl From<String> for Failed {
    fn from(why: String) -> Self {
        Self::Here(why)
    }
}

async fn run(mesh: Mesh, args: UpArgs) -> Result<(), Failed> {
    let mut signals = Signals::listen()?;
    let _lock = Lock::take(&mesh.dir.join("target/mesh"))?;
    let consul = Consul::choose(&args);
    free(plan::ports(&mesh).into_iter().chain(consul.ports()))?;
    let names = mesh.instances.iter().map(|instance| plan::sidecar_name(instance).len());
    let log = Log::new(io::stdout(), names.max().unwrap_or_default(), io::stdout().is_terminal())?;
    let outrigger = std::env::current_exe()?;
    let mut children = Children::new(&outrigger, &mesh.dir, log)?;

    let mut lost = false;
    let served = tokio::select! {
        biased;
        signal = signals.next() => Ok(signal),
        Err(why) = serve(&mesh, &consul, &outrigger, &mut children, &mut lost) => Err(why),
    };
    children.log().say(&match &served {
        Ok(signal) => format!("{signal}: ending the mesh; a second one ends it at once"),
        Err(why) => format!("{why}\nending the mesh"),
    });
    let stopped = tokio::select! {
        biased;
        _ = signals.next() => false,
        () = children.stop() => true,
    };
    if !stopped {
        children.kill().await;
    }
    children.finish().await;
    if lost || served.is_err() { Err(Failed::Told) } else { Ok(()) }
}

/// Starts everything in order, and watches it from then on. Ends only where something failed.
async fn serve(
    mesh: &Mesh,
    consul: &Consul,
    outrigger: &Path,
    children: &mut Children,
    lost: &mut bool,
) -> Result<Infallible, String> {
    build(mesh, children).await?;
    let deadline = Instant::now() + READY;
    if let Some(agent) = consul.process(outrigger) {
        start(children, agent)?;
    }
    children.log().say(&format!("waiting for {consul}"));
    for note in unless_lost(children, consul.prepare(mesh, deadline)).await? {
        children.log().say(&note);
    }
    for instance in &mesh.instances {
        if let Some(app) = plan::app(instance) {
            start(children, app)?;
        }
        start(children, plan::sidecar(instance, consul, outrigger))?;
    }
    let wanted = plan::wanted(mesh);
    children.log().say(&format!("waiting for {} processes to be ready", wanted.len()));
    unless_lost(children, async {
        let late = ready::all(&wanted, deadline).await;
        late.map_err(|late| format!("not ready within {READY:?}:\n  {}", late.join("\n  ")))
    })
    .await?;
    children.log().show(&table::render(mesh, consul.dns()));
    let mut loss = Loss::none_yet(consul)?;
    loop {
        tokio::select! {
            exit = children.next_exit() => {
                *lost = true;
                children.log().say(&format!("LOST {exit}; the rest of the mesh goes on without it"));
            }
            news = loss.next(consul, mesh) => children.log().say(&news),
        }
    }
}

async fn build(mesh: &Mesh, children: &mut Children) -> Result<(), String> {
    for command in &mesh.builds {
        children.log().say(&format!("building: {command}"));
        let process = Process {
            name: "build".to_owned(),
            role: Role::Build,
            command: ["/bin/sh", "-c", command].map(OsString::from).into(),
            env: BTreeMap::new(),
            without: consul::SECRETS,
            grace: BUILD_GRACE,
        };
        start(children, process)?;
        let exit = children.next_exit().await;
        if exit.ending != Ending::Code(0) {
            return Err(format!("`{command}` {}", exit.ending));
        }
    }
    Ok(())
}

fn start(children: &mut Children, process: Process) -> Result<(), String> {
    let name = process.name.clone();
    children.start(process).map_err(|error| format!("{name} cannot be started: {error}"))
}

/// What ends while the mesh starts is not waited for any longer.
async fn unless_lost<T>(
    children: &mut Children,
    work: impl Future<Output = Result<T, String>>,
) -> Result<T, String> {
    tokio::select! {
        biased;
        exit = children.next_exit() => Err(format!("{exit} before the mesh was ready")),
        done = work => done,
    }
}

/// Every port is looked at before anything is started, and every one that is taken is told.
fn free(ports: impl IntoIterator<Item = Port>) -> Result<(), String> {
    let taken: Vec<String> = ports::taken(ports).iter().map(ToString::to_string).collect();
    if taken.is_empty() {
        return Ok(());
    }
    Err(format!("these ports are not free:\n  {}", taken.join("\n  ")))
}

/// What a person or a supervisor ends a program with.
struct Signals([(&'static str, Signal); 3]);

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self([
            ("Ctrl-C", signal(SignalKind::interrupt())?),
            ("SIGTERM", signal(SignalKind::terminate())?),
            ("SIGHUP", signal(SignalKind::hangup())?),
        ]))
    }

    async fn next(&mut self) -> &'static str {
        let [(interrupt, a), (terminate, b), (hangup, c)] = &mut self.0;
        tokio::select! {
            _ = a.recv() => interrupt,
            _ = b.recv() => terminate,
            _ = c.recv() => hangup,
        }
    }
}
