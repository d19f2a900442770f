//! The way out of the mesh: deregistered, then gone from discovery.
//!
//! Each step is bounded in time: a Consul that is away does not keep a sidecar from ending.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::Control;

/// How long deregistering may take.
const DEREGISTER: Duration = Duration::from_secs(3);
/// How long the mesh may take to notice.
const GONE: Duration = Duration::from_secs(5);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(100);

impl Control {
    /// Ends the registration. Idempotent; returns whether Consul knows it.
    pub async fn deregister(&self) -> bool {
        self.leaving.send_replace(true);
        if self.config.inbound.is_none() {
            return true;
        }
        let mut last = None;
        let told = timeout(DEREGISTER, async {
            while let Err(error) = self.client.agent().deregister(self.id()).await {
                if error.is_not_found() {
                    break;
                }
                last = Some(error);
                sleep(PAUSE).await;
            }
        });
        if told.await.is_ok() {
            tracing::info!(id = self.id(), "deregistered");
            return true;
        }
        let why = last.map_or_else(|| "no answer".to_owned(), |error| error.to_string());
        tracing::warn!(id = self.id(), "not deregistered within {DEREGISTER:?}: {why}");
        false
    }

    /// Ends once callers are told of our endpoint no more, after 5 s at the latest. Returns
    /// whether it is gone.
    pub async fn gone_from_mesh(&self) -> bool {
        if self.config.inbound.is_none() {
            return true;
        }
        let proxy = self.proxy_id();
        let gone = timeout(GONE, async {
            loop {
                let get = self.client.health().connect(self.config.service.name.as_str());
                if let Ok(answer) = get.send().await {
                    // IDs are unique on their agent alone.
                    let is_ours = |node: &str| self.node.get().is_none_or(|own| own == node);
                    let mut entries = answer.value.iter();
                    if !entries.any(|e| e.service.id == proxy && is_ours(&e.node.name)) {
                        return;
                    }
                    // A registration that was under way when we left may have come after.
                    let _ = self.client.agent().deregister(self.id()).await;
                }
                sleep(PAUSE).await;
            }
        });
        gone.await.is_ok()
    }
}
