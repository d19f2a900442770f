//! A certificate authority of the test's own, and what it issued: as files for sidecars, as
//! identities for peers that the test plays itself.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use certs::{DevelopmentCa, Identity, Leaf, Roots, SpiffeId, TlsMin};
use rustls::ClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::version::TLS13;
use rustls::{DigitallySignedStruct, SignatureScheme};
use tempfile::TempDir;

const TRUST_DOMAIN: &str = "11111111-2222-3333-4444-555555555555.consul";
const HOUR: Duration = Duration::from_secs(3600);

pub(crate) struct Pki {
    ca: DevelopmentCa,
    files: TempDir,
}

impl Pki {
    pub(crate) fn new() -> Self {
        // Of yesterday, so that it could issue what has expired.
        let begun = SystemTime::now() - 24 * HOUR;
        let ca = DevelopmentCa::new(TRUST_DOMAIN.parse().unwrap(), begun).unwrap();
        Self { ca, files: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn id(service: &str) -> SpiffeId {
        SpiffeId::for_consul(TRUST_DOMAIN, "default", "dc1", service).unwrap()
    }

    pub(crate) fn roots(&self) -> Roots {
        self.ca.roots().unwrap()
    }

    /// A leaf for a service that ends so long after `issued`.
    fn leaf(&self, service: &str, issued: SystemTime) -> (String, String) {
        let issued = self.ca.issue(&Self::id(service), HOUR, issued).unwrap();
        (issued.certificate_pem, issued.key_pem)
    }

    /// What a peer of this name has.
    pub(crate) fn identity(&self, service: &str) -> Identity {
        self.identity_of(service, SystemTime::now())
    }

    /// What a peer has whose certificate has expired.
    pub(crate) fn expired(&self, service: &str) -> Identity {
        self.identity_of(service, SystemTime::now() - 2 * HOUR)
    }

    fn identity_of(&self, service: &str, issued: SystemTime) -> Identity {
        let (certificate, key) = self.leaf(service, issued);
        let leaf = Leaf::from_pem(certificate.as_bytes(), key.as_bytes()).unwrap();
        Identity::new(leaf, self.roots(), TlsMin::V1_3).unwrap()
    }

    /// The section `[identity]` of a sidecar for this service, its files written.
    pub(crate) fn section(&self, service: &str) -> String {
        let (certificate, key) = self.leaf(service, SystemTime::now());
        let mut section = "[identity]\nsource = \"files\"\n".to_owned();
        for (name, text) in [("cert", certificate), ("key", key), ("roots", self.ca.root_pem())] {
            let path = self.files.path().join(format!("{service}.{name}.pem"));
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            section.push_str(&format!("{name} = {path:?}\n"));
        }
        section
    }
}

impl Pki {
    /// Leaves nothing usable in this service's certificate file.
    pub(crate) fn spoil(&self, service: &str) {
        let path = self.files.path().join(format!("{service}.cert.pem"));
        std::fs::write(path, "no certificate").unwrap();
    }
}

/// A client that believes every server, as a hostile one would; with a certificate or without.
pub(crate) fn reckless(identity: Option<&Identity>) -> Arc<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone));
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => builder.with_client_cert_resolver(
            identity.client_config(identity.leaf().id()).client_auth_cert_resolver.clone(),
        ),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

#[derive(Debug)]
struct Anyone;

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        default_provider().signature_verification_algorithms.supported_schemes()
    }
}
