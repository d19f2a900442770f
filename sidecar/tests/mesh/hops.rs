//! Three hops with bare apps between: where a call ends, all that was begun for it ends too.

use std::sync::atomic::Ordering;
use std::time::Duration;

use proto::user::v1::user_service_client::UserServiceClient;
use proto::user::v1::{CreateUserRequest, GetUserRequest};
use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Code, Request};

use super::app::{App, HELD, VIA};
use super::pki::Pki;
use super::process::until;
use super::sidecar::Sidecar;

/// How much later than it should a hop may end: the machine may be busy.
const LATE: Duration = Duration::from_secs(1);

/// caller → a → b → c, each with a sidecar.
struct Hops {
    apps: [App; 3],
    client: UserServiceClient<Channel>,
    _caller: Sidecar,
    /// Beside a, b and c.
    sidecars: [Sidecar; 3],
}

impl Hops {
    async fn start() -> Self {
        let pki = Pki::new();
        let apps = ["a", "b", "c"].map(App::start);
        let upstream = |name: &str, sidecar: &Sidecar| {
            format!("[upstreams.{name}]\nendpoints = [\"{}\"]\n", sidecar.inbound)
        };
        let c = Sidecar::guarding(&pki, "c", apps[2].address, &["b"], "").await;
        let next = upstream("c", &c);
        let b = Sidecar::guarding(&pki, "b", apps[1].address, &["a"], &next).await;
        let next = upstream("b", &b);
        let a = Sidecar::guarding(&pki, "a", apps[0].address, &["web"], &next).await;
        assert!(apps[0].state.next.set(a.channel("b")).is_ok());
        assert!(apps[1].state.next.set(b.channel("c")).is_ok());
        let caller = Sidecar::calling(&pki, "web", "a", &[a.inbound]).await;
        let client = UserServiceClient::new(caller.channel("a"));
        let hops = Self { apps, client, _caller: caller, sidecars: [a, b, c] };
        // Every connection is open before a deadline is measured.
        hops.call("1", Duration::from_secs(30)).await.unwrap();
        hops
    }

    async fn call(&self, user: &str, within: Duration) -> Result<(), tonic::Status> {
        let create = CreateUserRequest { name: format!("{VIA}{user}"), ..Default::default() };
        let mut request = Request::new(create);
        request.set_timeout(within);
        self.client.clone().create_user(request).await.map(drop)
    }

    /// How long after `begun` each app's side of the call ended.
    async fn ended(&self, begun: Instant) -> Vec<Duration> {
        until("every hop has ended", async || {
            self.apps.iter().all(|app| !app.state.given_up.lock().unwrap().is_empty())
        })
        .await;
        let ends = self.apps.iter().map(|app| app.state.given_up.lock().unwrap().clone());
        let ends: Vec<_> = ends.flatten().map(|end| end - begun).collect();
        assert_eq!(ends.len(), self.apps.len(), "{ends:?}");
        ends
    }

    async fn held(&self) {
        self.apps[2].state.held.subscribe().wait_for(|held| *held == 1).await.unwrap();
    }
}

#[tokio::test]
async fn every_hop_ends_at_the_deadline_and_none_starts_late_work() {
    let hops = Hops::start().await;
    let within = Duration::from_millis(100);
    let begun = Instant::now();
    let (refused, ()) = tokio::join!(hops.call(HELD, within), hops.held());
    let (refused, told) = (refused.unwrap_err(), begun.elapsed());
    assert!(matches!(refused.code(), Code::DeadlineExceeded | Code::Cancelled), "{refused}");
    let ends = hops.ended(begun).await;
    println!(
        "a deadline of {within:?}: the caller is told after {told:?}, a, b, c end after {ends:?}"
    );
    for end in ends.into_iter().chain([told]) {
        assert!((within / 2..within + LATE).contains(&end), "{end:?}");
    }

    // A middle app that has not noticed, and goes on: its calls get no further than its sidecar.
    let calls = hops.apps[2].state.begun.load(Ordering::Relaxed);
    let trace = hops.apps[1].state.traces.lock().unwrap().last().unwrap().clone();
    let mut late = Request::new(GetUserRequest { id: "1".into() });
    late.metadata_mut().insert("tracestate", trace.parse().unwrap());
    let mut client = UserServiceClient::new(hops.sidecars[1].channel("c"));
    let refused = client.get_user(late).await.unwrap_err();
    assert_eq!(refused.code(), Code::DeadlineExceeded, "{refused}");
    assert_eq!(hops.apps[2].state.begun.load(Ordering::Relaxed), calls);
}

#[tokio::test]
async fn a_caller_that_cancels_ends_every_hop_at_once() {
    let hops = Hops::start().await;
    let cancelled = {
        let call = hops.call(HELD, Duration::from_secs(60));
        tokio::select! {
            ended = call => panic!("it ended: {ended:?}"),
            () = hops.held() => {}
        }
        Instant::now()
    };
    let ends = hops.ended(cancelled).await;
    println!("cancelled: a, b, c end after {ends:?}");
    for end in ends {
        assert!(end < LATE, "{end:?}");
    }
}
