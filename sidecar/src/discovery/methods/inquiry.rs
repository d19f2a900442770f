//! The standing question about an upstream's methods: asked when its first instances are known,
//! and again when they change, as another version may have other methods.
//!
//! One question at a time about an upstream. What is known stays while a question fails, and it is
//! asked again and again, less and less often; an upstream without reflection is left alone until
//! its instances change.

use std::collections::BTreeSet;
use std::mem;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use super::Methods;
use super::ask::{LIMIT, Reply, ask};
use crate::config::ServiceName;
use crate::worker::fleet::Fleet;

/// Questions at a time of the whole sidecar, so that one upstream that hangs holds up no other.
const PLACES: usize = 4;

/// After a change of instances, further ones are waited for so long, and up to three times as long
/// so that not all callers of an upstream ask it at once.
const SETTLED: Duration = Duration::from_secs(1);

/// A question that failed is asked again after so long, doubled up to the last.
const AGAIN: Duration = Duration::from_millis(500);
const AGAIN_LAST: Duration = Duration::from_secs(300);

/// After so many failures in a row people are told: after some two minutes.
const SILENT: u32 = 8;

/// Asks about upstreams.
#[derive(Clone)]
pub struct Inquirer {
    /// Where this sidecar takes its app's calls.
    outbound: SocketAddr,
    fleet: Arc<Fleet>,
    places: Arc<Semaphore>,
}

impl Inquirer {
    /// Asks by way of the port that `outbound` is, and tells the workers.
    pub fn new(outbound: SocketAddr, fleet: Arc<Fleet>) -> Self {
        Self { outbound, fleet, places: Arc::new(Semaphore::new(PLACES)) }
    }

    /// The question about an upstream, first asked once an instance of it is known.
    pub fn about(&self, upstream: &ServiceName) -> Inquiry {
        let (changed, changes) = watch::channel(());
        let name: Arc<str> = upstream.as_str().into();
        let (asking, asked) = (self.clone(), name.clone());
        let ask = move || {
            let (inquirer, name) = (asking.clone(), asked.clone());
            async move {
                let Ok(_place) = inquirer.places.acquire().await else {
                    return Reply::NoReflection;
                };
                ask(inquirer.outbound, &name, LIMIT).await
            }
        };
        let (fleet, of) = (self.fleet.clone(), name.clone());
        let tell = move |methods| {
            let (fleet, name) = (fleet.clone(), of.clone());
            async move { fleet.methods(name, Arc::new(methods)).await }
        };
        let task = tokio::spawn(stand(name, changes, ask, tell));
        Inquiry { instances: BTreeSet::new(), changed, task: task.abort_handle() }
    }
}

/// The question about one upstream; it ends when this is dropped.
pub struct Inquiry {
    instances: BTreeSet<SocketAddr>,
    changed: watch::Sender<()>,
    task: AbortHandle,
}

impl Inquiry {
    /// The upstream has these instances now.
    pub fn instances(&mut self, instances: impl IntoIterator<Item = SocketAddr>) {
        let instances = instances.into_iter().collect();
        if self.instances != instances {
            self.instances = instances;
            // With none there is nobody to ask.
            if !self.instances.is_empty() {
                self.changed.send_replace(());
            }
        }
    }
}

impl Drop for Inquiry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What was last heard of an upstream's methods. People are told of a change of it, not of each
/// answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    /// Nothing yet, or too little to speak of.
    Nothing,
    /// What they are.
    Methods,
    /// That it has no reflection.
    NoReflection,
    /// No answer, many times in a row.
    Silence,
}

/// Asks and tells, for as long as anyone may say that the instances have changed.
async fn stand<A, T>(
    upstream: Arc<str>,
    mut changes: watch::Receiver<()>,
    ask: impl Fn() -> A,
    tell: impl Fn(Methods) -> T,
) where
    A: Future<Output = Reply>,
    T: Future<Output = ()>,
{
    let upstream = &*upstream;
    let settled = || SETTLED.mul_f64(1.0 + 2.0 * fastrand::f64());
    let (mut known, mut heard): (Option<Methods>, _) = (None, Heard::Nothing);
    let mut is_first = true;
    while changes.changed().await.is_ok() {
        if !mem::take(&mut is_first) {
            sleep(settled()).await;
            changes.mark_unchanged();
        }
        let (mut failed, mut wait) = (0_u32, AGAIN);
        loop {
            let methods = match ask().await {
                Reply::Known(methods) => {
                    let idempotent = methods.len();
                    tracing::debug!(upstream, idempotent, "its methods are known");
                    if mem::replace(&mut heard, Heard::Methods) == Heard::Silence {
                        tracing::info!(upstream, idempotent, "its reflection answers now");
                    }
                    methods
                }
                Reply::NoReflection => {
                    if mem::replace(&mut heard, Heard::NoReflection) != Heard::NoReflection {
                        tracing::info!(
                            upstream,
                            "has no reflection: no method counts as idempotent, where neither \
                             retry.idempotent nor upstreams.{upstream}.descriptors says so"
                        );
                    }
                    Methods::default()
                }
                Reply::Failed(why) => {
                    tracing::debug!(upstream, "its methods are not known yet: {why}");
                    failed = failed.saturating_add(1);
                    if failed >= SILENT
                        && mem::replace(&mut heard, Heard::Silence) != Heard::Silence
                    {
                        tracing::warn!(
                            upstream,
                            "its reflection does not answer ({why}): until it does, only those \
                             methods count as idempotent that did before; \
                             upstreams.{upstream}.descriptors would say it, too"
                        );
                    }
                    match timeout(wait.mul_f64(0.5 + fastrand::f64()), changes.changed()).await {
                        Err(_) => wait = (wait * 2).min(AGAIN_LAST),
                        Ok(Ok(())) => {
                            sleep(settled()).await;
                            changes.mark_unchanged();
                            (failed, wait) = (0, AGAIN);
                        }
                        Ok(Err(_)) => return,
                    }
                    continue;
                }
            };
            if known.as_ref() != Some(&methods) {
                tell(methods.clone()).await;
                known = Some(methods);
            }
            break;
        }
    }
}

#[cfg(test)]
mod tests;
