//! Facts about the catalog.

use std::time::Duration;

use serde_json::json;

use tokio::time::Instant;

use super::*;
use crate::agent::body::Fields;
use crate::agent::check::Definition;
use crate::agent::service::Origin;

const BOUNDS: Bounds = Bounds { nodes: 2, services: 4, checks: 8 };

fn node(name: &str) -> Node {
    Node {
        id: String::new(),
        name: name.to_owned(),
        address: "127.0.0.1".to_owned(),
        tagged_addresses: BTreeMap::new(),
        meta: BTreeMap::new(),
        services: BTreeMap::new(),
        checks: BTreeMap::new(),
        create_index: 0,
        modify_index: 0,
    }
}

fn catalog() -> (Catalog, Index) {
    let mut index = Index::new();
    (Catalog::new(node("n1"), BOUNDS, &mut index), index)
}

fn service(id: &str, name: &str) -> Service {
    let body = json!({ "ID": id, "Name": name, "Port": 80 });
    Service::from_definition(Fields::new(body.as_object().unwrap(), "x"), Origin::Agent).unwrap()
}

fn check(id: &str, service: &str, body: Value, now: Instant) -> Check {
    let definition = Definition::from_fields(Fields::new(body.as_object().unwrap(), "x")).unwrap();
    let mut check = Check::new(&definition, id.to_owned(), id.to_owned(), now, 1);
    service.clone_into(&mut check.service_id);
    check
}

fn status(catalog: &Catalog, id: &str) -> Status {
    catalog.local().unwrap().checks[id].status
}

#[test]
fn only_what_concerns_a_service_moves_its_index() {
    let (mut catalog, mut index) = catalog();
    let now = Instant::now();
    catalog.put_service("n1", service("a", "web"), &mut index).unwrap();
    let web = Topic::Service("web".to_owned());
    let before = catalog.topic_index(&web);
    catalog.put_service("n1", service("b", "api"), &mut index).unwrap();
    catalog.put_check("n1", check("c", "b", json!({"TTL": "9s"}), now), &mut index).unwrap();
    catalog.put_service("n1", service("a", "web"), &mut index).unwrap();
    assert_eq!(catalog.topic_index(&web), before);
    catalog.put_check("n1", check("d", "", json!({"TTL": "9s"}), now), &mut index).unwrap();
    assert!(catalog.topic_index(&web) > before);
}

#[test]
fn the_index_of_a_service_that_went_is_that_of_its_going() {
    let (mut catalog, mut index) = catalog();
    catalog.put_service("n1", service("a", "web"), &mut index).unwrap();
    let web = Topic::Service("web".to_owned());
    let before = catalog.topic_index(&web);
    assert!(catalog.remove_service("n1", "a", &mut index));
    assert!(catalog.topic_index(&web) > before);
    assert!(catalog.instances(&web).is_empty());
}

#[test]
fn a_sidecar_goes_with_its_parent() {
    let (mut catalog, mut index) = catalog();
    let parent = service("a", "web");
    let sidecar = service("", "").into_sidecar_of(&parent);
    assert_eq!(sidecar.id, "a-sidecar-proxy");
    catalog.put_service("n1", parent, &mut index).unwrap();
    catalog.put_service("n1", sidecar, &mut index).unwrap();
    let mesh = Topic::Connect("web".to_owned());
    assert_eq!(catalog.instances(&mesh).len(), 1);
    catalog.remove_service("n1", "a", &mut index);
    assert!(catalog.instances(&mesh).is_empty());
}

#[test]
fn the_catalog_is_bounded() {
    let (mut catalog, mut index) = catalog();
    for number in 0..4 {
        let id = format!("s{number}");
        catalog.put_service("n1", service(&id, "web"), &mut index).unwrap();
    }
    assert!(catalog.put_service("n1", service("more", "web"), &mut index).is_err());
    catalog.put_node(node("n2"), &mut index).unwrap();
    assert!(catalog.put_node(node("n3"), &mut index).is_err());
}

#[test]
fn a_ttl_that_nobody_renews_turns_critical_with_the_last_report() {
    let (mut catalog, mut index) = catalog();
    let now = Instant::now();
    catalog.put_check("n1", check("c", "", json!({"TTL": "10s"}), now), &mut index).unwrap();
    assert!(catalog.reported("c", Status::Passing, "fine", now, &mut index));
    catalog.take_due(now + Duration::from_secs(9), &mut index);
    assert_eq!(status(&catalog, "c"), Status::Passing);
    catalog.take_due(now + Duration::from_secs(10), &mut index);
    assert_eq!(status(&catalog, "c"), Status::Critical);
    assert_eq!(
        catalog.local().unwrap().checks["c"].output,
        "TTL expired (last output before timeout follows): fine"
    );
}

#[test]
fn a_probe_is_due_again_only_after_its_result() {
    let (mut catalog, mut index) = catalog();
    let now = Instant::now();
    let body = json!({"TCP": "127.0.0.1:1", "Interval": "5s"});
    catalog.put_check("n1", check("c", "", body, now), &mut index).unwrap();
    assert_eq!(catalog.take_due(now, &mut index).len(), 1);
    assert!(catalog.take_due(now + Duration::from_secs(60), &mut index).is_empty());
    catalog.probed("c", 1, Status::Passing, "ok", now, &mut index);
    assert_eq!(status(&catalog, "c"), Status::Passing);
    assert_eq!(catalog.next_due(), Some(now + Duration::from_secs(5)));
    // The result of a probe of an earlier definition is nothing to this one.
    catalog.probed("c", 0, Status::Critical, "old", now, &mut index);
    assert_eq!(status(&catalog, "c"), Status::Passing);
}

#[test]
fn an_alias_says_what_its_service_says() {
    let (mut catalog, mut index) = catalog();
    let now = Instant::now();
    catalog.put_service("n1", service("a", "web"), &mut index).unwrap();
    catalog.put_service("n1", service("p", "proxy"), &mut index).unwrap();
    let alias = check("alias", "p", json!({"AliasService": "a"}), now);
    catalog.put_check("n1", alias, &mut index).unwrap();
    catalog.settle_aliases(now, &mut index);
    assert_eq!(status(&catalog, "alias"), Status::Passing);
    catalog.put_check("n1", check("c", "a", json!({"TTL": "9s"}), now), &mut index).unwrap();
    catalog.settle_aliases(now, &mut index);
    assert_eq!(status(&catalog, "alias"), Status::Critical);
    assert_eq!(catalog.local().unwrap().checks["alias"].output, "Aliased check \"c\" failing: ");
    catalog.remove_service("n1", "a", &mut index);
    catalog.settle_aliases(now, &mut index);
    assert_eq!(
        catalog.local().unwrap().checks["alias"].output,
        "Service a could not be found on node "
    );
}

#[test]
fn aliases_of_each_other_settle() {
    let (mut catalog, mut index) = catalog();
    let now = Instant::now();
    for (id, other) in [("a", "b"), ("b", "a")] {
        catalog.put_service("n1", service(id, "web"), &mut index).unwrap();
        let alias = check(&format!("{id}:alias"), id, json!({"AliasService": other}), now);
        catalog.put_check("n1", alias, &mut index).unwrap();
    }
    catalog.settle_aliases(now, &mut index);
}

#[test]
fn a_service_that_is_critical_for_too_long_is_reaped() {
    let (mut catalog, mut index) = catalog();
    let now = Instant::now();
    let minimum = Duration::from_secs(60);
    catalog.put_service("n1", service("a", "web"), &mut index).unwrap();
    let body = json!({"TTL": "9s", "DeregisterCriticalServiceAfter": "10s"});
    catalog.put_check("n1", check("c", "a", body, now), &mut index).unwrap();
    assert!(catalog.reap(now + Duration::from_secs(60), minimum, &mut index).is_empty());
    assert_eq!(catalog.reap(now + Duration::from_secs(61), minimum, &mut index), ["a"]);
    assert!(catalog.local_service("a").is_none());
}

#[test]
fn what_others_wrote_to_the_local_node_is_dropped() {
    let (mut catalog, mut index) = catalog();
    let foreign = Service { origin: Origin::Catalog, ..service("f", "foreign") };
    catalog.put_service("n1", foreign, &mut index).unwrap();
    catalog.put_service("n1", service("a", "web"), &mut index).unwrap();
    catalog.drop_foreign(&mut index);
    let left: Vec<&String> = catalog.local().unwrap().services.keys().collect();
    assert_eq!(left, ["a"]);
}
