//! Keys of which each is right, and which make no sense together: each is told with its line, once,
//! and by the key that stands in the way.

use super::{config, problems};

const APP: &str = "[service]\nname = \"web\"\napp = \"127.0.0.1:50051\"\n";

/// What is said of a config after the lines that name its service, which are three.
fn told(text: &str) -> String {
    problems(&format!("{APP}{text}\n"))
}

#[track_caller]
fn assert_told(text: &str, expected: &[&str]) {
    let told = told(text);
    let expected: Vec<_> = expected.iter().map(|line| format!("sidecar.toml:{line}")).collect();
    assert_eq!(told.lines().collect::<Vec<_>>(), expected, "{text}");
}

#[test]
fn a_key_that_another_key_makes_pointless_is_refused() {
    const NO_LIMIT: &str = "set beside adaptive = false, with which no limit is learned";
    assert_told(
        "[inbound.concurrency]\nadaptive = false\nleast = 5\ntolerance_percent = 200\nslack = \"1ms\"",
        &[
            &format!("6: inbound.concurrency.least: {NO_LIMIT}"),
            &format!("7: inbound.concurrency.tolerance_percent: {NO_LIMIT}"),
            &format!("8: inbound.concurrency.slack: {NO_LIMIT}"),
        ],
    );
    const NO_RATE: &str = "5: inbound.rate_buckets: set although no inbound.rate is per_caller, \
                           expected one that is";
    assert_told("[inbound]\nrate_buckets = 5", &[NO_RATE]);
    assert_told("[inbound]\nrate_buckets = 5\nrate = [{ limit = \"1/s\" }]", &[NO_RATE]);
    assert_told(
        "[upstreams.user]\nsubset = 5\nroute = [{ hash = { header = \"x\" } }]",
        &["5: upstreams.user.subset: set although a route has a hash, by which calls go to all \
           endpoints"],
    );
    const NO_HEDGE: &str =
        "set beside after = \"never\", with which nothing is sent to a second endpoint";
    let hedge = "hedge = { after = \"never\", attempts = 3 }";
    for (text, place) in [
        ("[hedge]\nafter = \"never\"\nattempts = 3".to_owned(), "6: "),
        (format!("[upstreams.user]\n{hedge}"), "5: upstreams.user."),
        (format!("[[upstreams.user.route]]\n{hedge}"), "5: upstreams.user.route[0]."),
    ] {
        assert_told(&text, &[&format!("{place}hedge.attempts: {NO_HEDGE}")]);
    }
    assert_told(
        "[[upstreams.user.route]]\nmatch = { path = \"/a.B/C\" }\nretry = { idempotent = false }\n\
         fallback = [{ stale = \"1s\" }]",
        &["7: upstreams.user.route[0].fallback[0].stale: set although retry.idempotent is false, \
           with which no answer is kept, expected true there, or another step"],
    );
    for fine in [
        "[inbound.concurrency]\nadaptive = false\nmost = 5\nqueue = 3\nqueue_timeout = \"1s\"",
        "[inbound]\nrate_buckets = 5\nrate = [{ limit = \"1/s\", per_caller = true }]",
        "[balance]\nsubset = 5\n[[upstreams.user.route]]\nhash = { header = \"x\" }",
        "[hedge]\nafter = \"never\"\n[upstreams.user]\nhedge = { attempts = 3 }",
    ] {
        assert_eq!(told(fine), "nothing", "{fine}");
    }
}

#[test]
fn a_part_that_is_more_than_its_whole_is_refused() {
    assert_told(
        "[limits]\nin_flight = 5\nin_flight_per_endpoint = 6\nkept_answer = \"2MiB\"\n\
         kept_answer_bytes = \"1MiB\"\nkept_requests = \"1KiB\"\n[retry]\nbody = \"2KiB\"\n\
         [upstreams.user]\nretry = { body = \"3KiB\" }\nin_flight_per_endpoint = 7\n\
         route = [{ retry = { body = \"4KiB\" } }]",
        &[
            "6: limits.in_flight_per_endpoint: found 6 beside limits.in_flight = 5, expected no more",
            "7: limits.kept_answer: found \"2MiB\" beside limits.kept_answer_bytes = \"1MiB\", \
             expected no more",
            "11: retry.body: found \"2KiB\" beside limits.kept_requests = \"1KiB\", expected no more",
            "13: upstreams.user.retry.body: found \"3KiB\" beside limits.kept_requests = \"1KiB\", \
             expected no more",
            "14: upstreams.user.in_flight_per_endpoint: found 7 beside limits.in_flight = 5, \
             expected no more",
            "15: upstreams.user.route[0].retry.body: found \"4KiB\" beside limits.kept_requests = \
             \"1KiB\", expected no more",
        ],
    );
    assert_told(
        "[limits]\nin_flight = 100\n[upstreams.user]\nin_flight_per_endpoint = 300",
        &["7: upstreams.user.in_flight_per_endpoint: found 300 beside limits.in_flight = 100, \
           expected no more"],
    );
    // Of a whole that is wrong nothing is known.
    for part in ["", "kept_requests = 5\n[upstreams.user]\nretry = { body = \"1GiB\" }\n"] {
        let text = format!("[limits]\nin_flight = \"many\"\n{part}in_flight_per_endpoint = 2000");
        let (wrong, expected) = (told(&text), 1 + usize::from(!part.is_empty()));
        assert_eq!(wrong.lines().count(), expected, "{wrong}");
    }
}

#[test]
fn a_part_that_is_left_out_is_no_more_than_its_whole() {
    let config = config(
        "[service]\nname = \"web\"\n\
         [limits]\nin_flight = 9\nkept_answer_bytes = \"1KiB\"\nkept_requests = \"2KiB\"\n\
         [upstreams.user]\nin_flight = 5\n",
    );
    assert_eq!(config.limits.in_flight_per_endpoint.get(), 9);
    assert_eq!(config.limits.kept_answer.bytes(), 1024);
    let user = config.upstreams.of(&"user".parse().unwrap());
    assert_eq!((user.in_flight_per_endpoint.get(), user.calling.body), (5, 2048));
}

#[test]
fn an_upstream_that_allows_more_calls_keeps_the_part_for_an_endpoint() {
    for (limits, expected) in [
        ("in_flight = 100", [256, 50, 100]),
        ("in_flight_per_endpoint = 2000", [2000, 50, 1024]),
        ("in_flight = 10\nin_flight_per_endpoint = 70", [70, 50, 10]),
    ] {
        let config = config(&format!(
            "{APP}[limits]\n{limits}\n[upstreams]\nbig.in_flight = 5000\nsmall.in_flight = 50\n"
        ));
        let limit = |name: &str| config.upstreams.of(&name.parse().unwrap()).in_flight_per_endpoint;
        assert_eq!(["big", "small", "other"].map(|name| limit(name).get()), expected, "{limits}");
    }
}

#[test]
fn what_no_call_comes_to_is_refused() {
    let never = |line: usize, list: &str, at: usize, first: usize| {
        format!("{line}: {list}[{at}]: never reached, as {list}[{first}] matches all its calls")
    };
    let (routes, list) = ("[upstreams.user]\nroute = [\n", "upstreams.user.route");
    let by_path = [
        "{ match = { prefix = \"/a/\", headers = { x = \"1\" } } },",
        "{ match = { path = \"/a/b\" } },",
        "{ match = { path = \"/a/b\", headers = { x = \"1\", y = \"2\" } } },",
        "{ match = { path = \"/a/./%62\" } },",
        "{ match = { prefix = \"/a/b\" } },",
        "]",
    ];
    let expected = [never(8, list, 2, 0), never(9, list, 3, 1)];
    let expected: Vec<_> = expected.iter().map(String::as_str).collect();
    assert_told(&format!("{routes}{}", by_path.join("\n")), &expected);
    // `OPTIONS *` has a path without a slash.
    assert_eq!(told(&format!("{routes}{{ match = {{ prefix = \"/\" }} }},\n{{ }}\n]")), "nothing");
    for all in ["{ },", "{ match = { prefix = \"/\" } },"] {
        let text = format!("{routes}{all}\n{{ match = {{ path = \"/a\" }} }}\n]");
        assert_told(&text, &[&never(7, list, 1, 0)]);
    }
    let faults = "[inbound]\nfault = [\n{ abort = \"internal\", match = { caller = \"a\" } },\n\
                  { delay = \"1s\", match = { caller = \"b\" } },\n\
                  { delay = \"1s\", match = { caller = \"a\", path = \"/x\" } }\n]";
    assert_told(faults, &[&never(8, "inbound.fault", 2, 0)]);
    // What a wrong match would be for is not known.
    let wrong = told(&format!("{routes}{{ match = 5 }},\n{{ match = {{ path = \"/a\" }} }}\n]"));
    assert_eq!(wrong.lines().count(), 1, "{wrong}");
}

#[test]
fn a_wrong_shape_is_told_with_the_right_one() {
    const TABLES: &str =
        "found a table, expected a list of tables: [[…]] in place of […], or [{ … }]";
    for (text, expected) in [
        (
            "[[upstreams.user.route]]\nhash = \"x-user\"",
            "5: upstreams.user.route[0].hash: found \"x-user\", expected a table such as { header = … }",
        ),
        (
            "[[upstreams.user.route]]\nmatch = \"/a\"",
            "5: upstreams.user.route[0].match: found \"/a\", expected a table such as { path = … } \
             (its keys: path, prefix, headers)",
        ),
        (
            "[[upstreams.user.route]]\nmatch = { path = \"/a?b\" }",
            "5: upstreams.user.route[0].match.path: found \"/a?b\", expected a path without a query",
        ),
        (
            "[[upstreams.user.route]]\nmatch = { prefix = \"/a%\" }",
            "5: upstreams.user.route[0].match.prefix: found \"/a%\", expected two hexadecimal \
             digits after each \"%\"",
        ),
        (
            "[[upstreams.user.route]]\nhash = { header = 5 }",
            "5: upstreams.user.route[0].hash.header: found 5, expected a string",
        ),
        ("[upstreams.user.route]\ntimeout = \"1s\"", &format!("4: upstreams.user.route: {TABLES}")),
        ("[inbound.rate]\nlimit = \"1/s\"", &format!("4: inbound.rate: {TABLES}")),
        ("[authorization.allow]", "4: authorization.allow: found a table, expected a list"),
    ] {
        assert_told(text, &[expected]);
    }
}
