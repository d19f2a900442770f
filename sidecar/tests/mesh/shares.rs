//! What all workers of a sidecar do together: their metrics are one sum, and a new snapshot, a new
//! intention reaches each of them.

use consul::Token;
use consul::api::{Action, Rule};
use proto::user::v1::GetUserRequest;
use proto::user::v1::user_service_client::UserServiceClient;
use rustix::process::Signal;
use tokio::time::{Duration, Instant};
use tonic::Code;

use super::app::App;
use super::leaving::Conversation;
use super::pki::Pki;
use super::ports::free;
use super::process::{Process, until};
use super::programs::outrigger;
use super::sidecar::{Sidecar, WORKERS, workers};
use super::whole::consul_at;

/// Connections, so many that each of four workers gets some: each goes to the one with the least.
const CONNECTIONS: usize = 8;

/// Calls on each of them.
const CALLS: usize = 5;

fn get() -> GetUserRequest {
    GetUserRequest { id: "1".into() }
}

#[tokio::test]
async fn the_metrics_of_a_sidecar_are_the_sum_over_its_workers() {
    for count in WORKERS {
        let (pki, more) = (Pki::new(), workers(count));
        let app = App::start("app");
        let callee = Sidecar::guarding(&pki, "user-service", app.address, &["web"], &more).await;
        let endpoints = [callee.inbound];
        let caller = Sidecar::calling_with(&pki, "web", "user-service", &endpoints, &more).await;
        let clients: Vec<_> = (0..CONNECTIONS)
            .map(|_| UserServiceClient::new(caller.channel("user-service")))
            .collect();
        for _ in 0..CALLS {
            for client in &clients {
                client.clone().get_user(get()).await.unwrap();
            }
        }
        for (sidecar, direction) in [(&callee, "inbound"), (&caller, "outbound")] {
            let direction = format!("direction=\"{direction}\"");
            let series = ["outrigger_requests_total{", &direction, "GetUser", "grpc_status=\"OK\""];
            assert_eq!(sidecar.metric(&series).await, (CONNECTIONS * CALLS) as f64, "{count}");
            let series = ["outrigger_request_duration_seconds_count{", &direction, "GetUser"];
            assert_eq!(sidecar.metric(&series).await, (CONNECTIONS * CALLS) as f64, "{count}");
        }
        // Each worker of the caller has a connection of its own to the callee.
        let open = ["outrigger_connections{direction=\"inbound\"}"];
        assert_eq!(callee.metric(&open).await, count as f64);
        let open = ["outrigger_connections{direction=\"outbound\"}"];
        // That of its question about methods closes once it is answered.
        until("the clients' connections alone are open", async || {
            caller.metric(&open).await == CONNECTIONS as f64
        })
        .await;
    }
}

#[tokio::test]
async fn a_new_intention_and_new_endpoints_reach_every_worker() {
    for count in WORKERS {
        let [http, dns] = [free(), free()];
        let agent = [format!("--http={http}"), format!("--dns={dns}")];
        let _consul = Process::start("consul", outrigger().arg("agent").args(agent));
        let section = format!("[consul]\naddress = \"{http}\"\n{}", workers(count));
        let app = App::start("app");
        let mut callee = Sidecar::start("user-service", Some(app.address), &section).ready().await;
        let caller = Sidecar::start("web", None, &section).ready().await;
        let mut clients: Vec<_> = (0..CONNECTIONS)
            .map(|_| UserServiceClient::new(caller.channel("user-service")))
            .collect();
        let mut streams = Vec::new();
        for client in &mut clients {
            until("a call succeeds", async || client.get_user(get()).await.is_ok()).await;
            streams.push(Conversation::open(&caller).await);
        }
        let open = ["outrigger_connections{direction=\"inbound\"}"];
        assert_eq!(callee.metric(&open).await, count as f64);

        let consul = consul_at(http, Token::Anonymous);
        let intend = async |action| {
            let rule = Rule::Action(action);
            consul.connect().set_intention("web", "user-service", &rule).await.unwrap();
        };
        intend(Action::Deny).await;
        let turned = Instant::now();
        for stream in &mut streams {
            assert_eq!(stream.next().await.unwrap_err().code(), Code::PermissionDenied);
        }
        assert!(turned.elapsed() < Duration::from_secs(2), "{:?}", turned.elapsed());
        for client in &mut clients {
            let refused = client.get_user(get()).await.unwrap_err();
            assert_eq!(refused.code(), Code::PermissionDenied);
        }
        intend(Action::Allow).await;
        for client in &mut clients {
            until("calls are allowed again", async || client.get_user(get()).await.is_ok()).await;
        }

        // Gone from Consul: each worker of the caller learns of it.
        callee.process.signal(Signal::TERM);
        assert_eq!(callee.process.ended().await.code(), Some(0));
        for client in &mut clients {
            until("the worker has learned that nobody is there", async || {
                let refused = client.get_user(get()).await.unwrap_err();
                refused.message().contains("none is registered")
            })
            .await;
        }
    }
}
