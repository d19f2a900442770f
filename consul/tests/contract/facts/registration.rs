//! Registering services and their sidecars at the agent; maintenance.

use std::time::Duration;

use consul::api::{
    CheckDefinition, CheckMethod, CheckStatus, ServiceRegistration,
    service::{ProxyRegistration, Sidecar},
};
use serde_json::json;

use crate::target::eventually;

fn ttl(id: &str, status: CheckStatus) -> CheckDefinition {
    CheckDefinition {
        id: Some(id.to_owned()),
        name: "app".to_owned(),
        status: Some(status),
        deregister_after: None,
        method: CheckMethod::Ttl { ttl: Duration::from_secs(60) },
    }
}

/// A service as a data plane registers it: a TTL check, a sidecar that follows it.
pub(super) fn meshed(name: &str, port: u16, status: CheckStatus) -> ServiceRegistration {
    let alias = CheckDefinition {
        id: None,
        name: "alias".to_owned(),
        // Not left out: where Consul judges the alias before it has stored it, the first status
        // stays for a minute.
        status: Some(status),
        deregister_after: None,
        method: CheckMethod::Alias { service: name.to_owned() },
    };
    ServiceRegistration {
        name: name.to_owned(),
        address: Some("127.0.0.1".to_owned()),
        port,
        checks: vec![ttl(&format!("{name}:ttl"), status)],
        sidecar: Some(Box::new(Sidecar {
            port: port + 1,
            checks: vec![alias],
            proxy: ProxyRegistration {
                local_service_address: Some("127.0.0.1".to_owned()),
                local_service_port: Some(port),
                ..ProxyRegistration::default()
            },
            ..Sidecar::default()
        })),
        ..ServiceRegistration::default()
    }
}

facts! {
    async fn a_registered_service_is_told_as_it_was_given(at: At) {
        at.register(&json!({
            "ID": "told-1", "Name": "told", "Tags": ["v1"], "Meta": {"zone": "a"},
            "Address": "127.0.0.1", "Port": 4001, "Weights": {"Passing": 5, "Warning": 2},
            "TaggedAddresses": {"lan": {"Address": "127.0.0.2", "Port": 4002}},
        }))
        .await;
        let service = at.client.agent().service("told-1").await.unwrap().unwrap();
        assert_eq!((service.id.as_str(), service.name.as_str()), ("told-1", "told"));
        assert_eq!(service.tags, ["v1"]);
        assert_eq!(service.meta["zone"], "a");
        assert_eq!((service.address.as_str(), service.port), ("127.0.0.1", 4001));
        assert_eq!((service.weights.passing, service.weights.warning), (5, 2));
        assert_eq!(service.tagged_addresses["lan"].port, 4002);
        assert_eq!(service.datacenter, "dc1");
        assert!(!service.content_hash.is_empty());
        let services = at.client.agent().services().send().await.unwrap().value;
        assert_eq!(services["told-1"].name, "told");
    }

    async fn addresses_that_are_not_tagged_are_tagged_by_consul(at: At) {
        at.register(&json!({"Name": "tagged", "Address": "127.0.0.1", "Port": 4003})).await;
        let service = at.client.agent().service("tagged").await.unwrap().unwrap();
        let tagged: Vec<_> = service.tagged_addresses.keys().map(String::as_str).collect();
        assert_eq!(tagged, ["lan_ipv4", "wan_ipv4"]);
        assert_eq!(service.tagged_addresses["lan_ipv4"].address, "127.0.0.1");
        assert_eq!((service.weights.passing, service.weights.warning), (1, 1));
    }

    async fn a_sidecar_is_named_after_its_service_and_goes_with_it(at: At) {
        at.client.agent().register(&meshed("pair", 4010, CheckStatus::Passing)).await.unwrap();
        let proxy = at.client.agent().service("pair-sidecar-proxy").await.unwrap().unwrap();
        assert_eq!(proxy.name, "pair-sidecar-proxy");
        assert_eq!(proxy.kind, "connect-proxy");
        assert_eq!((proxy.address.as_str(), proxy.port), ("127.0.0.1", 4011));
        assert_eq!(proxy.proxy.destination_service_name, "pair");
        assert_eq!(proxy.proxy.destination_service_id, "pair");
        assert_eq!(proxy.proxy.local_service_address, "127.0.0.1");
        assert_eq!(proxy.proxy.local_service_port, 4010);

        at.client.agent().deregister("pair").await.unwrap();
        assert_eq!(at.client.agent().service("pair").await.unwrap(), None);
        assert_eq!(at.client.agent().service("pair-sidecar-proxy").await.unwrap(), None);
    }

    async fn a_sidecar_without_checks_gets_consuls_two(at: At) {
        let mut service = meshed("unchecked", 4014, CheckStatus::Passing);
        service.sidecar.as_mut().unwrap().checks.clear();
        at.client.agent().register(&service).await.unwrap();
        let checks = at.client.agent().checks().send().await.unwrap().value;
        let mut own: Vec<_> = checks
            .values()
            .filter(|check| check.service_id == "unchecked-sidecar-proxy")
            .map(|check| (check.id.as_str(), check.name.as_str()))
            .collect();
        own.sort_unstable();
        assert_eq!(
            own,
            [
                ("service:unchecked-sidecar-proxy:1", "Connect Sidecar Listening"),
                ("service:unchecked-sidecar-proxy:2", "Connect Sidecar Aliasing unchecked"),
            ]
        );
        at.client.agent().deregister("unchecked").await.unwrap();
    }

    async fn registering_again_replaces_checks_that_are_not_given_any_more(at: At) {
        let mut service = meshed("again", 4020, CheckStatus::Passing);
        at.client.agent().register(&service).await.unwrap();
        service.checks = vec![ttl("again:other", CheckStatus::Warning)];
        at.client.agent().register(&service).await.unwrap();
        let checks = at.client.agent().checks().send().await.unwrap().value;
        assert!(!checks.contains_key("again:ttl"));
        assert_eq!(checks["again:other"].status, CheckStatus::Warning);
        assert_eq!(checks["again:other"].service_name, "again");
    }

    async fn registering_again_keeps_the_status_of_a_check_that_stays(at: At) {
        let mut service = meshed("stays", 4024, CheckStatus::Critical);
        service.checks[0].status = None;
        at.client.agent().register(&service).await.unwrap();
        let status =
            async || at.client.agent().checks().send().await.unwrap().value["stays:ttl"].status;
        assert_eq!(status().await, CheckStatus::Critical, "a check starts critical");
        at.client.agent().update_check("stays:ttl", CheckStatus::Passing, "up").await.unwrap();
        at.client.agent().register(&service).await.unwrap();
        assert_eq!(status().await, CheckStatus::Passing);
    }

    async fn what_cannot_be_registered_is_refused_in_consuls_words(at: At) {
        let path = "/v1/agent/service/register";
        at.put(path, "{}").await.says(400, "Missing service name");
        let broken = at.put(path, "{").await;
        assert_eq!(broken.status, 400);
        assert!(broken.body.starts_with("Request decode failed: "), "{broken:?}");
        let ttl_and_http =
            json!({"Name": "x", "Check": {"TTL": "10s", "HTTP": "http://x", "Interval": "1s"}});
        let raw = at.put(path, &ttl_and_http.to_string()).await;
        assert_eq!(raw.status, 400, "{raw:?}");
        assert!(raw.body.contains("Invalid check"), "{raw:?}");
        let raw = at.send("GET", path, "").await;
        raw.says(405, "method GET not allowed");
        assert_eq!(raw.header("allow"), Some("OPTIONS,PUT"));
    }

    async fn an_unknown_service_is_not_found(at: At) {
        at.fetch("/v1/agent/service/nobody").await.says(404, "unknown service ID: nobody");
        at.put("/v1/agent/service/deregister/nobody", "").await.says(
            404,
            "Unknown service ID \"nobody\". Ensure that the service ID is passed, not the service name.",
        );
        assert_eq!(at.client.agent().service("nobody").await.unwrap(), None);
        assert!(at.client.agent().deregister("nobody").await.unwrap_err().is_not_found());
    }

    async fn maintenance_is_a_critical_check_that_ends(at: At) {
        at.client.agent().register(&meshed("resting", 4030, CheckStatus::Passing)).await.unwrap();
        at.client.agent().service_maintenance("resting", true, "a drill").await.unwrap();
        let checks = at.client.agent().checks().send().await.unwrap().value;
        let check = &checks["_service_maintenance:resting"];
        assert_eq!(check.status, CheckStatus::Critical);
        assert_eq!(check.name, "Service Maintenance Mode");
        eventually("the resting sidecar is not passing", async || {
            let answer = at.client.health().connect("resting").passing().send().await.unwrap();
            answer.value.is_empty().then_some(())
        })
        .await;
        at.client.agent().service_maintenance("resting", false, "").await.unwrap();
        eventually("the rested sidecar is passing", async || {
            let answer = at.client.health().connect("resting").passing().send().await.unwrap();
            (answer.value.len() == 1).then_some(())
        })
        .await;
        at.put("/v1/agent/service/maintenance/resting", "")
            .await
            .says(400, "Missing value for enable");
        let unknown = at.put("/v1/agent/service/maintenance/nobody?enable=true", "").await;
        assert_eq!(unknown.status, 404, "{unknown:?}");
    }
}
