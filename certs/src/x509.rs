//! What this crate reads from one X.509 certificate. Signatures are not its matter: a
//! certificate read here is trusted only once the verifier has built its chain.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::CertificateDer;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use x509_parser::prelude::{ASN1Time, FromDer, GeneralName, X509Certificate};

use crate::spiffe::{SpiffeId, SpiffeIdError, TrustDomain};

/// The facts of one certificate that decide about identity.
pub(crate) struct Facts {
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
    pub(crate) is_ca: bool,
    uris: Vec<String>,
    may_sign_certificates: bool,
}

/// Why a certificate is no X.509-SVID of a workload.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotSpiffe {
    /// No URI among its names.
    #[error("it has no URI name, a workload's certificate has one, its SPIFFE ID")]
    NoUri,
    /// More than one URI (X509-SVID, section 2).
    #[error("it has {0} URI names, a workload's certificate has one, its SPIFFE ID")]
    ManyUris(usize),
    /// A URI that is no SPIFFE ID of a workload.
    #[error("its URI name {found:?} is no SPIFFE ID: {source}")]
    NoId {
        /// The URI.
        found: String,
        /// The rule that it breaks.
        source: SpiffeIdError,
    },
    /// A certificate that may sign others (X509-SVID, 4.3 and 5.2).
    #[error("it is a CA's certificate (it may sign others), no workload's")]
    Ca,
}

impl Facts {
    /// Reads a certificate in DER.
    pub(crate) fn read(der: &CertificateDer<'_>) -> Result<Self, String> {
        let certificate = parse(der)?;
        let names = certificate.subject_alternative_name();
        let names = names.map_err(|e| format!("its alternative names cannot be read: {e}"))?;
        let names = names.map(|names| names.value.general_names.as_slice()).unwrap_or_default();
        let usage = certificate.key_usage();
        let usage = usage.map_err(|e| format!("its key usage cannot be read: {e}"))?;
        Ok(Self {
            not_before: system_time(certificate.validity.not_before),
            not_after: system_time(certificate.validity.not_after),
            is_ca: certificate.is_ca(),
            uris: names
                .iter()
                .filter_map(|name| match name {
                    GeneralName::URI(uri) => Some((*uri).to_owned()),
                    _ => None,
                })
                .collect(),
            may_sign_certificates: usage
                .is_some_and(|usage| usage.value.key_cert_sign() || usage.value.crl_sign()),
        })
    }

    /// The workload that the certificate is for: its one URI (X509-SVID, sections 2 and 5.2).
    pub(crate) fn workload(&self) -> Result<SpiffeId, NotSpiffe> {
        if self.is_ca || self.may_sign_certificates {
            return Err(NotSpiffe::Ca);
        }
        match self.uris.as_slice() {
            [] => Err(NotSpiffe::NoUri),
            [uri] => uri.parse().map_err(|source| NotSpiffe::NoId {
                found: uri.chars().take(256).collect(),
                source,
            }),
            many => Err(NotSpiffe::ManyUris(many.len())),
        }
    }

    /// The trust domain that a CA's certificate states.
    pub(crate) fn trust_domain(&self) -> Option<TrustDomain> {
        self.uris.iter().find_map(|uri| TrustDomain::of_uri(uri))
    }
}

/// Reads a certificate in DER whole.
pub(crate) fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, String> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err("it is followed by bytes that belong to nothing".to_owned()),
        Err(e) => Err(format!("it is no X.509 certificate: {e}")),
    }
}

/// A certificate's time, which may lie before 1970.
pub(crate) fn system_time(time: ASN1Time) -> SystemTime {
    let seconds = time.timestamp();
    let distance = Duration::from_secs(seconds.unsigned_abs());
    let time = if seconds < 0 {
        UNIX_EPOCH.checked_sub(distance)
    } else {
        UNIX_EPOCH.checked_add(distance)
    };
    // Out of this platform's range: over is the safe reading for either end of a validity.
    time.unwrap_or(UNIX_EPOCH)
}

/// A time as people and logs write it (RFC 3339, UTC, whole seconds).
pub(crate) fn rfc3339(time: SystemTime) -> String {
    let seconds = match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_secs()).ok(),
        Err(before) => i64::try_from(before.duration().as_secs()).ok().map(|s| -s),
    };
    seconds
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| "a time out of range".to_owned())
}
