//! What Consul tells of an instance's weight and zone decides where calls go, on each worker.

use std::sync::atomic::Ordering;

use proto::user::v1::GetUserRequest;
use proto::user::v1::user_service_client::UserServiceClient;
use rustix::process::Signal;
use tonic::Request;

use super::app::App;
use super::ports::free;
use super::process::{Process, until};
use super::programs::outrigger;
use super::sidecar::{Sidecar, WORKERS, workers};

/// Connections to the caller's sidecar, so many that each worker gets some.
const CONNECTIONS: usize = 8;

/// Three instances on one Consul, and a caller.
struct Three {
    apps: [App; 3],
    instances: Vec<Sidecar>,
    caller: Sidecar,
    clients: Vec<UserServiceClient<tonic::transport::Channel>>,
    _consul: Process,
}

impl Three {
    /// `of` is what each says of itself, `caller` what the caller does.
    async fn start(of: [&str; 3], caller: &str, count: usize) -> Self {
        let [http, dns] = [free(), free()].map(|address| address.to_string());
        let agent = ["agent", "--http", &http, "--dns", &dns];
        let consul = Process::start("consul", outrigger().args(agent));
        let section = format!("[consul]\naddress = \"{http}\"\n{}", workers(count));
        let apps = ["first", "second", "third"].map(App::start);
        let mut instances = Vec::new();
        for (app, of) in apps.iter().zip(of) {
            let more = format!("{section}{of}");
            instances.push(Sidecar::start("user-service", Some(app.address), &more).ready().await);
        }
        // A hedge goes to whom the call did not.
        let off = "[balance]\nslow_start = \"0s\"\n[hedge]\nafter = \"never\"\n";
        let more = format!("{section}{off}{caller}");
        let caller = Sidecar::start("web", None, &more).ready().await;
        let clients =
            (0..CONNECTIONS).map(|_| UserServiceClient::new(caller.channel("user-service")));
        let clients = clients.collect();
        let three = Self { apps, instances, caller, clients, _consul: consul };
        three.call(1).await;
        let known = ["outrigger_endpoints{", "available"];
        until("the caller knows all three", async || three.caller.metric(&known).await == 3.0)
            .await;
        three
    }

    /// So many calls on each connection; how many each app got of them.
    async fn call(&self, calls: usize) -> [usize; 3] {
        let begun = || self.apps.each_ref().map(|app| app.state.begun.load(Ordering::Relaxed));
        let before = begun();
        for _ in 0..calls {
            let calls = self.clients.iter().map(|client| {
                let mut client = client.clone();
                let mut request = Request::new(GetUserRequest { id: "1".into() });
                request.metadata_mut().insert("x-user-id", "ada".parse().unwrap());
                async move { client.get_user(request).await.unwrap() }
            });
            futures_util::future::join_all(calls).await;
        }
        let after = begun();
        [0, 1, 2].map(|at| after[at] - before[at])
    }
}

#[tokio::test]
async fn shares_are_by_the_weights_that_instances_registered() {
    for count in WORKERS {
        let heavy = "[service.weight]\npassing = 4\n";
        let three = Three::start([heavy, "", ""], "", count).await;
        let got = three.call(40).await;
        // Two in three of 320.
        assert!((170..=255).contains(&got[0]), "{got:?} with {count} workers");
    }
}

#[tokio::test]
async fn the_own_zone_is_called_first_and_another_once_it_is_gone() {
    let zone = |name: &str| format!("[service.meta]\nzone = {name:?}\n");
    let [a, b] = ["a", "b"].map(zone);
    for count in WORKERS {
        let mut three = Three::start([&a, &a, &b], &a, count).await;
        let got = three.call(10).await;
        assert!(got[0] > 0 && got[1] > 0 && got[2] == 0, "{got:?} with {count} workers");
        for near in &mut three.instances[..2] {
            near.process.signal(Signal::TERM);
            near.process.ended().await;
        }
        assert_eq!(three.call(10).await, [0, 0, 80], "with {count} workers");
    }
}

#[tokio::test]
async fn calls_with_one_value_of_the_header_meet_at_one_instance_from_all_workers() {
    let hash = "[[upstreams.user-service.route]]\nhash = { header = \"x-user-id\" }\n";
    for count in WORKERS {
        let three = Three::start([""; 3], hash, count).await;
        // One after the other, as many at a time are led on to others.
        let mut got = [0; 3];
        for client in &three.clients {
            let begun = || three.apps.each_ref().map(|app| app.state.begun.load(Ordering::Relaxed));
            let before = begun();
            let mut request = Request::new(GetUserRequest { id: "1".into() });
            request.metadata_mut().insert("x-user-id", "ada".parse().unwrap());
            client.clone().get_user(request).await.unwrap();
            let after = begun();
            (0..3).for_each(|at| got[at] += after[at] - before[at]);
        }
        assert_eq!(got.iter().filter(|n| **n > 0).count(), 1, "{got:?} with {count} workers");
    }
}
