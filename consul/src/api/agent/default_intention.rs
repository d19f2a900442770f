//! What happens to a caller that no intention names.
//!
//! No header tells it: `X-Consul-Default-Acl-Policy` tells the ACLs' default, which
//! `default_intention_policy` overrides. So `authorize` is asked about a caller that no intention
//! can name, and only a reason that speaks of a default is believed.

use super::Agent;
use crate::{Error, api::Action};

/// What [`Agent::default_intention`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DefaultIntention {
    /// Consul said so.
    Known(Action),
    /// It cannot be told; the words say why. Stay with deny.
    Unknown(String),
}

impl DefaultIntention {
    /// The action to take: deny while unsure.
    pub fn action(&self) -> Action {
        match self {
            DefaultIntention::Known(action) => *action,
            DefaultIntention::Unknown(_) => Action::Deny,
        }
    }
}

impl Agent<'_> {
    /// Finds what happens to callers of `target` that no intention names; the token needs write
    /// on `target`. `own_uri` is any SPIFFE ID of the trust domain, such as `target`'s leaf's.
    ///
    /// Where an intention names every caller (`*`), the default is hidden behind it and
    /// [`DefaultIntention::Unknown`]; it then counts only for what no permission fits.
    pub async fn default_intention(
        &self,
        target: &str,
        own_uri: &str,
    ) -> Result<DefaultIntention, Error> {
        let Some((place, _)) = own_uri.rsplit_once("/svc/") else {
            return Ok(DefaultIntention::Unknown(format!("{own_uri:?} names no service")));
        };
        // Nobody writes an intention for a name that is drawn anew each time.
        let nobody = format!("{place}/svc/probe-{:016x}", fastrand::u64(..));
        let answer = self.authorize(target, &nobody).await?;
        Ok(judge(answer.authorized, &answer.reason))
    }
}

fn judge(authorized: bool, reason: &str) -> DefaultIntention {
    // "Default intention policy" (1.17 on); "Default behavior configured by ACLs" and "ACLs
    // disabled, access is allowed by default" before it. "Matched …" speaks of an intention.
    let speaks_of_default = reason.to_ascii_lowercase().contains("default");
    if !speaks_of_default || reason.starts_with("Matched") {
        return DefaultIntention::Unknown(reason.to_owned());
    }
    DefaultIntention::Known(if authorized { Action::Allow } else { Action::Deny })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_reason_that_speaks_of_a_default_is_believed() {
        let known = |authorized, reason| matches!(judge(authorized, reason), DefaultIntention::Known(action) if (action == Action::Allow) == authorized);
        assert!(known(false, "Default intention policy"));
        assert!(known(true, "Default intention policy"));
        assert!(known(true, "ACLs disabled, access is allowed by default"));
        assert!(!known(true, "Matched L4 intention: default/* => default/web (default action)"));
        assert!(!known(true, ""));
        assert_eq!(judge(true, "Matched").action(), Action::Deny);
    }
}
