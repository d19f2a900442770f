//! Streams of bytes: any that reads and writes will do, so that tests can serve over pipes.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use certs::PeerFault;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A stream of bytes both ways.
pub trait Io: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Io for T {}

/// A connection that is being opened.
pub type Dialing = Pin<Box<dyn Future<Output = io::Result<Box<dyn Io>>>>>;

/// How a connection to an address is opened: TCP, or a test's pipes.
pub trait Dial {
    /// Opens a connection.
    fn dial(&self, address: SocketAddr) -> Dialing;
}

/// Dials TCP.
#[derive(Debug)]
pub struct Tcp;

impl Dial for Tcp {
    fn dial(&self, address: SocketAddr) -> Dialing {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            tune(&stream)?;
            Ok(Box::new(stream) as Box<dyn Io>)
        })
    }
}

/// Sends small frames at once, and has the system find out when the other host is gone.
///
/// # Errors
/// The system's.
pub fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(60))
        .with_interval(Duration::from_secs(10))
        .with_retries(3);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

/// What goes over a connection, told without reading a clock.
#[derive(Debug, Default)]
pub struct Activity {
    reads: Cell<u64>,
    writes: Cell<u64>,
    write_blocked: Cell<bool>,
    /// TLS takes more than the socket does, and tells so only when it is flushed.
    flush_blocked: Cell<bool>,
    first: RefCell<Option<Waker>>,
    /// h2 keeps only the text of an I/O error, so what TLS said is kept here.
    refused: RefCell<Option<PeerFault>>,
}

impl Activity {
    /// Grows with each read that brought bytes.
    pub fn reads(&self) -> u64 {
        self.reads.get()
    }

    /// Grows with each write that took bytes.
    pub fn writes(&self) -> u64 {
        self.writes.get()
    }

    /// Whether the other end took no more the last time that something was written.
    pub fn is_blocked(&self) -> bool {
        self.write_blocked.get() || self.flush_blocked.get()
    }

    /// Ready once the first bytes were read.
    pub fn poll_first(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.reads.get() > 0 {
            return Poll::Ready(());
        }
        *self.first.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }

    /// What TLS said when it ended the connection, if it did.
    pub fn refused(&self) -> Option<PeerFault> {
        self.refused.borrow().clone()
    }

    fn record(&self) {
        let reads = self.reads.get() + 1;
        self.reads.set(reads);
        if reads == 1
            && let Some(waker) = self.first.borrow_mut().take()
        {
            waker.wake();
        }
    }
}

/// A stream whose reads are counted, and which may give back bytes that were read ahead.
pub struct Watched<T> {
    ahead: Bytes,
    inner: T,
    activity: Rc<Activity>,
}

impl<T> Watched<T> {
    /// Watches a stream from its start.
    pub fn new(inner: T, activity: Rc<Activity>) -> Self {
        Self { ahead: Bytes::new(), inner, activity }
    }

    fn wrote(&self, polled: &Poll<io::Result<usize>>) {
        self.activity.write_blocked.set(polled.is_pending());
        if matches!(polled, Poll::Ready(Ok(1..))) {
            self.activity.writes.set(self.activity.writes.get() + 1);
        }
    }
}

/// The first line of an HTTP/2 connection (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a connection speaks, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/2 with prior knowledge.
    H2,
    /// Anything else; HTTP/1.1 if it is HTTP at all.
    H1,
}

/// Reads until HTTP/2 and HTTP/1.1 can be told apart, and gives the bytes back with the stream.
///
/// # Errors
/// The stream's own, or `UnexpectedEof` where it ended without a byte.
pub async fn detect<T: Io>(
    mut inner: T,
    activity: Rc<Activity>,
) -> io::Result<(Protocol, Watched<T>)> {
    let mut ahead = BytesMut::with_capacity(4096);
    let protocol = loop {
        if inner.read_buf(&mut ahead).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let seen = ahead.len().min(PREFACE.len());
        if ahead[..seen] != PREFACE[..seen] {
            break Protocol::H1;
        }
        if seen == PREFACE.len() {
            break Protocol::H2;
        }
    };
    activity.record();
    Ok((protocol, Watched { ahead: ahead.freeze(), inner, activity }))
}

impl<T: Io> AsyncRead for Watched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.ahead.has_remaining() {
            let n = self.ahead.len().min(buf.remaining());
            buf.put_slice(&self.ahead.split_to(n));
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.activity.record();
        }
        if let Poll::Ready(Err(e)) = &polled
            && e.get_ref().is_some_and(|inner| inner.is::<rustls::Error>())
        {
            *self.activity.refused.borrow_mut() = Some(PeerFault::from_io(e));
        }
        polled
    }
}

impl<T: Io> AsyncWrite for Watched<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.wrote(&polled);
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.inner).poll_flush(cx);
        self.activity.flush_blocked.set(polled.is_pending());
        polled
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.wrote(&polled);
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}
