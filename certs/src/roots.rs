//! The certificate authorities that a workload trusts. There is always at least one, and each
//! vouches only for the trust domain that it states.

use std::time::SystemTime;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, TrustAnchor};
use thiserror::Error;

use crate::spiffe::TrustDomain;
use crate::x509::Facts;

/// A set of CA certificates, never empty. Equal where the same certificates are trusted, in
/// whatever order.
#[derive(Clone)]
pub struct Roots(Vec<Root>);

/// One CA certificate that is trusted.
#[derive(Clone)]
pub(crate) struct Root {
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) anchor: TrustAnchor<'static>,
    pub(crate) trust_domain: Option<TrustDomain>,
    pub(crate) not_after: SystemTime,
}

/// Why a PEM text holds no usable set of CA certificates.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RootsError {
    /// No certificate in it.
    #[error("no PEM block CERTIFICATE found, at least one CA certificate was expected")]
    Empty,
    /// A block that is cut off or no base64.
    #[error("its PEM cannot be read: a block is cut off or holds no base64")]
    Pem,
    /// A block that is no certificate.
    #[error("certificate {number}: {reason}")]
    Malformed {
        /// Which one, counted from 1.
        number: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A certificate that is no CA's.
    #[error("certificate {number} is no CA's (its basic constraints say so, or say nothing)")]
    NotCa {
        /// Which one, counted from 1.
        number: usize,
    },
}

impl Roots {
    /// Reads all certificates of a PEM text; other blocks are passed over.
    ///
    /// # Errors
    /// Where there is none, or one is no CA's.
    pub fn from_pem(pem: &[u8]) -> Result<Self, RootsError> {
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem)
            .collect::<Result<_, _>>()
            .map_err(|_| RootsError::Pem)?;
        Self::from_der(certificates)
    }

    /// Takes certificates in DER.
    ///
    /// # Errors
    /// Where there is none, or one is no CA's.
    pub fn from_der(
        certificates: impl IntoIterator<Item = CertificateDer<'static>>,
    ) -> Result<Self, RootsError> {
        let mut roots = Self(Vec::new());
        for (index, certificate) in certificates.into_iter().enumerate() {
            roots.add(Root::new(certificate, index + 1)?);
        }
        if roots.0.is_empty() { Err(RootsError::Empty) } else { Ok(roots) }
    }

    /// All that either set trusts, each once.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut all = self.clone();
        for root in &other.0 {
            all.add(root.clone());
        }
        all
    }

    /// The trust domains that the roots state, each once. Empty where none states one: such
    /// roots vouch for the trust domain of the workload that trusts them.
    pub fn trust_domains(&self) -> impl Iterator<Item = &TrustDomain> {
        self.0.iter().enumerate().filter_map(|(index, root)| {
            let domain = root.trust_domain.as_ref()?;
            let seen =
                self.0[..index].iter().any(|root| root.trust_domain.as_ref() == Some(domain));
            (!seen).then_some(domain)
        })
    }

    /// The certificates.
    pub fn certificates(&self) -> impl ExactSizeIterator<Item = &CertificateDer<'static>> {
        self.0.iter().map(|root| &root.certificate)
    }

    /// Whether every certificate of the other set is in this one too.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        other.certificates().all(|theirs| self.certificates().any(|mine| mine == theirs))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Root> {
        self.0.iter()
    }

    fn add(&mut self, root: Root) {
        if self.certificates().all(|known| *known != root.certificate) {
            self.0.push(root);
        }
    }
}

impl Root {
    fn new(certificate: CertificateDer<'static>, number: usize) -> Result<Self, RootsError> {
        let malformed = |reason| RootsError::Malformed { number, reason };
        let facts = Facts::read(&certificate).map_err(malformed)?;
        if !facts.is_ca {
            return Err(RootsError::NotCa { number });
        }
        let anchor = webpki::anchor_from_trusted_cert(&certificate)
            .map_err(|e| malformed(format!("it cannot be trusted: {e}")))?
            .to_owned();
        let (trust_domain, not_after) = (facts.trust_domain(), facts.not_after);
        Ok(Self { certificate, anchor, trust_domain, not_after })
    }
}

impl PartialEq for Roots {
    fn eq(&self, other: &Self) -> bool {
        self.0.len() == other.0.len() && self.contains(other)
    }
}

impl Eq for Roots {}

impl std::fmt::Debug for Roots {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let domains: Vec<_> = self.trust_domains().collect();
        f.debug_struct("Roots").field("certificates", &self.0.len()).field("of", &domains).finish()
    }
}
