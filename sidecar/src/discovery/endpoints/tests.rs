//! What Consul's lists come to, believed and in doubt.

use consul::api::{Check, Node, Service};

use super::*;
use CheckStatus::{Critical, Passing, Warning};

fn entry(port: u16, status: CheckStatus) -> ServiceEntry {
    let check = Check {
        node: "n".into(),
        id: format!("c-{port}"),
        name: String::new(),
        status,
        output: String::new(),
        service_id: String::new(),
        service_name: String::new(),
    };
    ServiceEntry {
        node: Node { address: "127.0.0.1".into(), datacenter: "dc1".into(), ..Node::default() },
        service: Service { id: format!("s-{port}"), port, ..Service::default() },
        checks: vec![check],
    }
}

fn ports(endpoints: &Endpoints) -> Vec<u16> {
    endpoints.available.iter().map(|located| located.address.port()).collect()
}

fn read(list: &[ServiceEntry]) -> Endpoints {
    Endpoints::read(list).0
}

/// As Consul listed it, then came into doubt.
fn doubted(list: &[ServiceEntry]) -> Known {
    let mut known = Known::default();
    known.answered(Some(read(list)));
    known.in_force(false);
    known.doubt();
    known
}

fn after(known: &mut Known, list: &[ServiceEntry]) -> Vec<u16> {
    known.answered(Some(read(list)));
    ports(known.in_force(true).unwrap())
}

#[test]
fn passing_and_warning_take_calls_and_critical_is_counted() {
    let endpoints = read(&[entry(1, Passing), entry(2, Warning), entry(3, Critical)]);
    assert_eq!((ports(&endpoints), endpoints.critical.len()), (vec![1, 2], 1));
    assert_eq!(endpoints.available[0].datacenter, "dc1");
}

#[test]
fn of_two_records_of_one_address_the_one_that_is_well_counts() {
    let endpoints = read(&[entry(1, Critical), entry(1, Passing)]);
    assert_eq!((ports(&endpoints), endpoints.critical.len()), (vec![1], 0));
}

#[test]
fn what_is_no_address_is_passed_over_and_named() {
    let mut named = entry(1, Passing);
    named.service.address = "web.internal".into();
    let (endpoints, odd) = Endpoints::read(&[named, entry(0, Passing)]);
    assert_eq!(endpoints, Endpoints::default());
    assert!(odd[0].contains("web.internal") && odd[1].contains("port 0"), "{odd:?}");
}

#[test]
fn in_doubt_an_empty_list_takes_nothing_away_and_a_new_endpoint_is_added() {
    let mut known = doubted(&[entry(1, Passing), entry(2, Passing)]);
    assert_eq!(after(&mut known, &[]), [1, 2]);
    assert_eq!(after(&mut known, &[entry(3, Passing), entry(1, Critical)]), [3, 1, 2]);
    assert!(known.present.critical.is_empty(), "one that takes calls is not told as critical");
    assert_eq!(ports(known.in_force(false).unwrap()), [3]);
    assert_eq!(known.present.critical.len(), 1);
}

#[test]
fn in_doubt_what_consul_has_listed_as_well_it_may_take_away() {
    let mut known = doubted(&[entry(1, Passing), entry(2, Passing), entry(3, Passing)]);
    assert_eq!(after(&mut known, &[entry(1, Passing), entry(2, Passing)]), [1, 2, 3]);
    assert_eq!(after(&mut known, &[entry(1, Passing), entry(2, Critical)]), [1, 3]);
    assert_eq!(after(&mut known, &[entry(1, Passing)]), [1, 3]);
}

#[test]
fn an_answer_that_is_the_one_before_states_all_of_it_anew() {
    let mut known = doubted(&[entry(1, Passing), entry(2, Passing)]);
    assert!(known.is_owed());
    known.answered(None);
    assert!(!known.is_owed());
    assert_eq!(after(&mut known, &[entry(1, Passing), entry(2, Critical)]), [1]);
}

#[test]
fn in_doubt_the_last_endpoints_go_on_taking_calls() {
    let mut known = doubted(&[entry(1, Passing), entry(2, Passing)]);
    assert_eq!(after(&mut known, &[entry(1, Passing), entry(2, Passing)]), [1, 2]);
    assert_eq!(after(&mut known, &[entry(1, Critical), entry(2, Critical)]), [1, 2]);
    assert_eq!(after(&mut known, &[entry(1, Critical), entry(2, Passing)]), [2]);
    assert_eq!(after(&mut known, &[]), [2]);
    assert_eq!(ports(known.in_force(false).unwrap()), [0; 0]);
}

#[tokio::test]
async fn a_hold_that_another_watch_opens_begins_one_doubt() {
    let mut known = doubted(&[entry(1, Passing), entry(2, Passing)]);
    known.in_force(false);
    let began = Some(Instant::now());
    known.hold(began);
    assert_eq!(after(&mut known, &[entry(1, Passing)]), [1, 2], "not stated since it began");
    known.hold(began);
    assert_eq!(after(&mut known, &[entry(2, Passing)]), [2], "the hold is the same");
}

#[test]
fn an_instance_has_the_weight_of_its_health_and_its_own_zone_or_its_nodes() {
    let weighted = |port, status| {
        let mut entry = entry(port, status);
        entry.service.weights = consul::api::Weights { passing: 5, warning: 0 };
        entry.node.meta.insert("zone".into(), "of-the-node".into());
        entry
    };
    let mut own = weighted(2, Warning);
    own.service.meta.insert("zone".into(), "own".into());
    let mut none = weighted(3, Passing);
    none.service.meta.insert("zone".into(), String::new());
    let read = read(&[weighted(1, Passing), own, none]);
    let told: Vec<_> = read.available.iter().map(|one| (one.weight, one.zone.as_deref())).collect();
    assert_eq!(told, [(5, Some("of-the-node")), (0, Some("own")), (5, None)]);
}
