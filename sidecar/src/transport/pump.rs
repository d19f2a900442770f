//! Moves one direction of a call: a body into an HTTP/2 stream.
//!
//! Invariant: at most one piece is held. It is read only when the one before it went on, and its
//! sender gets credit only then. Small pieces that are there already go on as one: a burst of small
//! messages costs the next hop few frames, and HTTP/2 libraries end connections for many.

use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use h2::SendStream;
use http::HeaderMap;

use super::body::{Body, BodyError, Piece};
use crate::call::web::Messages;
use crate::fault::Fault;

/// One direction of one call.
#[derive(Debug)]
pub struct Pump {
    body: Body,
    sink: SendStream<Bytes>,
    held: Bytes,
    /// What was found behind the held piece while small ones were gathered.
    found: Option<Found>,
    /// The held piece is the body's last.
    last: bool,
    /// Bytes that went on.
    moved: u64,
    /// A last piece of so many bytes need not wait for the window.
    ahead: usize,
    /// Told each piece that goes on, where somebody must know where messages end.
    messages: Option<Messages>,
}

/// What a body answers when it is asked for a piece.
type Found = Option<Result<Piece, BodyError>>;

/// Below this many bytes, a piece waits for no other but takes along those that are there.
const SMALL: usize = 1024;

/// Gathered pieces are one frame of the size that every peer takes (RFC 9113 §4.2).
const GATHERED: usize = 16 * 1024;

/// How a pump ended.
#[derive(Debug)]
pub enum End {
    /// The body went on whole, and the stream's sending half is closed.
    Whole,
    /// The body broke off; the sink is still open.
    Source(BodyError),
    /// The trailers may not go on; the sink is still open.
    Refused(Fault),
    /// The sink takes no more.
    Sink(h2::Error),
}

impl Pump {
    /// A pump that has moved nothing yet.
    pub fn new(body: Body, sink: SendStream<Bytes>) -> Self {
        Self {
            body,
            sink,
            held: Bytes::new(),
            found: None,
            last: false,
            moved: 0,
            ahead: 0,
            messages: None,
        }
    }

    /// True while a piece waits for the sink's flow-control window.
    pub fn is_stalled(&self) -> bool {
        !self.held.is_empty()
    }

    /// Bytes that went on so far.
    pub fn moved(&self) -> u64 {
        self.moved
    }

    /// The stream that this pump fills.
    pub fn sink(&mut self) -> &mut SendStream<Bytes> {
        &mut self.sink
    }

    /// What it was made of; whatever it held of a kept body is read again.
    pub fn into_body(self) -> Body {
        self.body
    }

    /// The stream, filled no further.
    pub fn into_sink(self) -> SendStream<Bytes> {
        self.sink
    }

    /// The body that it moves.
    pub fn body(&mut self) -> &mut Body {
        &mut self.body
    }

    /// Moves what can be moved. `on_trailers` may look at the trailers, change and refuse them.
    pub fn poll(
        &mut self,
        cx: &mut Context<'_>,
        on_trailers: &mut dyn FnMut(&mut HeaderMap) -> Result<(), Fault>,
    ) -> Poll<End> {
        loop {
            if !self.held.is_empty() {
                match self.push(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Err(e)) => return Poll::Ready(End::Sink(e)),
                    Poll::Ready(Ok(())) if self.last => return Poll::Ready(End::Whole),
                    Poll::Ready(Ok(())) => {}
                }
            }
            let polled = match self.found.take() {
                Some(found) => Poll::Ready(found),
                None => self.body.poll_piece(cx),
            };
            match polled {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(Piece::Data(data)))) => {
                    // Known now, the end rides on the last DATA frame.
                    self.last = self.body.is_end();
                    let data =
                        if data.len() < SMALL && !self.last { self.gather(data, cx) } else { data };
                    if self.last && data.len() <= self.ahead.min(SMALL) {
                        return Poll::Ready(self.send_last(data));
                    }
                    self.sink.reserve_capacity(data.len());
                    self.held = data;
                }
                Poll::Ready(Some(Ok(Piece::Trailers(mut trailers)))) => {
                    if let Err(fault) = on_trailers(&mut trailers) {
                        return Poll::Ready(End::Refused(fault));
                    }
                    return Poll::Ready(close(self.sink.send_trailers(trailers)));
                }
                Poll::Ready(None) => {
                    return Poll::Ready(close(self.sink.send_data(Bytes::new(), true)));
                }
                Poll::Ready(Some(Err(e))) => return Poll::Ready(End::Source(e)),
            }
        }
    }

    /// Follows where messages end.
    pub fn follow(&mut self, messages: Option<Messages>) {
        self.messages = messages;
    }

    /// Where they do.
    pub fn messages(&self) -> Option<&Messages> {
        self.messages.as_ref()
    }

    /// Lets a small last piece go on without a look at the window, up to so many bytes.
    pub fn set_ahead(&mut self, bytes: usize) {
        self.ahead = bytes;
    }

    /// Hands on a small last piece without a look at the window: nothing that could pile up comes
    /// after it, and a new stream has none before its head has gone out.
    fn send_last(&mut self, data: Bytes) -> End {
        let n = data.len();
        let sent = self.sink.send_data(data, true);
        self.body.release(n);
        self.moved += n as u64;
        close(sent)
    }

    /// Takes along what is there behind a small piece.
    fn gather(&mut self, first: Bytes, cx: &mut Context<'_>) -> Bytes {
        let mut gathered = BytesMut::new();
        while gathered.len() < GATHERED && !self.last {
            match self.body.poll_piece(cx) {
                Poll::Ready(Some(Ok(Piece::Data(more)))) => {
                    if gathered.is_empty() {
                        gathered.extend_from_slice(&first);
                    }
                    gathered.extend_from_slice(&more);
                    self.last = self.body.is_end();
                }
                Poll::Ready(found) => {
                    self.last = found.is_none();
                    self.found = Some(found);
                    break;
                }
                Poll::Pending => break,
            }
        }
        if gathered.is_empty() { first } else { gathered.freeze() }
    }

    /// Sends the held piece as far as the window allows.
    fn push(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        while !self.held.is_empty() {
            let room = self.sink.capacity();
            if room == 0 {
                match self.sink.poll_capacity(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Some(Ok(_))) => continue,
                    Poll::Ready(Some(Err(e))) => return Poll::Ready(Err(e)),
                    Poll::Ready(None) => {
                        return Poll::Ready(Err(h2::Reason::STREAM_CLOSED.into()));
                    }
                }
            }
            let piece = self.held.split_to(room.min(self.held.len()));
            let n = piece.len();
            if let Some(messages) = &mut self.messages {
                messages.pass(&piece);
            }
            self.sink.send_data(piece, self.last && self.held.is_empty())?;
            self.body.release(n);
            self.moved += n as u64;
        }
        Poll::Ready(Ok(()))
    }
}

fn close(result: Result<(), h2::Error>) -> End {
    match result {
        Ok(()) => End::Whole,
        Err(e) => End::Sink(e),
    }
}
