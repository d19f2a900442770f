//! HTTP/2 frame by frame (RFC 9113 §4, §6): what a scripted peer writes and reads.
//!
//! Nothing is checked here: a script may write what no library would.

use tokio::io::AsyncReadExt;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 0x1;
pub const ACK: u8 = 0x1;
pub const END_HEADERS: u8 = 0x4;
pub const PADDED: u8 = 0x8;
pub const PRIORITIZED: u8 = 0x20;

/// Names of SETTINGS (RFC 9113 §6.5.2).
pub const HEADER_TABLE_SIZE: u16 = 1;
pub const MAX_CONCURRENT_STREAMS: u16 = 3;
pub const INITIAL_WINDOW_SIZE: u16 = 4;
pub const MAX_FRAME_SIZE: u16 = 5;

/// Error codes (RFC 9113 §7).
pub const NO_ERROR: u32 = 0;
pub const PROTOCOL_ERROR: u32 = 1;
pub const INTERNAL_ERROR: u32 = 2;
pub const FLOW_CONTROL_ERROR: u32 = 3;
pub const FRAME_SIZE_ERROR: u32 = 6;
pub const REFUSED_STREAM: u32 = 7;
pub const CANCEL: u32 = 8;
pub const ENHANCE_YOUR_CALM: u32 = 11;

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    pub fn new(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Self {
        Self { kind, flags, stream, payload: payload.to_vec() }
    }

    pub fn data(stream: u32, payload: &[u8]) -> Self {
        Self::new(DATA, 0, stream, payload)
    }

    pub fn headers(stream: u32, fields: &[(&str, &str)]) -> Self {
        Self::new(HEADERS, END_HEADERS, stream, &literal(fields))
    }

    pub fn rst(stream: u32, code: u32) -> Self {
        Self::new(RST_STREAM, 0, stream, &code.to_be_bytes())
    }

    pub fn settings(settings: &[(u16, u32)]) -> Self {
        let mut payload = Vec::new();
        for (name, value) in settings {
            payload.extend(name.to_be_bytes());
            payload.extend(value.to_be_bytes());
        }
        Self::new(SETTINGS, 0, 0, &payload)
    }

    pub fn ping(n: u64) -> Self {
        Self::new(PING, 0, 0, &n.to_be_bytes())
    }

    pub fn goaway(last: u32, code: u32) -> Self {
        Self::new(GOAWAY, 0, 0, &[last.to_be_bytes(), code.to_be_bytes()].concat())
    }

    pub fn window_update(stream: u32, more: u32) -> Self {
        Self::new(WINDOW_UPDATE, 0, stream, &more.to_be_bytes())
    }

    /// The last of its stream.
    pub fn end(mut self) -> Self {
        self.flags |= END_STREAM;
        self
    }

    /// With so many bytes of padding.
    pub fn padded(mut self, padding: u8) -> Self {
        self.flags |= PADDED;
        self.payload.insert(0, padding);
        self.payload.extend(vec![0; padding.into()]);
        self
    }

    pub fn is_end(&self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0
    }

    /// The error code of RST_STREAM and GOAWAY.
    pub fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }

    pub fn encode(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len()).unwrap().to_be_bytes();
        let mut bytes = length[1..].to_vec();
        bytes.extend([self.kind, self.flags]);
        bytes.extend(self.stream.to_be_bytes());
        bytes.extend(&self.payload);
        bytes
    }
}

/// A header block of literal fields without indexing (RFC 7541 §6.2.2), names and values plain.
pub fn literal(fields: &[(&str, &str)]) -> Vec<u8> {
    fn string(block: &mut Vec<u8>, text: &str) {
        integer(block, 0, 7, text.len());
        block.extend(text.as_bytes());
    }
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        string(&mut block, name);
        string(&mut block, value);
    }
    block
}

/// RFC 7541 §5.1.
fn integer(block: &mut Vec<u8>, first: u8, prefix: u8, n: usize) {
    let most = (1 << prefix) - 1;
    if n < most {
        block.push(first | n as u8);
        return;
    }
    block.push(first | most as u8);
    let mut rest = n - most;
    while rest >= 128 {
        block.push((rest % 128) as u8 | 128);
        rest /= 128;
    }
    block.push(rest as u8);
}

/// Reads frames; may be given up and asked again.
pub struct Frames<R> {
    io: R,
    read: Vec<u8>,
}

impl<R: tokio::io::AsyncRead + Unpin> Frames<R> {
    pub fn new(io: R) -> Self {
        Self { io, read: Vec::new() }
    }

    /// So many bytes, or none where the stream ends before.
    pub async fn bytes(&mut self, n: usize) -> Option<Vec<u8>> {
        while self.read.len() < n {
            let more = self.io.read_buf(&mut self.read).await.unwrap_or(0);
            if more == 0 {
                return None;
            }
        }
        let rest = self.read.split_off(n);
        Some(std::mem::replace(&mut self.read, rest))
    }

    pub async fn frame(&mut self) -> Option<Frame> {
        while self.read.len() < 9 || self.read.len() < 9 + self.length() {
            let more = self.io.read_buf(&mut self.read).await.unwrap_or(0);
            if more == 0 {
                return None;
            }
        }
        let frame = self.bytes(9 + self.length()).await?;
        let stream = u32::from_be_bytes(frame[5..9].try_into().unwrap()) & 0x7fff_ffff;
        Some(Frame::new(frame[3], frame[4], stream, &frame[9..]))
    }

    fn length(&self) -> usize {
        usize::from(self.read[0]) << 16 | usize::from(self.read[1]) << 8 | usize::from(self.read[2])
    }
}

/// What a header block says of the dynamic table (RFC 7541 §6).
#[derive(Debug, Default)]
pub struct Block {
    /// Entries that it refers to; those above 61 are dynamic.
    pub indexes: Vec<usize>,
    /// Sizes that it gives the table.
    pub sizes: Vec<usize>,
}

/// Walks through a block without reading its strings.
pub fn header_fields(block: &[u8]) -> Block {
    fn number(rest: &mut &[u8], prefix: u8) -> usize {
        let most = (1 << prefix) - 1;
        let mut n = usize::from(rest[0]) & most;
        *rest = &rest[1..];
        let (mut more, mut shift) = (n == most, 0);
        while more {
            n += usize::from(rest[0] & 0x7f) << shift;
            (more, shift) = (rest[0] & 0x80 != 0, shift + 7);
            *rest = &rest[1..];
        }
        n
    }
    fn string(rest: &mut &[u8]) {
        let n = number(rest, 7);
        *rest = &rest[n..];
    }
    let (mut rest, mut found) = (block, Block::default());
    while let Some(first) = rest.first() {
        let index = match first {
            0x80.. => number(&mut rest, 7),
            0x20..0x40 => {
                found.sizes.push(number(&mut rest, 5));
                continue;
            }
            first => {
                let index = number(&mut rest, if first & 0x40 != 0 { 6 } else { 4 });
                if index == 0 {
                    string(&mut rest);
                }
                string(&mut rest);
                index
            }
        };
        found.indexes.push(index);
    }
    found
}
