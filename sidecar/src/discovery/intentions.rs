//! Who may call this service, as Consul says: intentions watched, the default asked for, both
//! published as one.
//!
//! Invariant: nothing is published before the default is known or known to be kept from us; then
//! it is deny. What Consul takes away counts at once, unless it lost its data: then, and until that
//! is told, what it lacks stays for a while.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use consul::api::Intention;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::Control;
use super::default_action::{Answer, Fallback};
use super::hold::Hold;
use super::rules::{Known, names_everyone, rules};
use crate::inbound::authorize::{self, Intentions};
use crate::telemetry::labels::SnapshotKind;
use crate::telemetry::readiness::Blocker;

/// How often the default is asked for while nothing changes: no watch tells of it.
const PROBE_EVERY: Duration = Duration::from_secs(60);
/// While an answer is wanting.
const PROBE_SOON: Duration = Duration::from_secs(1);

impl Control {
    /// Publishes the intentions that concern this service, and each change. Never ends.
    pub(super) async fn intentions(self: Arc<Self>, first: Blocker) {
        let mut first = Some(first);
        let name = self.config.service.name.as_str();
        let get = self.client.connect().intentions_to(name);
        let mut watched = self.watched(SnapshotKind::Intentions, get);
        let mut known = Known::default();
        let mut doubt = Doubt::default();
        let mut default: Option<Fallback> = None;
        let mut published: Option<Intentions> = None;
        // Both are asked beside the watch: a change waits for neither.
        let (mut probe, mut ground) = (Question::none(), Question::none());
        let mut probe_at = Instant::now();
        let mut tick = interval(PROBE_SOON);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                news = watched.next() => {
                    if news.is_doubtful() {
                        doubt.begin(news.regressed, Instant::now());
                        known.doubt();
                    }
                    known.answered(news.value);
                    // An answer that is under way may be older than the news.
                    probe.ask(self.ask_default());
                    if news.returned || doubt.ground.is_none() {
                        ground.ask(self.trust_domain());
                    }
                }
                answer = probe.answer() => {
                    let hidden = names_everyone(known.last());
                    let next = Fallback::told(answer, default, hidden, self.config.authorization.default);
                    let is_settled = answer != Answer::None && next.is_some();
                    probe_at = Instant::now() + if is_settled { PROBE_EVERY } else { PROBE_SOON };
                    default = next;
                }
                domain = ground.answer() => doubt.stands_on(domain, Instant::now()),
                _ = tick.tick() => {
                    // What it fails to say is asked when it returns.
                    if known.is_told() && !watched.fails() {
                        if probe_at <= Instant::now() && !probe.is_open() {
                            probe.ask(self.ask_default());
                        }
                        if doubt.is_unsure() && !ground.is_open() {
                            ground.ask(self.trust_domain());
                        }
                    }
                }
            }
            let in_doubt = doubt.lasts(Instant::now()) || watched.fails();
            let Some(force) = known.in_force(in_doubt) else { continue };
            default = default.map(|default| default.carried(names_everyone(force)));
            let Some(default) = default else { continue };
            let next = self.judged(force, default);
            if published.as_ref() != Some(&next) {
                self.tell_of(&next, force);
                self.fleet.intentions(Arc::new(next.clone())).await;
                published = Some(next);
                drop(first.take());
                self.guarded.send_replace(true);
            }
        }
    }

    fn judged(&self, force: &[Intention], default: Fallback) -> Intentions {
        let allowed = self.config.authorization.allow.clone();
        let (default, default_source) = (default.action(), default.source());
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

    /// The trust domain of the Consul that answers now: one that lost its data has another.
    async fn trust_domain(&self) -> Option<String> {
        let roots = self.client.agent().roots().send().await;
        let roots = roots.inspect_err(|e| tracing::debug!("whether Consul is the same: {e}"));
        roots.ok().map(|answer| answer.value.trust_domain).filter(|domain| !domain.is_empty())
    }
}

/// Whether Consul lost its intentions, or may have. A second doubt prolongs none that lasts: what
/// an operator revoked would go on allowing for as long as the way to Consul flaps.
#[derive(Debug, Default)]
struct Doubt {
    /// Since it returned, until it is known to be the one that it was.
    unsure: Hold,
    /// Since it is known to have lost data.
    lost: Hold,
    /// The trust domain of the Consul that is believed.
    ground: Option<String>,
}

impl Doubt {
    fn begin(&mut self, regressed: bool, now: Instant) {
        let hold = if regressed { &mut self.lost } else { &mut self.unsure };
        if !hold.is_open(now) {
            hold.open(now);
        }
    }

    /// Takes Consul's trust domain, where it told.
    fn stands_on(&mut self, domain: Option<String>, now: Instant) {
        let Some(domain) = domain else { return };
        match self.ground.replace(domain) {
            Some(before) if Some(&before) == self.ground.as_ref() => self.unsure = Hold::default(),
            Some(_) => {
                tracing::warn!(
                    "Consul lost its data: the intentions that it lacks are kept for a while"
                );
                self.begin(true, now);
                self.unsure = Hold::default();
            }
            None => {}
        }
    }

    fn is_unsure(&self) -> bool {
        self.ground.is_none() || self.unsure != Hold::default()
    }

    fn lasts(&self, now: Instant) -> bool {
        self.unsure.is_open(now) || self.lost.is_open(now)
    }
}

/// A question to Consul that is under way, or none.
struct Question<'a, T>(Option<Pin<Box<dyn Future<Output = T> + Send + 'a>>>);

impl<'a, T> Question<'a, T> {
    fn none() -> Self {
        Self(None)
    }

    /// Asks, in the place of what was asked before.
    fn ask(&mut self, question: impl Future<Output = T> + Send + 'a) {
        self.0 = Some(Box::pin(question));
    }

    fn is_open(&self) -> bool {
        self.0.is_some()
    }

    /// Its answer; never comes where nothing is asked. Dropping the future loses nothing.
    async fn answer(&mut self) -> T {
        match &mut self.0 {
            Some(question) => {
                let answer = question.await;
                self.0 = None;
                answer
            }
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_consul_that_returns_as_the_one_it_was_is_believed_at_once() {
        let now = Instant::now();
        let mut doubt = Doubt::default();
        doubt.stands_on(Some("one".into()), now);
        assert!(!doubt.lasts(now));
        doubt.begin(false, now);
        assert!(doubt.lasts(now));
        doubt.stands_on(None, now);
        assert!(doubt.lasts(now), "it did not say");
        doubt.stands_on(Some("one".into()), now);
        assert!(!doubt.lasts(now) && !doubt.is_unsure());
    }

    #[test]
    fn a_consul_with_another_trust_domain_or_a_lower_index_lost_data() {
        let now = Instant::now();
        let mut doubt = Doubt::default();
        doubt.stands_on(Some("one".into()), now);
        doubt.begin(false, now);
        doubt.stands_on(Some("two".into()), now);
        assert!(doubt.lasts(now + 59 * SECOND) && !doubt.lasts(now + 60 * SECOND));
        let mut doubt = Doubt::default();
        doubt.stands_on(Some("one".into()), now);
        doubt.begin(true, now);
        doubt.stands_on(Some("one".into()), now);
        assert!(doubt.lasts(now + 59 * SECOND));
    }

    #[test]
    fn doubts_again_and_again_prolong_none_that_lasts() {
        let now = Instant::now();
        for regressed in [true, false] {
            let mut doubt = Doubt::default();
            doubt.begin(regressed, now);
            doubt.begin(regressed, now + 50 * SECOND);
            assert!(!doubt.lasts(now + 60 * SECOND));
        }
    }
}
