//! What is a SPIFFE ID and what is not, by example and by property.

use proptest::prelude::*;

use super::*;

fn id(text: &str) -> SpiffeId {
    text.parse().unwrap()
}

fn refusal(text: &str) -> SpiffeIdError {
    text.parse::<SpiffeId>().unwrap_err()
}

#[test]
fn consuls_form_is_read_into_its_parts() {
    let web = id("spiffe://11111111-2222-3333-4444-555555555555.consul/ns/default/dc/dc1/svc/web");
    assert_eq!(web.trust_domain(), "11111111-2222-3333-4444-555555555555.consul");
    assert_eq!(web.path(), "/ns/default/dc/dc1/svc/web");
    let expected =
        ConsulWorkload { partition: None, namespace: "default", datacenter: "dc1", service: "web" };
    assert_eq!(web.consul(), Some(expected));
    assert_eq!(web.service(), Some("web"));

    let other = id("spiffe://td/ap/team-a/ns/n/dc/d/svc/s");
    assert_eq!(other.consul().unwrap().partition, Some("team-a"));
}

#[test]
fn the_default_partition_is_one_workload_in_both_spellings() {
    let short = id("spiffe://td/ns/default/dc/dc1/svc/web");
    let long = id("spiffe://td/ap/default/ns/default/dc/dc1/svc/web");
    assert!(short.is_same_workload(&long) && long.is_same_workload(&short));
    assert_ne!(short, long);
    let elsewhere = id("spiffe://td/ap/team-a/ns/default/dc/dc1/svc/web");
    assert!(!short.is_same_workload(&elsewhere));
    let foreign = id("spiffe://other/ap/default/ns/default/dc/dc1/svc/web");
    assert!(!short.is_same_workload(&foreign));
}

#[test]
fn another_path_is_kept_whole_and_names_no_consul_service() {
    for path in [
        "/workload/web",
        "/ns/prod/sa/web",
        "/ns/default/dc/dc1/svc/web/extra",
        "/ns/default/dc/dc1/svc",
        "/ap/p",
        "/agent/client/dc/dc1/id/x",
    ] {
        let text = format!("spiffe://example.org{path}");
        let id = id(&text);
        assert_eq!((id.path(), id.consul(), id.as_str()), (path, None, text.as_str()));
    }
}

#[test]
fn each_broken_rule_is_told_apart() {
    use SpiffeIdError as E;
    for (text, error) in [
        ("", E::Scheme),
        ("https://td/a", E::Scheme),
        ("SPIFFE://td/a", E::Scheme),
        ("spiffe:///a", E::NoTrustDomain),
        ("spiffe://", E::NoTrustDomain),
        ("spiffe://td", E::NoPath),
        ("spiffe://td/", E::NoPath),
        ("spiffe://td/a/", E::EmptySegment),
        ("spiffe://td//a", E::EmptySegment),
        ("spiffe://td/a/../b", E::DotSegment("..".into())),
        ("spiffe://td/./b", E::DotSegment(".".into())),
        ("spiffe://td/a?b", E::Query),
        ("spiffe://td/a#b", E::Fragment),
        ("spiffe://td:80/a", E::Port),
        ("spiffe://me@td/a", E::UserInfo),
        ("spiffe://me:pw@td/a", E::UserInfo),
        ("spiffe://TD/a", E::TrustDomainCharacter('T')),
        ("spiffe://tä/a", E::TrustDomainCharacter('ä')),
        ("spiffe://td/a%20b", E::PathCharacter('%')),
        ("spiffe://td/a b", E::PathCharacter(' ')),
    ] {
        assert_eq!(refusal(text), error, "{text}");
    }
}

#[test]
fn lengths_are_limited_to_the_standards() {
    let domain = "a".repeat(255);
    assert!(format!("spiffe://{domain}/x").parse::<SpiffeId>().is_ok());
    assert_eq!(refusal(&format!("spiffe://{domain}a/x")), SpiffeIdError::TrustDomainTooLong(256));
    let path = "p".repeat(2048 - "spiffe://td/".len());
    assert!(format!("spiffe://td/{path}").parse::<SpiffeId>().is_ok());
    assert_eq!(refusal(&format!("spiffe://td/{path}p")), SpiffeIdError::TooLong(2049));
}

#[test]
fn a_part_cannot_smuggle_a_segment_into_consuls_form() {
    assert!(SpiffeId::for_consul("td", "default", "dc1", "web").is_ok());
    for service in ["a/svc/b", "", "..", "a?b"] {
        assert!(SpiffeId::for_consul("td", "default", "dc1", service).is_err(), "{service}");
    }
    assert!(SpiffeId::for_consul("td/x", "default", "dc1", "web").is_err());
}

#[test]
fn consuls_server_name_has_its_documented_form() {
    let web = |partition| ConsulWorkload {
        partition,
        namespace: "default",
        datacenter: "dc1",
        service: "web",
    };
    for default in [None, Some("default")] {
        let name = web(default).server_name("td.consul");
        assert_eq!(name, "web.default.dc1.internal.td.consul");
    }
    let elsewhere = web(Some("blue")).server_name("td.consul");
    assert_eq!(elsewhere, "web.default.blue.dc1.internal-v1.td.consul");
}

#[test]
fn an_id_states_its_partition_unless_it_is_the_default_one() {
    let id = |partition| {
        let (namespace, datacenter, service) = ("ns1", "dc1", "web");
        ConsulWorkload { partition, namespace, datacenter, service }.id("td").unwrap()
    };
    assert_eq!(id(None).as_str(), "spiffe://td/ns/ns1/dc/dc1/svc/web");
    assert_eq!(id(Some("default")), id(None));
    assert_eq!(id(Some("blue")).as_str(), "spiffe://td/ap/blue/ns/ns1/dc/dc1/svc/web");
}

proptest! {
    #[test]
    fn every_valid_id_survives_a_round_trip(
        domain in "[a-z0-9._-]{1,255}",
        segments in prop::collection::vec("[a-zA-Z0-9_-][a-zA-Z0-9._-]{0,20}", 1..10),
    ) {
        let path = format!("/{}", segments.join("/"));
        let text = format!("spiffe://{domain}{path}");
        let id: SpiffeId = text.parse().unwrap();
        prop_assert_eq!(id.trust_domain(), domain);
        prop_assert_eq!(id.path(), path);
        prop_assert_eq!(id.to_string(), text);
        prop_assert!(id.is_same_workload(&id.clone()));
    }

    #[test]
    fn consuls_form_is_built_and_read_alike(
        domain in "[a-z0-9-]{1,60}",
        [ns, dc, svc] in ["[a-z0-9-]{1,30}", "[a-z0-9-]{1,30}", "[a-z0-9-]{1,63}"],
    ) {
        let id = SpiffeId::for_consul(&domain, &ns, &dc, &svc).unwrap();
        let found = id.consul().unwrap();
        prop_assert_eq!(found.namespace, ns);
        prop_assert_eq!(found.datacenter, dc);
        prop_assert_eq!(found.service, svc);
        prop_assert_eq!(id.trust_domain(), domain);
    }

    #[test]
    fn no_text_panics_and_what_parses_reads_back(text in "(spiffe://)?\\PC{0,60}") {
        if let Ok(id) = text.parse::<SpiffeId>() {
            prop_assert_eq!(id.as_str(), &text);
            let _ = id.consul();
        }
    }

    #[test]
    fn what_parses_holds_only_the_standards_characters(text in "spiffe://[a-zA-Z0-9./:@?#%_ -]{0,40}") {
        if let Ok(id) = text.parse::<SpiffeId>() {
            prop_assert!(id.trust_domain().chars().all(|c| matches!(c, 'a'..='z' | '0'..='9' | '.' | '-' | '_')));
            prop_assert!(id.path()[1..].split('/').all(|s| !matches!(s, "" | "." | "..")));
            prop_assert!(!id.as_str().contains(['?', '#', '@', '%', ' ']));
        }
    }
}
