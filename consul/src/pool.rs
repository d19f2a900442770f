//! Connections to the agent: HTTP/1.1, kept alive, over TCP, TLS or a unix socket.
//!
//! At most [`IDLE`] wait idle and at most [`BUSY`] serve requests, the watches' own not counted:
//! an agent takes no more than 200 from one address (`http_max_conns_per_client`).

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};
use tokio_rustls::TlsConnector;

use crate::{Address, Config, ConfigError, Error, tls};

const IDLE: usize = 8;
const BUSY: usize = 32;

/// One connection that is ready for a request, or broken.
pub(crate) type Connection = SendRequest<Full<Bytes>>;

/// Dials the agent and keeps what is left open.
pub(crate) struct Pool {
    address: Address,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    connect_timeout: Duration,
    idle: Mutex<Vec<Connection>>,
    busy: Semaphore,
}

impl Pool {
    pub(crate) fn new(config: &Config) -> Result<Pool, ConfigError> {
        let tls = match &config.address {
            Address::Tcp { host, tls: true, .. } => Some(tls::connector(&config.tls, host)?),
            _ => None,
        };
        Ok(Pool {
            address: config.address.clone(),
            tls,
            connect_timeout: config.connect_timeout,
            idle: Mutex::new(Vec::with_capacity(IDLE)),
            busy: Semaphore::new(BUSY),
        })
    }

    /// The `Host` header's value.
    pub(crate) fn host(&self) -> String {
        match &self.address {
            Address::Tcp { host, port, .. } if host.contains(':') => format!("[{host}]:{port}"),
            Address::Tcp { host, port, .. } => format!("{host}:{port}"),
            Address::Unix(_) => "localhost".to_owned(),
        }
    }

    /// Waits for a place among the requests in flight.
    pub(crate) async fn place(&self) -> Result<SemaphorePermit<'_>, Error> {
        self.busy.acquire().await.map_err(|closed| self.unreachable(closed))
    }

    /// A connection that was kept, if there is one that still lives.
    pub(crate) fn take(&self) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(connection) = idle.pop() {
            if connection.is_ready() {
                return Some(connection);
            }
        }
        None
    }

    /// Keeps a connection whose answer was read whole.
    pub(crate) fn keep(&self, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|kept| !kept.is_closed());
        if idle.len() < IDLE && !connection.is_closed() {
            idle.push(connection);
        }
    }

    pub(crate) fn unreachable(
        &self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Error {
        Error::Unreachable { address: self.address.to_string(), source: source.into() }
    }

    /// A new connection.
    pub(crate) async fn dial(&self) -> Result<Connection, Error> {
        match timeout(self.connect_timeout, self.connect()).await {
            Ok(connected) => connected,
            Err(_) => {
                let after = format!("no connection within {:?}", self.connect_timeout);
                Err(self.unreachable(io::Error::new(io::ErrorKind::TimedOut, after)))
            }
        }
    }

    async fn connect(&self) -> Result<Connection, Error> {
        match &self.address {
            Address::Unix(path) => {
                let stream = UnixStream::connect(path).await;
                self.speak_http(stream.map_err(|error| self.unreachable(error))?).await
            }
            Address::Tcp { host, port, .. } => {
                let stream = TcpStream::connect((host.as_str(), *port))
                    .await
                    .map_err(|error| self.unreachable(error))?;
                stream.set_nodelay(true).map_err(|error| self.unreachable(error))?;
                match &self.tls {
                    None => self.speak_http(stream).await,
                    Some((config, name)) => {
                        let stream = TlsConnector::from(config.clone())
                            .connect(name.clone(), stream)
                            .await
                            .map_err(|error| self.unreachable(error))?;
                        self.speak_http(stream).await
                    }
                }
            }
        }
    }

    async fn speak_http<S>(&self, stream: S) -> Result<Connection, Error>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (send, connection) =
            handshake(TokioIo::new(stream)).await.map_err(|error| self.unreachable(error))?;
        // It ends when its `SendRequest` is dropped; its errors reach whoever waits for an answer.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::trace!(%error, "a connection to Consul ended");
            }
        });
        Ok(send)
    }
}
