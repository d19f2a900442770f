//! Who may call this service: intentions as Consul orders them, then the static list.
//!
//! Invariant: what nothing allows is denied. Judged once per connection and snapshot for L4.

use std::fmt;

use certs::SpiffeId;

/// What an intention or the default does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The call goes on.
    Allow,
    /// The call ends with PERMISSION_DENIED.
    Deny,
}

/// One L4 intention whose destination is this service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intention {
    /// Whom it is about.
    pub source: Source,
    /// The destination as Consul states it: this service's name or `*`.
    pub destination: String,
    /// What it does.
    pub action: Action,
}

/// The source of an intention.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// `*`: any service.
    Any,
    /// One service by its name in Consul.
    Service(String),
}

/// The rules in force, in Consul's order of precedence: the first that matches decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intentions {
    /// In order of precedence.
    pub rules: Vec<Intention>,
    /// Workloads that the config allows beside Consul's intentions.
    pub allowed: Vec<SpiffeId>,
    /// What decides where no rule matches.
    pub default: Action,
    /// Where the default comes from, in words.
    pub default_source: &'static str,
}

impl Intentions {
    /// Whether `peer` may call `service`; a refusal says which rule refused.
    pub fn judge(&self, peer: &SpiffeId, service: &str) -> Result<(), Denial> {
        let caller = peer.service();
        let rule = self.rules.iter().find(|rule| match &rule.source {
            Source::Any => true,
            Source::Service(name) => caller == Some(name),
        });
        match rule {
            Some(Intention { action: Action::Allow, .. }) => Ok(()),
            // An explicit denial wins over the config's list: it is the operator's last word.
            Some(rule) => Err(Denial {
                peer: peer.clone(),
                service: service.to_owned(),
                by: format!("the intention \"{} => {}\"", rule.source, rule.destination),
            }),
            None if self.default == Action::Allow || self.allowed.contains(peer) => Ok(()),
            None => Err(Denial {
                peer: peer.clone(),
                service: service.to_owned(),
                by: format!("the default ({}), as no intention matches", self.default_source),
            }),
        }
    }
}

/// Why a peer was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    peer: SpiffeId,
    service: String,
    by: String,
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { peer, service, by } = self;
        match peer.service() {
            Some(name) => {
                write!(f, "\"{name}\" ({peer}) may not call \"{service}\": {by} denies it")
            }
            None => write!(f, "{peer} may not call \"{service}\": {by} denies it"),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Any => f.write_str("*"),
            Source::Service(name) => f.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(service: &str) -> SpiffeId {
        SpiffeId::for_consul("td.consul", "default", "dc1", service).unwrap()
    }

    fn rule(source: Source, action: Action) -> Intention {
        Intention { source, destination: "order".into(), action }
    }

    fn rules(rules: Vec<Intention>, default: Action) -> Intentions {
        Intentions { rules, allowed: Vec::new(), default, default_source: "test" }
    }

    #[test]
    fn the_first_match_decides() {
        let exact_first = rules(
            vec![
                rule(Source::Service("web".into()), Action::Deny),
                rule(Source::Any, Action::Allow),
            ],
            Action::Allow,
        );
        let denial = exact_first.judge(&peer("web"), "order").unwrap_err().to_string();
        assert!(denial.contains("\"web => order\""), "{denial}");
        assert_eq!(exact_first.judge(&peer("api"), "order"), Ok(()));
    }

    #[test]
    fn what_nothing_allows_is_denied() {
        let none = rules(Vec::new(), Action::Deny);
        assert!(none.judge(&peer("web"), "order").is_err());
    }

    #[test]
    fn the_static_list_adds_to_the_default_but_not_against_an_intention() {
        let mut list = rules(Vec::new(), Action::Deny);
        list.allowed.push(peer("web"));
        assert_eq!(list.judge(&peer("web"), "order"), Ok(()));
        list.rules.push(rule(Source::Any, Action::Deny));
        assert!(list.judge(&peer("web"), "order").is_err());
    }

    #[test]
    fn a_workload_without_a_service_matches_only_the_wildcard() {
        let spire = SpiffeId::try_from("spiffe://td.consul/host/web").unwrap();
        let named = rules(vec![rule(Source::Service("web".into()), Action::Allow)], Action::Deny);
        assert!(named.judge(&spire, "order").is_err());
    }
}
