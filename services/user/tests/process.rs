//! The user service as a process: its start, its end, and instances that share a store.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "in tests, outside #[test] too")]

use std::{
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use futures_util::stream;
use proto::user::v1::{self, user_service_client::UserServiceClient};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

const PATIENCE: Duration = Duration::from_secs(60);

/// A process that ends with the test.
struct Process {
    child: Child,
    address: String,
}

impl Process {
    fn command(variables: &[(&str, &str)]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_user-service"));
        command.env_clear().env("ADDR", "127.0.0.1:0").envs(variables.iter().copied());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn start(store: &Path) -> Self {
        let url = format!("sqlite:{}", store.display());
        let mut command = Self::command(&[("DATABASE_URL", &url)]);
        let mut child = command.stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("user-service: listening on ").map(str::to_owned);
        Self { child, address: address.unwrap_or_else(|| panic!("found {line:?}")) }
    }

    async fn channel(&self) -> Channel {
        let address = format!("http://{}", self.address);
        Channel::from_shared(address).unwrap().connect().await.unwrap()
    }

    fn terminate(&self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
    }

    async fn ended(mut self) -> ExitStatus {
        let wait = tokio::task::spawn_blocking(move || self.child.wait().unwrap());
        timeout(PATIENCE, wait).await.expect("the process did not end").unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn new(email: String) -> v1::CreateUserRequest {
    v1::CreateUserRequest { email, name: "Ada".into(), role: 0 }
}

#[tokio::test]
async fn a_call_in_flight_ends_well_before_the_process_does() {
    let directory = TempDir::new().unwrap();
    let process = Process::start(&directory.path().join("user.db"));
    let channel = process.channel().await;
    let request = HealthCheckRequest { service: "user.v1.UserService".into() };
    let watch = HealthClient::new(channel.clone()).watch(request).await;
    let mut health = watch.unwrap().into_inner();
    let status = health.message().await.unwrap().unwrap().status();
    assert_eq!(status, ServingStatus::Serving);

    let (send, mut receive) = tokio::sync::mpsc::channel(1);
    let messages = stream::poll_fn(move |context| receive.poll_recv(context));
    let mut client = UserServiceClient::new(channel);
    let batch = tokio::spawn(async move { client.batch_create_users(messages).await });
    send.send(new("a@example.com".into())).await.unwrap();
    // A second one fits only when the first has gone out.
    send.send(new("b@example.com".into())).await.unwrap();

    process.terminate();
    let status = timeout(PATIENCE, health.message()).await.unwrap().unwrap().unwrap().status();
    assert_eq!(status, ServingStatus::NotServing);
    // A watcher does not hold up the shutdown.
    assert!(timeout(PATIENCE, health.message()).await.unwrap().unwrap().is_none());
    send.send(new("c@example.com".into())).await.unwrap();
    drop(send);
    let answer = timeout(PATIENCE, batch).await.unwrap().unwrap().unwrap();
    assert_eq!(answer.into_inner().created_count, 3);
    assert!(process.ended().await.success());
}

#[tokio::test]
async fn a_restart_keeps_the_users() {
    let directory = TempDir::new().unwrap();
    let store = directory.path().join("user.db");
    let process = Process::start(&store);
    let mut client = UserServiceClient::new(process.channel().await);
    client.create_user(new("ada@example.com".into())).await.unwrap();
    drop(client);
    process.terminate();
    assert!(process.ended().await.success());

    let process = Process::start(&store);
    let mut client = UserServiceClient::new(process.channel().await);
    let user = client.get_user(v1::GetUserRequest { id: "1".into() }).await.unwrap();
    assert_eq!(user.into_inner().user.unwrap().email, "ada@example.com");
    let next = client.create_user(new("bob@example.com".into())).await.unwrap();
    assert_eq!(next.into_inner().user.unwrap().id, "2");
}

#[tokio::test]
async fn instances_that_start_and_write_together_count_up_without_a_gap() {
    const WRITERS: usize = 8;
    const USERS: usize = 10;
    let directory = TempDir::new().unwrap();
    let store = directory.path().join("user.db");
    let starts: Vec<_> = (0..3)
        .map(|_| {
            let store = store.clone();
            std::thread::spawn(move || Process::start(&store))
        })
        .collect();
    let processes: Vec<_> = starts.into_iter().map(|start| start.join().unwrap()).collect();

    let mut writers = Vec::new();
    for (instance, process) in processes.iter().enumerate() {
        let channel = process.channel().await;
        for writer in 0..WRITERS {
            let mut client = UserServiceClient::new(channel.clone());
            writers.push(tokio::spawn(async move {
                let mut ids = Vec::new();
                for n in 0..USERS {
                    let email = format!("{instance}-{writer}-{n}@example.com");
                    let user = client.create_user(new(email)).await.unwrap();
                    ids.push(user.into_inner().user.unwrap().id.parse::<usize>().unwrap());
                }
                ids
            }));
        }
    }
    let mut ids = Vec::new();
    for writer in writers {
        ids.extend(writer.await.unwrap());
    }
    ids.sort_unstable();
    assert_eq!(ids, (1..=3 * WRITERS * USERS).collect::<Vec<_>>());
}

#[tokio::test]
async fn reflection_tells_the_service_and_its_imports() {
    let directory = TempDir::new().unwrap();
    let process = Process::start(&directory.path().join("user.db"));
    let mut client = ServerReflectionClient::new(process.channel().await);
    let ask =
        |question| ServerReflectionRequest { host: String::new(), message_request: Some(question) };
    let file = MessageRequest::FileByFilename("google/protobuf/timestamp.proto".into());
    let questions = [ask(MessageRequest::ListServices(String::new())), ask(file)];
    let answers = client.server_reflection_info(stream::iter(questions)).await;
    let mut answers = answers.unwrap().into_inner();
    let listed = answers.message().await.unwrap().unwrap().message_response.unwrap();
    let MessageResponse::ListServicesResponse(listed) = listed else { panic!("{listed:?}") };
    let names: Vec<_> = listed.service.into_iter().map(|service| service.name).collect();
    assert!(names.contains(&"user.v1.UserService".to_owned()), "{names:?}");
    assert!(!names.iter().any(|name| name.contains("Order")), "{names:?}");
    let file = answers.message().await.unwrap().unwrap().message_response.unwrap();
    assert!(matches!(file, MessageResponse::FileDescriptorResponse(_)), "{file:?}");
}

#[test]
fn a_bad_variable_is_one_line_and_exit_code_2() {
    for (name, value) in [("ADDR", "0.0.0.0:1"), ("DATABASE_URL", "mysql://localhost/users")] {
        let mut child = Process::command(&[(name, value)]).spawn().unwrap();
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(2));
        assert_eq!(said.lines().count(), 1, "{said}");
        let begins = format!("user-service: {name}: found {value:?}, expected ");
        assert!(said.starts_with(&begins), "{said}");
    }
}

#[test]
fn a_store_or_address_that_cannot_be_had_is_one_line_and_exit_code_1() {
    let directory = TempDir::new().unwrap();
    let text = directory.path().join("text.db");
    std::fs::write(&text, "this is no database, and long enough to be seen as none".repeat(9))
        .unwrap();
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap().to_string();
    let good = format!("sqlite:{}", directory.path().join("user.db").display());
    let bad = format!("sqlite:{}", text.display());
    let inside = format!("sqlite:{}/x.db", text.display());
    for (address, url, says) in [
        ("127.0.0.1:0", &bad, format!("user-service: cannot open the store {bad}: ")),
        ("127.0.0.1:0", &inside, "user-service: cannot create the store's directory ".to_owned()),
        (&address, &good, format!("user-service: cannot listen on {address}: ")),
    ] {
        let variables = [("ADDR", address), ("DATABASE_URL", url), ("RUST_LOG", "off")];
        let mut child = Process::command(&variables).spawn().unwrap();
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(1), "{said}");
        assert!(said.starts_with(&says) && said.lines().count() == 1, "{said}");
    }
}
