//! One command: the demonstration mesh on the embedded agent.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use consul::api::Action;
use futures_util::stream;
use proto::user::v1::user_service_client::UserServiceClient;
use proto::user::v1::{GetUserRequest, SyncUsersRequest, User};
use rustix::process::Signal;
use tokio::sync::mpsc;
use tokio::time::{Duration, Instant, timeout};
use tonic::Code;

use super::peer::peer;
use super::process::{PATIENCE, until};
use super::whole::{SERVICES, Whole};

#[tokio::test]
async fn a_plain_python_client_orders_through_the_mesh_and_an_unknown_user_is_named() {
    let Some(python) = peer("python") else { return };
    let mesh = Whole::embedded().await;
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let out = tempfile::tempdir().unwrap();
    let mut walk = Command::new(python);
    walk.arg(here.join("tests/mesh/python/walk.py")).arg(mesh.client.port().to_string());
    walk.arg(out.path()).arg(here.join("tests/mesh/python")).arg(here.join("../proto"));
    let walked = tokio::task::spawn_blocking(move || walk.output().unwrap()).await.unwrap();
    let said = String::from_utf8(walked.stdout).unwrap();
    let why = String::from_utf8_lossy(&walked.stderr);
    let answers: Vec<serde_json::Value> =
        said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [user, product, order, refused] = &answers[..] else { panic!("{said}\n{why}") };
    assert_eq!(user["user"]["id"], "1", "{user}");
    assert_eq!(product["product"]["id"], "1", "{product}");
    assert_eq!(order["order"]["totalPrice"], 39.98, "{order}");
    assert_eq!(order["order"]["status"], "ORDER_STATUS_CONFIRMED", "{order}");
    assert_eq!(refused["code"], "NOT_FOUND", "{refused}");
    assert!(refused["message"].as_str().unwrap().contains("user \"404\""), "{refused}");
    mesh.end().await;
}

#[tokio::test]
async fn dig_finds_the_service() {
    let Some(dig) = peer("dig") else { return };
    let mesh = Whole::embedded().await;
    let mut command = Command::new(dig);
    command.args(["-p", &mesh.dns.port().to_string(), "@127.0.0.1", "+short"]);
    command.args(["user-service.service.consul", "SRV"]);
    let found = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let found = String::from_utf8(found.stdout).unwrap();
    let words: Vec<&str> = found.split_whitespace().collect();
    let [_, _, port, target] = words[..] else { panic!("{found:?}") };
    assert!(target.ends_with(".consul."), "{found}");
    // The app's own port, as the mesh's is `user-service.connect.consul`'s.
    let entries = mesh.consul.health().service("user-service").send().await.unwrap().value;
    assert_eq!(port, entries[0].service.port.to_string(), "{found}");
    mesh.end().await;
}

#[tokio::test]
async fn an_intention_turned_to_deny_ends_an_open_stream_within_a_second_and_names_itself() {
    let mesh = Whole::embedded().await;
    let mut client = UserServiceClient::new(mesh.channel("user-service"));
    let (send, mut receive) = mpsc::channel(1);
    let messages = stream::poll_fn(move |context| receive.poll_recv(context));
    let mut answers = client.sync_users(messages).await.unwrap().into_inner();
    let ada =
        User { email: "ada@example.com".into(), name: "Ada".into(), role: 1, ..User::default() };
    send.send(SyncUsersRequest { user: Some(ada) }).await.unwrap();
    answers.message().await.unwrap().unwrap();

    mesh.intend("client", "user-service", Action::Deny).await;
    let turned = Instant::now();
    let ended = timeout(PATIENCE, answers.message()).await.unwrap().unwrap_err();
    let took = turned.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?}");
    for refused in [ended, client.get_user(GetUserRequest { id: "1".into() }).await.unwrap_err()] {
        assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
        assert!(refused.message().contains("client"), "{refused}");
        assert!(refused.message().contains("user-service"), "{refused}");
        assert!(refused.message().contains("intention"), "{refused}");
    }

    mesh.intend("client", "user-service", Action::Allow).await;
    until("calls are allowed again", async || {
        client.get_user(GetUserRequest { id: "1".into() }).await.is_ok()
    })
    .await;
    mesh.end().await;
}

#[tokio::test]
async fn a_kill_of_up_itself_takes_the_whole_mesh_with_it_and_frees_its_ports() {
    let mut mesh = Whole::embedded().await.with_a_user().await;
    let there = mesh.mark.left();
    let count = |words: &str| there.iter().filter(|(_, line)| line.contains(words)).count();
    // `up`, and each with its guard: Consul, four sidecars, the apps.
    let apps = SERVICES.map(|service| count(&format!("/{service} ")));
    assert_eq!((count(" agent "), count(" run "), apps), (2, 8, [2; 3]), "{there:?}");
    assert_eq!(there.len(), 17, "{there:?}");
    for port in &mesh.ports {
        assert!(TcpListener::bind(("127.0.0.1", *port)).is_err(), "nobody listens on {port}");
    }

    mesh.up.signal(Signal::KILL);
    mesh.up.ended().await;
    mesh.mark.nothing_left().await;
    for port in &mesh.ports {
        TcpListener::bind(("127.0.0.1", *port)).unwrap();
    }
}
