//! The kinds of checks, and how each comes to its status.

use std::time::Duration;

use consul::api::CheckStatus;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::target::{At, eventually, within};

use super::registration::meshed;

async fn status_becomes(at: &At, check: &str, wanted: CheckStatus) -> String {
    eventually(&format!("{check} is {wanted:?}"), async || {
        let checks = at.client.agent().checks().send().await.unwrap().value;
        let check = checks.get(check)?;
        (check.status == wanted).then(|| check.output.clone())
    })
    .await
}

facts! {
    async fn a_ttl_check_says_what_it_was_told(at: At) {
        at.client.agent().register(&meshed("told-ttl", 4100, CheckStatus::Critical)).await.unwrap();
        for status in [CheckStatus::Passing, CheckStatus::Warning, CheckStatus::Critical] {
            let output = format!("it is {status:?}");
            at.client.agent().update_check("told-ttl:ttl", status, &output).await.unwrap();
            assert_eq!(status_becomes(&at, "told-ttl:ttl", status).await, output);
        }
        let path = "/v1/agent/check/pass/told-ttl:ttl?note=by%20path";
        assert_eq!(at.put(path, "").await.status, 200);
        assert_eq!(status_becomes(&at, "told-ttl:ttl", CheckStatus::Passing).await, "by path");
        assert_eq!(at.put("/v1/agent/check/warn/told-ttl:ttl", "").await.status, 200);
        status_becomes(&at, "told-ttl:ttl", CheckStatus::Warning).await;
        assert_eq!(at.put("/v1/agent/check/fail/told-ttl:ttl", "").await.status, 200);
        status_becomes(&at, "told-ttl:ttl", CheckStatus::Critical).await;
    }

    async fn an_unknown_check_is_not_found(at: At) {
        at.put("/v1/agent/check/pass/nobody", "").await.says(
            404,
            "Unknown check ID \"nobody\". Ensure that the check ID is passed, not the check name.",
        );
        let error = at.client.agent().update_check("nobody", CheckStatus::Passing, "").await;
        assert!(error.unwrap_err().is_not_found());
    }

    async fn a_ttl_check_that_is_told_nothing_expires(at: At) {
        at.register(&json!({"Name": "expiring", "Port": 4110, "Check": {
            "CheckID": "expiring:ttl", "TTL": "300ms", "Status": "passing",
        }}))
        .await;
        let output = status_becomes(&at, "expiring:ttl", CheckStatus::Critical).await;
        assert_eq!(output, "TTL expired");
    }

    async fn a_sidecar_follows_its_service(at: At) {
        at.client.agent().register(&meshed("lead", 4120, CheckStatus::Critical)).await.unwrap();
        let follows = async |wanted: CheckStatus| {
            eventually(&format!("the sidecar is {wanted:?}"), async || {
                let entries = at.client.health().connect("lead").send().await.unwrap().value;
                (entries.first()?.status() == wanted).then_some(())
            })
            .await;
        };
        follows(CheckStatus::Critical).await;
        at.client.agent().update_check("lead:ttl", CheckStatus::Passing, "").await.unwrap();
        follows(CheckStatus::Passing).await;
        at.client.agent().update_check("lead:ttl", CheckStatus::Critical, "").await.unwrap();
        follows(CheckStatus::Critical).await;
    }

    async fn a_tcp_check_passes_while_the_port_connects(at: At) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        at.register(&json!({"Name": "by-tcp", "Check": {
            "CheckID": "by-tcp", "TCP": address, "Interval": "100ms", "Timeout": "1s",
        }}))
        .await;
        let output = status_becomes(&at, "by-tcp", CheckStatus::Passing).await;
        assert_eq!(output, format!("TCP connect {address}: Success"));
        drop(listener);
        let output = status_becomes(&at, "by-tcp", CheckStatus::Critical).await;
        assert!(output.contains("connection refused"), "{output}");
        at.client.agent().deregister("by-tcp").await.unwrap();
    }

    async fn an_http_check_goes_by_the_status(at: At) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, told) = tokio::sync::watch::channel("200 OK");
        let server = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let _ = stream.read(&mut [0; 4096]).await;
                let status = *told.borrow();
                let answer = format!(
                    "HTTP/1.1 {status}\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi"
                );
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        at.register(&json!({"Name": "by-http", "Check": {
            "CheckID": "by-http", "HTTP": format!("http://{address}/ok"),
            "Interval": "100ms", "Timeout": "1s",
        }}))
        .await;
        let output = status_becomes(&at, "by-http", CheckStatus::Passing).await;
        assert_eq!(output, format!("HTTP GET http://{address}/ok: 200 OK Output: hi"));
        tell.send("429 Too Many Requests").unwrap();
        status_becomes(&at, "by-http", CheckStatus::Warning).await;
        tell.send("500 Internal Server Error").unwrap();
        status_becomes(&at, "by-http", CheckStatus::Critical).await;
        at.client.agent().deregister("by-http").await.unwrap();
        server.abort();
    }

    async fn a_grpc_check_goes_by_the_health_service(at: At) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (reporter, service) = tonic_health::server::health_reporter();
        reporter.set_service_status("shop", tonic_health::ServingStatus::Serving).await;
        let incoming = tonic::transport::server::TcpIncoming::from(listener);
        let server = tokio::spawn(
            tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming),
        );
        at.register(&json!({"Name": "by-grpc", "Check": {
            "CheckID": "by-grpc", "GRPC": format!("{address}/shop"), "Interval": "100ms",
            "Timeout": "1s",
        }}))
        .await;
        let output = status_becomes(&at, "by-grpc", CheckStatus::Passing).await;
        assert_eq!(output, format!("gRPC check {address}/shop: success"));
        reporter.set_service_status("shop", tonic_health::ServingStatus::NotServing).await;
        let output = status_becomes(&at, "by-grpc", CheckStatus::Critical).await;
        assert!(output.contains("NOT_SERVING"), "{output}");
        at.client.agent().deregister("by-grpc").await.unwrap();
        server.abort();
    }

    async fn a_grpc_check_of_a_closed_port_is_critical(at: At) {
        at.register(&json!({"Name": "closed-grpc", "Check": {
            "CheckID": "closed-grpc", "GRPC": "127.0.0.1:1", "Interval": "100ms", "Timeout": "1s",
            "Status": "passing",
        }}))
        .await;
        status_becomes(&at, "closed-grpc", CheckStatus::Critical).await;
        at.client.agent().deregister("closed-grpc").await.unwrap();
    }

    async fn an_interval_is_demanded_of_a_check_that_looks(at: At) {
        let service = json!({"Name": "hasty", "Check": {"TCP": "127.0.0.1:1"}});
        let raw = at.put("/v1/agent/service/register", &service.to_string()).await;
        assert_eq!(raw.status, 400, "{raw:?}");
        assert!(raw.body.contains("Interval must be > 0"), "{raw:?}");
    }

    // Consul waits a minute at the least, and looks every 30 s.
    async fn a_service_that_stays_critical_is_deregistered(at: At) {
        let mut service = meshed("doomed", 4130, CheckStatus::Critical);
        service.checks[0].deregister_after = Some(Duration::from_secs(60));
        at.client.agent().register(&service).await.unwrap();
        within(Duration::from_secs(240), "the doomed service is gone", async || {
            at.client.agent().service("doomed").await.unwrap().is_none().then_some(())
        })
        .await;
        assert_eq!(at.client.agent().service("doomed-sidecar-proxy").await.unwrap(), None);
    }
}
