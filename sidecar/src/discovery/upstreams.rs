//! The upstreams that are watched: each from its first call on, until it is called no more.
//!
//! Invariant: one watch a name, and no more of them than the config allows: each holds a
//! connection to Consul, which allows 200.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::{Id, JoinSet};

use super::Control;
use crate::config::ServiceName;

impl Control {
    /// Watches the names that workers ask for. Ends with the workers.
    pub(super) async fn upstreams(self: Arc<Self>, mut demand: mpsc::Receiver<ServiceName>) {
        let limit = self.config.limits.upstreams.get();
        let mut watches: JoinSet<ServiceName> = JoinSet::new();
        let mut names: HashMap<Id, ServiceName> = HashMap::new();
        loop {
            tokio::select! {
                asked = demand.recv() => {
                    let Some(name) = asked else { return };
                    if names.values().any(|known| *known == name) {
                        continue;
                    }
                    if names.len() >= limit {
                        tracing::warn!(upstream = %name, limit, "too many upstreams are watched already");
                        self.fleet.forget(name.as_str().into()).await;
                        continue;
                    }
                    let watch = watches.spawn(self.clone().upstream(name.clone()));
                    names.insert(watch.id(), name);
                }
                Some(ended) = watches.join_next_with_id() => {
                    let id = match &ended {
                        Ok((id, _)) => *id,
                        Err(e) => e.id(),
                    };
                    let Some(name) = names.remove(&id) else { continue };
                    match ended {
                        Ok(_) => tracing::info!(upstream = %name, "called no more: forgotten"),
                        // Forgotten too: the next call starts it anew.
                        Err(e) => tracing::error!(upstream = %name, "its watch broke: {e}"),
                    }
                    self.metrics.forget_endpoints(name.as_str());
                    self.fleet.forget(name.as_str().into()).await;
                }
            }
        }
    }
}
