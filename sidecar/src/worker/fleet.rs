//! The workers of one process: their threads, the sockets whose connections they get, and the way
//! by which the control thread reaches them.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use certs::Identity;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::spawn_local;

use super::{Shared, Worker};
use crate::config::{Config, ServiceName};
use crate::discovery::methods::Methods;
use crate::discovery::snapshot::Upstream;
use crate::inbound::{self, authorize::Intentions};
use crate::outbound;
use crate::telemetry::labels::Direction;
use crate::telemetry::metrics::Metrics;
use crate::transport::io::{Tcp, tune};

/// Tasks that run before sockets are looked at again: enough that what a hundred calls write goes
/// out together.
const EVENT_INTERVAL: u32 = 256;

/// What a worker is told.
#[derive(Clone)]
enum News {
    Identity(Arc<Identity>),
    Intentions(Arc<Intentions>),
    Upstream(Arc<Upstream>),
    Methods(Arc<str>, Arc<Methods>),
    Forget(Arc<str>),
    Drain(Direction),
    Cut(Direction),
}

enum Command {
    News(News),
    Serve(Accepted),
}

/// Behind which port a connection came in.
#[derive(Clone, Debug)]
pub enum Role {
    /// From the mesh.
    Inbound,
    /// From the app; to this upstream alone where one is named.
    Outbound(Option<ServiceName>),
}

struct Accepted {
    stream: std::net::TcpStream,
    role: Role,
    _place: OwnedSemaphorePermit,
    _load: Load,
}

/// One connection in a worker's load.
struct Load(Arc<AtomicUsize>);

impl Load {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count.clone())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Seat {
    commands: mpsc::Sender<Command>,
    load: Arc<AtomicUsize>,
}

/// The workers.
pub struct Fleet {
    seats: Vec<Seat>,
    shared: Arc<Shared>,
    identity: watch::Sender<Option<Arc<Identity>>>,
    config: Arc<Config>,
    metrics: Arc<Metrics>,
}

impl Fleet {
    /// Starts the workers' threads. They end when the fleet is dropped.
    ///
    /// # Errors
    /// Where a thread cannot be had.
    pub fn start(
        config: &Arc<Config>,
        metrics: &Arc<Metrics>,
        demand: mpsc::Sender<ServiceName>,
    ) -> io::Result<(Arc<Self>, Vec<JoinHandle<()>>)> {
        let shared = Shared::new(demand);
        let mut seats = Vec::new();
        let mut threads = Vec::new();
        for n in 0..config.runtime.workers.get() {
            let (commands, queue) = mpsc::channel(config.limits.worker_queue.get());
            let (config, metrics, shared) = (config.clone(), metrics.clone(), shared.clone());
            let thread = std::thread::Builder::new().name(format!("worker-{n}"));
            let (began, has_begun) = std::sync::mpsc::channel();
            threads.push(thread.spawn(move || work(config, &metrics, shared, queue, &began))?);
            has_begun.recv().map_err(io::Error::other)??;
            seats.push(Seat { commands, load: Arc::default() });
        }
        let identity = watch::Sender::new(None);
        let (config, metrics) = (config.clone(), metrics.clone());
        Ok((Arc::new(Self { seats, shared, identity, config, metrics }), threads))
    }

    /// A new identity.
    pub async fn identity(&self, identity: Arc<Identity>) {
        self.tell(News::Identity(identity.clone())).await;
        self.identity.send_replace(Some(identity));
    }

    /// The identity as it changes; none before the first.
    pub fn identities(&self) -> watch::Receiver<Option<Arc<Identity>>> {
        self.identity.subscribe()
    }

    /// The present identity, once there is one.
    pub async fn present_identity(&self) -> Arc<Identity> {
        let mut identity = self.identity.subscribe();
        loop {
            if let Some(identity) = &*identity.borrow_and_update() {
                return identity.clone();
            }
            if identity.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// New intentions.
    pub async fn intentions(&self, intentions: Arc<Intentions>) {
        self.tell(News::Intentions(intentions)).await;
    }

    /// A new snapshot of an upstream.
    pub async fn upstream(&self, upstream: Arc<Upstream>) {
        if let Ok(name) = upstream.name.parse::<ServiceName>() {
            let calling = &self.config.upstreams.of(&name).calling;
            self.metrics.upstream(upstream.clone(), calling.policy.budget);
        }
        self.tell(News::Upstream(upstream)).await;
    }

    /// What an upstream's descriptors say of its methods.
    pub async fn methods(&self, upstream: Arc<str>, methods: Arc<Methods>) {
        self.tell(News::Methods(upstream, methods)).await;
    }

    /// An upstream that is called no more.
    pub async fn forget(&self, name: Arc<str>) {
        self.tell(News::Forget(name)).await;
    }

    /// No new call comes in from this side; returns once its connections have closed.
    pub async fn drain(&self, direction: Direction) {
        self.tell(News::Drain(direction)).await;
        self.shared.empty(direction).await;
    }

    /// Ends what is still open on this side.
    pub async fn cut(&self, direction: Direction) {
        self.tell(News::Cut(direction)).await;
    }

    async fn tell(&self, news: News) {
        for seat in &self.seats {
            // Fails only where the worker has ended.
            let _ = seat.commands.send(Command::News(news.clone())).await;
        }
    }

    /// Hands each connection of a socket to the worker with the least to do, at most `limit` at a
    /// time. Ends with its task.
    pub async fn accept(self: Arc<Self>, listener: TcpListener, role: Role, limit: usize) {
        let places = Arc::new(Semaphore::new(limit.min(Semaphore::MAX_PERMITS)));
        loop {
            // At the limit, callers wait in the kernel's queue.
            let Ok(place) = places.clone().acquire_owned().await else { return };
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(e) => {
                    tracing::warn!("cannot accept a connection: {e}");
                    // Out of file descriptors: give some the time to close.
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                    continue;
                }
            };
            let least = self.seats.iter().min_by_key(|seat| seat.load.load(Ordering::Relaxed));
            let (Some(seat), Ok(stream)) = (least, stream.into_std()) else { continue };
            let load = Load::new(&seat.load);
            let accepted = Accepted { stream, role: role.clone(), _place: place, _load: load };
            let _ = seat.commands.send(Command::Serve(accepted)).await;
        }
    }
}

/// Opens a listening socket.
///
/// # Errors
/// The system's, such as an address that is in use.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Not REUSEPORT: a port is never shared with another process. REUSEADDR lets a restart take a
    // port whose old connections still linger.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(1024)?;
    TcpListener::from_std(socket.into())
}

/// A worker's thread, from its start to its end.
fn work(
    config: Arc<Config>,
    metrics: &Arc<Metrics>,
    shared: Arc<Shared>,
    mut queue: mpsc::Receiver<Command>,
    began: &std::sync::mpsc::Sender<io::Result<()>>,
) {
    // A runtime belongs to its thread; whether there is one is told to whoever started it.
    let runtime = Builder::new_current_thread()
        .event_interval(EVENT_INTERVAL)
        .enable_all()
        .build_local(LocalOptions::default());
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(e) => return drop(began.send(Err(e))),
    };
    let _ = began.send(Ok(()));
    let _alive = EndsWithWorker;
    runtime.block_on(async move {
        let worker = Worker::new(config, metrics.shard(), Rc::new(Tcp), shared);
        while let Some(command) = queue.recv().await {
            match command {
                Command::News(news) => hear(&worker, news),
                Command::Serve(accepted) => serve(worker.clone(), accepted),
            }
        }
    });
}

/// A sidecar that lost a worker would go on handing connections to it: better that whoever watches
/// the process sees its end.
struct EndsWithWorker;

impl Drop for EndsWithWorker {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("a worker has panicked; the sidecar ends");
            std::process::abort();
        }
    }
}

fn hear(worker: &Worker, news: News) {
    match news {
        News::Identity(identity) => worker.set_identity(identity),
        News::Intentions(intentions) => worker.set_intentions(intentions),
        News::Upstream(snapshot) => worker.set_upstream(snapshot),
        News::Methods(name, methods) => worker.set_methods(&name, methods),
        News::Forget(name) => worker.forget_upstream(&name),
        News::Drain(direction) => worker.drain(direction),
        News::Cut(direction) => worker.cut(direction),
    }
}

fn serve(worker: Rc<Worker>, accepted: Accepted) {
    spawn_local(async move {
        let Accepted { stream, role, _place, _load } = accepted;
        let Ok(stream) = TcpStream::from_std(stream) else { return };
        let _ = tune(&stream);
        match role {
            Role::Inbound => inbound::connection(worker, stream).await,
            Role::Outbound(fixed) => outbound::connection(worker, stream, fixed).await,
        }
    });
}
