//! Consul's DNS, over UDP and TCP.

use std::net::IpAddr;

use consul::api::CheckStatus;
use hickory_proto::{op::ResponseCode, rr::RecordType};
use serde_json::json;

use crate::{
    dns::{addresses, is_nxdomain_with_soa, targets},
    target::{At, eventually},
};

use super::registration::meshed;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

async fn addressed(at: &At, name: &str) {
    eventually(&format!("{name} has an address"), async || {
        (!addresses(&at.dig(name, RecordType::ANY).await).is_empty()).then_some(())
    })
    .await;
}

facts! {
    async fn a_service_has_addresses_and_ports(at: At) {
        at.register(
            &json!({"Name": "named", "Address": "127.0.0.9", "Port": 4600, "Tags": ["v1"]}),
        )
        .await;
        addressed(&at, "named.service.consul.").await;
        let answer = at.dig("named.service.consul.", RecordType::A).await;
        assert_eq!(addresses(&answer), [ip("127.0.0.9")]);
        assert_eq!(answer.answers[0].ttl, 0);
        assert!(answer.metadata.authoritative);
        let answer = at.dig("named.service.consul.", RecordType::SRV).await;
        assert_eq!(targets(&answer), [(4600, "7f000009.addr.dc1.consul.".to_owned())]);
        let additional = answer.additionals.iter().find_map(|record| record.data.ip_addr());
        assert_eq!(additional, Some(ip("127.0.0.9")));
        for name in [
            "named.service.dc1.consul.",
            "v1.named.service.consul.",
            "v1.named.service.dc1.consul.",
            "NAMED.service.consul.",
        ] {
            assert_eq!(addresses(&at.dig(name, RecordType::A).await), [ip("127.0.0.9")], "{name}");
        }
        for name in ["_named._v1.service.consul.", "_named._tcp.service.consul."] {
            assert_eq!(targets(&at.dig(name, RecordType::SRV).await).len(), 1, "{name}");
        }
        let answer = at.dig_tcp("named.service.consul.", RecordType::SRV).await;
        assert_eq!(targets(&answer).len(), 1);
    }

    async fn a_service_on_ipv6_has_an_aaaa(at: At) {
        at.register(&json!({"Name": "six", "Address": "::1", "Port": 4610})).await;
        addressed(&at, "six.service.consul.").await;
        assert_eq!(addresses(&at.dig("six.service.consul.", RecordType::AAAA).await), [ip("::1")]);
        let answer = at.dig("six.service.consul.", RecordType::A).await;
        assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
        assert!(addresses(&answer).is_empty());
    }

    async fn connect_names_the_mesh_port(at: At) {
        at.client.agent().register(&meshed("wired", 4620, CheckStatus::Passing)).await.unwrap();
        let found = eventually("the proxy is named", async || {
            targets(&at.dig("wired.connect.consul.", RecordType::SRV).await).pop()
        })
        .await;
        assert_eq!(found, (4621, "7f000001.addr.dc1.consul.".to_owned()));
        assert_eq!(
            addresses(&at.dig("wired.connect.consul.", RecordType::A).await),
            [ip("127.0.0.1")]
        );
    }

    async fn udp_names_three_of_many_and_tcp_all(at: At) {
        for n in 0..40 {
            at.register(&json!({
                "ID": format!("many-{n}"), "Name": "many", "Address": format!("127.0.1.{n}"), "Port": 4650,
            })).await;
        }
        eventually("all are named over TCP", async || {
            let answer = at.dig_tcp("many.service.consul.", RecordType::SRV).await;
            (targets(&answer).len() == 40).then_some(())
        })
        .await;
        let answer = at.dig("many.service.consul.", RecordType::SRV).await;
        assert_eq!(targets(&answer).len(), 3);
        assert!(!answer.metadata.truncation, "cut in silence, unless `enable_truncate` is set");
    }

    async fn a_critical_instance_is_not_named_and_a_warning_one_is(at: At) {
        at.client.agent().register(&meshed("ailing", 4630, CheckStatus::Warning)).await.unwrap();
        addressed(&at, "ailing.service.consul.").await;
        at.client.agent().update_check("ailing:ttl", CheckStatus::Critical, "").await.unwrap();
        eventually("it is not named", async || {
            is_nxdomain_with_soa(&at.dig("ailing.service.consul.", RecordType::A).await)
                .then_some(())
        })
        .await;
    }

    async fn an_address_can_be_named_in_hexadecimal(at: At) {
        let answer = at.dig("7f000001.addr.dc1.consul.", RecordType::A).await;
        assert_eq!(addresses(&answer), [ip("127.0.0.1")]);
    }

    async fn a_node_has_an_address(at: At) {
        let node = at.client.agent().own().send().await.unwrap().value.config.node_name;
        let answer = at.dig(&format!("{node}.node.consul."), RecordType::A).await;
        assert_eq!(addresses(&answer), [ip("127.0.0.1")]);
    }

    async fn an_unknown_name_is_denied_by_the_zone(at: At) {
        for name in [
            "nobody.service.consul.",
            "nobody.node.consul.",
            "nobody.connect.consul.",
            "nonsense.consul.",
        ] {
            let answer = at.dig(name, RecordType::A).await;
            assert!(is_nxdomain_with_soa(&answer), "{name}: {answer:?}");
            assert!(answer.metadata.authoritative);
        }
        let answer = at.dig_tcp("nobody.service.consul.", RecordType::A).await;
        assert!(is_nxdomain_with_soa(&answer));
    }

    async fn other_zones_are_refused(at: At) {
        let answer = at.dig("example.com.", RecordType::A).await;
        assert_eq!(answer.metadata.response_code, ResponseCode::Refused);
    }

    async fn the_zone_has_an_soa_and_ns(at: At) {
        assert_eq!(at.dig("consul.", RecordType::SOA).await.answers.len(), 1);
        assert!(!at.dig("consul.", RecordType::NS).await.answers.is_empty());
    }
}
