//! Who may call this service, as Consul says: intentions watched, the default asked for, both
//! published as one.
//!
//! Invariant: nothing is published before the default is known or known to be kept from us; then
//! it is deny.

use std::sync::Arc;
use std::time::Duration;

use consul::api::agent::DefaultIntention;
use consul::api::{Action, Intention};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::Control;
use super::rules::{in_force, rules};
use crate::config::DefaultAction;
use crate::inbound::authorize::{self, Intentions};
use crate::telemetry::labels::SnapshotKind;
use crate::telemetry::readiness::Blocker;

/// How often the default is asked for while nothing changes: no watch tells of it.
const PROBE_EVERY: Duration = Duration::from_secs(60);
/// While it was never told.
const PROBE_SOON: Duration = Duration::from_secs(1);

/// The action where no intention matches, and where it comes from, in words.
type Fallback = (authorize::Action, &'static str);

impl Control {
    /// Publishes the intentions that concern this service, and each change. Never ends.
    pub(super) async fn intentions(self: Arc<Self>, first: Blocker) {
        let mut first = Some(first);
        let name = self.config.service.name.as_str();
        let get = self.client.connect().intentions_to(name);
        let mut watched = self.watched(SnapshotKind::Intentions, get);
        let mut hold = self.hold.subscribe();
        let mut listed: Option<Vec<Intention>> = None;
        let mut known: Vec<Intention> = Vec::new();
        let mut default: Option<Fallback> = None;
        let mut published: Option<Intentions> = None;
        let mut probe_at = Instant::now();
        let mut tick = interval(PROBE_SOON);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                news = watched.next() => {
                    if news.doubtful {
                        self.open_hold();
                    }
                    if news.value.is_some() {
                        listed = news.value;
                    }
                    probe_at = Instant::now();
                }
                // Fails never: we hold the sender.
                _ = hold.changed() => {}
                _ = tick.tick() => {}
            }
            let Some(listed) = &listed else { continue };
            let is_due = probe_at <= Instant::now();
            // A change counts at once, under the default as it was last known.
            let rounds = if is_due && default.is_some() { 2 } else { 1 };
            for round in 1..=rounds {
                if is_due && round == rounds {
                    default = self.default_action(default).await;
                    let pause = if default.is_some() { PROBE_EVERY } else { PROBE_SOON };
                    probe_at = Instant::now() + pause;
                }
                let Some(default) = default else { continue };
                let doubt = hold.borrow_and_update().is_open(Instant::now());
                let force = in_force(&known, listed, doubt);
                let next = self.judged(&force, default);
                known = force;
                if published.as_ref() != Some(&next) {
                    self.tell_of(&next, &known);
                    self.fleet.intentions(Arc::new(next.clone())).await;
                    published = Some(next);
                    drop(first.take());
                    self.guarded.send_replace(true);
                }
            }
        }
    }

    fn judged(&self, force: &[Intention], (default, default_source): Fallback) -> Intentions {
        let allowed = self.config.authorization.allow.clone();
        Intentions { rules: rules(force).0, allowed, default, default_source }
    }

    fn tell_of(&self, next: &Intentions, force: &[Intention]) {
        let default = match next.default {
            authorize::Action::Allow => "allow",
            authorize::Action::Deny => "deny",
        };
        let source = next.default_source;
        tracing::info!(rules = next.rules.len(), default, source, "intentions");
        for one in rules(force).1 {
            tracing::warn!(
                "the intention \"{} => {}\" decides by request or token, which cannot be judged \
                 yet: it denies",
                one.source,
                one.destination
            );
        }
    }

    /// Asks Consul what happens to a caller that no intention names. What was known stays where it
    /// does not say.
    async fn default_action(&self, known: Option<Fallback>) -> Option<Fallback> {
        let identity = self.fleet.present_identity().await;
        let name = self.config.service.name.as_str();
        let own = identity.leaf().id().as_str();
        match self.client.agent().default_intention(name, own).await {
            Ok(DefaultIntention::Known(Action::Allow)) => {
                Some((authorize::Action::Allow, "Consul's default"))
            }
            Ok(DefaultIntention::Known(Action::Deny)) => {
                Some((authorize::Action::Deny, "Consul's default"))
            }
            Ok(DefaultIntention::Unknown(_)) => known.or(Some((
                match self.config.authorization.default {
                    DefaultAction::Allow => authorize::Action::Allow,
                    DefaultAction::Deny => authorize::Action::Deny,
                },
                "authorization.default in the config, as Consul states none",
            ))),
            Err(error) if error.is_forbidden() => {
                tracing::warn!("the default for callers that no intention names: {error}");
                known.or(Some((authorize::Action::Deny, "deny, as Consul does not tell its own")))
            }
            Err(error) => {
                tracing::debug!("the default for callers that no intention names: {error}");
                known
            }
        }
    }
}
