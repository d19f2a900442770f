//! Asks the app how it is: `grpc.health.v1` where it speaks gRPC, a connection where it does not.
//!
//! The same question as Consul's own gRPC check: the health of the whole server, service "".

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::health::Finding;
use crate::config::{AppAddr, AppProtocol};

/// An app that takes longer is slow.
const LIMIT: Duration = Duration::from_secs(2);

/// The way to ask one app.
pub(super) struct Probe {
    address: SocketAddr,
    /// None where the app speaks HTTP/1.1.
    health: Option<HealthClient<Channel>>,
}

impl Probe {
    pub(super) fn new(app: AppAddr, protocol: AppProtocol) -> Self {
        let address = app.socket_addr();
        let health = match protocol {
            AppProtocol::Http1 => None,
            AppProtocol::Grpc => Endpoint::from_shared(format!("http://{address}"))
                .ok()
                .map(|endpoint| HealthClient::new(endpoint.connect_timeout(LIMIT).connect_lazy())),
        };
        Self { address, health }
    }

    /// Asks once.
    pub(super) async fn ask(&self) -> Finding {
        let Some(health) = &self.health else { return self.connect().await };
        let request = HealthCheckRequest { service: String::new() };
        let mut health = health.clone();
        match timeout(LIMIT, health.check(request)).await {
            Err(_) => Finding::Slow(LIMIT),
            Ok(Ok(answer)) => match answer.into_inner().status() {
                ServingStatus::Serving => Finding::Serving,
                ServingStatus::NotServing => Finding::NotServing("NOT_SERVING"),
                ServingStatus::ServiceUnknown => Finding::NotServing("SERVICE_UNKNOWN"),
                ServingStatus::Unknown => Finding::NotServing("UNKNOWN"),
            },
            Ok(Err(status)) => self.judge(&status).await,
        }
    }

    async fn judge(&self, status: &Status) -> Finding {
        match status.code() {
            // NOT_FOUND: a health service that says nothing of the server as a whole.
            Code::Unimplemented | Code::NotFound => Finding::NoHealthService,
            // Whether the app itself said so, or there is none, its port tells.
            _ => match self.connect().await {
                Finding::Connects => {
                    Finding::Error(format!("{:?}: {}", status.code(), status.message()))
                }
                unreachable => unreachable,
            },
        }
    }

    async fn connect(&self) -> Finding {
        match timeout(LIMIT, TcpStream::connect(self.address)).await {
            Ok(Ok(_)) => Finding::Connects,
            Ok(Err(e)) if e.kind() == std::io::ErrorKind::ConnectionRefused => {
                Finding::Unreachable(self.address, "connection refused".to_owned())
            }
            Ok(Err(e)) => Finding::Unreachable(self.address, e.to_string()),
            Err(_) => Finding::Slow(LIMIT),
        }
    }
}
