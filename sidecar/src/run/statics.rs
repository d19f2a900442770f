//! Upstreams whose endpoints stand in the config.

use std::sync::Arc;

use certs::{ConsulWorkload, SpiffeId};
use tokio::task::spawn_local;

use super::RunError;
use crate::config::{Config, Endpoints, IdentitySource};
use crate::discovery::methods::inquiry::{Inquirer, Inquiry};
use crate::discovery::snapshot::Upstream;
use crate::worker::fleet::Fleet;

/// Publishes them once there is an identity, whose trust domain is theirs by default.
///
/// # Errors
/// Where an upstream's identity is not stated and cannot be told from our own.
pub(super) async fn start(
    config: &Arc<Config>,
    fleet: &Arc<Fleet>,
    inquirer: &Inquirer,
) -> Result<(), RunError> {
    if matches!(config.identity.source, IdentitySource::Files { .. }) {
        let inquiries = publish(config, fleet, inquirer).await?;
        spawn_local(hold(inquiries));
        return Ok(());
    }
    let (config, fleet, inquirer) = (config.clone(), fleet.clone(), inquirer.clone());
    spawn_local(async move {
        match publish(&config, &fleet, &inquirer).await {
            Ok(inquiries) => hold(inquiries).await,
            Err(e) => tracing::error!("{e}"),
        }
    });
    Ok(())
}

/// Their instances never change: the questions stand for as long as the sidecar runs.
async fn hold(inquiries: Vec<Inquiry>) {
    let _held = inquiries;
    std::future::pending::<()>().await;
}

async fn publish(
    config: &Config,
    fleet: &Fleet,
    inquirer: &Inquirer,
) -> Result<Vec<Inquiry>, RunError> {
    let mut inquiries = Vec::new();
    for (name, upstream) in config.upstreams.named() {
        let Endpoints::Static { addresses, identity } = &upstream.endpoints else { continue };
        let own = fleet.present_identity().await;
        let own = own.leaf().id();
        let expected = match identity {
            Some(stated) => stated.clone(),
            None => beside(own, name.as_str()).ok_or_else(|| {
                RunError::Statics(format!(
                    "upstreams.{name}.identity is needed: our own ID, {own}, is not in Consul's \
                     form, so that of \"{name}\" cannot be told from it"
                ))
            })?,
        };
        let sni: Arc<str> = server_name(&expected).into();
        let endpoints = addresses.iter().map(|a| (a.socket_addr(), expected.clone(), sni.clone()));
        let snapshot = Upstream::succeed(None, name.as_str().into(), endpoints, 0);
        let snapshot = if upstream.hashes() { snapshot.hashed() } else { snapshot };
        fleet.upstream(Arc::new(snapshot)).await;
        if upstream.methods.is_some() {
            continue;
        }
        let mut inquiry = inquirer.about(name);
        inquiry.instances(addresses.iter().map(|address| address.socket_addr()));
        inquiries.push(inquiry);
    }
    Ok(inquiries)
}

/// A service of our own datacenter, namespace, partition and trust domain.
fn beside(own: &SpiffeId, service: &str) -> Option<SpiffeId> {
    ConsulWorkload { service, ..own.consul()? }.id(own.trust_domain()).ok()
}

/// Consul's form where the identity has it; else any name will do, as only the ID is checked.
fn server_name(id: &SpiffeId) -> String {
    match id.consul() {
        Some(workload) => workload.server_name(id.trust_domain()),
        None => id.trust_domain().to_owned(),
    }
}
