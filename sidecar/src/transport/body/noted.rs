//! A body whose pieces are noted as they go by, and told of once it has ended well.
//!
//! Invariant: noting holds nothing up, and what is noted of one body is bounded.

use std::fmt;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;

use super::{Body, BodyError, Piece};

type Tell = Box<dyn FnOnce(&[Bytes], &HeaderMap)>;

/// A body that is noted.
pub struct Noted {
    source: Body,
    pieces: Vec<Bytes>,
    size: usize,
    limit: usize,
    /// None where it has grown too large, or was told of.
    tell: Option<Tell>,
}

impl Noted {
    /// Tells of a body of up to so many bytes when its trailers come.
    pub fn new(
        source: Body,
        limit: usize,
        tell: impl FnOnce(&[Bytes], &HeaderMap) + 'static,
    ) -> Self {
        Self { source, pieces: Vec::new(), size: 0, limit, tell: Some(Box::new(tell)) }
    }

    pub(super) fn is_end(&self) -> bool {
        self.source.is_end()
    }

    pub(super) fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Piece, BodyError>>> {
        let piece = ready!(self.source.poll_piece(cx));
        match &piece {
            Some(Ok(Piece::Data(data))) if self.tell.is_some() => {
                self.size += data.len();
                self.pieces.push(data.clone());
                if self.size > self.limit {
                    (self.tell, self.pieces) = (None, Vec::new());
                }
            }
            Some(Ok(Piece::Trailers(trailers))) => {
                if let Some(tell) = self.tell.take() {
                    tell(&self.pieces, trailers);
                }
                self.pieces = Vec::new();
            }
            _ => {}
        }
        Poll::Ready(piece)
    }

    pub(super) fn release(&mut self, n: usize) {
        self.source.release(n);
    }
}

impl fmt::Debug for Noted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Noted").field("source", &self.source).finish_non_exhaustive()
    }
}
