//! A certificate authority of the test's own, and what it issued: as files for sidecars, as
//! identities for peers that the test plays itself.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use certs::{DevelopmentCa, Identity, Leaf, Roots, SpiffeId, TlsMin};
use rustls::ClientConfig;
use rustls::version::TLS13;
use tempfile::TempDir;

use super::reckless;

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

/// A client that believes every server and speaks HTTP/2; with a certificate or without.
pub(crate) fn reckless(identity: Option<&Identity>) -> Arc<ClientConfig> {
    let mut config = reckless::reckless(identity, &[&TLS13]);
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}
