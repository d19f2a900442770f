//! HTTP as Consul speaks it: methods, paths, forms.

facts! {
    async fn an_unknown_path_is_not_found(at: At) {
        let raw = at.fetch("/v1/nowhere").await;
        assert_eq!(raw.status, 404, "{raw:?}");
        assert!(
            raw.body.starts_with("Invalid URL path: not a recognized HTTP API endpoint"),
            "{raw:?}"
        );
    }

    async fn a_wrong_method_is_refused_and_the_right_ones_told(at: At) {
        let raw = at.put("/v1/health/service/x", "").await;
        raw.says(405, "method PUT not allowed");
        assert_eq!(raw.header("allow"), Some("OPTIONS,GET"));
        let raw = at.send("OPTIONS", "/v1/health/service/x", "").await;
        assert_eq!((raw.status, raw.header("allow")), (200, Some("OPTIONS,GET")));
    }

    async fn a_missing_name_is_refused(at: At) {
        at.fetch("/v1/health/service/").await.says(400, "Missing service name");
        at.fetch("/v1/catalog/service/").await.says(400, "Missing service name");
    }

    async fn pretty_is_indented(at: At) {
        let raw = at.fetch("/v1/catalog/datacenters?pretty").await;
        assert_eq!(raw.body.trim(), "[\n    \"dc1\"\n]");
    }

    async fn another_datacenter_has_no_path(at: At) {
        let raw = at.fetch("/v1/health/service/x?dc=elsewhere").await;
        raw.says(500, "No path to datacenter");
    }

    async fn a_datacenter_may_be_named(at: At) {
        assert_eq!(at.fetch("/v1/health/service/x?dc=dc1").await.status, 200);
    }
}
