//! Two instances of one service under steady load: one leaves, or is killed. With static endpoints,
//! and with those that Consul tells.

use std::sync::atomic::Ordering;

use rustix::process::Signal;
use tokio::time::Instant;

use super::app::App;
use super::load::Load;
use super::pki::Pki;
use super::ports::free;
use super::process::{Process, until};
use super::programs::outrigger;
use super::sidecar::{Sidecar, WORKERS, workers};

const CALLERS: usize = 12;

/// Two instances with a sidecar each, and a caller that calls both.
struct Two {
    apps: [App; 2],
    first: Sidecar,
    _second: Sidecar,
    caller: Sidecar,
    _consul: Option<Process>,
}

impl Two {
    async fn stated(count: usize) -> Self {
        let (pki, more) = (Pki::new(), workers(count));
        let apps = ["first", "second"].map(App::start);
        let beside = async |app: &App| {
            Sidecar::guarding(&pki, "user-service", app.address, &["web"], &more).await
        };
        let (first, second) = (beside(&apps[0]).await, beside(&apps[1]).await);
        let endpoints = [first.inbound, second.inbound];
        let caller = Sidecar::calling_with(&pki, "web", "user-service", &endpoints, &more).await;
        Self { apps, first, _second: second, caller, _consul: None }
    }

    async fn discovered(count: usize) -> Self {
        let [http, dns] = [free(), free()].map(|address| address.to_string());
        let agent = ["agent", "--http", &http, "--dns", &dns];
        let consul = Process::start("consul", outrigger().args(agent));
        let section = format!("[consul]\naddress = \"{http}\"\n{}", workers(count));
        let apps = ["first", "second"].map(App::start);
        let first = Sidecar::start("user-service", Some(apps[0].address), &section).ready().await;
        let second = Sidecar::start("user-service", Some(apps[1].address), &section).ready().await;
        let caller = Sidecar::start("web", None, &section).ready().await;
        Self { apps, first, _second: second, caller, _consul: Some(consul) }
    }

    /// Load that has reached both.
    async fn load(&self) -> Load {
        let channels = (0..CALLERS).map(|_| self.caller.channel("user-service"));
        let load = Load::start(channels, "1");
        until("both are called", async || {
            self.apps.iter().all(|app| app.state.begun.load(Ordering::Relaxed) > 50)
        })
        .await;
        load
    }

    async fn killed(mut self) {
        let load = self.load().await;
        self.first.process.signal(Signal::KILL);
        self.first.process.ended().await;
        let gone = Instant::now();
        load.calls(300).await;
        let (_, failures) = load.end().await;
        // A caller has one call at a time, so no more than its one was in flight.
        assert!(failures.len() <= CALLERS, "{failures:?}");
        for failure in &failures {
            assert!(failure.begun < gone, "begun when it was gone: {failure:?}");
            let reason = failure.status.metadata().get("outrigger-reason");
            assert_eq!(reason.unwrap(), "upstream_reset", "{failure:?}");
        }
    }

    async fn leaves(mut self) {
        let load = self.load().await;
        self.first.process.signal(Signal::TERM);
        assert_eq!(self.first.process.ended().await.code(), Some(0));
        load.calls(300).await;
        let (calls, failures) = load.end().await;
        assert!(failures.is_empty(), "{} of {calls} calls failed: {failures:?}", failures.len());
    }
}

#[tokio::test]
async fn a_killed_instance_takes_only_the_calls_in_flight_on_it() {
    for count in WORKERS {
        Two::stated(count).await.killed().await;
    }
}

#[tokio::test]
async fn a_killed_instance_that_consul_still_lists_takes_only_the_calls_in_flight_on_it() {
    for count in WORKERS {
        Two::discovered(count).await.killed().await;
    }
}

#[tokio::test]
async fn an_instance_that_is_asked_to_leave_takes_no_call_with_it() {
    for count in WORKERS {
        Two::stated(count).await.leaves().await;
    }
}

#[tokio::test]
async fn an_instance_that_is_asked_to_leave_consul_takes_no_call_with_it() {
    for count in WORKERS {
        Two::discovered(count).await.leaves().await;
    }
}

#[tokio::test]
async fn it_does_not_matter_who_starts_first_and_what_goes_may_return() {
    let [http, dns] = [free(), free()].map(|address| address.to_string());
    let section = format!("[consul]\naddress = \"{http}\"\n");
    let place = free();
    let caller = Sidecar::start("web", None, &section);
    let callee = Sidecar::start("user-service", Some(place), &section);
    let calls = async |what: &str| {
        until(what, async || {
            let load = Load::start([caller.channel("user-service")], "1");
            load.calls(1).await;
            load.end().await.1.is_empty()
        })
        .await;
    };
    let agent = ["agent", "--http", &http, "--dns", &dns];
    let _consul = Process::start("consul", outrigger().args(agent));
    let app = App::start_at("app", place);
    calls("all that came late is there").await;
    drop(app);
    until("the app is gone", async || {
        let load = Load::start([caller.channel("user-service")], "1");
        load.calls(1).await;
        !load.end().await.1.is_empty()
    })
    .await;
    let _app = App::start_at("app", place);
    calls("the app has returned").await;
    assert!(callee.process.said().contains("registered"), "{}", callee.process.said());
}
