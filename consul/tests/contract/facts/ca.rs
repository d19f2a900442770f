//! The mesh's CA: leaves, roots, and a change of roots.

use serde_json::json;

use super::watch::changed;
use crate::target::{Settings, start};

facts! {
    async fn a_leaf_is_a_workload_of_the_trust_domain(at: At) {
        let roots = at.client.agent().roots().send().await.unwrap();
        assert!(roots.meta.index.unwrap() >= 1);
        let roots = roots.value;
        let leaf = at.client.agent().leaf("leafy").send().await.unwrap();
        assert!(leaf.meta.index.unwrap() >= 1);
        let leaf = leaf.value;
        assert_eq!(leaf.service, "leafy");
        assert_eq!(
            leaf.service_uri,
            format!("spiffe://{}/ns/default/dc/dc1/svc/leafy", roots.trust_domain)
        );
        assert!(leaf.private_key_pem.starts_with("-----BEGIN EC PRIVATE KEY-----"));
        assert!(leaf.cert_pem.starts_with("-----BEGIN CERTIFICATE-----"));
        let octets = leaf.serial_number.split(':');
        assert!(octets.clone().all(|octet| octet.len() == 2), "{leaf:?}");
        assert!(
            octets.clone().all(|octet| octet.chars().all(|c| c.is_ascii_hexdigit())),
            "{leaf:?}"
        );
        assert!(leaf.valid_after < leaf.valid_before);
        assert!(leaf.valid_after.ends_with('Z'));
        assert!(!format!("{leaf:?}").contains("PRIVATE"));
        let again = at.client.agent().leaf("leafy").send().await.unwrap().value;
        assert_eq!(again, leaf, "a leaf that still serves is given again");
    }

    async fn a_leaf_lives_three_days_from_a_minute_ago(at: At) {
        use time::{OffsetDateTime, format_description::well_known::Rfc3339};
        let leaf = at.client.agent().leaf("lively").send().await.unwrap().value;
        let after = OffsetDateTime::parse(&leaf.valid_after, &Rfc3339).unwrap();
        let before = OffsetDateTime::parse(&leaf.valid_before, &Rfc3339).unwrap();
        let life = (before - after).whole_minutes();
        assert!((72 * 60..=72 * 60 + 1).contains(&life), "{life} minutes");
        assert!(after < OffsetDateTime::now_utc());
    }

    async fn the_roots_name_the_one_that_signs(at: At) {
        let roots = at.client.agent().roots().send().await.unwrap().value;
        assert!(roots.trust_domain.ends_with(".consul"), "{roots:?}");
        assert_eq!(roots.trust_domain.len(), 36 + ".consul".len());
        assert_eq!(roots.roots.len(), 1);
        let root = &roots.roots[0];
        assert_eq!(root.id, roots.active_root_id);
        assert!(root.active);
        assert!(root.cert_pem.starts_with("-----BEGIN CERTIFICATE-----"));
        assert!(root.not_before < root.not_after);
        assert_eq!(at.client.connect().roots().send().await.unwrap().value, roots);
        let pem = at.fetch("/v1/connect/ca/roots?pem=true").await;
        assert_eq!(pem.header("content-type"), Some("application/pem-certificate-chain"));
        assert!(pem.body.starts_with("-----BEGIN CERTIFICATE-----"));
    }

    async fn a_change_of_the_ca_keeps_the_old_root_and_renews_the_leaf(at: At) {
        let Some(own) = start(at.kind, Settings::default()).await else { return };
        let client = &own.at.client;
        let mut roots = client.agent().roots().watch();
        let mut leaves = client.agent().leaf("turning").watch();
        let old = changed(&mut roots).await;
        let leaf = changed(&mut leaves).await;
        let config = client.connect().ca_configuration().send().await.unwrap().value;
        assert_eq!(config["Provider"], "consul");
        // Another key type needs another key, and so another root.
        let mut turned = json!({"Provider": "consul", "Config": config["Config"].clone()});
        turned["Config"]["PrivateKeyType"] = json!("rsa");
        turned["Config"]["PrivateKeyBits"] = json!(2048);
        turned["Config"].as_object_mut().unwrap().remove("RootCert");
        client.connect().set_ca_configuration(&turned).await.unwrap();
        let new = loop {
            let told = changed(&mut roots).await;
            if told.active_root_id != old.active_root_id {
                break told;
            }
        };
        assert_eq!(new.trust_domain, old.trust_domain);
        assert_eq!(new.roots.len(), 2, "the old one is still to be trusted");
        assert_eq!(new.roots.iter().filter(|root| root.active).count(), 1);
        let renewed = changed(&mut leaves).await;
        assert_ne!(renewed.cert_pem, leaf.cert_pem);
        assert_eq!(renewed.service_uri, leaf.service_uri);
    }
}
