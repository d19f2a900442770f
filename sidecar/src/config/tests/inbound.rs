//! What the sidecar does for its app: what is wrong with it, and what it means.

use std::time::Duration;

use insta::assert_snapshot;

use super::{config, problems};
use crate::config::RateLimit;

const APP: &str = "[service]\nname = \"web\"\napp = \"127.0.0.1:50051\"\n";

#[test]
fn what_is_wrong_with_limits_rates_and_faults_is_told_with_its_line() {
    assert_snapshot!(problems(&format!(
        r#"{APP}[inbound.concurrency]
adaptive = "yes"
least = 20
most = 10
tolerance_percent = 100
queue = 0
queue_timeout = "0s"
[[inbound.rate]]
per_caller = true
[[inbound.rate]]
limit = "fast"
[[inbound.rate]]
limit = "0/s"
burst = 0
[[inbound.rate]]
limit = "10/s"
match = {{ path = "Say", caller = "Shop" }}
[[inbound.rate]]
limit = "10/s"
match = {{ path = "/a", prefix = "/b" }}
[[inbound.fault]]
match = {{ headers = {{ "x y" = "1" }} }}
percent = 10
[[inbound.fault]]
percent = 101
abort = "ok"
[[inbound.fault]]
percent = 0.5
delay = "soon"
"#
    )));
}

#[test]
fn what_the_app_is_spared_needs_an_app() {
    assert_snapshot!(problems(
        "[service]\nname = \"web\"\n[inbound.concurrency]\nmost = 5\n[[inbound.rate]]\nlimit = \"1/s\"\n"
    ));
}

#[test]
fn a_rate_and_a_limit_mean_what_they_say() {
    let text = format!(
        "{APP}[inbound.concurrency]\nmost = 5\n[[inbound.rate]]\nlimit = \"100/s\"\n\
         [[inbound.rate]]\nlimit = \"5000/m\"\nburst = 7\n\
         match = {{ caller = \"spiffe://td.consul/ns/default/dc/dc1/svc/shop\" }}\n"
    );
    let inbound = config(&text).inbound.unwrap();
    assert_eq!((inbound.concurrency.least.get(), inbound.concurrency.most.get()), (5, 5));
    let [one, two] = &inbound.rates[..] else { panic!("{:?}", inbound.rates) };
    assert_eq!((one.rate.burst.get(), one.rate.per), (100, Duration::from_secs(1)));
    assert_eq!((two.rate.burst.get(), two.rate.per), (7, Duration::from_secs(60)));
    let shop = "spiffe://td.consul/ns/default/dc/dc1/svc/shop".parse().unwrap();
    let other = "spiffe://td.consul/ns/default/dc/dc1/svc/other".parse().unwrap();
    assert!(two.matches.is_of(&shop) && !two.matches.is_of(&other) && one.matches.is_of(&other));
}

#[test]
fn rates_are_written_as_they_are_read() {
    for text in ["100/s", "5000/m", "10/250ms", "1/h", "3/2s"] {
        assert_eq!(text.parse::<RateLimit>().unwrap().to_string(), text);
    }
    for text in ["", "/", "1", "1/", "/s", "0/s", "-1/s", "+1/s", "1/0s", "1/25h", "1.5/s", "1/x"] {
        assert!(text.parse::<RateLimit>().is_err(), "{text}");
    }
}
