//! A small certificate authority for development: one root, kept in a directory, that issues
//! leaves with the extensions of Consul's own. It never issues outside its trust domain.

mod store;

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType,
    SerialNumber,
};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use thiserror::Error;
use time::OffsetDateTime;

use crate::describe::{colons, sha1_fingerprint};
use crate::roots::Roots;
use crate::spiffe::{SpiffeId, TrustDomain};
use crate::x509::{Facts, parse};

pub use store::CaFileError;

/// How long a root lives: ten years, as Consul's.
const ROOT_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// A certificate begins this long before its issue, for clocks that are behind.
const CLOCK_SKEW: Duration = Duration::from_secs(60);
/// The longest common name (RFC 5280, appendix A: ub-common-name).
const MAX_COMMON_NAME: usize = 64;

/// A root certificate and its key, which issue leaves.
pub struct DevelopmentCa {
    trust_domain: TrustDomain,
    certificate: CertificateDer<'static>,
    key: KeyPair,
    facts: Facts,
    key_id: Vec<u8>,
    serial: Vec<u8>,
}

/// A leaf as it was issued. Its key shows in no debug output.
#[derive(Clone)]
#[non_exhaustive]
pub struct Issued {
    /// The leaf, in PEM.
    pub certificate_pem: String,
    /// The private key, in PEM as Consul gives it: SEC1, `EC PRIVATE KEY`.
    pub key_pem: String,
    /// The certificate's serial number, big-endian.
    pub serial: Vec<u8>,
    /// The first second of its validity.
    pub not_before: SystemTime,
    /// The last second of its validity.
    pub not_after: SystemTime,
}

/// Why a certificate authority could not be made or could not issue.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CaError {
    /// An ID outside the trust domain.
    #[error("{id} lies outside of this CA's trust domain {trust_domain}")]
    ForeignId {
        /// What was asked for.
        id: SpiffeId,
        /// What the CA vouches for.
        trust_domain: TrustDomain,
    },
    /// A CA whose time is over, or not come.
    #[error("this CA's own certificate is not valid at this time")]
    NotValidNow,
    /// A root whose certificate is none, or states no trust domain.
    #[error("its certificate is no root with a trust domain: {0}")]
    Root(String),
    /// A key that is not the certificate's, or none.
    #[error("its key is no ECDSA P-256 key in PKCS#8, or not that of its certificate")]
    Key,
    /// A time that no certificate can state.
    #[error("a certificate cannot state this time")]
    Time,
    /// The cryptographic library refused.
    #[error("the certificate could not be made: {0}")]
    Crypto(String),
}

impl DevelopmentCa {
    /// Makes a new root for a trust domain.
    ///
    /// # Errors
    /// Where the time cannot be stated, or the cryptographic library refuses.
    pub fn new(trust_domain: TrustDomain, now: SystemTime) -> Result<Self, CaError> {
        let (_, key) = new_key()?;
        let mut params = CertificateParams::default();
        let serial = new_serial()?;
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.not_before = stated(now.checked_sub(CLOCK_SKEW))?;
        params.not_after = stated(now.checked_add(ROOT_LIFE))?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
        ];
        params.use_authority_key_identifier_extension = true;
        params.key_identifier_method = key_identifier(&key);
        params.subject_alt_names = vec![uri_name(&trust_domain.uri())?];
        // Part of the serial keeps two roots of one trust domain apart by name: a verifier that
        // looks for an issuer finds the right one at once.
        let tag: String = serial[..4].iter().map(|byte| format!("{byte:02x}")).collect();
        params.distinguished_name = common_name(&format!("outrigger development CA {tag}"));
        let certificate = params.self_signed(&key).map_err(crypto)?;
        Self::from_parts(certificate.der().clone(), key)
    }

    /// Takes a root that was made before: its certificate and its key (PKCS#8), both in PEM.
    ///
    /// # Errors
    /// Where they are none, or do not belong together.
    pub fn from_pem(certificate: &[u8], key: &str) -> Result<Self, CaError> {
        let chain = crate::leaf::chain_from_pem(certificate)
            .map_err(|error| CaError::Root(error.to_string()))?;
        let [certificate] = <[_; 1]>::try_from(chain)
            .map_err(|chain| CaError::Root(format!("{} certificates found", chain.len())))?;
        Self::from_parts(certificate, KeyPair::from_pem(key).map_err(|_| CaError::Key)?)
    }

    fn from_parts(certificate: CertificateDer<'static>, key: KeyPair) -> Result<Self, CaError> {
        let facts = Facts::read(&certificate).map_err(CaError::Root)?;
        if !facts.is_ca {
            return Err(CaError::Root("it may not sign others".to_owned()));
        }
        let domain = facts.trust_domain();
        let trust_domain =
            domain.ok_or_else(|| CaError::Root("it states no trust domain".to_owned()))?;
        let parsed = parse(&certificate).map_err(CaError::Root)?;
        let same_key = parsed.public_key().subject_public_key.data == key.der_bytes();
        if key.algorithm() != &PKCS_ECDSA_P256_SHA256 || !same_key {
            return Err(CaError::Key);
        }
        let key_id = subject_key_id(&parsed).unwrap_or_default();
        let serial = parsed.raw_serial().to_vec();
        Ok(Self { trust_domain, certificate, key, facts, key_id, serial })
    }

    /// Issues a leaf for a workload of the trust domain: ECDSA P-256, valid from a minute
    /// before `now` until `now + ttl`, but never past the root's own end.
    ///
    /// # Errors
    /// Where the ID lies in another trust domain, or the root is not valid now.
    pub fn issue(&self, id: &SpiffeId, ttl: Duration, now: SystemTime) -> Result<Issued, CaError> {
        if id.trust_domain() != self.trust_domain.as_str() {
            let trust_domain = self.trust_domain.clone();
            return Err(CaError::ForeignId { id: id.clone(), trust_domain });
        }
        if now < self.facts.not_before || now >= self.facts.not_after {
            return Err(CaError::NotValidNow);
        }
        let (key_pem, key) = new_key()?;
        let serial = new_serial()?;
        let end = now.checked_add(ttl).ok_or(CaError::Time)?.min(self.facts.not_after);
        let mut params = CertificateParams::default();
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.not_before = stated(now.checked_sub(CLOCK_SKEW))?;
        params.not_after = stated(Some(end))?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
            KeyUsagePurpose::DataEncipherment,
            KeyUsagePurpose::KeyAgreement,
        ];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        params.key_identifier_method = key_identifier(&key);
        params.subject_alt_names = vec![uri_name(id.as_str())?];
        let last = id.path().rsplit('/').next().unwrap_or_default();
        // Without a subject the SAN becomes critical, as RFC 5280 (4.1.2.6) has it.
        params.distinguished_name = common_name(last);
        let issuer = Issuer::from_ca_cert_der(&self.certificate, &self.key).map_err(crypto)?;
        let certificate = params.signed_by(&key, &issuer).map_err(crypto)?;
        let facts = Facts::read(certificate.der()).map_err(CaError::Crypto)?;
        Ok(Issued {
            certificate_pem: certificate.pem(),
            key_pem,
            serial,
            not_before: facts.not_before,
            not_after: facts.not_after,
        })
    }

    /// What this CA vouches for.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The root certificate, in PEM.
    #[must_use]
    pub fn root_pem(&self) -> String {
        pem_block("CERTIFICATE", self.certificate.to_vec())
    }

    /// The root alone, as a set to trust.
    ///
    /// # Errors
    /// Never for a root made here; for a loaded one where no verifier can use it.
    pub fn roots(&self) -> Result<Roots, CaError> {
        Roots::from_der([self.certificate.clone()]).map_err(|e| CaError::Root(e.to_string()))
    }

    /// The root's validity: its first and its last second.
    #[must_use]
    pub fn validity(&self) -> (SystemTime, SystemTime) {
        (self.facts.not_before, self.facts.not_after)
    }

    /// The root's serial number, big-endian.
    #[must_use]
    pub fn serial(&self) -> &[u8] {
        &self.serial
    }

    /// The root's serial number in hex, with colons.
    #[must_use]
    pub fn serial_hex(&self) -> String {
        colons(&self.serial)
    }

    /// The root key's identifier in Consul's form (`SigningKeyID`): hex, with colons.
    #[must_use]
    pub fn key_id(&self) -> String {
        colons(&self.key_id)
    }

    /// The root's fingerprint in Consul's form (a root's `ID`): SHA-1, hex, with colons.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        sha1_fingerprint(&self.certificate)
    }
}

impl Issued {
    /// The serial number in Consul's form (a leaf's `SerialNumber`): hex, with colons.
    #[must_use]
    pub fn serial_hex(&self) -> String {
        colons(&self.serial)
    }
}

/// A new P-256 key: in PEM (SEC1), and for signing.
fn new_key() -> Result<(String, KeyPair), CaError> {
    let refused = |_| CaError::Crypto("no key could be made".to_owned());
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map_err(refused)?;
    let sec1 = key.private_key().as_der().map_err(refused)?;
    let pkcs8 = key.to_pkcs8v1().map_err(refused)?;
    let pkcs8 = PrivatePkcs8KeyDer::from(pkcs8.as_ref());
    let signer = KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8, &PKCS_ECDSA_P256_SHA256);
    Ok((pem_block("EC PRIVATE KEY", sec1.as_ref().to_vec()), signer.map_err(crypto)?))
}

/// 16 random bytes, positive and without leading zeros in DER (RFC 5280, 4.1.2.2).
fn new_serial() -> Result<Vec<u8>, CaError> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).map_err(|_| CaError::Crypto("no randomness".to_owned()))?;
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(bytes.to_vec())
}

/// SHA-256 over the public key, whole: Consul's choice among those of RFC 7093.
fn key_identifier(key: &KeyPair) -> KeyIdMethod {
    KeyIdMethod::PreSpecified(digest(&SHA256, &key.subject_public_key_info()).as_ref().to_vec())
}

fn stated(time: Option<SystemTime>) -> Result<OffsetDateTime, CaError> {
    let since = time.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since
        .and_then(|since| i64::try_from(since.as_secs()).ok())
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .ok_or(CaError::Time)
}

fn uri_name(uri: &str) -> Result<SanType, CaError> {
    uri.try_into().map(SanType::URI).map_err(crypto)
}

fn common_name(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    if name.len() <= MAX_COMMON_NAME {
        names.push(DnType::CommonName, name);
    }
    names
}

fn subject_key_id(certificate: &x509_parser::certificate::X509Certificate<'_>) -> Option<Vec<u8>> {
    use x509_parser::extensions::ParsedExtension;
    certificate.iter_extensions().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
        _ => None,
    })
}

fn pem_block(label: &str, der: Vec<u8>) -> String {
    let unix = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&pem::Pem::new(label, der), unix)
}

fn crypto(error: rcgen::Error) -> CaError {
    CaError::Crypto(error.to_string())
}

impl fmt::Debug for DevelopmentCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DevelopmentCa")
            .field("trust_domain", &self.trust_domain)
            .field("fingerprint", &self.fingerprint())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued")
            .field("serial", &colons(&self.serial))
            .field("not_after", &crate::x509::rfc3339(self.not_after))
            .finish_non_exhaustive()
    }
}
