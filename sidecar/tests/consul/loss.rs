//! A Consul with ACLs that is killed and comes back, with its data and without, under load.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use consul::api::{Action, Rule};
use consul::{Client, Token};
use tempfile::TempDir;

use crate::agents::{Consul, Kind, eventually, within};
use crate::mesh::{App, Load, Sidecar, call, callable, is_denied};

const MANAGEMENT: &str = "11111111-1111-4111-8111-111111111111";
/// The secrets of the sidecars' tokens.
const TOKENS: [(&str, &str, &str); 2] = [
    ("order", "sidecar-policy", "22222222-2222-4222-8222-222222222222"),
    ("web", "client-policy", "33333333-3333-4333-8333-333333333333"),
];

const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../consul/config");

/// A real Consul as the shipped configuration makes it: ACLs on, all denied by default.
async fn guarded() -> Option<Consul> {
    let server = format!("{SHIPPED}/server.hcl");
    let mut consul = Consul::down(Kind::Real, &["-config-file", &server])?;
    consul.start().await;
    found(&consul).await;
    Some(consul)
}

/// Makes what a new Consul needs: the tokens, by the same secrets each time, and the intention.
async fn found(consul: &Consul) -> Client {
    let anyone = consul.client();
    eventually("ACLs are bootstrapped", async || {
        anyone.acl().bootstrap(Some(MANAGEMENT)).await.ok()
    })
    .await;
    let operator = operator(consul);
    for (service, policy, secret) in TOKENS {
        let rules = std::fs::read_to_string(format!("{SHIPPED}/{policy}.hcl")).unwrap();
        let rules = rules.replace("{{service}}", service);
        operator.acl().create_policy(service, &rules).await.unwrap();
        operator.acl().create_token(Some(secret), &[service]).await.unwrap();
    }
    operator.connect().set_intention("web", "order", &Rule::Action(Action::Allow)).await.unwrap();
    consul.ready(&operator).await;
    operator
}

fn operator(consul: &Consul) -> Client {
    consul.client_with(Token::Secret(MANAGEMENT.to_owned()))
}

/// TOML that gives a sidecar its token.
fn with_token(consul: &Consul, files: &Path, service: &str) -> String {
    let secret = TOKENS.iter().find(|(name, ..)| *name == service).unwrap().2;
    let file = files.join(service);
    std::fs::write(&file, secret).unwrap();
    format!("[consul]\naddress = \"{}\"\ntoken_file = {file:?}\n", consul.address())
}

struct Mesh {
    order: Sidecar,
    web: Sidecar,
    _app: App,
    _files: TempDir,
}

async fn mesh(consul: &Consul) -> Mesh {
    let (app, files) = (App::start().await, tempfile::tempdir().unwrap());
    let token = with_token(consul, files.path(), "order");
    let order = Sidecar::start(consul, "order", Some(app.address), &token).await;
    let web = with_token(consul, files.path(), "web");
    let web = Sidecar::start(consul, "web", None, &web).await;
    order.ready().await;
    callable(&web.client("order")).await;
    Mesh { order, web, _app: app, _files: files }
}

async fn is_registered(operator: &Client) {
    within(Duration::from_secs(40), "the service is registered again", async || {
        let entries = operator.health().connect("order").passing().send().await.ok()?.value;
        (!entries.is_empty()).then_some(())
    })
    .await;
}

async fn goes_on(load: &Load) {
    let calls = load.calls.load(Ordering::Relaxed);
    eventually("calls go on", async || {
        (load.calls.load(Ordering::Relaxed) > calls + 50).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consul_that_is_killed_and_returns_with_its_data_loses_no_call() {
    let Some(mut consul) = guarded().await else { return };
    let mesh = mesh(&consul).await;
    let load = Load::on(mesh.web.client("order"));
    goes_on(&load).await;
    consul.kill().await;
    eventually("the outage is noticed", async || {
        (!mesh.order.readiness.degraded().is_empty()).then_some(())
    })
    .await;
    goes_on(&load).await;
    consul.start().await;
    is_registered(&operator(&consul)).await;
    for sidecar in [&mesh.order, &mesh.web] {
        eventually("nothing is amiss", async || {
            sidecar.readiness.degraded().is_empty().then_some(())
        })
        .await;
    }
    goes_on(&load).await;
    let failures = load.end().await;
    assert!(failures.is_empty(), "{failures:#?}");
    // It is the Consul that it was: what it takes away counts at once.
    operator(&consul).connect().delete_intention("web", "order").await.unwrap();
    within(Duration::from_secs(10), "the default denies", async || {
        call(&mesh.web.client("order")).await.err().filter(is_denied)
    })
    .await;
}

/// Takes as long as the old trust domain is trusted: a minute and a half.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consul_that_lost_all_its_data_loses_no_call_and_gets_a_new_trust_domain() {
    let Some(mut consul) = guarded().await else { return };
    let mesh = mesh(&consul).await;
    let old = mesh.web.trust_domain().await;
    let load = Load::on(mesh.web.client("order"));
    goes_on(&load).await;
    consul.lose_everything().await;
    consul.start().await;
    let operator = found(&consul).await;
    is_registered(&operator).await;
    goes_on(&load).await;
    for sidecar in [&mesh.order, &mesh.web] {
        within(Duration::from_secs(150), "the old trust domain is gone", async || {
            let identity = sidecar.fleet.present_identity().await;
            let domains: Vec<_> = identity.roots().trust_domains().cloned().collect();
            let is_new = identity.leaf().id().trust_domain() != old;
            (is_new && domains.len() == 1 && domains[0].as_str() != old).then_some(())
        })
        .await;
    }
    goes_on(&load).await;
    let failures = load.end().await;
    assert!(failures.is_empty(), "{failures:#?}");
    // A new connection in the new trust domain, and its intentions.
    call(&mesh.web.client("order")).await.unwrap();
    operator.connect().delete_intention("web", "order").await.unwrap();
    eventually("the default denies", async || {
        call(&mesh.web.client("order")).await.err().filter(is_denied)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_is_refused_is_told_by_name_and_stops_no_call() {
    let Some(consul) = guarded().await else { return };
    let mesh = mesh(&consul).await;
    let file = mesh._files.path().join("order");
    std::fs::write(&file, "44444444-4444-4444-8444-444444444444").unwrap();
    eventually("the refusal is told", async || {
        let degraded = mesh.order.readiness.degraded();
        degraded.iter().any(|d| d.contains("refuses the token")).then_some(())
    })
    .await;
    assert!(mesh.order.readiness.blocked().is_empty());
    call(&mesh.web.client("order")).await.unwrap();
    std::fs::write(&file, TOKENS[0].2).unwrap();
    eventually("nothing is amiss", async || {
        mesh.order.readiness.degraded().is_empty().then_some(())
    })
    .await;
}
