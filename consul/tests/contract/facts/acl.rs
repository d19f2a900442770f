//! ACLs on a real Consul, as `consul/config/` sets them: the policies there are enough, and no more.
//!
//! The embedded agent has no ACLs; it takes any token.

use consul::{
    Client, Error,
    api::{
        Action, CheckStatus, Rule,
        agent::{DefaultIntention, OwnToken},
    },
};
use hickory_proto::rr::RecordType;

use crate::{
    dns::addresses,
    target::{At, Guarded, Ports, block_on, eventually, real},
};

use super::registration::meshed;

const SERVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/server.hcl");

/// A server with ACLs, asked with the management token.
struct Guarding {
    _child: Guarded,
    _data: tempfile::TempDir,
    operator: At,
}

async fn server() -> Option<Guarding> {
    let data = tempfile::tempdir().unwrap();
    let arguments = ["-config-file", SERVER, "-data-dir", data.path().to_str().unwrap()];
    let (child, at) = real(Ports::free(), &arguments)?;
    let secret = "11111111-1111-4111-8111-111111111111";
    let made = eventually("ACLs are bootstrapped", async || {
        at.client.acl().bootstrap(Some(secret)).await.ok()
    })
    .await;
    assert_eq!(made.secret_id, secret);
    assert!(!format!("{made:?}").contains(secret));
    let operator = at.with_token(secret);
    eventually("the CA is ready", async || {
        let roots = operator.client.agent().roots().send().await.ok()?;
        (!roots.value.roots.is_empty()).then_some(())
    })
    .await;
    Some(Guarding { _child: child, _data: data, operator })
}

impl Guarding {
    /// A client whose token has one policy of `consul/config/`, made out to a service.
    async fn holder(&self, policy: &str, service: &str) -> (At, String) {
        let path = format!("{}/config/{policy}.hcl", env!("CARGO_MANIFEST_DIR"));
        let rules = std::fs::read_to_string(path).unwrap().replace("{{service}}", service);
        let name = format!("{policy}-{service}");
        let acl = self.operator.client.acl();
        acl.create_policy(&name, &rules).await.unwrap();
        // A secret of our own: after a loss of data the same tokens can be made again.
        let secret = format!("44444444-4444-4444-8444-{:012x}", fastrand::u64(..1 << 48));
        let token = acl.create_token(Some(&secret), &[&name]).await.unwrap();
        assert_eq!(token.secret_id, secret);
        (self.operator.with_token(&token.secret_id), token.secret_id)
    }
}

#[track_caller]
fn refused<T: std::fmt::Debug>(answer: Result<T, Error>, words: &str) {
    let error = answer.unwrap_err();
    assert!(error.is_forbidden(), "{error:?}");
    assert!(error.to_string().contains(words), "{error}");
}

async fn registers_and_reads(client: &Client, name: &str) {
    let agent = client.agent();
    agent.register(&meshed(name, 4700, CheckStatus::Passing)).await.unwrap();
    agent.update_check(&format!("{name}:ttl"), CheckStatus::Passing, "well").await.unwrap();
    assert!(agent.service(name).await.unwrap().is_some());
    let leaf = agent.leaf(name).send().await.unwrap().value;
    assert_eq!(agent.roots().send().await.unwrap().value.roots.len(), 1);
    client.connect().intentions_to(name).send().await.unwrap();
    client.connect().discovery_chain("elsewhere").send().await.unwrap();
    let default = agent.default_intention(name, &leaf.service_uri).await.unwrap();
    assert_eq!(default, DefaultIntention::Known(Action::Deny));
}

#[test]
fn a_sidecar_lives_on_the_least_policy() {
    block_on(async {
        let Some(server) = server().await else { return };
        let (sidecar, _) = server.holder("sidecar-policy", "order-service").await;
        let client = &sidecar.client;
        registers_and_reads(client, "order-service").await;

        let other = meshed("user-service", 4710, CheckStatus::Passing);
        server.operator.client.agent().register(&other).await.unwrap();
        eventually("another service is found", async || {
            let found = client.health().connect("user-service").passing().send().await.unwrap();
            (found.value.len() == 1).then_some(())
        })
        .await;
        let default = client.health().connect("user-service").send().await.unwrap().meta;
        assert_eq!(default.default_acl_policy.as_deref(), Some("deny"));

        refused(
            client.agent().register(&other).await,
            "lacks permission 'service:write' on \"user-service\"",
        );
        refused(client.agent().leaf("product-service").send().await, "service:write");
        // A sidecar registered here makes the agent fetch and keep its leaf, which it then hands to
        // any caller: what is on an agent's HTTP port is no secret among those who reach it.
        eventually("the leaf that the agent keeps is handed out", async || {
            let leaf = client.agent().leaf("user-service").send().await.ok()?;
            (leaf.meta.cache == Some(consul::Cache::Hit)).then_some(())
        })
        .await;
        refused(client.agent().own().send().await, "agent:read");
        refused(client.agent().deregister("user-service").await, "service:write");
        let rule = Rule::Action(Action::Allow);
        let allowed = client.connect().set_intention("*", "order-service", &rule).await;
        refused(allowed, "Permission denied");

        client.agent().deregister("order-service").await.unwrap();
        assert_eq!(client.agent().service("order-service").await.unwrap(), None);
    });
}

#[test]
fn a_caller_without_an_app_lives_on_the_clients_policy() {
    block_on(async {
        let Some(server) = server().await else { return };
        let (caller, _) = server.holder("client-policy", "client").await;
        let leaf = caller.client.agent().leaf("client").send().await.unwrap().value;
        assert!(leaf.service_uri.ends_with("/svc/client"));
        caller.client.health().connect("user-service").send().await.unwrap();
        refused(caller.client.agent().leaf("user-service").send().await, "service:write");
    });
}

#[test]
fn an_operator_writes_intentions_and_registers_nothing() {
    block_on(async {
        let Some(server) = server().await else { return };
        let (operator, _) = server.holder("operator-policy", "").await;
        let client = &operator.client;
        let rule = Rule::Action(Action::Allow);
        client.connect().set_intention("a", "b", &rule).await.unwrap();
        assert_eq!(client.connect().intentions_to("b").send().await.unwrap().value.len(), 1);
        client.agent().own().send().await.unwrap();
        client.connect().ca_configuration().send().await.unwrap();
        let service = meshed("b", 4720, CheckStatus::Passing);
        refused(client.agent().register(&service).await, "service:write");
    });
}

#[test]
fn an_unknown_token_is_refused_by_name() {
    block_on(async {
        let Some(server) = server().await else { return };
        let stranger = server.operator.with_token("22222222-2222-4222-8222-222222222222");
        let service = meshed("x", 4730, CheckStatus::Passing);
        refused(stranger.client.agent().register(&service).await, "ACL not found");
    });
}

#[test]
fn dns_and_the_agent_live_on_their_policies() {
    block_on(async {
        let Some(server) = server().await else { return };
        let service = meshed("named", 4740, CheckStatus::Passing);
        let agent = server.operator.client.agent();
        agent.register(&service).await.unwrap();
        let (_, secret) = server.holder("agent-policy", "").await;
        agent.set_own_token(OwnToken::Agent, &secret).await.unwrap();
        let before = server.operator.dig("named.service.consul.", RecordType::A).await;
        assert!(addresses(&before).is_empty());
        let (_, secret) = server.holder("dns-policy", "").await;
        agent.set_own_token(OwnToken::Dns, &secret).await.unwrap();
        eventually("DNS names it", async || {
            let answer = server.operator.dig("named.service.consul.", RecordType::A).await;
            (!addresses(&answer).is_empty()).then_some(())
        })
        .await;
    });
}
