//! A pool of HTTP/2 client connections to one address, owned by one worker.
//!
//! A connection counts as opened only once the other end's first bytes were read: until then
//! nothing was sent on it, so a refusal (TLS 1.3 tells a refused client no sooner) costs no call.
//! Calls share the oldest connection that takes them, as frames that go out together cost least.
//! Another one opens when streams run out, or when on each of the present ones a call has been
//! stalled on flow control for a while or much is without an answer, so that one stalled call never
//! stops others. An attempt belongs to the pool: a caller that gives up does not end it, and whoever
//! watches the pool hears of its failure.

mod cancels;
mod connection;

use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::Poll;
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep, timeout};

use super::aside::Aside;
use super::io::{Activity, Io, Watched};
use super::keepalive::{self, Keepalive};
use cancels::Following;
use connection::Connection;
pub use connection::Lease;

/// Opens connections to one address.
pub trait Connect {
    /// One attempt, TLS included.
    fn connect(&self) -> Pin<Box<dyn Future<Output = Result<Opened, ConnectFault>> + '_>>;
}

/// A connection that HTTP/2 has not begun on yet.
pub struct Opened {
    /// Its bytes.
    pub io: Box<dyn Io>,
    /// When the peer's certificate ends; no new call goes out on it after that.
    pub not_after: Option<SystemTime>,
}

/// Why there is no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectStage {
    /// TCP, or the first bytes of HTTP/2.
    Connect,
    /// The TLS handshake.
    Tls,
    /// The peer proved to be someone else.
    Identity,
    /// There are connections, and all of them are full.
    Full,
}

/// Why an attempt failed. Nothing was sent.
#[derive(Clone, Debug)]
pub struct ConnectFault {
    /// How far it got.
    pub stage: ConnectStage,
    /// In plain words, the address included.
    pub message: String,
}

/// How the pool speaks HTTP/2.
#[derive(Clone, Debug)]
pub struct Settings {
    /// A stream's receive window, in bytes.
    pub stream_window: u32,
    /// A connection's receive window, in bytes; at least 4 of a stream's.
    pub connection_window: u32,
    /// The largest frame that is accepted, in bytes.
    pub max_frame: u32,
    /// The largest header list that is accepted, in bytes.
    pub max_header_list: u32,
    /// Connections at most.
    pub connections: usize,
    /// PINGs; none where the other end would take them ill.
    pub keepalive: Option<Keepalive>,
    /// Time for the other end's first bytes.
    pub first_bytes: Duration,
    /// How long a connection beside the first is kept without a call.
    pub idle: Duration,
}

/// What frames of a few bytes may cost beyond their payload, in connection windows: h2 counts 256
/// bytes for each that is unread. With less, a stream of small messages that is read a moment late
/// ends its connection; with more, frames cost more memory than the window bounds.
pub const SMALL_FRAMES: usize = 4;

/// A header list so many times over the limit is still read, so that it ends one call alone.
pub const HEADER_SLACK: u32 = 16;

/// Connections that end as soon as they are open before a call gives the address up.
const SENT_AWAY: usize = 2;

/// Streams that we reset and still take late frames for.
const RESET_STREAMS: usize = 4096;

type OnFault = Box<dyn Fn(&ConnectFault)>;

/// The connections to one address.
pub struct Pool {
    connect: Box<dyn Connect>,
    settings: Rc<Settings>,
    connections: RefCell<Vec<Rc<Connection>>>,
    /// One attempt at a time; who waits shares its outcome.
    attempt: RefCell<Option<Rc<Attempt>>>,
    /// Raised whenever the open connections are retired.
    generation: Cell<u64>,
    on_fault: RefCell<Option<OnFault>>,
}

#[derive(Default)]
struct Attempt {
    outcome: RefCell<Option<Result<Kept, ConnectFault>>>,
    ended: Notify,
}

/// What became of a connection that was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    Yes,
    /// The others were retired while it was being opened, and it with them.
    Retired,
}

impl Pool {
    /// A pool without connections yet.
    pub fn new(connect: Box<dyn Connect>, settings: Rc<Settings>) -> Rc<Self> {
        Rc::new(Self {
            connect,
            settings,
            connections: RefCell::default(),
            attempt: RefCell::default(),
            generation: Cell::new(0),
            on_fault: RefCell::default(),
        })
    }

    /// Tells whoever watches of each attempt that failed, also where its caller has gone.
    pub fn on_fault(&self, tell: impl Fn(&ConnectFault) + 'static) {
        *self.on_fault.borrow_mut() = Some(Box::new(tell));
    }

    /// A place on the oldest connection that takes calls and has none stalled, without waiting,
    /// where there is one.
    pub fn ready(&self, now: Instant) -> Option<Lease> {
        let mut connections = self.connections.borrow_mut();
        loop {
            let at = connections.iter().position(|connection| connection.is_free(now))?;
            if connections[at].is_open() {
                return Some(Lease::new(connections[at].clone()));
            }
            connections.remove(at);
        }
    }

    /// A place on a connection; opens one where that is needed.
    ///
    /// # Errors
    /// Where no connection could be opened. Nothing was sent.
    #[cold]
    pub fn lease(self: &Rc<Self>) -> Pin<Box<impl Future<Output = Result<Lease, ConnectFault>>>> {
        // Boxed: a call's own future stays small without the way to a new connection.
        Box::pin(async move {
            let (mut sent_away, mut rounds) = (0, 0);
            // Others may have filled what was opened: each round opens another.
            while rounds <= self.settings.connections {
                if let Some(lease) = self.ready(Instant::now()) {
                    return Ok(lease);
                }
                // Full or stalled ones that have ended make room.
                self.connections.borrow_mut().retain(|connection| connection.is_open());
                if self.connections.borrow().len() >= self.settings.connections {
                    break;
                }
                match self.attempt().outcome().await {
                    // A stalled connection is better than none.
                    Err(fault) => return self.least_stalled().ok_or(fault),
                    Ok(Kept::Retired) => continue,
                    Ok(Kept::Yes) if !self.is_open() => sent_away += 1,
                    Ok(Kept::Yes) => {}
                }
                rounds += 1;
                if sent_away == SENT_AWAY {
                    let fault = sent_away_at_once();
                    self.tell(&fault);
                    return Err(fault);
                }
            }
            let message = format!("all {} connections are full", self.settings.connections);
            let full = ConnectFault { stage: ConnectStage::Full, message };
            self.least_stalled().ok_or(full)
        })
    }

    /// New calls go out on new connections; those open end with their calls.
    pub fn retire(&self) {
        self.generation.set(self.generation.get() + 1);
        self.connections.borrow_mut().clear();
    }

    /// A place on the connection on which the fewest calls wait.
    fn least_stalled(&self) -> Option<Lease> {
        let mut connections = self.connections.borrow_mut();
        connections.retain(|connection| connection.is_open());
        let free = connections.iter().filter(|connection| connection.has_room());
        free.min_by_key(|c| (c.waiting(), c.streams().get())).cloned().map(Lease::new)
    }

    /// The attempt under way, or a new one.
    fn attempt(self: &Rc<Self>) -> Rc<Attempt> {
        if let Some(attempt) = &*self.attempt.borrow() {
            return attempt.clone();
        }
        let attempt = Rc::new(Attempt::default());
        *self.attempt.borrow_mut() = Some(attempt.clone());
        let pool = self.clone();
        let settled = Settled { pool: self.clone(), attempt: attempt.clone(), outcome: None };
        let generation = self.generation.get();
        spawn_local(async move {
            let outcome = pool.open().await.map(|connection| {
                // One that began before the last retirement is as old as those.
                if generation != pool.generation.get() {
                    return Kept::Retired;
                }
                pool.connections.borrow_mut().push(connection);
                Kept::Yes
            });
            if let Err(fault) = &outcome {
                pool.tell(fault);
            }
            settled.with(outcome);
        });
        attempt
    }

    /// Tells whoever watches, unless one is open: then the address can be connected, and only takes
    /// no more.
    fn tell(&self, fault: &ConnectFault) {
        if let Some(tell) = &*self.on_fault.borrow()
            && !self.is_open()
        {
            tell(fault);
        }
    }

    fn is_open(&self) -> bool {
        self.connections.borrow().iter().any(|connection| connection.is_open())
    }

    async fn open(self: &Rc<Self>) -> Result<Rc<Connection>, ConnectFault> {
        let Opened { io, not_after } = self.connect.connect().await?;
        let failed = |e: &dyn std::fmt::Display| ConnectFault {
            stage: ConnectStage::Connect,
            message: format!("HTTP/2 did not begin: {e}"),
        };
        let activity = Rc::new(Activity::default());
        let watched = Watched::new(io, activity.clone());
        let (sender, mut http2) =
            self.builder().handshake(watched).await.map_err(|e| failed(&e))?;
        let pings = http2.ping_pong();
        let first = poll_fn(|cx| {
            // Polled first, so that an error is seen where both are ready.
            match Pin::new(&mut http2).poll(cx) {
                Poll::Ready(Err(e)) => Poll::Ready(Err(match activity.refused() {
                    Some(fault) => {
                        ConnectFault { stage: ConnectStage::Tls, message: fault.to_string() }
                    }
                    None => failed(&e),
                })),
                Poll::Ready(Ok(())) => Poll::Ready(Err(failed(&"it was closed"))),
                Poll::Pending => activity.poll_first(cx).map(Ok),
            }
        });
        match timeout(self.settings.first_bytes, first).await {
            Ok(outcome) => outcome?,
            Err(_) => {
                return Err(failed(&format_args!(
                    "no answer within {:?}",
                    self.settings.first_bytes
                )));
            }
        }
        let connection = Connection::new(sender);
        let streams = connection.streams().clone();
        if !connection.is_open() {
            // The other end is on its way out, and says so to whoever comes.
            return Err(sent_away_at_once());
        }
        let mut following = Following::new(connection.cancels().clone());
        let (keepalive, window) = (self.settings.keepalive, self.settings.stream_window);
        let lifetime = lifetime(Rc::downgrade(self), Rc::downgrade(&connection), not_after);
        spawn_local(async move {
            let dead = keepalive::watch(keepalive, pings, &activity, || streams.get());
            // What is dropped here takes the connection's calls with it.
            let lifetime = async {
                lifetime.await;
                pending().await
            };
            let over = Aside::new(async {
                tokio::select! {
                    biased;
                    () = dead => {}
                    () = lifetime => {}
                }
            });
            let http2 = poll_fn(|cx| {
                loop {
                    if Pin::new(&mut http2).poll(cx).is_ready() {
                        return Poll::Ready(());
                    }
                    if !following.follow(cx, &mut http2, window) {
                        return Poll::Pending;
                    }
                }
            });
            tokio::select! {
                biased;
                () = http2 => {}
                () = over => {}
            }
        });
        Ok(connection)
    }

    fn builder(&self) -> h2::client::Builder {
        let settings = &self.settings;
        let mut builder = h2::client::Builder::new();
        builder
            .enable_push(false)
            .initial_window_size(settings.stream_window)
            .initial_connection_window_size(settings.connection_window)
            .max_frame_size(settings.max_frame)
            // The answer to a larger list is ours to write: h2 would end the connection.
            .max_header_list_size(settings.max_header_list.saturating_mul(HEADER_SLACK))
            .data_frame_budget(settings.connection_window as usize * SMALL_FRAMES)
            // Calls are cancelled by the hundred when a caller goes; what still comes for them is
            // no fault of the other end.
            .max_concurrent_reset_streams(RESET_STREAMS)
            .max_local_error_reset_streams(None)
            .max_send_buffer_size(settings.stream_window as usize);
        builder
    }
}

fn sent_away_at_once() -> ConnectFault {
    ConnectFault {
        stage: ConnectStage::Connect,
        message: "HTTP/2 did not begin: it was told to go away at once".into(),
    }
}

/// Ends once the connection is to take no more calls: its peer's certificate ended, or it was
/// long idle beside others.
async fn lifetime(pool: Weak<Pool>, connection: Weak<Connection>, not_after: Option<SystemTime>) {
    let left = |at: SystemTime| at.duration_since(SystemTime::now()).unwrap_or_default();
    loop {
        let Some(idle) = pool.upgrade().map(|pool| pool.settings.idle) else { return };
        let tick = not_after.map_or(idle, |at| idle.min(left(at)));
        let before = connection.upgrade().map(|c| c.streams().get());
        sleep(tick).await;
        let (Some(pool), Some(connection)) = (pool.upgrade(), connection.upgrade()) else { return };
        let expired = not_after.is_some_and(|at| left(at).is_zero());
        let idle = before == Some(0) && connection.streams().get() == 0;
        let mut connections = pool.connections.borrow_mut();
        if expired || (idle && connections.len() > 1) {
            connections.retain(|other| !Rc::ptr_eq(other, &connection));
            return;
        }
    }
}

/// Tells the outcome of an attempt however its task ends.
struct Settled {
    pool: Rc<Pool>,
    attempt: Rc<Attempt>,
    outcome: Option<Result<Kept, ConnectFault>>,
}

impl Settled {
    fn with(mut self, outcome: Result<Kept, ConnectFault>) {
        self.outcome = Some(outcome);
    }
}

impl Drop for Settled {
    fn drop(&mut self) {
        self.pool.attempt.take();
        let broken = || ConnectFault {
            stage: ConnectStage::Connect,
            message: "the attempt broke off, which is a fault of this sidecar".into(),
        };
        let outcome = self.outcome.take().unwrap_or_else(|| Err(broken()));
        *self.attempt.outcome.borrow_mut() = Some(outcome);
        self.attempt.ended.notify_waiters();
    }
}

impl Attempt {
    async fn outcome(&self) -> Result<Kept, ConnectFault> {
        loop {
            let ended = self.ended.notified();
            if let Some(outcome) = &*self.outcome.borrow() {
                return outcome.clone();
            }
            ended.await;
        }
    }
}
