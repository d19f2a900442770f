//! From Consul's intentions to the rules that the workers judge by. Pure.
//!
//! Invariant: what cannot be judged denies; while Consul is in doubt, what it states anew counts at
//! once, and what it merely lacks stays.

use consul::api::{Action, Intention, Rule};

use crate::inbound::authorize;

/// The one namespace of Consul's community edition, which states none.
const DEFAULT: &str = "default";

/// The intentions in force: those that Consul lists, and while it is in doubt also the known ones
/// that it lacks. In order of precedence.
pub(super) fn in_force(known: &[Intention], listed: &[Intention], doubt: bool) -> Vec<Intention> {
    let mut all = listed.to_vec();
    if doubt {
        let is_stated = |one: &&Intention| listed.iter().any(|l| parties(l) == parties(one));
        all.extend(known.iter().filter(|one| !is_stated(one)).cloned());
        // Stable: among equals Consul's own order stays.
        all.sort_by_key(|one| std::cmp::Reverse(one.precedence));
    }
    all
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

    #[test]
    fn without_doubt_what_consul_lists_is_all_there_is() {
        assert_eq!(in_force(&[allow("web", 9)], &[], false), []);
    }

    #[test]
    fn in_doubt_what_consul_lacks_stays_and_what_it_states_anew_counts() {
        let known = [allow("web", 9), allow("api", 9)];
        let listed = [deny("web", 9), deny("*", 8)];
        let expected = [deny("web", 9), allow("api", 9), deny("*", 8)];
        assert_eq!(in_force(&known, &listed, true), expected);
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
        let known = [deny("web", 9)];
        let listed = [Intention { source_peer: Some("east".into()), ..allow("web", 9) }];
        let force = in_force(&known, &listed, true);
        assert_eq!(rules(&force).0, rules(&known).0);
    }
}
