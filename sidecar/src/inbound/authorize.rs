//! Who may call this service: intentions as Consul orders them, then the static list.
//!
//! Invariant: what nothing allows is denied. Judged once per connection and snapshot for L4.

use std::fmt;

use certs::{ConsulWorkload, SpiffeId};

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

/// The source of an intention: whom it is about. Its datacenter is not told apart, as with
/// Consul's own proxies: those of a federation share their services' names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The service's name in Consul.
    pub service: Name,
    /// Its namespace.
    pub namespace: Name,
    /// Its admin partition.
    pub partition: Name,
}

/// One part of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// `*`: any.
    Any,
    /// This one.
    Is(String),
}

/// Consul's word for any.
const ANY: &str = "*";
/// The one namespace, and the one partition, of Consul's community edition.
const DEFAULT: &str = "default";

impl From<&str> for Name {
    fn from(stated: &str) -> Self {
        if stated == ANY { Self::Any } else { Self::Is(stated.to_owned()) }
    }
}

impl Name {
    fn matches(&self, name: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Is(stated) => stated == name,
        }
    }
}

impl Source {
    /// A service (`*`: any) of the default namespace and partition.
    #[must_use]
    pub fn of_default_namespace(service: &str) -> Self {
        let default = Name::Is(DEFAULT.to_owned());
        Self { service: service.into(), namespace: default.clone(), partition: default }
    }

    /// A workload whose ID has not Consul's form is of the default namespace and partition, where
    /// only `*` means it.
    fn matches(&self, peer: Option<ConsulWorkload<'_>>) -> bool {
        let Self { service, namespace, partition } = self;
        match peer {
            Some(peer) => {
                service.matches(peer.service)
                    && namespace.matches(peer.namespace)
                    && partition.matches(peer.partition_name())
            }
            None => {
                *service == Name::Any && namespace.matches(DEFAULT) && partition.matches(DEFAULT)
            }
        }
    }
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
        let caller = peer.consul();
        let rule = self.rules.iter().find(|rule| rule.source.matches(caller));
        let is_listed = || self.allowed.iter().any(|allowed| allowed.is_same_workload(peer));
        match rule {
            Some(Intention { action: Action::Allow, .. }) => Ok(()),
            // An explicit denial wins over the config's list: it is the operator's last word.
            Some(rule) => Err(Denial {
                peer: peer.clone(),
                service: service.to_owned(),
                by: format!("the intention \"{} => {}\"", rule.source, rule.destination),
            }),
            None if self.default == Action::Allow || is_listed() => Ok(()),
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

/// As Consul writes it: `service`, `namespace/service` or `partition/namespace/service`.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { service, namespace, partition } = self;
        let is_default = |name: &Name| matches!(name, Name::Is(name) if name == DEFAULT);
        if !is_default(partition) {
            write!(f, "{partition}/{namespace}/{service}")
        } else if !is_default(namespace) {
            write!(f, "{namespace}/{service}")
        } else {
            write!(f, "{service}")
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Any => ANY,
            Self::Is(name) => name,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(service: &str) -> SpiffeId {
        SpiffeId::for_consul("td.consul", "default", "dc1", service).unwrap()
    }

    fn rule(source: &str, action: Action) -> Intention {
        let source = Source::of_default_namespace(source);
        Intention { source, destination: "order".into(), action }
    }

    fn rules(rules: Vec<Intention>, default: Action) -> Intentions {
        Intentions { rules, allowed: Vec::new(), default, default_source: "test" }
    }

    #[test]
    fn the_first_match_decides() {
        let exact_first =
            rules(vec![rule("web", Action::Deny), rule("*", Action::Allow)], Action::Allow);
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
        list.rules.push(rule("*", Action::Deny));
        assert!(list.judge(&peer("web"), "order").is_err());
    }

    #[test]
    fn a_workload_without_a_service_matches_only_the_wildcard() {
        let spire = SpiffeId::try_from("spiffe://td.consul/host/web").unwrap();
        let named = rules(vec![rule("web", Action::Allow)], Action::Deny);
        assert!(named.judge(&spire, "order").is_err());
        let all = rules(vec![rule("*", Action::Allow)], Action::Deny);
        assert_eq!(all.judge(&spire, "order"), Ok(()));
    }

    #[test]
    fn a_namesake_of_another_namespace_or_partition_is_another_service() {
        let id = |path: &str| SpiffeId::try_from(format!("spiffe://td.consul{path}")).unwrap();
        let own = [id("/ns/default/dc/dc7/svc/web"), id("/ap/default/ns/default/dc/dc1/svc/web")];
        let others = [
            id("/ap/other/ns/blue/dc/dc7/svc/web"),
            id("/ap/other/ns/default/dc/dc1/svc/web"),
            id("/ns/blue/dc/dc1/svc/web"),
        ];
        for allowed in ["web", "*"] {
            let allow = rules(vec![rule(allowed, Action::Allow)], Action::Deny);
            for peer in &own {
                assert_eq!(allow.judge(peer, "order"), Ok(()), "{allowed}");
            }
            for peer in &others {
                assert!(allow.judge(peer, "order").is_err(), "{peer} by {allowed}");
            }
        }
    }

    #[test]
    fn a_source_is_matched_and_named_with_its_namespace_and_partition() {
        let source = |[partition, namespace, service]: [&str; 3]| Source {
            service: service.into(),
            namespace: namespace.into(),
            partition: partition.into(),
        };
        let is = |path: &str, parts| {
            let id = SpiffeId::try_from(format!("spiffe://td.consul{path}")).unwrap();
            source(parts).matches(id.consul())
        };
        assert!(is("/ns/blue/dc/dc1/svc/web", ["default", "blue", "web"]));
        assert!(is("/ns/blue/dc/dc1/svc/web", ["default", "*", "*"]));
        assert!(is("/ap/other/ns/blue/dc/dc1/svc/web", ["other", "blue", "*"]));
        assert!(!is("/ap/other/ns/blue/dc/dc1/svc/web", ["default", "*", "*"]));
        assert_eq!(source(["default", "default", "web"]).to_string(), "web");
        assert_eq!(source(["default", "*", "*"]).to_string(), "*/*");
        assert_eq!(source(["other", "blue", "web"]).to_string(), "other/blue/web");
    }
}
