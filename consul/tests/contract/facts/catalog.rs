//! The catalog, the agent itself, the leader.

use serde_json::json;

use crate::target::eventually;

facts! {
    async fn the_catalog_lists_services_with_their_tags(at: At) {
        at.register(
            &json!({"ID": "cat-1", "Name": "cat", "Port": 4300, "Tags": ["a"], "Meta": {"k": "v"}}),
        )
        .await;
        at.register(&json!({"ID": "cat-2", "Name": "cat", "Port": 4301, "Tags": ["b"]})).await;
        let tags = eventually("both are told", async || {
            let mut services = at.client.catalog().services().send().await.unwrap().value;
            services.remove("cat").filter(|tags| tags.len() == 2)
        })
        .await;
        assert!(tags.contains(&"a".to_owned()) && tags.contains(&"b".to_owned()));
        let instances = at.client.catalog().service("cat").send().await.unwrap().value;
        let one = instances.iter().find(|instance| instance.service_id == "cat-1").unwrap();
        assert_eq!((one.service_name.as_str(), one.service_port), ("cat", 4300));
        assert_eq!(one.address, "127.0.0.1");
        assert_eq!(one.datacenter, "dc1");
        assert_eq!(one.service_meta["k"], "v");
        at.fetch("/v1/catalog/service/none").await.says(200, "[]");
    }

    async fn the_catalog_knows_nodes_and_datacenters(at: At) {
        let nodes = at.client.catalog().nodes().send().await.unwrap().value;
        assert_eq!(nodes.len(), 1);
        assert_eq!(nodes[0].address, "127.0.0.1");
        assert_eq!(nodes[0].datacenter, "dc1");
        assert_eq!(nodes[0].id.len(), 36);
        assert_eq!(at.client.catalog().datacenters().send().await.unwrap().value, ["dc1"]);
        let name = &nodes[0].name;
        let node = at.fetch(&format!("/v1/catalog/node/{name}")).await.json();
        assert_eq!(node["Node"]["Node"], json!(name));
        assert!(node["Services"].is_object());
        at.fetch("/v1/catalog/node/nobody").await.says(200, "null");
    }

    async fn the_agent_tells_itself(at: At) {
        let own = at.client.agent().own().send().await.unwrap().value;
        assert_eq!(own.config.datacenter, "dc1");
        assert!(own.config.server);
        assert!(!own.config.version.is_empty());
        assert_eq!(own.config.node_id.len(), 36);
        assert_eq!(own.default_intention_policy(), None);
        let member = own.member.unwrap();
        assert_eq!(member.name, own.config.node_name);
        assert_eq!(member.status, 1);
        assert_eq!(member.tags["role"], "consul");
        assert_eq!(member.tags["dc"], "dc1");
        let members = at.client.agent().members().send().await.unwrap().value;
        assert_eq!(members.len(), 1);
        assert_eq!(members[0].name, own.config.node_name);
        assert_eq!(members[0].addr, "127.0.0.1");
    }

    async fn there_is_a_leader(at: At) {
        let leader = at.client.status().leader().send().await.unwrap().value;
        assert!(leader.starts_with("127.0.0.1:"), "{leader}");
        assert_eq!(at.client.status().peers().send().await.unwrap().value, [leader]);
    }
}
