//! What a PEM text holds, for people: every block in its order, keys by their kind alone.

use std::fmt;
use std::time::SystemTime;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::{PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::public_key::PublicKey;

use crate::spiffe::{SpiffeId, TrustDomain};
use crate::x509::{Facts, parse, rfc3339};

/// One block of a PEM text.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Block {
    /// A certificate.
    Certificate(Box<CertificateBlock>),
    /// A private key; nothing of its secret is kept.
    PrivateKey {
        /// How it is encoded: `PKCS#8`, `SEC1` or `PKCS#1`.
        encoding: &'static str,
        /// `ECDSA`, `RSA` or `ED25519`; none where TLS cannot use it.
        algorithm: Option<String>,
        /// SHA-256 over its public key, to find its certificate.
        public_key_sha256: Option<String>,
    },
    /// Another kind of block.
    Other {
        /// Its kind.
        kind: String,
    },
    /// A block that holds not what it says.
    Broken {
        /// Its kind, and what is wrong.
        reason: String,
    },
}

/// What a certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CertificateBlock {
    /// Whether it may sign others.
    pub is_ca: bool,
    /// Its subject, often empty for a workload.
    pub subject: String,
    /// Who issued it.
    pub issuer: String,
    /// The workload that it names; why it names none otherwise.
    pub spiffe_id: Result<SpiffeId, String>,
    /// The trust domain that a CA's states.
    pub trust_domain: Option<TrustDomain>,
    /// Hex, with colons.
    pub serial: String,
    /// The first second of its validity.
    pub not_before: SystemTime,
    /// The last second of its validity.
    pub not_after: SystemTime,
    /// `ECDSA P-256`, `RSA 2048`, …
    pub key: String,
    /// SHA-256 over the certificate, hex, with colons.
    pub sha256: String,
    /// SHA-256 over its public key, to find its private key.
    pub public_key_sha256: String,
}

/// Reads every block of a PEM text; empty where it holds none.
#[must_use]
pub fn describe(pem: &[u8]) -> Vec<Block> {
    let mut blocks = Vec::new();
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(pem) {
        let Ok((kind, der)) = section else {
            let reason = "a PEM block is cut off or holds no base64".to_owned();
            blocks.push(Block::Broken { reason });
            // The reader makes no promise about what follows a broken block.
            break;
        };
        blocks.push(match kind {
            SectionKind::Certificate => certificate(&CertificateDer::from(der)),
            kind => match PrivateKeyDer::from_pem(kind, der) {
                Some(key) => private_key(&key),
                None => Block::Other { kind: label(kind).to_owned() },
            },
        });
    }
    blocks
}

fn certificate(der: &CertificateDer<'_>) -> Block {
    let read = || -> Result<CertificateBlock, String> {
        let facts = Facts::read(der)?;
        let certificate = parse(der)?;
        Ok(CertificateBlock {
            is_ca: facts.is_ca,
            subject: certificate.subject().to_string(),
            issuer: certificate.issuer().to_string(),
            spiffe_id: facts.workload().map_err(|reason| reason.to_string()),
            trust_domain: facts.trust_domain().filter(|_| facts.is_ca),
            serial: colons(certificate.raw_serial()),
            not_before: facts.not_before,
            not_after: facts.not_after,
            key: match certificate.public_key().parsed() {
                Ok(PublicKey::EC(point)) => format!("ECDSA P-{}", point.key_size()),
                Ok(PublicKey::RSA(key)) => format!("RSA {}", key.key_size()),
                _ => certificate.public_key().algorithm.algorithm.to_id_string(),
            },
            sha256: sha256_fingerprint(der),
            public_key_sha256: sha256_fingerprint(certificate.public_key().raw),
        })
    };
    match read() {
        Ok(block) => Block::Certificate(Box::new(block)),
        Err(reason) => Block::Broken { reason: format!("CERTIFICATE: {reason}") },
    }
}

fn private_key(key: &PrivateKeyDer<'_>) -> Block {
    let usable = any_supported_type(key).ok();
    Block::PrivateKey {
        encoding: match key {
            PrivateKeyDer::Pkcs1(_) => "PKCS#1",
            PrivateKeyDer::Sec1(_) => "SEC1",
            _ => "PKCS#8",
        },
        algorithm: usable.as_ref().map(|key| format!("{:?}", key.algorithm())),
        public_key_sha256: usable
            .and_then(|key| key.public_key().map(|public| sha256_fingerprint(&public))),
    }
}

fn label(kind: SectionKind) -> &'static str {
    match kind {
        SectionKind::PublicKey => "PUBLIC KEY",
        SectionKind::Crl => "X509 CRL",
        SectionKind::Csr => "CERTIFICATE REQUEST",
        SectionKind::EchConfigList => "ECHCONFIG",
        _ => "another kind of block",
    }
}

/// Bytes in hex, with colons, as Consul and OpenSSL write them.
pub(crate) fn colons(bytes: &[u8]) -> String {
    let hex: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    hex.join(":")
}

pub(crate) fn sha1_fingerprint(bytes: &[u8]) -> String {
    colons(digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref())
}

fn sha256_fingerprint(bytes: &[u8]) -> String {
    colons(digest(&SHA256, bytes).as_ref())
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificate(certificate) => certificate.fmt(f),
            Self::PrivateKey { encoding, algorithm, public_key_sha256 } => {
                let algorithm = algorithm.as_deref().unwrap_or("that TLS cannot use");
                write!(f, "private key ({encoding}) {algorithm}")?;
                match public_key_sha256 {
                    Some(sha256) => write!(f, "\n  public key SHA-256  {sha256}"),
                    None => Ok(()),
                }
            }
            Self::Other { kind } => write!(f, "{kind}"),
            Self::Broken { reason } => write!(f, "broken: {reason}"),
        }
    }
}

impl fmt::Display for CertificateBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", if self.is_ca { "CA certificate" } else { "certificate" })?;
        match (&self.spiffe_id, &self.trust_domain) {
            (_, Some(domain)) => writeln!(f, "  trust domain        {domain}")?,
            (Ok(id), None) => writeln!(f, "  SPIFFE ID           {id}")?,
            (Err(_), None) if self.is_ca => writeln!(f, "  trust domain        (none stated)")?,
            (Err(reason), None) => writeln!(f, "  SPIFFE ID           none: {reason}")?,
        }
        writeln!(f, "  subject             {}", self.subject)?;
        writeln!(f, "  issuer              {}", self.issuer)?;
        writeln!(f, "  serial              {}", self.serial)?;
        writeln!(f, "  valid from          {}", rfc3339(self.not_before))?;
        writeln!(f, "  valid until         {}", rfc3339(self.not_after))?;
        writeln!(f, "  key                 {}", self.key)?;
        writeln!(f, "  SHA-256             {}", self.sha256)?;
        write!(f, "  public key SHA-256  {}", self.public_key_sha256)
    }
}
