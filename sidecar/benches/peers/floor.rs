//! The floor: a minimal pair of proxies on the `h2` crate, what the benchmark holds the sidecar against.
//!
//! Plain HTTP/2 in, mutual TLS 1.3 between the two, plain HTTP/2 out. One thread, one connection to
//! the next hop until its streams run out. Invariant: a byte is acknowledged to its sender only after
//! the next hop's window had room for it, and a stream that ends early on one side ends on the other.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, client, server};
use http::{Request, Response};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::spawn_local;
use tokio_rustls::{TlsAcceptor, TlsConnector};

mod tls;
use tls::{Failure, Tls};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 4 * STREAM_WINDOW;
const FRAME: u32 = 16 * 1024;
const STREAMS: u32 = 256;
type Incoming = (Request<RecvStream>, server::SendResponse<Bytes>);
/// A connection to the next hop and the number of its streams.
type Connection = (client::SendRequest<Bytes>, Rc<Cell<usize>>);

trait Io: AsyncRead + AsyncWrite + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Unpin + 'static> Io for T {}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [side, listen, next, certificates] = arguments.as_slice() else {
        return Err("usage: floor outbound|inbound LISTEN NEXT CERTIFICATES".into());
    };
    let tls = Tls::read(Path::new(certificates))?;
    let (accept, connect) = match side.as_str() {
        "outbound" => (None, Some(tls.connector()?)),
        "inbound" => (Some(tls.acceptor()?), None),
        _ => return Err(format!("not a side: {side}").into()),
    };
    let upstream = Rc::new(Upstream {
        next: next.clone(),
        tls: connect,
        connections: RefCell::default(),
        opening: tokio::sync::Mutex::new(()),
    });
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().build_local(Default::default())?.block_on(async {
        let listener = TcpListener::bind(listen).await?;
        loop {
            let (tcp, _) = listener.accept().await?;
            spawn_local(accepted(tcp, accept.clone(), Rc::clone(&upstream)));
        }
    })
}

async fn accepted(tcp: TcpStream, tls: Option<TlsAcceptor>, upstream: Rc<Upstream>) {
    let served = async {
        tcp.set_nodelay(true)?;
        match tls {
            Some(tls) => serve(tls.accept(tcp).await?, upstream).await,
            None => serve(tcp, upstream).await,
        }
    };
    if let Err(error) = served.await {
        eprintln!("a connection ended: {error}");
    }
}

async fn serve(io: impl Io, upstream: Rc<Upstream>) -> Result<(), Failure> {
    let mut connection = server::Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME)
        .max_concurrent_streams(STREAMS)
        .handshake(io)
        .await?;
    while let Some(stream) = connection.accept().await {
        // Boxed: tokio moves a task's whole future when it starts and twice when it ends.
        spawn_local(Box::pin(call(stream?, Rc::clone(&upstream))));
    }
    Ok(())
}

/// Carries one call. An end that comes early is passed on as its code, or by dropping the streams.
async fn call((request, mut respond): Incoming, upstream: Rc<Upstream>) {
    let Ok(mut lease) = upstream.lease().await else {
        return respond.send_reset(Reason::REFUSED_STREAM);
    };
    let (head, from) = request.into_parts();
    let done = from.is_end_stream();
    let (mut response, to) = match lease.0.0.send_request(Request::from_parts(head, ()), done) {
        Ok(sent) => sent,
        Err(error) => return respond.send_reset(code(error)),
    };
    let mut up = Copy { from, to, chunk: Bytes::new(), done };
    let mut down = None;
    let ended = poll_fn(|cx| {
        if let Poll::Ready(Err(reason)) = up.poll(cx) {
            return Poll::Ready(Err(reason));
        }
        if let Poll::Ready(ended) = poll_down(cx, &mut response, &mut respond, &mut down) {
            return Poll::Ready(ended);
        }
        let gone = match &mut down {
            None => respond.poll_reset(cx),
            Some(down) => down.to.poll_reset(cx),
        };
        gone.map(|reason| Err(reason.unwrap_or(Reason::CANCEL)))
    });
    if let Err(reason) = ended.await {
        respond.send_reset(reason);
        up.to.send_reset(reason);
    }
}

fn poll_down(
    cx: &mut Context<'_>,
    response: &mut client::ResponseFuture,
    respond: &mut server::SendResponse<Bytes>,
    down: &mut Option<Copy>,
) -> Poll<Result<(), Reason>> {
    if let Some(down) = down {
        return down.poll(cx);
    }
    let (head, from) = ready!(Pin::new(response).poll(cx)).map_err(code)?.into_parts();
    let done = from.is_end_stream();
    let to = respond.send_response(Response::from_parts(head, ()), done).map_err(code)?;
    down.insert(Copy { from, to, chunk: Bytes::new(), done }).poll(cx)
}

fn code(error: h2::Error) -> Reason {
    error.reason().unwrap_or(Reason::INTERNAL_ERROR)
}

/// One direction of a call's body. Errors are the sender's: where the receiver takes no more, the copy
/// is done, and the receiver's own stream says why.
struct Copy {
    from: RecvStream,
    to: SendStream<Bytes>,
    chunk: Bytes,
    done: bool,
}

impl Copy {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Reason>> {
        while !self.done {
            if self.chunk.is_empty() {
                let Some(chunk) = ready!(self.from.poll_data(cx)) else {
                    let _gone = match ready!(self.from.poll_trailers(cx)).map_err(code)? {
                        Some(trailers) => self.to.send_trailers(trailers),
                        None => self.to.send_data(Bytes::new(), true),
                    };
                    self.done = true;
                    break;
                };
                self.chunk = chunk.map_err(code)?;
                self.to.reserve_capacity(self.chunk.len());
            }
            let room = match self.to.capacity() {
                0 if !self.chunk.is_empty() => match ready!(self.to.poll_capacity(cx)) {
                    Some(Ok(room)) => room,
                    _ => usize::MAX,
                },
                room => room,
            };
            let piece = self.chunk.split_to(room.min(self.chunk.len()));
            let length = piece.len();
            let last = self.chunk.is_empty() && self.from.is_end_stream();
            self.done = self.to.send_data(piece, last).is_err() || last;
            self.from.flow_control().release_capacity(length).map_err(code)?;
        }
        Poll::Ready(Ok(()))
    }
}

struct Upstream {
    next: String,
    tls: Option<TlsConnector>,
    connections: RefCell<Vec<Connection>>,
    /// Held while one opens, so that calls that wait for it do not each open their own.
    opening: tokio::sync::Mutex<()>,
}

/// A stream's place on a connection.
struct Lease(Connection);

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.1.update(|streams| streams - 1);
    }
}

impl Upstream {
    fn free(&self) -> Option<Lease> {
        let connections = self.connections.borrow();
        let free = connections.iter().find(|one| one.1.get() < STREAMS as usize)?;
        free.1.update(|streams| streams + 1);
        Some(Lease(free.clone()))
    }

    async fn lease(self: &Rc<Self>) -> Result<Lease, Failure> {
        loop {
            if let Some(lease) = self.free() {
                return Ok(lease);
            }
            let _opening = self.opening.lock().await;
            if let Some(lease) = self.free() {
                return Ok(lease);
            }
            let tcp = TcpStream::connect(&self.next).await?;
            tcp.set_nodelay(true)?;
            match (&self.tls, ServerName::try_from("echo")?) {
                (Some(tls), name) => self.open(tls.connect(name, tcp).await?).await?,
                (None, _) => self.open(tcp).await?,
            }
        }
    }

    async fn open(self: &Rc<Self>, io: impl Io) -> Result<(), Failure> {
        let (send, driver) = client::Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(FRAME)
            .initial_max_send_streams(STREAMS as usize)
            .handshake(io)
            .await?;
        let streams = Rc::new(Cell::new(0));
        self.connections.borrow_mut().push((send, Rc::clone(&streams)));
        let upstream = Rc::clone(self);
        spawn_local(async move {
            if let Err(error) = driver.await {
                eprintln!("the connection to the next hop ended: {error}");
            }
            upstream.connections.borrow_mut().retain(|one| !Rc::ptr_eq(&one.1, &streams));
        });
        Ok(())
    }
}
