//! Mutual TLS 1.3 of the minimal proxies, as the sidecar has it: rustls on aws-lc-rs, HTTP/2 by ALPN.
//!
//! Invariant: neither side speaks to a peer whose chain does not end at a given root.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Whatever ended a connection or the program.
pub(crate) type Failure = Box<dyn std::error::Error>;

/// Who this proxy is and whom it trusts.
pub(crate) struct Tls {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    roots: Arc<RootCertStore>,
}

impl Tls {
    /// Reads cert.pem, key.pem and roots.pem of a folder.
    pub(crate) fn read(folder: &Path) -> Result<Self, Failure> {
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_file_iter(folder.join("roots.pem"))? {
            roots.add(root?)?;
        }
        let chain =
            CertificateDer::pem_file_iter(folder.join("cert.pem"))?.collect::<Result<_, _>>()?;
        let key = PrivateKeyDer::from_pem_file(folder.join("key.pem"))?;
        Ok(Self { chain, key, roots: Arc::new(roots) })
    }

    /// Shows the leaf to servers and trusts those whose chain ends at a root.
    pub(crate) fn connector(self) -> Result<TlsConnector, Failure> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(self.roots)
            .with_client_auth_cert(self.chain, self.key)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(TlsConnector::from(Arc::new(config)))
    }

    /// Shows the leaf to clients and asks each for one whose chain ends at a root.
    pub(crate) fn acceptor(self) -> Result<TlsAcceptor, Failure> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let clients =
            WebPkiClientVerifier::builder_with_provider(self.roots, Arc::clone(&provider))
                .build()?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(clients)
            .with_single_cert(self.chain, self.key)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}
