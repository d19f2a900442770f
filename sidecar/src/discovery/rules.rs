//! From Consul's intentions to the rules that the workers judge by. Pure.
//!
//! Invariant: what cannot be judged denies; while Consul is in doubt, what it states anew counts at
//! once, and what it merely lacks stays.

use consul::api::{Action, Intention, Rule};

use crate::inbound::authorize;

/// Consul's name for any service.
const ANY: &str = "*";
/// The one namespace of Consul's community edition, which states none.
const DEFAULT: &str = "default";

/// What is known of the intentions to this service, through doubts about Consul.
#[derive(Debug, Default)]
pub(super) struct Known {
    listed: Option<Vec<Intention>>,
    /// Those in force, in order of precedence.
    force: Vec<Intention>,
    /// Those that were in force when the doubt began, and were not listed since.
    unstated: Vec<Intention>,
}

impl Known {
    /// What Consul says from now on, it says anew.
    pub(super) fn doubt(&mut self) {
        self.unstated.clone_from(&self.force);
    }

    /// Consul answered: with another list, or by none with the one before.
    pub(super) fn answered(&mut self, list: Option<Vec<Intention>>) {
        self.listed = list.or(self.listed.take());
        let Some(listed) = &self.listed else { return };
        let is_stated = |one: &Intention| listed.iter().any(|l| parties(l) == parties(one));
        self.unstated.retain(|one| !is_stated(one));
    }

    /// Whether Consul ever answered.
    pub(super) fn is_told(&self) -> bool {
        self.listed.is_some()
    }

    /// The intentions in force: those that Consul lists, and while it is in doubt also those that
    /// it has not listed since, in order of precedence. None before its first answer.
    pub(super) fn in_force(&mut self, doubt: bool) -> Option<&[Intention]> {
        if !doubt {
            self.unstated.clear();
        }
        self.force.clone_from(self.listed.as_ref()?);
        self.force.extend_from_slice(&self.unstated);
        // Stable: among equals Consul's own order stays.
        self.force.sort_by_key(|one| std::cmp::Reverse(one.precedence));
        Some(&self.force)
    }

    /// Those that were in force last.
    pub(super) fn last(&self) -> &[Intention] {
        &self.force
    }
}

/// Whether one of them names every caller, so that Consul cannot be asked what happens where none
/// matches.
pub(super) fn names_everyone(intentions: &[Intention]) -> bool {
    intentions.iter().any(|one| one.source == ANY && one.source_peer.is_none())
}

/// Whom an intention is about: Consul holds one for each.
fn parties(one: &Intention) -> impl PartialEq + '_ {
    let from = (&one.source, &one.source_namespace, &one.source_partition, &one.source_peer);
    (from, &one.destination, &one.destination_namespace)
}

/// The rules that the workers judge by, and the intentions that they cannot judge.
pub(super) fn rules(intentions: &[Intention]) -> (Vec<authorize::Intention>, Vec<&Intention>) {
    let mut unjudged = Vec::new();
    let mut rules = Vec::new();
    // Callers of other clusters have no certificate that we accept, but may bear the name of one of
    // ours: what is said of them is not said of it.
    for one in intentions.iter().filter(|one| one.source_peer.is_none()) {
        let action = match &one.rule {
            Rule::Action(Action::Allow) if !one.jwt => authorize::Action::Allow,
            Rule::Action(Action::Deny) => authorize::Action::Deny,
            // By request or with a JSON Web Token: denied whole, as `authorize` does in Consul.
            _ => {
                unjudged.push(one);
                authorize::Action::Deny
            }
        };
        let stated = |name: &str| if name.is_empty() { DEFAULT.into() } else { name.into() };
        let source = authorize::Source {
            service: one.source.as_str().into(),
            namespace: stated(&one.source_namespace),
            partition: stated(one.source_partition.as_deref().unwrap_or_default()),
        };
        rules.push(authorize::Intention { source, destination: one.destination.clone(), action });
    }
    (rules, unjudged)
}

#[cfg(test)]
mod tests {
    use consul::api::Permission;

    use super::*;

    fn intention(source: &str, destination: &str, precedence: i32, rule: Rule) -> Intention {
        Intention {
            source: source.into(),
            source_namespace: "default".into(),
            source_partition: None,
            source_peer: None,
            destination: destination.into(),
            destination_namespace: "default".into(),
            rule,
            jwt: false,
            precedence,
            description: String::new(),
        }
    }

    fn allow(source: &str, precedence: i32) -> Intention {
        intention(source, "order", precedence, Rule::Action(Action::Allow))
    }

    fn deny(source: &str, precedence: i32) -> Intention {
        intention(source, "order", precedence, Rule::Action(Action::Deny))
    }

    /// As Consul listed them, then came into doubt.
    fn doubted(list: &[Intention]) -> Known {
        let mut known = Known::default();
        after(&mut known, list, false);
        known.doubt();
        known
    }

    fn after(known: &mut Known, list: &[Intention], doubt: bool) -> Vec<Intention> {
        known.answered(Some(list.to_vec()));
        known.in_force(doubt).unwrap().to_vec()
    }

    #[test]
    fn without_doubt_what_consul_lists_is_all_there_is() {
        let mut known = Known::default();
        assert_eq!(after(&mut known, &[allow("web", 9)], false), [allow("web", 9)]);
        assert_eq!(after(&mut known, &[], false), []);
        assert_eq!(after(&mut doubted(&[allow("web", 9)]), &[], false), []);
    }

    #[test]
    fn in_doubt_what_consul_lacks_stays_and_what_it_states_anew_counts() {
        let mut known = doubted(&[allow("web", 9), allow("api", 9)]);
        let listed = [deny("web", 9), deny("*", 8)];
        let expected = [deny("web", 9), allow("api", 9), deny("*", 8)];
        assert_eq!(after(&mut known, &listed, true), expected);
    }

    #[test]
    fn in_doubt_what_consul_has_listed_since_it_may_take_away() {
        let mut known = doubted(&[allow("web", 9), allow("api", 9)]);
        after(&mut known, &[allow("web", 9)], true);
        assert_eq!(after(&mut known, &[], true), [allow("api", 9)]);
        let mut known = doubted(&[allow("web", 9), allow("api", 9)]);
        known.answered(None);
        assert_eq!(after(&mut known, &[allow("api", 9)], true), [allow("api", 9)]);
    }

    #[test]
    fn a_doubt_that_ended_keeps_nothing_in_the_next_one() {
        let mut known = doubted(&[allow("web", 9)]);
        after(&mut known, &[], true);
        known.in_force(false);
        known.doubt();
        assert_eq!(after(&mut known, &[], true), []);
    }

    #[test]
    fn what_cannot_be_judged_denies_and_is_named() {
        let permission = Permission {
            action: Action::Allow,
            path: None,
            headers: Vec::new(),
            methods: Vec::new(),
            jwt: false,
        };
        let by_request = intention("web", "order", 9, Rule::Permissions(vec![permission]));
        let with_token = Intention { jwt: true, ..allow("api", 9) };
        let both = [by_request, with_token];
        let (rules, unjudged) = rules(&both);
        assert!(rules.iter().all(|rule| rule.action == authorize::Action::Deny));
        assert_eq!((rules.len(), unjudged.len()), (2, 2));
    }

    #[test]
    fn what_is_said_of_another_cluster_is_not_said_of_our_service_of_that_name() {
        let peer = Intention { source_peer: Some("east".into()), ..allow("web", 9) };
        assert_eq!(rules(&[peer]).0, []);
    }

    #[test]
    fn the_namespace_and_partition_of_a_source_reach_the_workers() {
        let source = |namespace: &str, partition: Option<&str>| {
            let one = Intention {
                source_namespace: namespace.into(),
                source_partition: partition.map(str::to_owned),
                ..deny("web", 9)
            };
            rules(&[one]).0[0].source.to_string()
        };
        assert_eq!(source("blue", None), "blue/web");
        assert_eq!(source("blue", Some("other")), "other/blue/web");
        assert_eq!(source("", Some("default")), "web");
    }

    #[test]
    fn in_doubt_an_intention_of_another_cluster_takes_none_of_ours_away() {
        let listed = [Intention { source_peer: Some("east".into()), ..allow("web", 9) }];
        let force = after(&mut doubted(&[deny("web", 9)]), &listed, true);
        assert_eq!(rules(&force).0, rules(&[deny("web", 9)]).0);
    }
}
