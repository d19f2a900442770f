//! An app that stands still after its limit was learned.

use super::*;

/// An app that works on 4 calls at a time, for 10 ms each, with more than it takes, so that its
/// limit is learned; and that then stands still but for calls named "free".
struct Still {
    mesh: Mesh,
    clients: Vec<Client>,
    calls: Vec<tokio::task::JoinHandle<Outcome>>,
}

impl Still {
    async fn new() -> Self {
        let mesh = Mesh::with_app("[inbound.concurrency]\nqueue_timeout = \"200ms\"\n");
        let (room, is_still) = (Rc::new(Semaphore::new(4)), Rc::new(Cell::new(false)));
        let also = is_still.clone();
        app(&mesh, move |request, respond| {
            let (room, is_still) = (room.clone(), also.clone());
            async move {
                if request.headers()["x-name"] == "free" {
                    return work_on(Seen::default(), Duration::ZERO, request, respond).await;
                }
                let _room = room.acquire().await;
                let work = Duration::from_millis(if is_still.get() { 100_000 } else { 10 });
                work_on(Seen::default(), work, request, respond).await;
            }
        });
        let mut still = Self { clients: clients(&mesh, 1, 8).await, mesh, calls: Vec::new() };
        still.send(4, 200).await;
        assert!(!still.is_limited(), "it is not overloaded yet");
        for _ in 0..200 {
            still.send(8, 1).await;
            if still.is_limited() {
                break;
            }
        }
        is_still.set(true);
        // More calls than the limit have a place, and keep it.
        assert!(still.is_limited(), "the test shows nothing");
        still
    }

    async fn send(&mut self, calls: usize, times: usize) {
        for _ in 0..times {
            for n in 0..calls {
                self.calls.push(spawn(&mut self.clients[n % 8], ""));
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    fn is_limited(&self) -> bool {
        let metrics = Mesh::scrape(&self.mesh.echo_metrics);
        !metrics.contains("outrigger_concurrency_limit{} 10000\n")
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn who_waits_for_a_place_gets_it_when_the_limit_is_lifted() {
    let mut still = Still::new().await;
    sleep(Duration::from_secs(2)).await;
    let refused = spawn(&mut still.clients[0], "");
    sleep(Duration::from_millis(100)).await;
    let waits = spawn(&mut still.clients[1], "free");
    assert_eq!(refused.await.unwrap().reason, "overloaded");
    let waits = waits.await.unwrap();
    assert_eq!(waits.status, "0", "{}", waits.message);
    assert!((95..110).contains(&waits.after.as_millis()), "{:?}", waits.after);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn calls_whose_deadline_passes_while_they_wait_show_that_no_answer_comes() {
    let mut still = Still::new().await;
    sleep(Duration::from_secs(2)).await;
    assert!(still.is_limited());
    // Shorter than any call may wait: none is ever refused.
    let request = request().header("grpc-timeout", "30m").body(()).unwrap();
    let late = spawn_request(&mut still.clients[0], request).await.unwrap();
    assert_eq!(late.reason, "deadline_exceeded");
    assert!(!still.is_limited());
    assert_eq!(spawn(&mut still.clients[0], "free").await.unwrap().status, "0");
}
