//! Three hops: web → echo → echo → echo, with bare apps between, which hand on `tracestate` alone.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::Request;
use tokio::time::{Instant, sleep};

use super::faults::refused;
use super::net::{Answer, Client, Mesh, app, request};

const DEADLINE: Duration = Duration::from_millis(100);
const LAST: u16 = 3;

/// What the apps saw: on which hop, what, and when.
type Seen = Rc<RefCell<Vec<(u16, &'static str, Instant)>>>;

/// The app of every hop; it calls the next one through its sidecar.
#[derive(Clone)]
struct Hop {
    seen: Seen,
    next: h2::client::SendRequest<Bytes>,
    /// How long it works before it calls on.
    work: Duration,
}

impl Hop {
    fn note(&self, hop: u16, what: &'static str) {
        self.seen.borrow_mut().push((hop, what, Instant::now()));
    }

    async fn serve(self, served: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
        let begun = Instant::now();
        let hop: u16 = served.headers()["hop"].to_str().unwrap().parse().unwrap();
        self.note(hop, "begun");
        if hop == LAST {
            let _ = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
            return self.note(hop, "ended");
        }
        // It looks at nothing but its own work: that nobody waits, it does not notice.
        sleep(self.work).await;
        let mut call = request().header("hop", hop + 1);
        for trace in served.headers().get_all("tracestate") {
            call = call.header("tracestate", aged(trace.to_str().unwrap(), begun.elapsed()));
        }
        let mut next = Client { send: self.next.clone() };
        let (answer, mut send) = next.open(call.body(()).unwrap());
        send.send_data(Bytes::new(), true).unwrap();
        let (status, ..) = Answer::read(answer.await.unwrap()).await.unwrap().status();
        assert_eq!(status, "4");
        self.note(hop, "ended");
        let answer = http::Response::builder().header("grpc-status", status).body(()).unwrap();
        let _ = respond.send_response(answer, true);
    }
}

/// The deadline in `tracestate` is by the wall clock, which paused time leaves where it is: it comes
/// closer by as much as the app has worked.
fn aged(trace: &str, by: Duration) -> String {
    let (before, rest) = trace.split_once("outrigger=d:").unwrap();
    let (at, after) = rest.split_once(';').unwrap();
    let at = at.parse::<u128>().unwrap() - by.as_micros();
    format!("{before}outrigger=d:{at};{after}")
}

/// Calls through all of them; returns what they saw within a second, in ms from the beginning.
async fn seen_where_each_works(work: Duration) -> Vec<(u16, &'static str, u128)> {
    let mesh = Mesh::new();
    mesh.serve_inbound();
    let next = mesh.client().await.send;
    let hop = Hop { seen: Seen::default(), next, work };
    let seen = hop.seen.clone();
    app(&mesh, move |request, respond| hop.clone().serve(request, respond));
    let begun = Instant::now();
    let call = request().header("hop", 1).header("grpc-timeout", "100m").body(()).unwrap();
    let (status, message, _) = refused(&mesh, call).await;
    assert_eq!(status, "4", "{message}");
    assert!(begun.elapsed() <= DEADLINE + Duration::from_millis(1), "{:?}", begun.elapsed());
    sleep(Duration::from_secs(1)).await;
    seen.borrow().iter().map(|(hop, what, at)| (*hop, *what, (*at - begun).as_millis())).collect()
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_deadline_ends_every_hop_where_the_last_is_slow() {
    let seen = seen_where_each_works(Duration::ZERO).await;
    for hop in 1..=LAST {
        let of: Vec<_> = seen.iter().filter(|(on, ..)| *on == hop).collect();
        let [(_, "begun", _), (_, "ended", at)] = of[..] else { panic!("{seen:?}") };
        assert!(*at <= 102, "{seen:?}");
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn no_hop_starts_work_after_the_deadline() {
    let seen = seen_where_each_works(Duration::from_millis(60)).await;
    // The second one calls on at 120 ms: the call does not leave its sidecar.
    assert!(seen.iter().all(|(hop, ..)| *hop < LAST), "{seen:?}");
    assert!(seen.iter().all(|(_, what, at)| *what != "begun" || *at < 100), "{seen:?}");
}
