//! How calls are spread over endpoints: by weight, by zone, by a hash of a header, and how much a
//! new one gets.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use outrigger::discovery::snapshot::{Found, Upstream};
use outrigger::resilience::balance::zones::Zones;

use super::net::{Client, Mesh, address, echo, grpc_request, request, sidecar};

const HASHED: &str = "[[upstreams.echo.route]]\nhash = { header = \"x-user-id\" }\n";

/// Endpoints that count their calls, and what the caller's sidecar was told of them last.
struct Spread {
    mesh: Mesh,
    calls: Rc<RefCell<BTreeMap<SocketAddr, usize>>>,
    told: RefCell<Option<Arc<Upstream>>>,
}

impl Spread {
    fn with_caller(more: &str) -> Self {
        let mesh = Mesh::with_caller(more);
        Self { mesh, calls: Rc::default(), told: RefCell::default() }
    }

    /// Answers at this address, after so long.
    fn serve(&self, at: SocketAddr, after: Duration) {
        let calls = self.calls.clone();
        sidecar(&self.mesh, at, move |request, respond| {
            *calls.borrow_mut().entry(at).or_default() += 1;
            async move {
                tokio::time::sleep(after).await;
                echo(request, respond).await;
            }
        });
    }

    /// Tells the caller of these: where, how much they weigh, whether they are near.
    fn tell(&self, all: &[(SocketAddr, u16, bool)], zones: u32) {
        let identity = self.mesh.id("echo");
        let found = all.iter().map(|(at, weight, is_near)| Found {
            weight: *weight,
            is_near: *is_near,
            ..(*at, identity.clone(), Arc::from("echo")).into()
        });
        let weigh = |near| -> u64 {
            all.iter().filter(|one| one.2 == near).map(|one| u64::from(one.1)).sum()
        };
        let zones = Zones { near: weigh(true), far: weigh(false), count: zones };
        let before = self.told.borrow().clone();
        let next = Upstream::succeed(before.as_deref(), "echo".into(), found, 0).within(zones);
        let next = Arc::new(next.hashed());
        self.mesh.web.set_upstream(next.clone());
        *self.told.borrow_mut() = Some(next);
    }

    /// So many calls, one after the other; how many each endpoint got of them.
    async fn call(&self, client: &mut Client, calls: usize) -> BTreeMap<SocketAddr, usize> {
        self.calls.borrow_mut().clear();
        for _ in 0..calls {
            succeed(client, grpc_request()).await;
        }
        self.calls.borrow().clone()
    }

    /// Who gets a call with this value of the header.
    async fn home(&self, client: &mut Client, user: &str) -> SocketAddr {
        self.calls.borrow_mut().clear();
        succeed(client, request().header("x-user-id", user).body(()).unwrap()).await;
        *self.calls.borrow().keys().next().unwrap()
    }
}

async fn succeed(client: &mut Client, request: Request<()>) {
    let answer = client.call(request, b"x").await.unwrap();
    assert_eq!(answer.status().0, "0", "{:?}", answer.status());
}

fn endpoints(n: u8) -> Vec<SocketAddr> {
    (1..=n).map(|n| address(&format!("127.0.0.{n}:21000"))).collect()
}

const QUICK: Duration = Duration::from_millis(5);

#[tokio::test(flavor = "local", start_paused = true)]
async fn twice_the_weight_gets_twice_the_calls() {
    let spread = Spread::with_caller("[balance]\nslow_start = \"0s\"");
    let all = endpoints(3);
    all.iter().for_each(|at| spread.serve(*at, QUICK));
    spread.tell(&[(all[0], 2, false), (all[1], 1, false), (all[2], 1, false)], 1);
    let mut client = spread.mesh.client().await;
    let got = spread.call(&mut client, 800).await;
    assert!((340..=460).contains(&got[&all[0]]), "{got:?}");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn calls_stay_in_the_own_zone_until_it_cannot_be_connected() {
    let spread = Spread::with_caller("[balance]\nslow_start = \"0s\"");
    let all = endpoints(4);
    all.iter().for_each(|at| spread.serve(*at, QUICK));
    let near = |at: &SocketAddr| all[..2].contains(at);
    let told: Vec<_> = all.iter().map(|at| (*at, 1, near(at))).collect();
    spread.tell(&told, 2);
    let mut client = spread.mesh.client().await;
    let got = spread.call(&mut client, 200).await;
    assert!(got.keys().all(near), "{got:?}");
    // Where nobody listens, the next call fails to connect, and goes elsewhere.
    let gone: Vec<_> = [5, 6].map(|n| (address(&format!("127.0.0.{n}:21000")), 1, true)).to_vec();
    spread.tell(&[&gone[..], &told[2..]].concat(), 2);
    let got = spread.call(&mut client, 200).await;
    assert_eq!(got.values().sum::<usize>(), 200, "{got:?}");
    assert!(!got.keys().any(near), "{got:?}");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_new_endpoint_gets_a_small_part_at_first_and_its_whole_part_after_ten_seconds() {
    let spread = Spread::with_caller("");
    let all = endpoints(4);
    all.iter().for_each(|at| spread.serve(*at, QUICK));
    let told: Vec<_> = all.iter().map(|at| (*at, 1, false)).collect();
    // Those of the mesh's first snapshot are known as well as these: all of them are new.
    spread.tell(&told[..1], 1);
    tokio::time::sleep(Duration::from_secs(11)).await;
    spread.tell(&told[..3], 1);
    tokio::time::sleep(Duration::from_secs(11)).await;
    spread.tell(&told, 1);
    let mut client = spread.mesh.client().await;
    // A second and a half.
    let got = spread.call(&mut client, 300).await;
    let first = got.get(&all[3]).copied().unwrap_or_default();
    assert!(first < 40, "{first} of 300 calls went to the new one, 75 is even");
    tokio::time::sleep(Duration::from_secs(10)).await;
    let got = spread.call(&mut client, 300).await;
    assert!((45..=110).contains(&got[&all[3]]), "{got:?}");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn calls_of_one_user_go_to_one_endpoint_in_whatever_zone() {
    let spread = Spread::with_caller(HASHED);
    let all = endpoints(8);
    all.iter().for_each(|at| spread.serve(*at, QUICK));
    let is_near = |at: &SocketAddr| all[..4].contains(at);
    let told: Vec<_> = all.iter().map(|at| (*at, 1, is_near(at))).collect();
    spread.tell(&told, 2);
    let mut client = spread.mesh.client().await;
    let mut homes = BTreeMap::new();
    for user in ["ada", "grace", "edsger", "barbara", "alan", "donald", "frances", "ken"] {
        let home = spread.home(&mut client, user).await;
        for _ in 0..5 {
            assert_eq!(spread.home(&mut client, user).await, home, "{user}");
        }
        homes.insert(user, home);
    }
    let distinct: std::collections::BTreeSet<_> = homes.values().collect();
    assert!(distinct.len() >= 4 && !distinct.into_iter().all(is_near), "{homes:?}");
    let got = spread.call(&mut client, 100).await;
    assert!(got.keys().all(is_near), "without it, the zone decides: {got:?}");

    // One that goes takes its own users along, and few others.
    let gone = homes["ada"];
    let left: Vec<_> = told.iter().filter(|one| one.0 != gone).copied().collect();
    spread.tell(&left, 2);
    for (user, home) in &homes {
        let now = spread.home(&mut client, user).await;
        assert_eq!(now == *home, *home != gone, "{user}");
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_user_with_very_many_calls_does_not_drown_one_endpoint() {
    let spread = Spread::with_caller(HASHED);
    let all = endpoints(4);
    all.iter().for_each(|at| spread.serve(*at, Duration::from_secs(1)));
    spread.tell(&all.iter().map(|at| (*at, 1, false)).collect::<Vec<_>>(), 1);
    let mut client = spread.mesh.client().await;
    let mut open = Vec::new();
    for _ in 0..100 {
        let request = request().header("x-user-id", "ada").body(()).unwrap();
        let (answer, mut send) = client.open(request);
        send.send_data(bytes::Bytes::from_static(b"x"), true).unwrap();
        open.push(answer);
    }
    for answer in open {
        answer.await.unwrap();
    }
    let got = spread.calls.borrow().clone();
    // 25 is even, 1.25 times that the bound.
    assert!(got.values().all(|n| *n <= 32), "{got:?}");
    assert_eq!(got.values().sum::<usize>(), 100);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn new_endpoints_are_connected_as_often_as_they_are_chosen() {
    let spread = Spread::with_caller("[balance]\nslow_start = \"0s\"");
    let all: Vec<_> = (1..=48).map(|n| (address(&format!("127.0.1.{n}:21000")), 1, true)).collect();
    for (at, ..) in &all {
        spread.serve(*at, Duration::ZERO);
    }
    let mut client = spread.mesh.client().await;
    spread.tell(&all[..40], 1);
    spread.call(&mut client, 400).await;
    // The others have connections already.
    spread.tell(&all, 1);
    let calls = spread.call(&mut client, 800).await;
    let new = all[40..].iter().filter(|(at, ..)| calls.contains_key(at)).count();
    assert_eq!(new, 8, "{calls:?}");
}
