//! Facts about intentions.

use super::*;
use crate::agent::body;

fn entry(text: &str) -> Result<Entry, Invalid> {
    let map = body::object(text.as_bytes()).unwrap();
    Entry::from_fields(Fields::new(&map, "service-intentions"))
}

fn put(intentions: &mut Intentions, index: &mut Index, source: &str, to: &str, action: &str) {
    let map = body::object(format!(r#"{{"Action": "{action}"}}"#).as_bytes()).unwrap();
    let entry = intentions.with_source(source, to, Fields::new(&map, "Intention")).unwrap();
    intentions.put(entry, index).unwrap();
}

#[test]
fn the_most_exact_intention_decides() {
    let (mut all, mut index) = (Intentions::new(10), Index::new());
    put(&mut all, &mut index, "*", "*", "deny");
    put(&mut all, &mut index, "web", "*", "allow");
    put(&mut all, &mut index, "*", "db", "deny");
    put(&mut all, &mut index, "web", "db", "allow");
    let order: Vec<u8> = all.of_destination("db").iter().map(Intention::precedence).collect();
    assert_eq!(order, [9, 8, 6, 5]);
    assert_eq!(all.deciding("web", "db").unwrap().precedence(), 9);
    assert_eq!(all.deciding("api", "db").unwrap().precedence(), 8);
    assert_eq!(all.deciding("web", "other").unwrap().precedence(), 6);
    assert_eq!(all.deciding("api", "other").unwrap().precedence(), 5);
}

#[test]
fn writing_the_same_again_moves_no_index() {
    let (mut all, mut index) = (Intentions::new(10), Index::new());
    put(&mut all, &mut index, "web", "db", "allow");
    let before = all.index();
    put(&mut all, &mut index, "web", "db", "allow");
    assert_eq!(all.index(), before);
    put(&mut all, &mut index, "web", "db", "deny");
    assert!(all.index() > before);
}

#[test]
fn the_last_source_takes_the_entry_with_it() {
    let (mut all, mut index) = (Intentions::new(10), Index::new());
    put(&mut all, &mut index, "web", "db", "allow");
    all.remove_source("web", "db", &mut index);
    assert!(all.entry("db").is_none());
    assert!(all.exact("web", "db").is_none());
}

#[test]
fn intentions_are_bounded() {
    let (mut all, mut index) = (Intentions::new(1), Index::new());
    put(&mut all, &mut index, "web", "db", "allow");
    let two = entry(r#"{"Name": "api", "Sources": [{"Name": "web", "Action": "allow"}]}"#);
    assert!(matches!(all.put(two.unwrap(), &mut index), Err(Invalid::Full(1))));
}

#[test]
fn an_entry_that_consul_refuses_is_refused_with_its_place() {
    let cases = [
        (r#"{"Sources": []}"#, "Name is required"),
        (r#"{"Name": "db"}"#, "At least one source is required"),
        (r#"{"Name": "db", "Sources": [{"Action": "allow"}]}"#, "Sources[0].Name is required"),
        (
            r#"{"Name": "db", "Sources": [{"Name": "web"}]}"#,
            "Sources[0].Action must be set to 'allow' or 'deny'",
        ),
        (
            r#"{"Name": "db", "Sources": [{"Name": "w*b", "Action": "deny"}]}"#,
            "Sources[0].Name: wildcard character '*' cannot be used with partial values",
        ),
        (
            r#"{"Name": "db", "Sources": [{"Name": "web", "Permissions": [{"Action": "allow"}]}]}"#,
            "Sources[0].Permissions[0].HTTP is required",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(entry(text).unwrap_err().to_string(), expected);
    }
}
