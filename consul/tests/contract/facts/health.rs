//! Health answers: instances, their checks, filters.

use consul::api::CheckStatus;
use serde_json::json;

use crate::target::eventually;

use super::registration::meshed;

facts! {
    async fn a_service_without_instances_is_an_empty_list(at: At) {
        for path in ["/v1/health/service/none", "/v1/health/connect/none", "/v1/health/checks/none"]
        {
            at.fetch(path).await.says(200, "[]");
        }
        assert!(at.client.health().service("none").send().await.unwrap().value.is_empty());
    }

    async fn connect_gives_the_proxies_and_service_the_apps(at: At) {
        at.client.agent().register(&meshed("both", 4200, CheckStatus::Passing)).await.unwrap();
        let proxy = eventually("the proxy is told", async || {
            at.client.health().connect("both").send().await.unwrap().value.pop()
        })
        .await;
        assert_eq!((proxy.address(), proxy.service.port), ("127.0.0.1", 4201));
        assert_eq!(proxy.service.kind, "connect-proxy");
        assert_eq!(proxy.service.proxy.destination_service_name, "both");
        assert!(proxy.checks.iter().any(|check| check.id == "serfHealth"));
        let app = at.client.health().service("both").send().await.unwrap().value.pop().unwrap();
        assert_eq!(app.service.port, 4200);
        assert_eq!(app.service.kind, "");
        assert_eq!(app.node.datacenter, "dc1");
        assert!(
            app.checks.iter().any(|check| check.id == "both:ttl" && check.service_id == "both")
        );
    }

    async fn passing_leaves_out_warnings_and_what_is_critical(at: At) {
        at.client.agent().register(&meshed("judged", 4210, CheckStatus::Warning)).await.unwrap();
        let counts = async || {
            let all = at.client.health().service("judged").send().await.unwrap().value.len();
            let passing =
                at.client.health().service("judged").passing().send().await.unwrap().value.len();
            (all, passing)
        };
        eventually("warning", async || (counts().await == (1, 0)).then_some(())).await;
        at.client.agent().update_check("judged:ttl", CheckStatus::Passing, "").await.unwrap();
        eventually("passing", async || (counts().await == (1, 1)).then_some(())).await;
        at.client.agent().update_check("judged:ttl", CheckStatus::Critical, "").await.unwrap();
        eventually("critical", async || (counts().await == (1, 0)).then_some(())).await;
        let raw = at.fetch("/v1/health/service/judged?passing=maybe").await;
        raw.says(400, "Invalid value for ?passing");
        assert_eq!(
            at.fetch("/v1/health/service/judged?passing=false")
                .await
                .json()
                .as_array()
                .unwrap()
                .len(),
            1
        );
    }

    async fn a_filter_selects(at: At) {
        for (id, tag, zone) in [("sel-1", "v1", "a"), ("sel-2", "v2", "b")] {
            at.register(&json!({
                "ID": id, "Name": "sel", "Port": 4220, "Tags": [tag], "Meta": {"zone": zone},
            }))
            .await;
        }
        eventually("both are told", async || {
            (at.client.health().service("sel").send().await.unwrap().value.len() == 2).then_some(())
        })
        .await;
        let selected = async |expression: &str| {
            let answer = at.client.health().service("sel").filter(expression).send().await.unwrap();
            answer.value.into_iter().map(|entry| entry.service.id).collect::<Vec<_>>()
        };
        assert_eq!(selected("Service.Meta.zone == \"b\"").await, ["sel-2"]);
        assert_eq!(selected("Service.Meta.zone != b").await, ["sel-1"]);
        assert_eq!(selected("Service.Tags contains \"v1\"").await, ["sel-1"]);
        assert_eq!(selected("\"v1\" in Service.Tags").await, ["sel-1"]);
        assert_eq!(selected("Service.ID == \"sel-1\" or Service.ID == \"sel-2\"").await.len(), 2);
        assert_eq!(selected("not Service.ID == \"sel-1\"").await, ["sel-2"]);
        let tagged = at.client.health().service("sel").tag("v2").send().await.unwrap().value;
        assert_eq!(tagged.len(), 1);
        let raw = at.fetch("/v1/health/service/sel?tag=v2").await;
        assert_eq!(raw.json().as_array().unwrap().len(), 1, "the old parameter works too");
        let raw = at.fetch("/v1/health/service/sel?filter=nonsense").await;
        assert_eq!(raw.status, 500, "{raw:?}");
        assert!(raw.body.starts_with("Failed to create boolean expression evaluator"), "{raw:?}");
    }

    async fn an_answer_tells_its_index_and_its_leader(at: At) {
        let raw = at.fetch("/v1/health/service/consul").await;
        assert!(raw.index() >= 1);
        assert_eq!(raw.header("x-consul-knownleader"), Some("true"));
        assert_eq!(raw.header("x-consul-lastcontact"), Some("0"));
        assert_eq!(raw.header("x-consul-default-acl-policy"), Some("allow"));
        assert_eq!(raw.header("content-type"), Some("application/json"));
        let meta = at.client.health().service("consul").send().await.unwrap().meta;
        assert_eq!(meta.known_leader, Some(true));
        assert_eq!(meta.default_acl_policy.as_deref(), Some("allow"));
    }

    async fn an_answer_without_a_known_leader_is_no_outage(at: At) {
        let index = at.fetch("/v1/health/service/consul").await.index();
        let target = format!("/v1/health/service/consul?index={index}&wait=100ms");
        let raw = at.fetch(&target).await;
        assert_eq!(raw.status, 200);
        if at.kind == crate::target::Kind::Real {
            assert_eq!(raw.header("x-consul-query-backend"), Some("streaming"));
            assert_eq!(raw.header("x-consul-knownleader"), Some("false"));
        }
    }

    async fn a_cached_answer_tells_its_age(at: At) {
        let first = at.client.health().service("consul").cached().send().await.unwrap().meta;
        assert!(first.cache.is_some(), "{first:?}");
        let second = at.client.health().service("consul").cached().send().await.unwrap().meta;
        assert_eq!(second.cache, Some(consul::Cache::Hit));
        assert_eq!(second.age, Some(std::time::Duration::ZERO));
        let roots = at.client.agent().roots().send().await.unwrap().meta;
        assert!(roots.cache.is_some(), "{roots:?}");
    }

    async fn checks_are_told_by_service_node_and_state(at: At) {
        at.client.agent().register(&meshed("states", 4230, CheckStatus::Warning)).await.unwrap();
        let health = at.client.health();
        eventually("the check is told", async || {
            let checks = health.checks("states").send().await.unwrap().value;
            checks.iter().any(|check| check.id == "states:ttl").then_some(())
        })
        .await;
        let node = at.client.agent().own().send().await.unwrap().value.config.node_name;
        let by_node = health.node(&node).send().await.unwrap().value;
        assert!(
            by_node.iter().any(|check| check.id == "serfHealth" && check.service_id.is_empty())
        );
        let warning = health.state("warning").send().await.unwrap().value;
        assert!(warning.iter().any(|check| check.id == "states:ttl"));
        assert!(warning.iter().all(|check| check.status == CheckStatus::Warning));
        let any = health.state("any").send().await.unwrap().value;
        assert!(any.len() > warning.len());
    }
}
