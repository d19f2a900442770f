//! gRPC-Web's trailers, which come in the body (gRPC's PROTOCOL-WEB.md): how a fault ends an answer
//! that has begun.
//!
//! Invariant: they are written between two messages alone, as inside one they would be its bytes.

use bytes::{BufMut, Bytes, BytesMut};

use super::headers::Dialect;
use crate::fault::Fault;

/// The flag of a frame that holds trailers.
const TRAILERS: u8 = 0x80;

/// Where the messages of a body end: each comes behind a flag and a length of four bytes.
#[derive(Debug, Default)]
pub struct Messages {
    prefix: [u8; 5],
    have: usize,
    left: usize,
}

impl Messages {
    /// Of an answer to such a caller; in text form (base64) they are not told apart.
    pub fn of(dialect: &Dialect) -> Option<Self> {
        match dialect {
            Dialect::GrpcWeb(own) if !own.as_bytes().starts_with(b"application/grpc-web-text") => {
                Some(Self::default())
            }
            _ => None,
        }
    }

    /// A piece that went on.
    pub fn pass(&mut self, mut piece: &[u8]) {
        while let Some(first) = piece.first() {
            if self.left > 0 {
                let n = self.left.min(piece.len());
                self.left -= n;
                piece = &piece[n..];
                continue;
            }
            self.prefix[self.have] = *first;
            self.have += 1;
            piece = &piece[1..];
            if let [_, length @ ..] = self.prefix
                && self.have == self.prefix.len()
            {
                self.have = 0;
                self.left = u32::from_be_bytes(length) as usize;
            }
        }
    }

    /// The fault as trailers, where a message has ended and none has begun.
    pub fn trailers(&self, fault: &Fault) -> Option<Bytes> {
        if self.have > 0 || self.left > 0 {
            return None;
        }
        let mut text = BytesMut::new();
        for (name, value) in &fault.trailers() {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                text.extend_from_slice(part);
            }
        }
        let mut frame = BytesMut::with_capacity(text.len() + 5);
        frame.put_u8(TRAILERS);
        frame.put_u32(u32::try_from(text.len()).ok()?);
        frame.extend_from_slice(&text);
        Some(frame.freeze())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fault::Reason;

    proptest! {
        #[test]
        fn however_a_body_is_cut_its_messages_end_where_they_end(
            sizes in proptest::collection::vec(0usize..300, 1..6),
            cuts in proptest::collection::vec(1usize..50, 1..100),
        ) {
            let fault = Fault::undelivered(Reason::DeadlineExceeded, "late");
            let (mut body, mut ends) = (Vec::new(), vec![0]);
            for size in sizes {
                body.push(0);
                body.extend_from_slice(&(size as u32).to_be_bytes());
                body.extend(std::iter::repeat_n(0x80, size));
                ends.push(body.len());
            }
            let (mut messages, mut at) = (Messages::default(), 0);
            for cut in cuts {
                let piece = &body[at..(at + cut).min(body.len())];
                messages.pass(piece);
                at += piece.len();
                prop_assert_eq!(messages.trailers(&fault).is_some(), ends.contains(&at), "{}", at);
            }
        }
    }

    #[test]
    fn a_fault_is_a_frame_of_trailers() {
        let fault = Fault::undelivered(Reason::DeadlineExceeded, "late");
        let frame = Messages::default().trailers(&fault).unwrap();
        assert_eq!((frame[0], frame.len() - 5), (0x80, usize::from(frame[4])));
        let text = std::str::from_utf8(&frame[5..]).unwrap();
        assert!(text.contains("grpc-status: 4\r\n") && text.contains("grpc-message: late\r\n"));
    }
}
