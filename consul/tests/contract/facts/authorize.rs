//! `authorize`, and the default that it alone tells.

use consul::api::{Action, PathMatch, Permission, Rule, agent::DefaultIntention};
use serde_json::json;

use crate::target::{At, Settings, eventually, start};

async fn own_uri(at: &At) -> String {
    at.client.agent().leaf("asker").send().await.unwrap().value.service_uri
}

facts! {
    async fn an_intention_that_decides_is_named(at: At) {
        let uri = own_uri(&at).await.replace("asker", "auth-a");
        let set = async |source: &str, action| {
            at.client.connect().set_intention(source, "auth", &Rule::Action(action)).await.unwrap();
        };
        set("auth-a", Action::Deny).await;
        let answer = at.client.agent().authorize("auth", &uri).await.unwrap();
        assert!(!answer.authorized);
        assert_eq!(
            answer.reason,
            "Matched L4 intention: default/auth-a => default/auth (Precedence: 9, Action: DENY)"
        );
        set("auth-a", Action::Allow).await;
        // The agent judges by its cache, which follows a moment later.
        eventually("the change is judged by", async || {
            at.client.agent().authorize("auth", &uri).await.unwrap().authorized.then_some(())
        })
        .await;
    }

    async fn the_trust_domain_of_a_caller_is_not_looked_at(at: At) {
        let foreign =
            "spiffe://11111111-2222-3333-4444-555555555555.consul/ns/default/dc/dc1/svc/x";
        let answer = at.client.agent().authorize("foreign", foreign).await.unwrap();
        assert!(answer.authorized);
        assert_eq!(answer.reason, "Default behavior configured by ACLs");
    }

    async fn what_is_no_question_is_refused(at: At) {
        let path = "/v1/agent/connect/authorize";
        let raw = at.send("POST", path, "{").await;
        assert_eq!(raw.status, 400, "{raw:?}");
        let raw =
            at.send("POST", path, "{\"Target\": \"x\", \"ClientCertURI\": \"nonsense\"}").await;
        raw.says(400, "ClientCertURI not a valid Connect identifier");
        at.send("POST", path, "{}").await.says(400, "Target service must be specified");
    }

    async fn an_intention_with_permissions_counts_as_deny(at: At) {
        let defaults = json!({"Kind": "service-defaults", "Name": "auth-l7", "Protocol": "grpc"});
        at.client.config().put(&defaults).await.unwrap();
        let everything = Permission {
            action: Action::Allow,
            path: Some(PathMatch::Prefix("/".into())),
            headers: vec![],
            methods: vec![],
            jwt: false,
        };
        let rule = Rule::Permissions(vec![everything]);
        at.client.connect().set_intention("auth-a", "auth-l7", &rule).await.unwrap();
        let uri = own_uri(&at).await.replace("asker", "auth-a");
        let answer = at.client.agent().authorize("auth-l7", &uri).await.unwrap();
        assert!(!answer.authorized);
        assert_eq!(
            answer.reason,
            "Matched L7 intention: default/auth-a => default/auth-l7 (Precedence: 9, Permissions: 1)"
        );
        let uri = own_uri(&at).await.replace("asker", "auth-b");
        assert!(at.client.agent().authorize("auth-l7", &uri).await.unwrap().authorized);
    }

    async fn without_acls_the_default_is_allow(at: At) {
        let uri = own_uri(&at).await;
        let found = at.client.agent().default_intention("defaulted", &uri).await.unwrap();
        assert_eq!(found, DefaultIntention::Known(Action::Allow));
    }

    async fn a_default_behind_a_wildcard_is_unknown(at: At) {
        let uri = own_uri(&at).await;
        let rule = Rule::Action(Action::Allow);
        at.client.connect().set_intention("*", "hidden", &rule).await.unwrap();
        let found = at.client.agent().default_intention("hidden", &uri).await.unwrap();
        assert!(matches!(found, DefaultIntention::Unknown(_)), "{found:?}");
        assert_eq!(found.action(), Action::Deny);
    }

    async fn a_default_intention_policy_is_found_where_the_header_and_check_lie(at: At) {
        let settings = Settings { default_intention: Some(Action::Deny), ..Settings::default() };
        let Some(own) = start(at.kind, settings).await else { return };
        let at = &own.at;
        let uri = own_uri(at).await;
        let raw = at.fetch("/v1/connect/intentions/check?source=a&destination=b").await;
        assert_eq!(raw.header("x-consul-default-acl-policy"), Some("allow"));
        assert!(at.client.connect().check("a", "b").await.unwrap());
        let answer = at.client.agent().authorize("b", &uri).await.unwrap();
        assert_eq!(
            (answer.authorized, answer.reason.as_str()),
            (false, "Default intention policy")
        );
        let found = at.client.agent().default_intention("b", &uri).await.unwrap();
        assert_eq!(found, DefaultIntention::Known(Action::Deny));
        let told = at.client.agent().own().send().await.unwrap().value;
        assert_eq!(told.default_intention_policy(), Some("deny"));
    }
}
