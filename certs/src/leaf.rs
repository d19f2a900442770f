//! A workload's own certificate and key. A [`Leaf`] names exactly one workload and its key is
//! the certificate's own; its key never shows in any output.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use thiserror::Error;

use crate::spiffe::SpiffeId;
use crate::x509::{Facts, NotSpiffe, rfc3339};

/// A workload's certificate chain and private key. Cheap to clone.
#[derive(Clone)]
pub struct Leaf {
    key: Arc<CertifiedKey>,
    id: SpiffeId,
    not_before: SystemTime,
    not_after: SystemTime,
}

/// Why a certificate and a key make no leaf.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LeafError {
    /// No certificate in the first text.
    #[error("the certificate: no PEM block CERTIFICATE found")]
    NoCertificate,
    /// A certificate block that is cut off or no base64.
    #[error("the certificate: its PEM cannot be read: a block is cut off or holds no base64")]
    CertificatePem,
    /// A certificate block that holds no certificate.
    #[error("the certificate: {0}")]
    MalformedCertificate(String),
    /// A certificate that names no workload.
    #[error("the certificate: {0}")]
    NotSpiffe(#[from] NotSpiffe),
    /// No private key in the second text.
    #[error(
        "the key: no PEM block PRIVATE KEY, EC PRIVATE KEY or RSA PRIVATE KEY found \
         (an encrypted key cannot be used)"
    )]
    NoKey,
    /// A key block that is cut off or no base64.
    #[error("the key: its PEM cannot be read: a block is cut off or holds no base64")]
    KeyPem,
    /// A key that cannot be used.
    #[error("the key: it holds no ECDSA, RSA or Ed25519 key that TLS can use")]
    UnusableKey,
    /// A key of another certificate.
    #[error("the key is not the certificate's: their public keys differ")]
    KeyMismatch,
}

impl Leaf {
    /// Reads the chain (leaf first) and the key. The key may be PKCS#8, SEC1 (as Consul gives
    /// it) or PKCS#1.
    ///
    /// # Errors
    /// Where one of them is missing or broken, they do not belong together, or the certificate
    /// names no workload. Its validity is not judged here: that takes the time.
    pub fn from_pem(certificates: &[u8], key: &[u8]) -> Result<Self, LeafError> {
        let chain = chain_from_pem(certificates)?;
        let key = key_from_pem(key)?;
        Self::from_der(chain, &key)
    }

    /// Takes the chain (leaf first) and the key in DER.
    ///
    /// # Errors
    /// As [`Leaf::from_pem`].
    pub fn from_der(
        chain: Vec<CertificateDer<'static>>,
        key: &PrivateKeyDer<'_>,
    ) -> Result<Self, LeafError> {
        let facts = Facts::read(chain.first().ok_or(LeafError::NoCertificate)?)
            .map_err(LeafError::MalformedCertificate)?;
        let id = facts.workload()?;
        let key = any_supported_type(key).map_err(|_| LeafError::UnusableKey)?;
        let key = CertifiedKey::new(chain, key);
        key.keys_match().map_err(|_| LeafError::KeyMismatch)?;
        let (not_before, not_after) = (facts.not_before, facts.not_after);
        Ok(Self { key: Arc::new(key), id, not_before, not_after })
    }

    /// The workload's identity.
    #[must_use]
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// The certificates, leaf first.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.key.cert
    }

    /// When the certificate begins to be valid.
    #[must_use]
    pub fn not_before(&self) -> SystemTime {
        self.not_before
    }

    /// The last second in which the certificate is valid.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    pub(crate) fn certified_key(&self) -> &Arc<CertifiedKey> {
        &self.key
    }
}

/// All certificates of a PEM text, at least one.
pub(crate) fn chain_from_pem(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, LeafError> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|_| LeafError::CertificatePem)?;
    if chain.is_empty() { Err(LeafError::NoCertificate) } else { Ok(chain) }
}

/// The first private key of a PEM text.
pub(crate) fn key_from_pem(pem: &[u8]) -> Result<PrivateKeyDer<'static>, LeafError> {
    use rustls::pki_types::pem::Error;
    // The reader's own error may quote a line of the file: it is not passed on.
    PrivateKeyDer::from_pem_slice(pem).map_err(|e| match e {
        Error::NoItemsFound => LeafError::NoKey,
        _ => LeafError::KeyPem,
    })
}

impl fmt::Debug for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leaf")
            .field("id", &self.id)
            .field("not_before", &rfc3339(self.not_before))
            .field("not_after", &rfc3339(self.not_after))
            .field("chain", &self.chain().len())
            .finish_non_exhaustive()
    }
}
