//! A read asked again and again by blocking queries: tells what changed, and outages.
//!
//! A watch holds one connection of its own, and that one breaking is an outage, however short: behind
//! the next one another Consul may answer. It never gives up, never asks for an index below 1
//! once it has one, and tells nothing twice. Dropping it ends it; dropping the future of
//! [`Watch::next`] loses nothing, since the request in flight is kept.

use std::{
    future::Future,
    hash::{DefaultHasher, Hash, Hasher},
    pin::Pin,
    time::Duration,
};

use tokio::time::{Instant, sleep};

use crate::{
    Client, Error, Get, Meta,
    client::{Call, RawAnswer},
    pool::Connection,
};

mod policy;
use policy::{Backoff, Bucket, Index};

/// How long the agent may hold a question: short enough to notice a dead connection in time.
const WAIT: Duration = Duration::from_secs(60);

/// What a watch has to tell.
#[derive(Debug)]
pub enum Event<T> {
    /// A value, the first or another; or the index went backwards, see [`Change::regressed`].
    Changed(Change<T>),
    /// Consul fails, or fails in another way than before. What was told last still stands.
    Failed(Error),
    /// Consul answers again, and the value is the one that was told last.
    Restored(Meta),
}

/// A value that is not the one told before.
#[derive(Debug)]
pub struct Change<T> {
    /// The value.
    pub value: T,
    /// The answer's headers.
    pub meta: Meta,
    /// The index went backwards since the last answer: Consul lost data or was restored from a
    /// snapshot, and what is missing in the value may only be missing for now.
    pub regressed: bool,
}

type Answered = (Option<Connection>, Result<RawAnswer, Error>);

enum State {
    /// Nothing in flight.
    Idle,
    /// The question after next waits for the bucket or the back-off.
    Paused(Pin<Box<tokio::time::Sleep>>),
    Asking(Pin<Box<dyn Future<Output = Answered> + Send>>),
}

/// A watched read; see the module's words.
pub struct Watch<T> {
    client: Client,
    call: Call,
    decode: fn(&Call, &[u8]) -> Result<T, Error>,
    state: State,
    connection: Option<Connection>,
    index: Index,
    bucket: Bucket,
    backoff: Backoff,
    /// The body that was told last.
    told: Option<u64>,
    /// The index went backwards, and no value told it yet.
    regressed: bool,
    outage: Option<(u8, u16)>,
    good: Option<Instant>,
}

impl<T> std::fmt::Debug for Watch<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("path", &self.call.path).finish_non_exhaustive()
    }
}

impl<T> Watch<T> {
    pub(crate) fn new(get: Get<T>) -> Watch<T> {
        Watch {
            client: get.client,
            call: get.call,
            decode: get.decode,
            state: State::Idle,
            connection: None,
            index: Index::default(),
            bucket: Bucket::default(),
            backoff: Backoff::default(),
            told: None,
            regressed: false,
            outage: None,
            good: None,
        }
    }

    /// How long ago Consul gave a good answer; `None` before the first. A question that Consul
    /// holds, since nothing changed, makes this grow to a little over a minute.
    pub fn age(&self, now: Instant) -> Option<Duration> {
        self.good.map(|good| now.saturating_duration_since(good))
    }

    /// Waits for what is to be told next.
    pub async fn next(&mut self) -> Event<T> {
        loop {
            match &mut self.state {
                State::Idle => self.ask_when_due(),
                State::Paused(pause) => {
                    pause.await;
                    self.ask();
                }
                State::Asking(answer) => {
                    let (connection, answer) = answer.await;
                    self.state = State::Idle;
                    self.connection = connection;
                    if let Some(event) = self.judge(answer, Instant::now()) {
                        return event;
                    }
                }
            }
        }
    }

    fn ask_when_due(&mut self) {
        match self.bucket.take(Instant::now()) {
            Duration::ZERO => self.ask(),
            pause => self.state = State::Paused(Box::pin(sleep(pause))),
        }
    }

    fn ask(&mut self) {
        let mut call = self.call.clone();
        // The first question must not wait: its answer is the state of things.
        let wait = match self.index.to_send() {
            None => Duration::ZERO,
            Some(index) => {
                call = call
                    .with("index", index.to_string())
                    .with("wait", format!("{}s", WAIT.as_secs()));
                WAIT
            }
        };
        let (client, mut connection) = (self.client.clone(), self.connection.take());
        self.state = State::Asking(Box::pin(async move {
            let answer = client.send_blocking(&mut connection, &call, wait).await;
            (connection, answer)
        }));
    }

    fn judge(&mut self, answer: Result<RawAnswer, Error>, now: Instant) -> Option<Event<T>> {
        let answer = answer.and_then(|raw| {
            let meta = Meta::read(&raw.headers);
            // What was told already needs no parsing.
            let hash = hash(&raw.body);
            let value = match self.told {
                Some(told) if told == hash => None,
                _ => Some((self.decode)(&self.call, &raw.body)?),
            };
            Ok((meta, hash, value, raw.body))
        });
        let (meta, hash, value, body) = match answer {
            Ok(answer) => answer,
            Err(error) => return self.failed(error),
        };
        self.backoff.reset();
        self.good = Some(now);
        let restored = self.outage.take().is_some();
        self.regressed |= self.index.answered(meta.index.unwrap_or(0));
        let value = match value {
            Some(value) => value,
            // The caller must hear of a regression even where the value is the same.
            None if self.regressed => match (self.decode)(&self.call, &body) {
                Ok(value) => value,
                Err(error) => return self.failed(error),
            },
            None => return restored.then_some(Event::Restored(meta)),
        };
        self.told = Some(hash);
        let regressed = std::mem::take(&mut self.regressed);
        Some(Event::Changed(Change { value, meta, regressed }))
    }

    fn failed(&mut self, error: Error) -> Option<Event<T>> {
        let pause = self.backoff.pause(fastrand::f64());
        self.state = State::Paused(Box::pin(sleep(pause)));
        self.index.failed();
        let kind = error.kind();
        let news = self.outage.replace(kind) != Some(kind);
        news.then_some(Event::Failed(error))
    }
}

fn hash(body: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    body.hash(&mut hasher);
    hasher.finish()
}
