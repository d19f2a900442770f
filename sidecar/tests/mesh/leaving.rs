//! What becomes of the calls of a sidecar that is asked to leave.

use std::time::Duration;

use futures_util::stream;
use proto::user::v1::user_service_client::UserServiceClient;
use proto::user::v1::{GetUserRequest, SyncUsersRequest, SyncUsersResponse, User};
use rustix::process::Signal;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tonic::{Code, Status, Streaming};

use super::app::{App, HELD};
use super::pki::Pki;
use super::ports::free;
use super::process::PATIENCE;
use super::sidecar::{Sidecar, WORKERS, workers};

/// An open stream in both directions.
pub(crate) struct Conversation {
    send: mpsc::Sender<SyncUsersRequest>,
    answers: Streaming<SyncUsersResponse>,
}

impl Conversation {
    pub(crate) async fn open(caller: &Sidecar) -> Self {
        let mut client = UserServiceClient::new(caller.channel("user-service"));
        let (send, mut receive) = mpsc::channel(1);
        let messages = stream::poll_fn(move |context| receive.poll_recv(context));
        let answers = client.sync_users(messages).await.unwrap().into_inner();
        let mut open = Self { send, answers };
        open.turn().await;
        open
    }

    /// The next message from the app.
    pub(crate) async fn next(&mut self) -> Result<Option<SyncUsersResponse>, Status> {
        timeout(PATIENCE, self.answers.message()).await.unwrap()
    }

    /// One message each way.
    async fn turn(&mut self) {
        let user = Some(User { id: "1".into(), ..User::default() });
        self.send.send(SyncUsersRequest { user }).await.unwrap();
        self.next().await.unwrap().unwrap();
    }
}

/// A stream for each worker, and more: by then each connection has gone to the one with the least
/// to do.
const STREAMS: usize = 8;

#[tokio::test]
async fn calls_in_flight_end_well_before_a_sidecar_that_was_asked_to_leave() {
    for count in WORKERS {
        calls_in_flight_end_well(count).await;
    }
}

async fn calls_in_flight_end_well(count: usize) {
    let (pki, more) = (Pki::new(), workers(count));
    let app = App::start("app");
    let mut callee = Sidecar::guarding(&pki, "user-service", app.address, &["web"], &more).await;
    let endpoints = [callee.inbound];
    let caller = Sidecar::calling_with(&pki, "web", "user-service", &endpoints, &more).await;
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        streams.push(Conversation::open(&caller).await);
    }
    let mut client = UserServiceClient::new(caller.channel("user-service"));
    let held =
        tokio::spawn(async move { client.get_user(GetUserRequest { id: HELD.into() }).await });
    app.state.held.subscribe().wait_for(|held| *held == 1).await.unwrap();

    callee.process.signal(Signal::TERM);
    callee.process.line(&["draining"]).await;
    for stream in &mut streams {
        stream.turn().await;
    }
    app.state.release.notify_waiters();
    held.await.unwrap().unwrap();
    let mut begun = Instant::now();
    for mut stream in streams {
        stream.turn().await;
        assert!(callee.process.lives());
        begun = Instant::now();
        let Conversation { send, mut answers } = stream;
        drop(send);
        assert!(timeout(PATIENCE, answers.message()).await.unwrap().unwrap().is_none());
    }
    assert_eq!(callee.process.ended().await.code(), Some(0));
    // Nothing was left to wait for.
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_call_that_does_not_end_is_told_so_when_the_drain_is_over() {
    for count in WORKERS {
        told_when_the_drain_is_over(count).await;
    }
}

async fn told_when_the_drain_is_over(count: usize) {
    let (pki, more) = (Pki::new(), workers(count));
    let app = App::start("app");
    let short = format!("{more}[drain]\ntimeout = \"1s\"\n");
    let mut callee = Sidecar::guarding(&pki, "user-service", app.address, &["web"], &short).await;
    let endpoints = [callee.inbound];
    let caller = Sidecar::calling_with(&pki, "web", "user-service", &endpoints, &more).await;
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        streams.push(Conversation::open(&caller).await);
    }
    callee.process.signal(Signal::TERM);
    for mut stream in streams {
        let told = stream.next().await.unwrap_err();
        assert_eq!(told.code(), Code::Unavailable);
        assert_eq!(told.metadata().get("outrigger-reason").unwrap(), "draining");
    }
    assert_eq!(callee.process.ended().await.code(), Some(0));
}

/// Its Consul is away, so that leaving it takes a while, and the drain would take ten minutes.
#[tokio::test]
async fn a_second_signal_cuts_the_drain_short_also_while_the_sidecar_leaves_consul() {
    let pki = Pki::new();
    let (app, beside) = (App::start("app"), App::start("beside"));
    let callee = Sidecar::guarding(&pki, "user-service", app.address, &["web"], "").await;
    let (inbound, nobody) = (callee.inbound, free());
    let sections = format!(
        "[consul]\naddress = \"{nobody}\"\n{}[drain]\ntimeout = \"10m\"\n\
         [upstreams.user-service]\nendpoints = [\"{inbound}\"]\n",
        pki.section("web")
    );
    let mut leaver = Sidecar::start("web", Some(beside.address), &sections);
    leaver.process.line(&["the sidecar runs"]).await;
    let mut stream = Conversation::open(&leaver).await;
    leaver.process.signal(Signal::TERM);
    leaver.process.line(&["leaving the mesh"]).await;
    leaver.process.signal(Signal::TERM);
    let told = stream.next().await.unwrap_err();
    assert_eq!(told.metadata().get("outrigger-reason").unwrap(), "draining");
    assert_eq!(leaver.process.ended().await.code(), Some(0));
}
