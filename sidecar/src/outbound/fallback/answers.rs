//! The last good answers, kept for when there is none: bounded in number and in bytes for all of
//! the process.
//!
//! An answer is found again by all that the request said: who asks, which is among its metadata,
//! never gets another's answer. Where a worker would have to wait to keep one, it keeps none.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_LENGTH, TE, USER_AGENT};
use tokio::time::Instant;

use crate::call::deadline::GRPC_TIMEOUT;

/// Headers that say nothing of what is asked for, nor who asks.
const ASIDE: [&str; 5] =
    ["traceparent", "tracestate", "grpc-trace-bin", "grpc-previous-rpc-attempts", "x-request-id"];

/// What was asked: SHA-256, so that no two requests are taken for one, and no token is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Question([u8; 32]);

impl Question {
    /// Of a request of one method, with its whole body.
    pub fn new<'b>(
        upstream: &str,
        path: &str,
        headers: &HeaderMap,
        body: impl IntoIterator<Item = &'b Bytes>,
    ) -> Self {
        let mut context = Context::new(&SHA256);
        let mut part = |bytes: &[u8]| {
            // Each with its length, so that no two lists of parts are the same bytes.
            context.update(&(bytes.len() as u64).to_le_bytes());
            context.update(bytes);
        };
        part(upstream.as_bytes());
        part(path.as_bytes());
        let mut said: Vec<_> = headers
            .iter()
            .filter(|(name, _)| {
                **name != GRPC_TIMEOUT
                    && **name != CONTENT_LENGTH
                    && **name != TE
                    && **name != USER_AGENT
                    && !ASIDE.contains(&name.as_str())
            })
            .map(|(name, value)| (name.as_str(), value.as_bytes()))
            .collect();
        // Stable: values of one name keep their order, which may mean something.
        said.sort_by_key(|(name, _)| *name);
        part(&(said.len() as u64).to_le_bytes());
        for (name, value) in said {
            part(name.as_bytes());
            part(value);
        }
        for piece in body {
            context.update(piece);
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(context.finish().as_ref());
        Self(digest)
    }
}

/// An answer with one message, as it came.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Its head.
    pub head: HeaderMap,
    /// The message with its gRPC prefix.
    pub message: Bytes,
    /// Its end.
    pub trailers: HeaderMap,
    /// When it came.
    pub at: Instant,
}

impl Kept {
    fn bytes(&self) -> usize {
        let headers = |headers: &HeaderMap| {
            headers
                .iter()
                .map(|(name, value)| 64 + name.as_str().len() + value.len())
                .sum::<usize>()
        };
        // What a place takes beside what it holds.
        256 + headers(&self.head) + self.message.len() + headers(&self.trailers)
    }
}

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Answers.
    pub answers: usize,
    /// Bytes of all of them.
    pub bytes: usize,
}

/// The answers that are kept.
#[derive(Debug)]
pub struct Answers {
    bounds: Bounds,
    store: Mutex<Store>,
}

#[derive(Debug, Default)]
struct Store {
    answers: HashMap<Question, (u64, Kept)>,
    /// The longest kept first.
    order: BTreeMap<u64, Question>,
    next: u64,
    bytes: usize,
}

impl Answers {
    /// None yet.
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, store: Mutex::default() }
    }

    /// Keeps an answer instead of the one before; those kept the longest go for it.
    pub fn keep(&self, question: Question, answer: Kept) {
        let bytes = answer.bytes();
        if bytes > self.bounds.bytes {
            return;
        }
        // A call's path waits for nobody; the next good answer is as good.
        let Ok(mut store) = self.store.try_lock() else { return };
        store.remove(&question);
        while store.answers.len() >= self.bounds.answers || store.bytes + bytes > self.bounds.bytes
        {
            let Some((_, oldest)) = store.order.pop_first() else { break };
            store.remove(&oldest);
        }
        let at = store.next;
        store.next += 1;
        store.bytes += bytes;
        store.order.insert(at, question);
        store.answers.insert(question, (at, answer));
    }

    /// The last good answer to this question, where it is no older than this.
    pub fn find(&self, question: &Question, age: Duration, now: Instant) -> Option<Kept> {
        // The call has failed: it has the time, and nobody holds this for long.
        let store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, kept) = store.answers.get(question)?;
        (now.saturating_duration_since(kept.at) <= age).then(|| kept.clone())
    }
}

impl Store {
    fn remove(&mut self, question: &Question) {
        if let Some((at, kept)) = self.answers.remove(question) {
            self.order.remove(&at);
            self.bytes -= kept.bytes();
        }
    }
}

#[cfg(test)]
mod tests;
