//! `/v1/config/…`: config entries, in Consul's own JSON.
//!
//! They are kept as JSON: an entry that is read, changed and written back must lose nothing.

use http::Method;
use serde_json::Value;

use crate::{Client, Error, Get, client::Call};

/// The family; see [`Client::config`].
#[derive(Clone, Copy, Debug)]
pub struct ConfigEntries<'c>(pub(crate) &'c Client);

impl ConfigEntries<'_> {
    /// An entry, by kind (`service-intentions`, `proxy-defaults`, …) and name.
    pub fn entry(&self, kind: &str, name: &str) -> Get<Value> {
        Get::new(self.0, &["config", kind, name])
    }

    /// The entries of a kind.
    pub fn entries(&self, kind: &str) -> Get<Vec<Value>> {
        Get::nullable(self.0, &["config", kind])
    }

    /// Writes an entry; its kind and name are in it.
    pub async fn put(&self, entry: &Value) -> Result<(), Error> {
        self.0.send_quietly(&Call::new(Method::PUT, &["config"]).json(entry)?).await
    }

    /// Removes an entry; none is no error.
    pub async fn delete(&self, kind: &str, name: &str) -> Result<(), Error> {
        self.0.send_quietly(&Call::new(Method::DELETE, &["config", kind, name])).await
    }
}
