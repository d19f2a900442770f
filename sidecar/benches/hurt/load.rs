//! The load on what is hurt: calls that are due at a fixed pace, however long those before them take.
//!
//! `load ADDRESS get|create CALLS_A_SECOND SECONDS` first calls until all is well, says `begin`, and
//! writes a line of JSON for each call at the end: when it was due (s from the beginning), how long
//! it took from then on (ms), its gRPC status and, of one that failed, the reason. Each call has a
//! deadline of 2 s. Invariant: no call waits for another, so that a stall is seen by every call that
//! was due in it.

use std::time::Duration;

use proto::user::v1::user_service_client::UserServiceClient;
use proto::user::v1::{CreateUserRequest, GetUserRequest};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Failure = Box<dyn std::error::Error>;
type Client = UserServiceClient<Channel>;

const CONNECTIONS: usize = 4;
const DEADLINE: Duration = Duration::from_secs(2);
/// A call that has not even ended by then, with any status, is lost.
const LOST: Duration = Duration::from_secs(5);
/// So many calls in a row must succeed before the load begins: enough for each instance.
const WELL: u32 = 60;

#[derive(Clone, Copy)]
enum Method {
    Get,
    Create,
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, method, rate, seconds] = arguments.as_slice() else {
        return Err("usage: load ADDRESS get|create CALLS_A_SECOND SECONDS".into());
    };
    let method = match method.as_str() {
        "get" => Method::Get,
        "create" => Method::Create,
        other => return Err(format!("not a method: {other}").into()),
    };
    let (rate, seconds): (u32, f64) = (rate.parse()?, seconds.parse()?);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(Default::default())?;
    runtime.block_on(async {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
        let endpoint = endpoint.origin("http://echo".parse()?).tcp_nodelay(true);
        let clients = [(); CONNECTIONS].map(|()| Client::new(endpoint.connect_lazy()));
        all_is_well(&clients, method).await?;
        println!("begin");
        let calls = (f64::from(rate) * seconds) as u32;
        for line in run(&clients, method, calls, Duration::from_secs(1) / rate).await {
            println!("{line}");
        }
        Ok(())
    })
}

async fn all_is_well(clients: &[Client], method: Method) -> Result<(), Failure> {
    let end = Instant::now() + 4 * LOST;
    let (mut well, mut turn) = (0, 0);
    while well < WELL {
        let client = &clients[turn % clients.len()];
        turn += 1;
        match call(client.clone(), method).await {
            Ok(()) => well += 1,
            Err(status) if Instant::now() >= end => {
                return Err(format!("not well before it begins: {status}").into());
            }
            Err(_) => {
                well = 0;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
    Ok(())
}

async fn run(clients: &[Client], method: Method, calls: u32, pace: Duration) -> Vec<String> {
    let mut ended = JoinSet::new();
    let begin = Instant::now() + pace;
    for (number, client) in (0..calls).zip(clients.iter().cycle()) {
        let (due, client) = (begin + number * pace, client.clone());
        sleep_until(due).await;
        ended.spawn_local(async move {
            let outcome = timeout(LOST, call(client, method)).await;
            let outcome = outcome.unwrap_or_else(|_| Err(Status::unknown("lost")));
            line(due - begin, due.elapsed(), outcome.err())
        });
    }
    ended.join_all().await
}

async fn call(mut client: Client, method: Method) -> Result<(), Status> {
    match method {
        Method::Get => {
            let mut request = Request::new(GetUserRequest { id: "1".into() });
            request.set_timeout(DEADLINE);
            client.get_user(request).await.map(drop)
        }
        Method::Create => {
            let create = CreateUserRequest { name: "one".into(), ..Default::default() };
            let mut request = Request::new(create);
            request.set_timeout(DEADLINE);
            client.create_user(request).await.map(drop)
        }
    }
}

fn line(due: Duration, took: Duration, failed: Option<Status>) -> String {
    let status = failed.as_ref().map_or(Code::Ok, |status| match status.message() {
        // The client's own clock, where nobody else has ended the call.
        "Timeout expired" => Code::DeadlineExceeded,
        _ => status.code(),
    });
    let reason = failed.as_ref().and_then(|status| status.metadata().get("outrigger-reason"));
    json!({
        "due": due.as_secs_f64(),
        "ms": took.as_secs_f64() * 1e3,
        "status": status as i32,
        "reason": reason.and_then(|reason| reason.to_str().ok()),
        "message": failed.as_ref().map(Status::message),
    })
    .to_string()
}
