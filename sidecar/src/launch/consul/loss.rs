//! Notices that the Consul of the mesh has lost its data, and writes the intentions again: a mesh
//! that is closed by default would else stop when its sidecars believe the loss.
//!
//! The sign is another trust domain, which comes with the data: an intention that a person has
//! deleted stays deleted.

use std::time::Duration;

use consul::api::connect::CaRoots;
use consul::{Client, Event, Watch};
use tokio::time::{Instant, sleep};

use super::Consul;
use crate::launch::mesh::Mesh;

/// Between two tries. Its operator has to make the tokens again first.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// What is known of a Consul that may lose its data.
pub(crate) struct Loss {
    /// None for the embedded agent, whose data end with its process.
    roots: Option<Watch<CaRoots>>,
    domain: Option<String>,
    to_restore: bool,
    told: Option<String>,
}

impl Loss {
    /// Nothing is lost yet.
    ///
    /// # Errors
    /// Where the variables that name Consul cannot be used.
    pub(crate) fn none_yet(consul: &Consul) -> Result<Self, String> {
        let roots = match consul {
            Consul::Embedded { .. } => None,
            Consul::Outside { .. } => {
                let client = Client::new(consul.config()?).map_err(|error| error.to_string())?;
                Some(client.connect().roots().watch())
            }
        };
        Ok(Self { roots, domain: None, to_restore: false, told: None })
    }

    /// What is to be told to the person next: that a loss was made good, or why not yet. Safe to
    /// drop and to call again.
    pub(crate) async fn next(&mut self, consul: &Consul, mesh: &Mesh) -> String {
        if !self.to_restore {
            self.comes().await;
            self.to_restore = true;
        }
        loop {
            match consul.prepare(mesh, Instant::now()).await {
                Ok(notes) => {
                    self.to_restore = false;
                    self.told = None;
                    let done = "Consul has lost its data: the intentions are written again";
                    return [&[done.to_owned()], &notes[..]].concat().join("\n");
                }
                Err(why) if self.told.as_ref() != Some(&why) => {
                    self.told = Some(why.clone());
                    return format!("Consul has lost its data, and has no intentions yet: {why}");
                }
                Err(_) => sleep(TRY_AGAIN).await,
            }
        }
    }

    async fn comes(&mut self) {
        let Some(roots) = &mut self.roots else { return std::future::pending().await };
        loop {
            let Event::Changed(change) = roots.next().await else { continue };
            let domain = change.value.trust_domain;
            // One that has only just begun has none.
            if domain.is_empty() {
                continue;
            }
            let is_another = self.domain.as_ref().is_some_and(|known| *known != domain);
            self.domain = Some(domain);
            if is_another {
                return;
            }
        }
    }
}
