//! What spares an app, from outside: the calls at a time, the rates of its callers, the faults on
//! purpose; and what the metrics tell of it.

use proto::user::v1::GetUserRequest;
use proto::user::v1::user_service_client::UserServiceClient;
use tokio::time::{Duration, Instant};
use tonic::{Code, Status};

use super::app::{App, HELD};
use super::pki::Pki;
use super::process::until;
use super::sidecar::Sidecar;

const CALLERS: [&str; 2] = ["web", "shop"];

/// An app behind a sidecar with this config, and a caller's sidecar for each of the two; the
/// certificates' files are there as long as the first.
async fn path(more: &str) -> ((Pki, App), Sidecar, [Sidecar; 2]) {
    let (pki, app) = (Pki::new(), App::start("app"));
    let callee = Sidecar::guarding(&pki, "user-service", app.address, &CALLERS, more).await;
    // What is refused is to be seen as it was.
    let once = "retry = { attempts = 1 }\n";
    let [web, shop] = CALLERS.map(|caller| {
        let (pki, at) = (&pki, [callee.inbound]);
        async move { Sidecar::calling_with(pki, caller, "user-service", &at, once).await }
    });
    let callers = [web.await, shop.await];
    ((pki, app), callee, callers)
}

async fn ask(caller: &Sidecar, id: &str) -> Result<(), Status> {
    let mut client = UserServiceClient::new(caller.channel("user-service"));
    client.get_user(GetUserRequest { id: id.into() }).await.map(drop)
}

async fn shed(callee: &Sidecar, cause: &str) -> f64 {
    callee.metric(&["outrigger_shed_total{", &format!("cause=\"{cause}\"")]).await
}

#[tokio::test]
async fn calls_over_the_limit_wait_in_the_queue_and_are_refused_when_it_is_full() {
    let limit = "[inbound.concurrency]\nadaptive = false\nmost = 1\nqueue = 1\n\
                 queue_timeout = \"60s\"\n";
    let ((_pki, app), callee, [web, _]) = path(limit).await;
    assert_eq!(callee.metric(&["outrigger_concurrency_limit"]).await, 1.0);
    // What the callers' sidecars ask themselves is over.
    // What the caller's sidecar asks itself, after its first call, is over.
    ask(&web, "1").await.unwrap();
    let words = ["outrigger_requests_total{", "peer=\"web\"", "reflection.v1alpha"];
    until("its methods are asked for", async || callee.metric(&words).await > 0.0).await;
    let queued = |n: f64| {
        let callee = &callee;
        async move {
            let told = async || callee.metric(&["outrigger_queued"]).await == n;
            until("so many calls wait", told).await;
        }
    };
    let mut held = app.state.held.subscribe();
    let test = async {
        held.wait_for(|held| *held == 1).await.unwrap();
        // One waits until another takes its place, and that one until there is room.
        let (first, second) = tokio::join!(ask(&web, "first"), async {
            queued(1.0).await;
            let (second, ()) = tokio::join!(ask(&web, "second"), async {
                until("one is refused", async || shed(&callee, "queue_full").await == 1.0).await;
                queued(1.0).await;
                app.state.release.notify_one();
            });
            second
        });
        let first = first.unwrap_err();
        assert_eq!(first.code(), Code::Unavailable, "{first}");
        assert_eq!(first.metadata().get("outrigger-reason").unwrap(), "overloaded");
        second.unwrap();
        queued(0.0).await;
    };
    let (holding, ()) = tokio::join!(ask(&web, HELD), test);
    holding.unwrap();
    assert_eq!(shed(&callee, "queue_timeout").await, 0.0);
}

#[tokio::test]
async fn each_caller_has_its_own_rate_and_is_told_when_to_come_again() {
    let rate = "[[inbound.rate]]\nmatch = { prefix = \"/user.v1.\" }\nlimit = \"2/h\"\nper_caller = true\n";
    let (_app, callee, callers) = path(rate).await;
    for caller in &callers {
        for _ in 0..2 {
            ask(caller, "1").await.unwrap();
        }
        let refused = ask(caller, "1").await.unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
        let pushback = refused.metadata().get("grpc-retry-pushback-ms").unwrap();
        let pushback: u64 = pushback.to_str().unwrap().parse().unwrap();
        assert!((1_000_000..=1_800_000).contains(&pushback), "{pushback}");
    }
    assert_eq!(shed(&callee, "rate").await, 2.0);
}

#[tokio::test]
async fn faults_on_purpose_meet_whom_they_are_for_and_are_counted() {
    const DELAY: Duration = Duration::from_millis(300);
    let faults = "[[inbound.fault]]\nmatch = { caller = \"web\", prefix = \"/user.v1.\" }\nabort = \"data_loss\"\n\
                  [[inbound.fault]]\nmatch = { caller = \"shop\", prefix = \"/user.v1.\" }\ndelay = \"300ms\"\n";
    let (_app, callee, [web, shop]) = path(faults).await;
    let aborted = ask(&web, "1").await.unwrap_err();
    assert_eq!(aborted.code(), Code::DataLoss, "{aborted}");
    assert_eq!(aborted.metadata().get("outrigger-injected").unwrap(), "true");
    let begin = Instant::now();
    ask(&shop, "1").await.unwrap();
    assert!(begin.elapsed() >= DELAY, "{:?}", begin.elapsed());
    for kind in ["delay", "abort"] {
        let kind = format!("kind=\"{kind}\"");
        let series = ["outrigger_injected_total{direction=\"inbound\"", &kind];
        assert_eq!(callee.metric(&series).await, 1.0, "{kind}");
    }
}
