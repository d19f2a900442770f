//! What a variable or a flag switches off over a file: the sidecar starts, and what the file says
//! beside it has no effect.

use super::from;

const SERVICE: &str = "[service]\nname = \"web\"\napp = \"127.0.0.1:50051\"\n";

/// What is wrong with this file, with the key at this value over it by a variable, by a flag.
fn told(file: &str, key: &str, value: &str) -> [String; 2] {
    let file = format!("{SERVICE}{file}\n");
    let variable = format!("OUTRIGGER_{}", key.to_uppercase().replace('.', "__"));
    [from(&file, &[(&variable, value)], &[]), from(&file, &[], &[(key, value)])]
        .map(|loaded| loaded.err().unwrap_or_else(|| "nothing".to_owned()))
}

#[test]
fn what_is_switched_off_over_a_file_does_not_keep_the_sidecar_from_starting() {
    let route = "[[upstreams.user.route]]\n";
    for (file, key, value) in [
        ("[hedge]\nattempts = 3", "hedge.after", "never"),
        ("[upstreams.user]\nhedge = { attempts = 3 }", "upstreams.user.hedge.after", "never"),
        ("[hedge]\nafter = \"p95\"", "hedge.attempts", "1"),
        ("[hedge]\nafter = \"p95\"", "retry.attempts", "1"),
        ("[upstreams.user]\nhedge = { after = \"p95\" }", "retry.attempts", "1"),
        ("[retry]\non = [\"aborted\"]", "retry.attempts", "1"),
        ("[retry]\nbackoff = \"20ms\"", "retry.backoff_max", "10ms"),
        ("[retry]\nbackoff_max = \"20ms\"", "retry.backoff", "30ms"),
        (
            "[retry]\nbackoff = \"9ms\"\n[upstreams.user]\nretry = { backoff = \"20ms\" }",
            "retry.backoff_max",
            "10ms",
        ),
        ("[breaker]\nrest = \"5s\"", "breaker.rest_max", "1s"),
        (
            "[inbound.concurrency]\nleast = 32\nslack = \"1ms\"",
            "inbound.concurrency.adaptive",
            "false",
        ),
        ("[inbound.concurrency]\nleast = 32", "inbound.concurrency.most", "10"),
        (
            "[inbound]\nrate_buckets = 5\nrate = [{ limit = \"1/s\", per_caller = true }]",
            "inbound.rate",
            "",
        ),
        ("[limits]\nin_flight_per_endpoint = 200", "limits.in_flight", "100"),
        ("[upstreams.user]\nin_flight_per_endpoint = 200", "limits.in_flight", "100"),
        ("[upstreams.user]\nin_flight_per_endpoint = 200", "upstreams.user.in_flight", "100"),
        ("[limits]\nkept_answer = \"64KiB\"", "limits.kept_answer_bytes", "32KiB"),
        ("[retry]\nbody = \"64KiB\"", "limits.kept_requests", "32KiB"),
        ("[upstreams.user]\nretry = { body = \"64KiB\" }", "limits.kept_requests", "32KiB"),
        (&format!("{route}retry = {{ body = \"64KiB\" }}"), "limits.kept_requests", "32KiB"),
        (
            &format!("{route}retry = {{ on = [\"aborted\"], idempotent = true }}"),
            "upstreams.user.retry.attempts",
            "1",
        ),
        (
            &format!("{route}hedge = {{ after = \"p95\" }}\n[retry]\nidempotent = true"),
            "retry.idempotent",
            "false",
        ),
        (
            &format!("{route}match = {{ path = \"/a.B/C\" }}\nfallback = [{{ stale = \"1s\" }}]"),
            "retry.idempotent",
            "false",
        ),
        (&format!("{route}hash = {{ header = \"x\" }}"), "upstreams.user.subset", "5"),
        (
            "[identity]\nsource = \"files\"\ncert = \"c\"\nkey = \"k\"\nroots = \"r\"",
            "identity.source",
            "consul",
        ),
    ] {
        assert_eq!(told(file, key, value), ["nothing", "nothing"], "{key} = {value} over\n{file}");
    }
}

#[test]
fn what_variables_say_alone_is_told_where_it_makes_no_sense() {
    let variables = [("OUTRIGGER_HEDGE__AFTER", "never"), ("OUTRIGGER_HEDGE__ATTEMPTS", "3")];
    let expected = "OUTRIGGER_HEDGE__ATTEMPTS: set beside after = \"never\", with which nothing is \
                    sent to a second endpoint";
    assert_eq!(from(SERVICE, &variables, &[]).unwrap_err(), expected);
}

#[test]
fn a_part_follows_its_whole_where_a_variable_lowers_that() {
    let file = "[retry]\nbody = \"64KiB\"\n[limits]\nin_flight_per_endpoint = 200\n\
                [upstreams.user]\nretry = { body = \"48KiB\" }\nin_flight_per_endpoint = 300\n";
    let variables =
        [("OUTRIGGER_LIMITS__IN_FLIGHT", "100"), ("OUTRIGGER_LIMITS__KEPT_REQUESTS", "32KiB")];
    let config = from(&format!("{SERVICE}{file}"), &variables, &[]).unwrap().config;
    for name in ["user", "order"] {
        let upstream = config.upstreams.of(&name.parse().unwrap());
        let found = (upstream.in_flight_per_endpoint.get(), upstream.calling.body);
        assert_eq!(found, (100, 32 * 1024), "{name}");
    }
}
