//! The path of a call through two workers over in-memory pipes, on paused time: what crosses it
//! unharmed, what is refused and with which words, what ends early and when.

#![allow(unreachable_pub, reason = "a test binary has no public face")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail so")]

mod path {
    pub mod net;

    mod balance;
    mod calls;
    mod connections;
    mod deadlines;
    mod edges;
    mod fallbacks;
    mod faults;
    mod flow;
    mod hops;
    mod http1;
    mod inject;
    mod rate;
    mod retries;
    mod rules;
    mod shed;
    mod spread;
    mod trust;
}
