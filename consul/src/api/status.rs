//! `/v1/status/…`: leader and peers.

use crate::{Client, Get};

/// The family; see [`Client::status`].
#[derive(Clone, Copy, Debug)]
pub struct Status<'c>(pub(crate) &'c Client);

impl Status<'_> {
    /// The leader's RPC address; empty while there is none.
    pub fn leader(&self) -> Get<String> {
        Get::new(self.0, &["status", "leader"])
    }

    /// The servers' RPC addresses.
    pub fn peers(&self) -> Get<Vec<String>> {
        Get::nullable(self.0, &["status", "peers"])
    }
}
