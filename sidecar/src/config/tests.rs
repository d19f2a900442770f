//! A whole config at a time: what is wrong with it, all of it, in words; and who beats whom.

use std::time::{Duration, SystemTime};

use insta::assert_snapshot;
use proptest::prelude::*;

use super::*;

mod contradictions;
mod fallback;
mod files;
mod inbound;
mod overrides;

/// What is wrong with a config file's text.
fn problems(text: &str) -> String {
    match Config::from_toml(text, SystemTime::now()) {
        Ok(_) => "nothing".to_owned(),
        Err(problems) => problems.to_string(),
    }
}

fn config(text: &str) -> Config {
    match Config::from_toml(text, SystemTime::now()) {
        Ok(config) => config,
        Err(problems) => panic!("{problems}"),
    }
}

fn from(text: &str, variables: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Loaded, String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sidecar.toml");
    std::fs::write(&file, text).unwrap();
    let sources = Sources {
        file: Some(file),
        variables: variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        flags: flags
            .iter()
            .map(|(key, value)| Flag {
                name: format!("--set {key}"),
                key: (*key).to_owned(),
                value: (*value).to_owned(),
            })
            .collect(),
    };
    let place = format!("{}/", folder.path().display());
    load(&sources, SystemTime::now()).map_err(|problems| problems.to_string().replace(&place, ""))
}

#[test]
fn a_name_is_enough() {
    let config = config("[service]\nname = \"web\"\n");
    assert_eq!(config.service.id.as_str(), "web-15001");
    assert!(config.inbound.is_none());
    assert!(config.consul.is_some());
    assert_eq!(config.timeouts.response.limit(), Some(Duration::from_secs(15)));
    assert_eq!(config.timeouts.grpc_idle.limit(), None);
    assert_eq!(config.limits.header_list.bytes(), 64 * 1024);
    assert_eq!(config.identity.tls_min, certs::TlsMin::V1_3);
    assert_eq!(config.authorization.default, DefaultAction::Deny);
}

#[test]
fn every_wrong_key_and_value_is_one_line_and_all_are_told_at_once() {
    assert_snapshot!(problems(
        r#"colour = "red"
[service]
name = "Order"
app = "10.0.0.1:50053"
protocl = "grpc"
id = "a/b"
tags = ["v1", 2]
[inbound]
listen = 5
advertise = "localhost:1"
[outbound]
listen = "0.0.0.0:15001"
[admin]
listen = "127.0.0.1"
[identity]
source = "file"
tls_min = 1.2
[authorization]
default = "ask"
allow = ["spiffe://example.org/ns/default/dc/dc1/svc/web", "spiffe://EXAMPLE/x", "web"]
[upstreams.user-service]
timeout = "2x"
endpoints = ["127.0.0.1:21001", "user:21001"]
retry = { attempts = 3 }
[upstreams.User]
timeout = 2
[consul]
enabled = "yes"
[timeouts]
connect = "0s"
response = 15.0
ping = "25h"
[limits]
in_flight = 0
frame = "1KiB"
stream_window = "3GiB"
header_list = "64kb"
[limts]
x = 1
[drain]
timeout = 1979-05-27
[log]
level = "loud"
format = ["json"]
[runtime]
workers = -1
"#
    ));
}

#[test]
fn keys_that_contradict_each_other_are_told() {
    assert_snapshot!(problems(
        r#"[service]
name = "order-service"
[service.meta]
"a b" = "c"
[inbound]
listen = "127.0.0.1:21000"
[outbound]
listen = "127.0.0.1:15000"
[identity]
cert = "x.pem"
[upstreams.user-service]
listen = "127.0.0.1:15000"
identity = "spiffe://example.org/svc/user"
[upstreams.product-service]
endpoints = []
[[upstreams.product-service.route]]
match = { path = "/a", prefix = "/b" }
[[upstreams.product-service.route]]
match = { path = "a", headers = { "x y" = "1" } }
[consul]
enabled = false
token_file = "/nonexistent/token"
[limits]
stream_window = "2MiB"
"#
    ));
}

#[test]
fn a_file_that_is_no_toml_is_told_with_its_lines() {
    assert_snapshot!(problems("a = 1\n[service]\nname = \"a\"\nname = \"b\"\nid = \n[inbound\n"));
}

#[test]
fn a_missing_file_is_told() {
    let sources = Sources { file: Some("/nonexistent/sidecar.toml".into()), ..Sources::default() };
    let error = load(&sources, SystemTime::now()).unwrap_err().to_string();
    assert_eq!(
        error,
        "/nonexistent/sidecar.toml: cannot be read: No such file or directory (os error 2)"
    );
}

#[test]
fn a_config_without_a_name_says_how_to_give_one() {
    assert_snapshot!(problems(""));
}

#[test]
fn a_wrong_app_is_not_told_a_second_time_by_what_depends_on_it() {
    let text = "[service]\nname = \"a\"\napp = \"x\"\n[inbound]\nlisten = \"127.0.0.1:1\"\n";
    assert_eq!(problems(text).lines().count(), 1);
}

#[test]
fn variables_and_flags_are_named_where_they_are_wrong() {
    let wrong = from(
        "[service]\nname = \"a\"\n",
        &[
            ("OUTRIGGER_INBUOND__ADVERTISE", "x"),
            ("OUTRIGGER_INBUOND__LISTEN", "x"),
            ("OUTRIGGER_SERVICE__NMAE", "x"),
            ("OUTRIGGER_SERVICE__TAGS", "a,b"),
            ("OUTRIGGER_AUTHORIZATION__ALLOW", "web,spiffe://example.org/web"),
            ("OUTRIGGER_CONSUL__ENABLED", "maybe"),
            ("OUTRIGGER_LIMITS__IN_FLIGHT", "many"),
            ("OUTRIGGER_UPSTREAMS__USER_SERVICE__TIMEOUT", "2x"),
            ("OUTRIGGER", "not ours"),
            ("CONSUL_HTTP_ADDR", "unix://relative"),
            ("HOME", "/"),
        ],
        &[
            ("service.app", "1.2.3.4:5"),
            ("drain.timout", "1s"),
            ("upstreams.user-service.route", "x"),
            ("upstreams.web.route.timeout", "1s"),
            ("", ""),
        ],
    );
    assert_snapshot!(wrong.unwrap_err());
}

#[test]
fn flags_beat_variables_which_beat_the_file() {
    let file = "[service]\nname = \"file\"\nid = \"file\"\ntags = [\"file\"]\n\
                [upstreams.user-service]\ntimeout = \"1s\"\nconnect_timeout = \"1s\"\n\
                [[upstreams.user-service.route]]\nmatch = { path = \"/a\" }\n\
                [[upstreams.user-service.route]]\nhash = { header = \"x\" }\n";
    let loaded = from(
        file,
        &[
            ("OUTRIGGER_SERVICE__ID", "variable"),
            ("OUTRIGGER_SERVICE__TAGS", "variable, two"),
            ("OUTRIGGER_SERVICE__META__ZONE", "a"),
            ("OUTRIGGER_UPSTREAMS__USER_SERVICE__TIMEOUT", "2s"),
            ("OUTRIGGER_LIMITS__IN_FLIGHT", "7"),
            ("OUTRIGGER_CONSUL__ENABLED", "true"),
        ],
        &[("service.tags", "flag")],
    )
    .unwrap();
    let config = &loaded.config;
    assert_eq!(config.service.name.as_str(), "file");
    assert_eq!(config.service.id.as_str(), "variable");
    assert_eq!(config.service.tags, ["flag"]);
    assert_eq!(config.service.meta["zone"], "a");
    let user = config.upstreams.of(&"user-service".parse().unwrap());
    assert_eq!(user.calling.timeout.limit(), Some(Duration::from_secs(2)));
    assert_eq!(user.connect_timeout.duration(), Duration::from_secs(1));
    assert_eq!(user.in_flight.get(), 7);
    let origin = |key| {
        let found = loaded.settings.iter().find(|setting| setting.key == key);
        found.and_then(|setting| setting.origin.clone())
    };
    assert_eq!(origin("service.tags"), Some(Origin::Flag("--set service.tags".into())));
    assert_eq!(origin("service.id"), Some(Origin::Variable("OUTRIGGER_SERVICE__ID".into())));
    assert!(matches!(origin("service.name"), Some(Origin::File { line: Some(2), .. })));
    assert_eq!(origin("log.level"), None);
    assert!(matches!(
        origin("upstreams.user-service.route[1].hash.header"),
        Some(Origin::File { line: Some(11), .. })
    ));
}

#[test]
fn consul_is_found_by_its_own_variables_where_the_config_does_not_say() {
    let variables = [("CONSUL_HTTP_ADDR", "10.0.0.1:1"), ("CONSUL_HTTP_TOKEN", "hunter2")];
    let said = "[service]\nname = \"a\"\n[consul]\naddress = \"unix:///run/consul.sock\"\n";
    let consul = |text| from(text, &variables, &[]).unwrap().config.consul.unwrap();
    assert_eq!(consul(said).address.to_string(), "unix:///run/consul.sock");
    let unsaid = consul("[service]\nname = \"a\"\n");
    assert_eq!(unsaid.address.to_string(), "http://10.0.0.1:1");
    assert!(!format!("{unsaid:?}").contains("hunter2"));
}

#[test]
fn routes_inherit_from_their_upstream_and_it_from_the_defaults() {
    let config = config(
        r#"[service]
name = "a"
[timeouts]
response = "9s"
[upstreams.b]
timeout = "0s"
[[upstreams.b.route]]
match = { prefix = "/b.v1.B/", headers = { x-tenant = "t" } }
[[upstreams.b.route]]
match = { path = "/b.v1.B/List" }
timeout = "3s"
"#,
    );
    let b = config.upstreams.of(&"b".parse().unwrap());
    assert_eq!(b.routes[0].calling.timeout, Timeout::NONE);
    assert_eq!(b.routes[0].matches.path, PathMatch::Prefix("/b.v1.B/".into()));
    assert_eq!(b.routes[0].matches.headers.len(), 1);
    assert_eq!(b.routes[1].calling.timeout, Timeout::secs(3));
    let other = config.upstreams.of(&"c".parse().unwrap());
    assert_eq!(other.calling.timeout, Timeout::secs(9));
}

#[test]
fn a_hash_without_its_header_or_with_a_wrong_one_is_told_with_its_line() {
    let refused = |hash: &str| {
        problems(&format!("[service]\nname = \"a\"\n[[upstreams.b.route]]\nhash = {hash}\n"))
    };
    let told = "4: upstreams.b.route[0].hash.header: ";
    let none = refused("{}");
    assert!(none.contains(told) && none.contains("not set, expected a header's name"), "{none}");
    let wrong = refused("{ header = \"x user\" }");
    assert!(wrong.contains(told) && wrong.contains("found \"x user\""), "{wrong}");
}

#[test]
fn upstreams_inherit_how_calls_are_spread_over_endpoints() {
    let config = config(
        "[service]\nname = \"a\"\nweight = { passing = 3, warning = 0 }\n\
         [balance]\nsubset = 7\nslow_start = \"0s\"\n\
         [upstreams.b]\nslow_start = \"2s\"\n\
         [[upstreams.b.route]]\nhash = { header = \"X-User-Id\" }\n",
    );
    let weight = config.service.weight;
    assert_eq!((weight.passing, weight.warning), (3, 0));
    let of = |name: &str| config.upstreams.of(&name.parse().unwrap());
    let (b, other) = (of("b"), of("c"));
    assert_eq!((b.balance.subset.get(), b.balance.slow_start), (7, Timeout::secs(2)));
    assert_eq!((other.balance.subset.get(), other.balance.slow_start), (7, Timeout::NONE));
    assert_eq!(b.routes[0].hash.as_ref().unwrap().header, "x-user-id");
    assert!(b.hashes() && !other.hashes());
}

#[test]
fn what_is_advertised_follows_from_the_listener() {
    let advertise = |inbound: &str| {
        let text =
            format!("[service]\nname = \"a\"\napp = \"127.0.0.1:50051\"\n[inbound]\n{inbound}");
        config(&text).inbound.unwrap().advertise
    };
    assert_eq!(advertise(""), Advertise::Agent);
    assert_eq!(advertise("listen = \"10.0.0.5:21000\""), Advertise::Bound);
    let given = "10.0.0.5:1".parse().unwrap();
    assert_eq!(advertise("advertise = \"10.0.0.5:1\""), Advertise::Address(given));
}

#[test]
fn values_are_written_as_they_are_read() {
    for text in ["0s", "250ms", "2s", "90s", "5m", "1h"] {
        assert_eq!(text.parse::<Timeout>().unwrap().to_string(), text);
    }
    assert_eq!("120s".parse::<Wait>().unwrap().to_string(), "2m");
    for text in ["1B", "64KiB", "1MiB", "1GiB"] {
        assert_eq!(text.parse::<Size>().unwrap().to_string(), text);
    }
    for text in ["", "s", "5", "-1s", "1.5s", "25h", "99999999999999999999h"] {
        assert!(text.parse::<Timeout>().is_err(), "{text}");
    }
    for text in ["", "0B", "2GiB", "64kb", "-1B", "5"] {
        assert!(text.parse::<Size>().is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC*") {
        let _ = problems(&text);
    }

    #[test]
    fn nothing_that_looks_like_a_config_panics(
        lines in prop::collection::vec(
            (
                prop::sample::select(vec![
                    "[service]\nname", "app", "[inbound]\nlisten", "tags", "[upstreams.a]\ntimeout",
                    "[[upstreams.b.route]]\nmatch", "endpoints", "[limits]\nframe", "[consul]\nenabled",
                    "[identity]\nsource", "cert", "[x.y.z]\na", "[runtime]\nworkers", "a.b.c",
                ]),
                prop::sample::select(vec![
                    "1", "-1", "99999999999999999999", "1.5", "true", "\"a\"", "\"127.0.0.1:0\"",
                    "\"1s\"", "[]", "[1, \"a\", [[]]]", "{}", "{ path = \"/\", x = {} }", "\"files\"",
                    "1979-05-27", "", "'''", "\"\\u0000\"", "[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]",
                ]),
            ),
            0..12,
        ),
    ) {
        let text: String = lines.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
        let _ = problems(&text);
    }

    #[test]
    fn no_bytes_in_a_file_panic(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.toml");
        std::fs::write(&file, &bytes).unwrap();
        let _ = load(&Sources { file: Some(file), ..Sources::default() }, SystemTime::now());
    }

    #[test]
    fn no_variable_panics(name in "OUTRIGGER_[A-Z_]{0,20}", value in "\\PC*") {
        let _ = from("", &[(&name, &value)], &[(&name, &value)]);
    }
}

#[test]
fn a_route_that_sends_again_says_that_its_methods_may_be() {
    let route = |more: &str| {
        problems(&format!(
            "[service]\nname = \"web\"\n[[upstreams.user.route]]\nmatch = {{ prefix = \"/\" }}\n{more}\n"
        ))
    };
    for (text, expected) in [
        ("retry = { on = [\"internal\"] }", "sidecar.toml:5: upstreams.user.route[0].retry.on: "),
        ("hedge = { after = \"50ms\" }", "sidecar.toml:5: upstreams.user.route[0].hedge.after: "),
        ("retry = { on = [\"internal\"], idempotent = false }", "sidecar.toml:5: "),
        (
            "retry = { attempts = 1, on = [\"internal\"], idempotent = true }",
            "sidecar.toml:5: upstreams.user.route[0].retry.on: ",
        ),
        ("retry = { backoff = \"2s\" }", "sidecar.toml:5: upstreams.user.route[0].retry.backoff: "),
        (
            "retry = { idempotent = true }\nhedge = { attempts = 1, after = \"50ms\" }",
            "sidecar.toml:6: upstreams.user.route[0].hedge.after: ",
        ),
        (
            "[upstreams.user.breaker]\nrest = \"10s\"",
            "sidecar.toml:6: upstreams.user.breaker.rest: ",
        ),
        ("[breaker]\nrest_max = \"10ms\"", "sidecar.toml:6: breaker.rest_max: "),
        ("fault = { delay = \"abc\" }", "sidecar.toml:5: upstreams.user.route[0].fault.delay: "),
        ("fault = { percent = 10 }", "sidecar.toml:5: upstreams.user.route[0].fault: "),
        ("retry = { attempts = 11 }", "sidecar.toml:5: upstreams.user.route[0].retry.attempts: "),
    ] {
        let told = route(text);
        assert!(told.starts_with(expected), "{text}: {told}");
        assert_eq!(told.lines().count(), 1, "{told}");
    }
    for fine in ["[retry]\nattempts = 1", "[hedge]\nattempts = 1", "[breaker]\nrest = \"2s\""] {
        assert_eq!(route(fine), "nothing", "{fine}");
    }
    assert!(route("retry = { on = [\"internal\"] }").contains("idempotent = true"));
}
