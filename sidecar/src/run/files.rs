//! Identity from PEM files, read again when they change.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use certs::files::FileSource;
use certs::{Identity, Standing, TlsMin};
use tokio::task::spawn_local;
use tokio::time::{MissedTickBehavior, interval};

use super::RunError;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::readiness::{Degradation, Readiness};
use crate::worker::fleet::Fleet;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Publishes the identity that the files hold, and every later one.
///
/// # Errors
/// Where the files cannot be used now. Later a change that cannot be used is told, and the
/// identity before it stays.
pub(super) async fn start(
    [cert, key, roots]: [PathBuf; 3],
    tls_min: TlsMin,
    fleet: &Arc<Fleet>,
    metrics: &Arc<Metrics>,
    readiness: &Arc<Readiness>,
) -> Result<(), RunError> {
    let mut source = FileSource::new(cert, key, roots);
    let identity = read(&mut source, tls_min).map_err(RunError::Files)?;
    publish(fleet, metrics, identity.clone()).await;
    let (fleet, metrics, readiness) = (fleet.clone(), metrics.clone(), readiness.clone());
    spawn_local(async move {
        let mut identity = identity;
        let mut standing = Standing::Fresh;
        let mut unusable: Option<Degradation> = None;
        let mut expiring: Option<Degradation> = None;
        let mut tick = interval(LOOK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            if source.changed() {
                match read(&mut source, tls_min) {
                    Ok(read) => {
                        identity = read;
                        unusable = None;
                        publish(&fleet, &metrics, identity.clone()).await;
                        tracing::info!(id = %identity.leaf().id(), "the certificate was read again");
                    }
                    Err(why) => {
                        tracing::error!(
                            "the changed certificate files cannot be used, the ones before them stay: {why}"
                        );
                        unusable = Some(readiness.degrade("certificate files", why));
                    }
                }
            }
            let now = Standing::of(identity.leaf(), SystemTime::now());
            if now != standing {
                standing = now;
                expiring = told(&readiness, &identity, now);
            }
            let _ = (&unusable, &expiring);
        }
    });
    Ok(())
}

/// Says that a certificate nears its end, long before it does.
fn told(
    readiness: &Arc<Readiness>,
    identity: &Identity,
    standing: Standing,
) -> Option<Degradation> {
    let left = identity.leaf().not_after().duration_since(SystemTime::now()).unwrap_or_default();
    let words = match standing {
        Standing::Fresh => return None,
        Standing::Due | Standing::Expiring => {
            format!("ends in {} s and was not renewed", left.as_secs())
        }
        Standing::Expired => "has expired".to_owned(),
    };
    tracing::warn!(id = %identity.leaf().id(), "the certificate {words}");
    Some(readiness.degrade("certificate", words))
}

fn read(source: &mut FileSource, tls_min: TlsMin) -> Result<Arc<Identity>, String> {
    let loaded = source.load(SystemTime::now()).map_err(|e| e.to_string())?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let identity = Identity::new(loaded.leaf, loaded.roots, tls_min);
    identity.map(Arc::new).map_err(|e| e.to_string())
}

async fn publish(fleet: &Fleet, metrics: &Metrics, identity: Arc<Identity>) {
    metrics.certificate_expiry(identity.leaf().not_after());
    fleet.identity(identity).await;
}
