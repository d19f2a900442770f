//! A tunnel for what speaks no TLS: takes plain bytes, and carries them to a sidecar's inbound port
//! over mutual TLS, as the caller's sidecar would.

use std::net::SocketAddr;
use std::sync::Arc;

use certs::{Identity, Leaf, Roots, TlsMin};
use rustls::ClientConfig;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

use super::pair::{Authority, CALLEE, CALLER};

/// Opens one on a free port: where it takes what it carries. It ends with the test's runtime.
pub(crate) async fn open(authority: &Authority, inbound: SocketAddr, alpn: bool) -> SocketAddr {
    let config = config(authority, alpn);
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut plain, _)) = listener.accept().await {
            let connector = TlsConnector::from(config.clone());
            tokio::spawn(async move {
                let stream = TcpStream::connect(inbound).await.unwrap();
                let name = "callee.example".try_into().unwrap();
                let mut tls = connector.connect(name, stream).await.unwrap();
                let _ = copy_bidirectional(&mut plain, &mut tls).await;
            });
        }
    });
    address
}

fn config(authority: &Authority, alpn: bool) -> Arc<ClientConfig> {
    let read = |path| std::fs::read(path).unwrap();
    let (certificate, key) = authority.leaf(CALLER);
    let leaf = Leaf::from_pem(&read(certificate), &read(key)).unwrap();
    let roots = Roots::from_pem(&read(authority.roots())).unwrap();
    let identity = Identity::new(leaf, roots, TlsMin::V1_3).unwrap();
    let mut config = (*identity.client_config(&Authority::id(CALLEE).parse().unwrap())).clone();
    config.alpn_protocols = if alpn { vec![b"h2".to_vec()] } else { Vec::new() };
    Arc::new(config)
}
