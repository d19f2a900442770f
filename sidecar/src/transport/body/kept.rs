//! A body that can be read again while it is small: a request that may have to be sent twice, or the
//! first piece of an answer that is looked at before it goes on.
//!
//! Invariant: the sender gets credit for each piece once, when it first goes on; what is kept beyond
//! that is bounded, for one body and for all of the process.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use smallvec::SmallVec;

use super::{Body, BodyError, Piece};

/// So much of each body is kept without being counted: the number of streams bounds it.
const FREE: usize = 1024;

/// How much is kept of all bodies.
#[derive(Debug)]
pub struct Room {
    /// What the process keeps of them over their first KiB.
    pub kept: Arc<AtomicUsize>,
    /// The most that this may be.
    pub limit: usize,
}

/// What was read of a body: most are one piece.
type Pieces = SmallVec<[Bytes; 1]>;

/// A body and what was read of it.
#[derive(Debug)]
pub struct Kept {
    source: Body,
    pieces: Pieces,
    /// The next piece to be read again.
    at: usize,
    trailers: Option<Box<HeaderMap>>,
    size: usize,
    /// Of the process's room.
    counted: usize,
    room: Option<Rc<Room>>,
    limit: usize,
    /// Nothing that was read is lost.
    is_whole: bool,
    /// Bytes that went on, of this reading.
    passed: usize,
    /// Bytes that the sender got credit for.
    credited: usize,
}

impl Kept {
    pub(super) fn new(source: Body, limit: usize, room: Option<Rc<Room>>) -> Self {
        Self {
            source,
            pieces: Pieces::new(),
            at: 0,
            trailers: None,
            size: 0,
            counted: 0,
            room,
            limit,
            is_whole: true,
            passed: 0,
            credited: 0,
        }
    }

    pub(super) fn made(message: Bytes, trailers: HeaderMap) -> Self {
        let mut kept = Self::new(Body::Empty, usize::MAX, None);
        kept.pieces.push(message);
        kept.trailers = Some(Box::new(trailers));
        kept
    }

    /// What was read of it, as far as it is kept.
    pub fn pieces(&self) -> &[Bytes] {
        &self.pieces
    }

    /// Whether it can be read again from its begin.
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Whether it was read to its end, and can be read again.
    pub fn is_complete(&self) -> bool {
        self.is_whole && (self.trailers.is_some() || self.source.is_end())
    }

    /// The next piece read is the first one again.
    pub fn rewind(&mut self) {
        self.at = 0;
        self.passed = 0;
    }

    /// Keeps no more, and nothing that was read already.
    pub fn forget(&mut self) {
        self.is_whole = false;
        if self.at == self.pieces.len() {
            self.empty();
        }
    }

    /// The same body once more, where it is complete.
    pub fn copy(&self) -> Option<Body> {
        self.is_complete().then(|| {
            // Its bytes are counted where they were read.
            let mut copy = Self::new(Body::Empty, self.limit, None);
            (copy.pieces, copy.trailers) = (self.pieces.clone(), self.trailers.clone());
            Body::Kept(Box::new(copy))
        })
    }

    pub(super) fn is_end(&self) -> bool {
        self.at == self.pieces.len() && self.trailers.is_none() && self.source.is_end()
    }

    pub(super) fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Piece, BodyError>>> {
        if let Some(piece) = self.pieces.get(self.at) {
            let piece = piece.clone();
            self.at += 1;
            if !self.is_whole && self.at == self.pieces.len() {
                self.empty();
            }
            return Poll::Ready(Some(Ok(Piece::Data(piece))));
        }
        if let Some(trailers) = &self.trailers {
            return Poll::Ready(Some(Ok(Piece::Trailers(HeaderMap::clone(trailers)))));
        }
        let piece = ready!(self.source.poll_piece(cx));
        match &piece {
            Some(Ok(Piece::Data(data))) if self.is_whole => self.take(data),
            Some(Ok(Piece::Trailers(trailers))) if self.is_whole => {
                self.trailers = Some(Box::new(trailers.clone()));
            }
            Some(Err(_)) => self.forget(),
            _ => {}
        }
        Poll::Ready(piece)
    }

    pub(super) fn release(&mut self, n: usize) {
        self.passed += n;
        if self.passed > self.credited {
            self.source.release(self.passed - self.credited);
            self.credited = self.passed;
        }
    }

    fn take(&mut self, data: &Bytes) {
        self.size += data.len();
        let over = self.size.saturating_sub(FREE) - self.counted;
        if self.size > self.limit || !self.count(over) {
            return self.forget();
        }
        self.pieces.push(data.clone());
        self.at = self.pieces.len();
    }

    /// Takes so much more of the process's room.
    fn count(&mut self, more: usize) -> bool {
        let Some(room) = self.room.as_ref().filter(|_| more > 0) else { return true };
        let before = room.kept.fetch_add(more, Ordering::Relaxed);
        if before + more > room.limit {
            room.kept.fetch_sub(more, Ordering::Relaxed);
            return false;
        }
        self.counted += more;
        true
    }

    fn empty(&mut self) {
        self.pieces = Pieces::new();
        self.at = 0;
        let counted = std::mem::take(&mut self.counted);
        if let Some(room) = self.room.as_ref().filter(|_| counted > 0) {
            room.kept.fetch_sub(counted, Ordering::Relaxed);
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.empty();
    }
}
