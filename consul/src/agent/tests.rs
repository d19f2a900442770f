//! Facts about the agent as a whole; what it says is the contract suite's to check.

use std::net::TcpStream;

use super::*;

fn anywhere() -> AgentConfig {
    let free = SocketAddr::from(([127, 0, 0, 1], 0));
    AgentConfig { http: free, dns: Some(free), ..AgentConfig::default() }
}

#[tokio::test]
async fn a_taken_port_is_named_with_what_is_in_the_way() {
    let first = Agent::start(anywhere()).await.unwrap();
    let config = AgentConfig { http: first.http_addr(), ..anywhere() };
    let error = Agent::start(config).await.unwrap_err().to_string();
    assert!(error.contains(&first.http_addr().to_string()), "{error}");
    assert!(error.contains("in use"), "{error}");
    let config = AgentConfig { dns: first.dns_addr(), ..anywhere() };
    let error = Agent::start(config).await.unwrap_err().to_string();
    assert!(error.contains("DNS"), "{error}");
}

#[tokio::test]
async fn a_stopped_agent_frees_its_ports() {
    let agent = Agent::start(anywhere()).await.unwrap();
    let (http, dns) = (agent.http_addr(), agent.dns_addr());
    TcpStream::connect(http).unwrap();
    agent.stop().await;
    let again = AgentConfig { http, dns, ..AgentConfig::default() };
    Agent::start(again).await.unwrap();
}

#[tokio::test]
async fn a_blocking_query_beyond_the_bound_is_refused() {
    let mut config = anywhere();
    config.limits.blocked_queries = 0;
    let agent = Agent::start(config).await.unwrap();
    let mut stream = tokio::net::TcpStream::connect(agent.http_addr()).await.unwrap();
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let request = "GET /v1/catalog/nodes?index=99999&wait=1m HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 429"), "{answer}");
}
