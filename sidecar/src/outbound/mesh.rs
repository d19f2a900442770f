//! Opens connections to endpoints of the mesh: TCP, then mutual TLS with the expected workload.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use certs::{Identity, PeerFault};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::discovery::snapshot::Endpoint;
use crate::telemetry::labels::Direction;
use crate::telemetry::metrics::Shard;
use crate::transport::ahead::Ahead;
use crate::transport::io::Dial;
use crate::transport::pool::{Connect, ConnectFault, ConnectStage, Opened};

/// What every connection of a worker to the mesh shares.
pub struct Mesh {
    /// This worker's own identity, once there is one.
    pub identity: RefCell<Option<Arc<Identity>>>,
    /// How sockets are opened.
    pub dial: Rc<dyn Dial>,
    /// Time for TLS.
    pub handshake_timeout: Duration,
    /// Where handshakes are counted.
    pub shard: Rc<Shard>,
}

/// Opens connections to one endpoint.
pub struct ToEndpoint {
    mesh: Rc<Mesh>,
    endpoint: Endpoint,
    connect_timeout: Duration,
    /// Kept with the identity that it was made from: sessions are resumed within one alone.
    config: RefCell<Option<(Arc<Identity>, Arc<ClientConfig>)>>,
}

impl ToEndpoint {
    /// For this endpoint.
    pub fn new(mesh: Rc<Mesh>, endpoint: Endpoint, connect_timeout: Duration) -> Self {
        Self { mesh, endpoint, connect_timeout, config: RefCell::new(None) }
    }

    async fn open(&self) -> Result<Opened, ConnectFault> {
        let address = self.endpoint.address;
        let identity = self.mesh.identity.borrow().clone().ok_or_else(|| ConnectFault {
            stage: ConnectStage::Tls,
            message: format!("{address}: this sidecar has no certificate yet"),
        })?;
        let io = dial(&*self.mesh.dial, address, self.connect_timeout).await?;
        let io = Ahead::new(io);
        let tls = |message: String| ConnectFault { stage: ConnectStage::Tls, message };
        let name = ServerName::try_from(self.endpoint.sni.to_string()).map_err(|_| {
            tls(format!("{address}: \"{}\" is no TLS server name", self.endpoint.sni))
        })?;
        let connector = TlsConnector::from(self.client_config(&identity));
        let handshake = timeout(self.mesh.handshake_timeout, connector.connect(name, io)).await;
        let outcome = match handshake {
            Ok(Ok(stream)) => {
                let chain = stream.get_ref().1.peer_certificates();
                let peer = identity.peer(chain, std::time::SystemTime::now());
                peer.map(|peer| Opened { io: Box::new(stream), not_after: Some(peer.not_after) })
            }
            Ok(Err(e)) => Err(PeerFault::from_io(&e)),
            Err(_) => Err(PeerFault::Tls(format!(
                "the handshake took longer than {:?}",
                self.mesh.handshake_timeout
            ))),
        };
        let label = outcome.as_ref().map_or_else(PeerFault::label, |_| "ok");
        self.mesh.shard.handshake(Direction::Outbound, label);
        outcome.map_err(|fault| {
            tracing::warn!(peer = %address, outcome = fault.label(), "TLS handshake failed: {fault}");
            let stage = match fault {
                PeerFault::WrongIdentity { .. } => ConnectStage::Identity,
                _ => ConnectStage::Tls,
            };
            ConnectFault { stage, message: format!("{address}: {fault}") }
        })
    }

    fn client_config(&self, identity: &Arc<Identity>) -> Arc<ClientConfig> {
        let mut cached = self.config.borrow_mut();
        if let Some((of, config)) = &*cached
            && Arc::ptr_eq(of, identity)
        {
            return config.clone();
        }
        let config = identity.client_config(&self.endpoint.identity);
        *cached = Some((identity.clone(), config.clone()));
        config
    }
}

impl Connect for ToEndpoint {
    fn connect(&self) -> Pin<Box<dyn Future<Output = Result<Opened, ConnectFault>> + '_>> {
        Box::pin(self.open())
    }
}

/// Opens a socket in time.
///
/// # Errors
/// In words that name the address.
pub async fn dial(
    dial: &dyn Dial,
    address: std::net::SocketAddr,
    within: Duration,
) -> Result<Box<dyn crate::transport::io::Io>, ConnectFault> {
    let message = match timeout(within, dial.dial(address)).await {
        Ok(Ok(io)) => return Ok(io),
        Ok(Err(e)) => match e.kind() {
            std::io::ErrorKind::ConnectionRefused => format!("connection refused {address}"),
            _ => format!("{address}: {e}"),
        },
        Err(_) => format!("{address}: no connection within {within:?}"),
    };
    Err(ConnectFault { stage: ConnectStage::Connect, message })
}
