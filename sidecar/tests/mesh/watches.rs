//! What a sidecar asks its Consul agent for.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use proto::user::v1::GetUserRequest;
use proto::user::v1::user_service_client::UserServiceClient;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::app::App;
use super::ports::free;
use super::process::{Process, until};
use super::programs::outrigger;
use super::sidecar::Sidecar;

/// Between a sidecar and its agent: what is asked is kept.
async fn relay(agent: SocketAddr) -> (SocketAddr, Arc<Mutex<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, asked) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(String::new())));
    let kept = asked.clone();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let kept = kept.clone();
            tokio::spawn(async move {
                let Ok(far) = TcpStream::connect(agent).await else { return };
                let (mut from_near, mut to_near) = near.into_split();
                let (mut from_far, mut to_far) = far.into_split();
                let up = async {
                    let mut bytes = [0; 4096];
                    while let Ok(n @ 1..) = from_near.read(&mut bytes).await {
                        kept.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..n]));
                        let _ = to_far.write_all(&bytes[..n]).await;
                    }
                };
                tokio::select! {
                    () = up => {}
                    _ = tokio::io::copy(&mut from_far, &mut to_near) => {}
                }
            });
        }
    });
    (address, asked)
}

#[tokio::test]
async fn endpoints_that_the_config_states_are_not_asked_for() {
    let [http, dns] = [free(), free()];
    let agent = [format!("--http={http}"), format!("--dns={dns}")];
    let _consul = Process::start("consul", outrigger().arg("agent").args(agent));
    let section = format!("[consul]\naddress = \"{http}\"\n");
    let app = App::start("app");
    let callee = Sidecar::start("user-service", Some(app.address), &section).ready().await;
    let (relay, asked) = relay(http).await;
    let sections = format!(
        "[consul]\naddress = \"{relay}\"\n[upstreams.user-service]\nendpoints = [\"{}\"]\n",
        callee.inbound,
    );
    let caller = Sidecar::start("web", None, &sections).ready().await;
    let get = || GetUserRequest { id: "1".into() };
    UserServiceClient::new(caller.channel("user-service")).get_user(get()).await.unwrap();
    let elsewhere = UserServiceClient::new(caller.channel("order-service")).get_user(get()).await;
    assert!(elsewhere.is_err());
    let watches =
        |service: &str| asked.lock().unwrap().contains(&format!("/v1/health/connect/{service}"));
    until("what the config does not state is asked for", async || watches("order-service")).await;
    assert!(!watches("user-service"), "{}", asked.lock().unwrap());
}
