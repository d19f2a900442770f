//! A message body as it arrives, from HTTP/2 or HTTP/1.1, read one piece at a time.
//!
//! Invariant: the sender is given credit for a piece only by [`Body::release`], once the piece
//! went on; this is what lets a slow reader hold back a fast writer, end to end.

mod kept;
mod noted;

pub use kept::{Kept, Room};
pub use noted::Noted;

use std::cell::Cell;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};
use tokio::time::Instant;

/// Where a body comes from.
#[derive(Debug)]
pub enum Body {
    /// The head was all.
    Empty,
    /// An HTTP/2 stream.
    H2(h2::RecvStream),
    /// An HTTP/1.1 message.
    H1(hyper::body::Incoming),
    /// One that can be read again.
    Kept(Box<Kept>),
    /// One that is noted as it goes by.
    Noted(Box<Noted>),
}

/// One piece of a body.
#[derive(Debug)]
pub enum Piece {
    /// Payload; never empty.
    Data(Bytes),
    /// The end, with trailers.
    Trailers(HeaderMap),
}

/// Why a body ended early.
#[derive(Debug)]
pub enum BodyError {
    /// Of an HTTP/2 stream.
    H2(h2::Error),
    /// Of an HTTP/1.1 message.
    H1(hyper::Error),
}

impl Body {
    /// The body of an HTTP/2 message.
    pub fn from_h2(stream: h2::RecvStream) -> Self {
        if stream.is_end_stream() { Body::Empty } else { Body::H2(stream) }
    }

    /// One message and its trailers.
    pub fn made(message: Bytes, trailers: HeaderMap) -> Self {
        Body::Kept(Box::new(Kept::made(message, trailers)))
    }

    /// Keeps what is read of it, up to so many bytes and within the `room`, so that it can be read
    /// again.
    pub fn keep(&mut self, limit: usize, room: Option<&Rc<Room>>) {
        if !matches!(self, Body::Empty | Body::Kept(_)) {
            let source = std::mem::replace(self, Body::Empty);
            *self = Body::Kept(Box::new(Kept::new(source, limit, room.cloned())));
        }
    }

    /// True when the head was all: what was known when it came.
    pub fn is_empty(&self) -> bool {
        matches!(self, Body::Empty)
    }

    /// True when no piece will follow, as far as is known without waiting.
    pub fn is_end(&self) -> bool {
        match self {
            Body::Empty => true,
            Body::H2(stream) => stream.is_end_stream(),
            Body::H1(incoming) => incoming.is_end_stream(),
            Body::Kept(kept) => kept.is_end(),
            Body::Noted(noted) => noted.is_end(),
        }
    }

    /// The next piece, or `None` at the end.
    pub fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, BodyError>>> {
        match self {
            Body::Empty => Poll::Ready(None),
            Body::H2(stream) => loop {
                match ready!(stream.poll_data(cx)) {
                    Some(Ok(data)) if data.is_empty() => continue,
                    Some(Ok(data)) => return Poll::Ready(Some(Ok(Piece::Data(data)))),
                    Some(Err(e)) => return Poll::Ready(Some(Err(BodyError::H2(e)))),
                    None => {
                        let trailers = ready!(stream.poll_trailers(cx)).map_err(BodyError::H2);
                        return Poll::Ready(trailers.map(|t| t.map(Piece::Trailers)).transpose());
                    }
                }
            },
            Body::H1(incoming) => loop {
                let frame = match ready!(Pin::new(&mut *incoming).poll_frame(cx)) {
                    None => return Poll::Ready(None),
                    Some(Err(e)) => return Poll::Ready(Some(Err(BodyError::H1(e)))),
                    Some(Ok(frame)) => frame,
                };
                match frame.into_data() {
                    Ok(data) if data.is_empty() => continue,
                    Ok(data) => return Poll::Ready(Some(Ok(Piece::Data(data)))),
                    Err(frame) => {
                        let trailers = frame.into_trailers().unwrap_or_default();
                        return Poll::Ready(Some(Ok(Piece::Trailers(trailers))));
                    }
                }
            },
            Body::Kept(kept) => kept.poll_piece(cx),
            Body::Noted(noted) => noted.poll_piece(cx),
        }
    }

    /// Gives the sender credit for `n` bytes that went on.
    pub fn release(&mut self, n: usize) {
        match self {
            // Fails only for more than was received, or on a stream that has ended.
            Body::H2(stream) => drop(stream.flow_control().release_capacity(n)),
            Body::Kept(kept) => kept.release(n),
            Body::Noted(noted) => noted.release(n),
            Body::Empty | Body::H1(_) => {}
        }
    }
}

/// A body that hyper pulls: credit for a piece is given when hyper asks for the next one.
#[derive(Debug)]
pub struct Pulled {
    body: Body,
    owed: usize,
    pulling: Rc<Pulling>,
    clean: fn(&mut HeaderMap),
}

/// How far hyper is with a body that it pulls.
#[derive(Debug, Default)]
pub struct Pulling {
    pieces: Cell<u64>,
    rest: Cell<Rest>,
}

#[derive(Clone, Copy, Debug, Default)]
enum Rest {
    /// Each piece was there when hyper asked for it.
    #[default]
    AtHand,
    /// Hyper waits for the next one.
    Coming,
    /// It came late, and at this time.
    Since(Instant),
}

impl Pulling {
    /// The pieces that went.
    pub fn pieces(&self) -> u64 {
        self.pieces.get()
    }

    /// Since when nobody has waited for the body's sender, as it began at `begin`; none while hyper
    /// does.
    pub fn whole_since(&self, begin: Instant) -> Option<Instant> {
        match self.rest.get() {
            Rest::AtHand => Some(begin),
            Rest::Coming => None,
            Rest::Since(at) => Some(at),
        }
    }

    fn asked(&self, is_coming: bool) {
        match self.rest.get() {
            _ if is_coming => self.rest.set(Rest::Coming),
            Rest::Coming => self.rest.set(Rest::Since(Instant::now())),
            Rest::AtHand | Rest::Since(_) => {}
        }
    }
}

impl Pulled {
    /// Wraps a body for hyper. `pulling` tells how far it is, `clean` takes off trailers what must not
    /// go.
    pub fn new(body: Body, pulling: Rc<Pulling>, clean: fn(&mut HeaderMap)) -> Self {
        Self { body, owed: 0, pulling, clean }
    }
}

impl http_body::Body for Pulled {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let owed = std::mem::take(&mut self.owed);
        if owed > 0 {
            self.body.release(owed);
        }
        let polled = self.body.poll_piece(cx);
        self.pulling.asked(polled.is_pending());
        Poll::Ready(match ready!(polled) {
            None => None,
            Some(Err(e)) => Some(Err(e)),
            Some(Ok(Piece::Trailers(mut trailers))) => {
                (self.clean)(&mut trailers);
                Some(Ok(Frame::trailers(trailers)))
            }
            Some(Ok(Piece::Data(data))) => {
                self.pulling.pieces.set(self.pulling.pieces.get() + 1);
                self.owed = data.len();
                Some(Ok(Frame::data(data)))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Body::Empty => SizeHint::with_exact(0),
            Body::H2(_) | Body::Kept(_) | Body::Noted(_) => SizeHint::default(),
            Body::H1(incoming) => incoming.size_hint(),
        }
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BodyError::H2(e) => e.fmt(f),
            BodyError::H1(e) => e.fmt(f),
        }
    }
}

impl std::error::Error for BodyError {}
