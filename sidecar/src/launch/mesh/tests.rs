//! What a `mesh.toml` gives, and what is said of one that cannot be used.

use std::sync::Arc;

use super::*;

const DEMONSTRATION: &str = r#"
[[service]]
name = "user-service"
build = "cargo build"
command = ["target/user", "--on={app}"]
env = { MESH = "http://{outbound}", ME = "{instance} {other}" }
instances = 2
app = 50051
inbound = 21001
outbound = 15011
admin = 15021
token_file = "tokens/user"

[[service]]
name = "order-service"
build = "cargo build"
command = ["target/order"]
app = 50061
inbound = 21011
outbound = 15031
admin = 15041

[[intention]]
source = "*"
destination = "user-service"
action = "deny"
"#;

fn parse(text: &str) -> Result<Mesh, Vec<String>> {
    let tree = file::parse(text, &Arc::from("mesh.toml"));
    let mesh = tree.and_then(|tree| Mesh::parse(tree, PathBuf::from("/m")));
    mesh.map_err(|problems| problems.iter().map(ToString::to_string).collect())
}

#[test]
fn instances_count_their_ports_up_and_the_client_is_added() {
    let mesh = parse(DEMONSTRATION).unwrap();
    let ids: Vec<_> = mesh.instances.iter().map(|i| i.id.as_str()).collect();
    assert_eq!(ids, ["user-service-1", "user-service-2", "order-service-1", "client-1"]);
    let second = &mesh.instances[1];
    let local = second.local.as_ref().unwrap();
    assert_eq!(local.app, "127.0.0.1:50052".parse().unwrap());
    assert_eq!(local.inbound, "127.0.0.1:21002".parse().unwrap());
    assert_eq!(second.outbound, "127.0.0.1:15012".parse().unwrap());
    assert_eq!(second.admin, "127.0.0.1:15022".parse().unwrap());
    assert_eq!(second.token_file.as_deref(), Some(Path::new("/m/tokens/user")));
    assert_eq!(mesh.instances[3].outbound, "127.0.0.1:15001".parse().unwrap());
    assert!(mesh.instances[3].local.is_none());
}

#[test]
fn placeholders_are_filled_in_and_other_braces_stay() {
    let mesh = parse(DEMONSTRATION).unwrap();
    let local = mesh.instances[1].local.as_ref().unwrap();
    assert_eq!(local.command, ["target/user", "--on=127.0.0.1:50052"]);
    assert_eq!(local.env["MESH"], "http://127.0.0.1:15012");
    assert_eq!(local.env["ME"], "user-service-2 {other}");
}

#[test]
fn a_build_that_two_services_share_runs_once() {
    assert_eq!(parse(DEMONSTRATION).unwrap().builds, ["cargo build"]);
}

#[test]
fn the_file_may_describe_the_client_itself() {
    let text = "[[service]]\nname = \"client\"\noutbound = 1501\nadmin = 1502\n";
    let mesh = parse(text).unwrap();
    assert_eq!(mesh.instances.len(), 1);
    assert_eq!(mesh.instances[0].outbound, "127.0.0.1:1501".parse().unwrap());
}

#[test]
fn every_error_is_told_at_once_with_its_line() {
    let errors = parse(
        r#"
[[service]]
name = "User"
comand = ["x"]
app = 70000
inbound = 21001
outbound = 15011
admin = "15021"

[[service]]
name = "a"
command = []
instances = 0
app = 1
inbound = 2
outbound = 3

[[intention]]
source = "a"
action = "permit"
"#,
    )
    .unwrap_err();
    let expected = [
        "mesh.toml:2: service: found some of command, app and inbound, expected all three",
        "mesh.toml:3: service[0].name: found \"User\", expected a service name",
        "mesh.toml:4: service[0].comand: unknown key, did you mean \"command\"?",
        "mesh.toml:5: service[0].app: found 70000, expected a port from 1 to 65535",
        "mesh.toml:8: service[0].admin: found \"15021\", expected a port from 1 to 65535",
        "mesh.toml:10: service.admin: left out, expected a value",
        "mesh.toml:12: service[1].command: found no program, expected one and its arguments",
        "mesh.toml:13: service[1].instances: found 0, expected a number of instances",
        "mesh.toml:18: intention.destination: left out, expected a value",
        "mesh.toml:20: intention[0].action: found \"permit\", expected \"allow\" or \"deny\"",
    ];
    assert_eq!(errors.len(), expected.len(), "{errors:#?}");
    for (error, expected) in errors.iter().zip(expected) {
        assert!(error.starts_with(expected), "{error}\n  is not\n{expected}");
    }
}

#[test]
fn a_port_that_two_want_is_told_with_both() {
    let text = DEMONSTRATION.replace("50061", "50052");
    let errors = parse(&text).unwrap_err();
    let expected = "mesh.toml:18: service.app: found 50052, which makes 50052 the app port of \
                    order-service-1, but it is the app port of user-service-2";
    assert_eq!(errors, [expected]);
}

#[test]
fn a_file_that_is_no_toml_says_where() {
    let errors = parse("[[service]]\nname = \n").unwrap_err();
    assert!(errors[0].starts_with("mesh.toml:2: "), "{errors:?}");
}

#[test]
fn a_file_without_a_service_is_refused() {
    let errors = parse("").unwrap_err();
    assert_eq!(errors, ["mesh.toml: found no [[service]], expected at least one"]);
}
