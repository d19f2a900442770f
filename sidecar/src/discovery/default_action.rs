//! What happens to a caller that no intention names, and who says so.
//!
//! Invariant: it is deny while unsure, and the config's word counts only while Consul has none.

use consul::api::Action;
use consul::api::agent::DefaultIntention;

use super::Control;
use crate::config::DefaultAction;
use crate::inbound::authorize;

/// What Consul answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It said so.
    Stated(authorize::Action),
    /// It states none, or one of its intentions names every caller and hides it.
    Unstated,
    /// The token may not know.
    Withheld,
    /// It did not answer.
    None,
}

/// The action where no intention matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fallback {
    /// Consul said so.
    Stated(authorize::Action),
    /// The config's, as Consul states none; `hidden` behind an intention that names every caller.
    Config { action: authorize::Action, hidden: bool },
    /// Deny: our token may not know.
    Withheld,
    /// Deny: what hid Consul's own is gone, and it has not told yet.
    Awaited,
}

impl Fallback {
    /// The default after an answer of Consul's, which did not change what was `known` where it says
    /// nothing. `hidden`: an intention names every caller.
    pub(super) fn told(
        answer: Answer,
        known: Option<Self>,
        hidden: bool,
        config: DefaultAction,
    ) -> Option<Self> {
        let stated = known.filter(|known| matches!(known, Self::Stated(_)));
        match answer {
            Answer::Stated(action) => Some(Self::Stated(action)),
            Answer::Unstated => stated.or(Some(Self::Config {
                action: match config {
                    DefaultAction::Allow => authorize::Action::Allow,
                    DefaultAction::Deny => authorize::Action::Deny,
                },
                hidden,
            })),
            Answer::Withheld => stated.or(Some(Self::Withheld)),
            Answer::None => known,
        }
    }

    /// The default under changed intentions, until Consul is asked again.
    pub(super) fn carried(self, hidden: bool) -> Self {
        match self {
            // The config's word was taken for want of Consul's, which may count now.
            Self::Config { hidden: true, .. } if !hidden => Self::Awaited,
            other => other,
        }
    }

    pub(super) fn action(self) -> authorize::Action {
        match self {
            Self::Stated(action) | Self::Config { action, .. } => action,
            Self::Withheld | Self::Awaited => authorize::Action::Deny,
        }
    }

    /// Where it comes from, in words.
    pub(super) fn source(self) -> &'static str {
        match self {
            Self::Stated(_) => "Consul's default",
            Self::Config { .. } => "authorization.default in the config, as Consul states none",
            Self::Withheld => "deny, as Consul does not tell its own",
            Self::Awaited => "deny, until Consul tells its own",
        }
    }
}

impl Control {
    /// Asks Consul what happens to a caller that no intention names.
    pub(super) async fn ask_default(&self) -> Answer {
        let identity = self.fleet.present_identity().await;
        let name = self.config.service.name.as_str();
        let own = identity.leaf().id().as_str();
        match self.client.agent().default_intention(name, own).await {
            Ok(DefaultIntention::Known(Action::Allow)) => Answer::Stated(authorize::Action::Allow),
            Ok(DefaultIntention::Known(Action::Deny)) => Answer::Stated(authorize::Action::Deny),
            Ok(DefaultIntention::Unknown(_)) => Answer::Unstated,
            Err(error) if error.is_forbidden() => {
                tracing::warn!("the default for callers that no intention names: {error}");
                Answer::Withheld
            }
            Err(error) => {
                tracing::debug!("the default for callers that no intention names: {error}");
                Answer::None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use authorize::Action::{Allow, Deny};

    #[test]
    fn consuls_own_word_stays_where_it_says_nothing_later() {
        let stated = Some(Fallback::Stated(Deny));
        for answer in [Answer::Unstated, Answer::Withheld, Answer::None] {
            assert_eq!(Fallback::told(answer, stated, true, DefaultAction::Allow), stated);
        }
        assert_eq!(Fallback::told(Answer::None, None, true, DefaultAction::Allow), None);
        let withheld = Fallback::told(Answer::Withheld, None, false, DefaultAction::Allow).unwrap();
        assert_eq!(withheld.action(), Deny);
    }

    #[test]
    fn the_configs_default_counts_until_what_hid_consuls_own_is_gone() {
        let config = Fallback::told(Answer::Unstated, None, true, DefaultAction::Allow).unwrap();
        assert_eq!(config.carried(true).action(), Allow);
        let awaited = config.carried(false);
        assert_eq!(awaited.action(), Deny);
        let unasked = Fallback::told(Answer::None, Some(awaited), false, DefaultAction::Allow);
        assert_eq!(unasked, Some(awaited), "also where Consul does not answer");
        let told = Fallback::told(Answer::Stated(Deny), unasked, false, DefaultAction::Allow);
        assert_eq!(told, Some(Fallback::Stated(Deny)));
    }

    #[test]
    fn a_consul_that_hides_nothing_and_states_none_leaves_it_to_the_config() {
        let config = Fallback::told(Answer::Unstated, None, false, DefaultAction::Allow).unwrap();
        assert_eq!(config.carried(false).action(), Allow);
    }
}
