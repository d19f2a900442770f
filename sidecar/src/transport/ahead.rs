//! Reads a socket in large bites under TLS, which by itself asks for 4 KiB at a time.
//!
//! Invariant: a connection holds a buffer only while bytes wait in it; those that are free are
//! shared by the connections of a worker, so that idle ones cost nothing.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::io::Io;

/// What is read at a time.
const BITE: usize = 32 * 1024;

/// Buffers that a worker keeps for the next reads.
const KEPT: usize = 8;

thread_local! {
    static FREE: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// A stream that is read ahead.
pub struct Ahead<T> {
    inner: T,
    /// Bytes that were read and not yet asked for, where there are any.
    rest: Option<Rest>,
}

struct Rest {
    buffer: Box<[u8]>,
    at: usize,
    end: usize,
}

impl<T> Ahead<T> {
    /// Reads this stream ahead.
    pub fn new(inner: T) -> Self {
        Self { inner, rest: None }
    }
}

fn take() -> Box<[u8]> {
    FREE.with_borrow_mut(Vec::pop).unwrap_or_else(|| vec![0; BITE].into_boxed_slice())
}

fn give_back(buffer: Box<[u8]>) {
    FREE.with_borrow_mut(|free| {
        if free.len() < KEPT {
            free.push(buffer);
        }
    });
}

impl<T: Io> AsyncRead for Ahead<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut rest = match self.rest.take() {
            Some(rest) => rest,
            None if buf.remaining() >= BITE => return Pin::new(&mut self.inner).poll_read(cx, buf),
            None => {
                let mut buffer = take();
                let mut bite = ReadBuf::new(&mut buffer);
                let polled = Pin::new(&mut self.inner).poll_read(cx, &mut bite);
                let end = bite.filled().len();
                if end == 0 {
                    give_back(buffer);
                    return polled;
                }
                ready!(polled)?;
                Rest { buffer, at: 0, end }
            }
        };
        let n = (rest.end - rest.at).min(buf.remaining());
        buf.put_slice(&rest.buffer[rest.at..rest.at + n]);
        rest.at += n;
        if rest.at == rest.end {
            give_back(rest.buffer);
        } else {
            self.rest = Some(rest);
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: Io> AsyncWrite for Ahead<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn what_is_read_ahead_comes_in_order_and_whole() {
        let (near, mut far) = tokio::io::duplex(BITE * 2);
        let sent: Vec<u8> = (0..BITE * 3).map(|i| (i % 251) as u8).collect();
        let (mut ahead, mut read) = (Ahead::new(near), Vec::new());
        let writing = async {
            far.write_all(&sent).await.unwrap();
            drop(far);
        };
        let reading = async {
            for size in [1, 5, 4096, BITE, BITE + 1].into_iter().cycle() {
                let mut piece = vec![0; size];
                match ahead.read(&mut piece).await.unwrap() {
                    0 => break,
                    n => read.extend_from_slice(&piece[..n]),
                }
            }
        };
        tokio::join!(writing, reading);
        assert_eq!(read, sent);
        assert!(ahead.rest.is_none());
    }
}
