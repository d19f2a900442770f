//! Facts about filters.

use serde_json::json;

use super::*;

fn health() -> Value {
    json!({
        "Node": { "Node": "n1", "Meta": null },
        "Service": {
            "Service": "web",
            "Tags": ["v1", "blue"],
            "Meta": { "version": "2", "a.b": "x" },
            "Port": 80,
        },
    })
}

fn holds(text: &str) -> bool {
    Filter::parse(text, Schema::Health).unwrap().matches(&health())
}

#[test]
fn the_operators_hold_for_what_they_should() {
    for text in [
        "Service.Meta.version == 2",
        r#"Service.Meta["a.b"] == "x""#,
        "Service.Port == 80",
        "Service.Service != api",
        r#""v1" in Service.Tags"#,
        "v1 in Service.Tags",
        "v2 not in Service.Tags",
        "Service.Tags contains blue",
        "Service.Tags not contains red",
        "version in Service.Meta",
        "Service.Service matches `^w.b$`",
        "Service.Service not matches `^x`",
        "Node.Meta is empty",
        "Service.Tags is not empty",
        "Service.Kind is empty",
        r#"Service.Kind == """#,
        "Service.EnableTagOverride == false",
        "not (Service.Service == api or Service.Port == 81)",
        "Service.Service == api or Service.Port == 80 and Node.Node == n1",
    ] {
        assert!(holds(text), "{text}");
    }
}

#[test]
fn the_operators_do_not_hold_for_what_they_should_not() {
    for text in [
        "Service.Meta.version == 3",
        "Service.Meta.missing == 3",
        r#""v2" in Service.Tags"#,
        "Service.Tags is empty",
        "Service.Service == web and Service.Port == 81",
        "not Service.Service == web",
    ] {
        assert!(!holds(text), "{text}");
    }
}

#[test]
fn what_is_no_expression_is_refused() {
    for text in [
        "Service.Nothing == 1",
        "Service.Service",
        "Service.Service ==",
        "(Service.Service == web",
        "Service.Service == web and",
        "Service.Service == \"web",
        "Service.Tags == web",
        "Service.Service matches `(`",
        "== web",
    ] {
        assert!(Filter::parse(text, Schema::Health).is_err(), "{text}");
    }
    let deep = "not ".repeat(2000) + "Service.Service == web";
    assert!(Filter::parse(&deep[..4000], Schema::Health).is_err());
}
