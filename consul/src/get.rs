//! A read, before it is sent: once, or as a watch.
//!
//! One description of path, parameters and type serves both, so that they cannot differ.

use http::Method;
use serde::de::DeserializeOwned;

use crate::{
    Answer, Client, Error, Meta, Watch,
    client::{Call, decode},
};

/// A read that can be sent once ([`Get::send`]) or watched ([`Get::watch`]).
#[must_use = "a read does nothing before it is sent or watched"]
#[derive(Clone, Debug)]
pub struct Get<T> {
    pub(crate) client: Client,
    pub(crate) call: Call,
    pub(crate) decode: fn(&Call, &[u8]) -> Result<T, Error>,
}

impl<T: DeserializeOwned> Get<T> {
    pub(crate) fn new(client: &Client, segments: &[&str]) -> Get<T> {
        let call = Call::new(Method::GET, segments);
        Get { client: client.clone(), call, decode: decode::<T> }
    }
}

impl<T: DeserializeOwned + Default> Get<T> {
    /// Reads `null`, Go's empty list, as the empty value.
    pub(crate) fn nullable(client: &Client, segments: &[&str]) -> Get<T> {
        let call = Call::new(Method::GET, segments);
        let decode = |call: &Call, body: &[u8]| {
            decode::<Option<T>>(call, body).map(Option::unwrap_or_default)
        };
        Get { client: client.clone(), call, decode }
    }
}

impl<T> Get<T> {
    /// Leaves only what an expression of Consul's filter language selects.
    pub fn filter(self, expression: &str) -> Get<T> {
        self.with("filter", expression)
    }

    /// Sorts by round-trip time from a node; `_agent` is the agent's own.
    pub fn near(self, node: &str) -> Get<T> {
        self.with("near", node)
    }

    /// Accepts the agent's cached answer; see [`Meta::age`].
    pub fn cached(self) -> Get<T> {
        self.with("cached", "")
    }

    /// Asks another datacenter than the configured one.
    pub fn datacenter(self, name: &str) -> Get<T> {
        self.with("dc", name)
    }

    pub(crate) fn with(mut self, key: &'static str, value: &str) -> Get<T> {
        self.call = self.call.with(key, value);
        self
    }

    /// Asks once.
    pub async fn send(&self) -> Result<Answer<T>, Error> {
        let raw = self.client.send(&self.call).await?;
        let value = (self.decode)(&self.call, &raw.body)?;
        Ok(Answer { value, meta: Meta::read(&raw.headers) })
    }

    /// Asks once, and takes "not found" for an answer.
    pub async fn send_optional(&self) -> Result<Option<Answer<T>>, Error> {
        match self.send().await {
            Ok(answer) => Ok(Some(answer)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Asks again and again by blocking queries, and tells what changed.
    pub fn watch(self) -> Watch<T>
    where
        T: Send + 'static,
    {
        Watch::new(self)
    }
}
