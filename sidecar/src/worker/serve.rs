//! Serves one accepted connection, HTTP/2 or HTTP/1.1, until it ends.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::{Future, pending, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::task::spawn_local;
use tokio::time::{Sleep, sleep, timeout};

use super::door::Door;
use crate::call::carry::{self, Call, Screen};
use crate::call::control::Unheard;
use crate::transport::aside::Aside;
use crate::transport::body::Body;
use crate::transport::io::{Activity, Io, Protocol, Watched, detect};
use crate::transport::keepalive::{self, Keepalive};
use crate::transport::pool::{HEADER_SLACK, SMALL_FRAMES};

/// Streams that one connection may make us reset by breaking the protocol, in its whole life.
const ERROR_RESETS: usize = 65_536;

/// How long a connection that came in a drain may take to its first bytes.
const LATE: Duration = Duration::from_secs(1);

/// How connections are served.
#[derive(Clone, Debug)]
pub struct Settings {
    /// A stream's receive window, in bytes.
    pub stream_window: u32,
    /// A connection's receive window, in bytes; at least 4 of a stream's.
    pub connection_window: u32,
    /// The largest frame that is accepted, in bytes.
    pub max_frame: u32,
    /// The largest header list that a call may bring, in bytes.
    pub max_header_list: u32,
    /// Streams at a time.
    pub streams: u32,
    /// PINGs to the other end, where wanted.
    pub keepalive: Option<Keepalive>,
    /// Time for the first bytes, and for a whole HTTP/1.1 head.
    pub head_timeout: Duration,
    /// Time for the other end's part in a farewell, once no call is open.
    pub farewell: Duration,
    /// How long an HTTP/1.1 caller may read nothing of what waits for it.
    pub stalled: Option<Duration>,
}

impl Settings {
    fn first_bytes(&self, late: bool) -> Duration {
        if late { LATE.min(self.head_timeout) } else { self.head_timeout }
    }
}

/// Serves a connection until it ends by itself or its door is closed and its calls have ended.
pub async fn connection<S: Screen>(
    io: impl Io + 'static,
    protocol: Option<Protocol>,
    door: Rc<Door>,
    settings: Rc<Settings>,
    screen: Rc<S>,
) {
    let activity = Rc::new(Activity::default());
    // One that came after the door had closed still says for a moment what it came for.
    let late = door.is_closing();
    let (protocol, io) = match protocol {
        Some(protocol) => (protocol, Watched::new(io, activity.clone())),
        None => {
            // Idle before its first byte, a connection ends with its door.
            let mut detecting = pin!(detect(io, activity.clone()));
            let detected = poll_fn(|cx| match detecting.as_mut().poll(cx) {
                Poll::Ready(detected) => Poll::Ready(detected.ok()),
                Poll::Pending if !late && door.poll_closing(cx) => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            });
            let within = settings.first_bytes(late);
            let Ok(Some(detected)) = timeout(within, detected).await else { return };
            detected
        }
    };
    let expiry = expiry(&door);
    let expire = Aside::new(async {
        expiry.await;
        door.distrust();
        pending().await
    });
    let serve = async {
        match protocol {
            Protocol::H2 => h2(io, &activity, &door, &settings, screen, late).await,
            Protocol::H1 => h1(io, &activity, &door, &settings, screen).await,
        }
    };
    tokio::select! {
        biased;
        () = serve => {}
        () = expire => {}
    }
}

/// Ends when the peer's certificate does.
fn expiry(door: &Door) -> impl Future<Output = ()> + use<> {
    let not_after = door.guest.as_ref().map(|guest| guest.peer.not_after);
    async move {
        match not_after {
            Some(at) => sleep(at.duration_since(SystemTime::now()).unwrap_or_default()).await,
            None => pending().await,
        }
    }
}

async fn h2<S: Screen>(
    io: Watched<impl Io + 'static>,
    activity: &Activity,
    door: &Rc<Door>,
    settings: &Settings,
    screen: Rc<S>,
    late: bool,
) {
    let mut builder = h2::server::Builder::new();
    builder
        .initial_window_size(settings.stream_window)
        .initial_connection_window_size(settings.connection_window)
        .max_frame_size(settings.max_frame)
        // Ours is the smaller one, so that the answer to a larger list is ours to write.
        .max_header_list_size(settings.max_header_list.saturating_mul(HEADER_SLACK))
        .max_concurrent_streams(settings.streams)
        .data_frame_budget(settings.connection_window as usize * SMALL_FRAMES)
        // A caller may cancel all that it has open at once.
        .max_pending_accept_reset_streams(settings.streams as usize)
        .max_concurrent_reset_streams(settings.streams as usize)
        .max_local_error_reset_streams(Some(ERROR_RESETS))
        .max_send_buffer_size(settings.stream_window as usize);
    let handshake = builder.handshake::<_, Bytes>(io);
    let Ok(Ok(mut http2)) = timeout(settings.first_bytes(late), handshake).await else { return };
    let pings = http2.ping_pong();
    let keepalive = keepalive::watch(settings.keepalive, pings, activity, || door.calls.len());
    let mut keepalive = Aside::new(keepalive);
    let mut farewell: Option<Farewell> = None;
    // Clients send no call at all once they have read a GOAWAY.
    let mut patience = late.then(|| Box::pin(sleep(LATE)));
    poll_fn(|cx| {
        loop {
            patience.take_if(|patience| {
                !door.calls.is_empty() || patience.as_mut().poll(cx).is_ready()
            });
            if farewell.is_none() && patience.is_none() && door.poll_closing(cx) {
                farewell = Some(Farewell::begin(settings.farewell));
                // In two steps: h2 sends GOAWAY with the highest ID and a PING, and the true last
                // ID once that is answered, so that no call crosses it on the way.
                http2.graceful_shutdown();
            }
            match http2.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, mut respond)))) => {
                    let said = farewell.as_mut().is_some_and(|farewell| farewell.is_said(cx));
                    if said || door.is_distrusted() {
                        respond.send_reset(h2::Reason::REFUSED_STREAM);
                        continue;
                    }
                    let (head, stream) = request.into_parts();
                    let control = Some(door.calls.register());
                    let body = Body::from_h2(stream);
                    let call = Box::new(Call { head, body, control });
                    // Boxed: a task's own future is moved when it ends, and this one is large.
                    let carried = carry::over_h2(screen.clone(), call, respond);
                    spawn_local(Box::pin(carried));
                }
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(()),
                Poll::Pending => break,
            }
        }
        if let Some(Farewell { silence, .. }) = &mut farewell {
            // Who reads slowly has the time of the drain, if we trust him.
            let reads_slowly = activity.is_blocked() && !door.is_distrusted();
            if !door.calls.poll_empty(cx) || reads_slowly {
                silence.end();
            } else if silence.poll(settings.farewell, written(door, activity), cx).is_ready() {
                return Poll::Ready(());
            }
        }
        Pin::new(&mut keepalive).poll(cx)
    })
    .await;
}

/// The end of a connection that takes no more calls, whatever the other end does.
struct Farewell {
    /// Until then, calls may come that crossed our GOAWAY on the way.
    said: Option<Pin<Box<Sleep>>>,
    silence: Silence,
}

impl Farewell {
    fn begin(within: Duration) -> Self {
        Self { said: Some(Box::pin(sleep(within))), silence: Silence::default() }
    }

    fn is_said(&mut self, cx: &mut Context<'_>) -> bool {
        self.said.take_if(|said| said.as_mut().poll(cx).is_ready());
        self.said.is_none()
    }
}

/// How long nothing went out, told from a counter of writes.
#[derive(Default)]
struct Silence(Option<Listening>);

struct Listening {
    writes: u64,
    limit: Duration,
    over: Pin<Box<Sleep>>,
}

impl Silence {
    /// Ready once nothing went out for so long; begins anew with each write, and with another
    /// limit.
    fn poll(&mut self, limit: Duration, writes: u64, cx: &mut Context<'_>) -> Poll<()> {
        self.0.take_if(|it| (it.writes, it.limit) != (writes, limit));
        let begin = || Listening { writes, limit, over: Box::pin(sleep(limit)) };
        self.0.get_or_insert_with(begin).over.as_mut().poll(cx)
    }

    /// Nobody waits for anything.
    fn end(&mut self) {
        self.0 = None;
    }
}

/// What was written to the other end; whom we trust no more holds nothing open by taking it.
fn written(door: &Door, activity: &Activity) -> u64 {
    if door.is_distrusted() { 0 } else { activity.writes() }
}

async fn h1<S: Screen>(
    io: Watched<impl Io + 'static>,
    activity: &Activity,
    door: &Rc<Door>,
    settings: &Settings,
    screen: Rc<S>,
) {
    let begun = Cell::new(false);
    let service = service_fn(|request: http::Request<hyper::body::Incoming>| {
        begun.set(true);
        let (head, incoming) = request.into_parts();
        let control = Some(door.calls.register());
        let call = Box::new(Call { head, body: Body::H1(incoming), control });
        let screen = screen.clone();
        async move { Ok::<_, Infallible>(carry::over_h1(screen, call).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(settings.head_timeout)
        .max_buf_size(settings.max_header_list.max(8192) as usize)
        .serve_connection(TokioIo::new(io), service);
    let mut connection = pin!(connection);
    let mut told = false;
    // While the caller takes nothing of what waits for it.
    let mut silence = Silence::default();
    poll_fn(|cx| {
        // Once one has begun, hyper lets no further one in, and writes the answer to its end.
        if door.is_distrusted() && !begun.get() {
            return Poll::Ready(());
        }
        loop {
            // Its first request is on its way: a connection that speaks HTTP/2 or HTTP/1.1 has
            // sent bytes. hyper would close it unread.
            if !told && begun.get() && door.poll_closing(cx) {
                told = true;
                connection.as_mut().graceful_shutdown();
            }
            let had_begun = begun.get();
            let polled = Pin::new(&mut connection).poll(cx).map(|_| ());
            if polled.is_ready() {
                return polled;
            }
            if had_begun == begun.get() {
                break;
            }
        }
        // hyper polls no answer while its caller does not read.
        let waits = match door.calls.unheard() {
            Unheard::Fault => return Poll::Ready(()),
            Unheard::Idle => true,
            Unheard::Nothing => door.calls.is_empty() && activity.is_blocked(),
        };
        let limit = if told { Some(settings.farewell) } else { settings.stalled };
        let (true, Some(limit)) = (waits, limit) else {
            silence.end();
            return Poll::Pending;
        };
        silence.poll(limit, written(door, activity), cx)
    })
    .await;
}
