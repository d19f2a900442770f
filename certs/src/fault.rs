//! Why a peer was not accepted, or did not accept us: one closed set for logs, metrics and
//! tests. Every failed handshake ends as exactly one [`PeerFault`], on both of its sides.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, OtherError, PeerIncompatible};
use thiserror::Error;

use crate::spiffe::SpiffeId;
use crate::x509::{NotSpiffe, rfc3339};

#[cfg(test)]
mod tests;

/// How rustls begins to tell of an alert; its name follows.
const ALERT_RECEIVED: &str = "received fatal alert: ";

/// Why a handshake with a peer failed, or why an open connection's peer is accepted no more.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PeerFault {
    /// The client showed no certificate.
    #[error("the peer showed no certificate")]
    NoCertificate,
    /// A certificate of a CA that is not trusted here.
    #[error("the peer's certificate is of a CA that is not trusted here")]
    UnknownIssuer,
    /// A certificate whose time is over.
    #[error("the peer's certificate expired at {}", rfc3339(*not_after))]
    Expired {
        /// The last second of its validity.
        not_after: SystemTime,
    },
    /// A certificate whose time has not come: a clock is wrong somewhere.
    #[error("the peer's certificate is valid only from {} (is a clock wrong?)", rfc3339(*not_before))]
    NotYetValid {
        /// The first second of its validity.
        not_before: SystemTime,
    },
    /// A true workload, but another one than was called.
    #[error("the peer is {found}, but {expected} was expected")]
    WrongIdentity {
        /// Who was called.
        expected: SpiffeId,
        /// Who answered.
        found: SpiffeId,
    },
    /// A certificate that names no workload.
    #[error("the peer's certificate names no workload: {0}")]
    NotSpiffe(NotSpiffe),
    /// A workload of a trust domain that its CA does not vouch for here.
    #[error("the peer is {found}, but its CA vouches here for the trust domain {trusted} only")]
    WrongTrustDomain {
        /// Who the certificate names.
        found: SpiffeId,
        /// What its root vouches for.
        trusted: String,
    },
    /// A certificate that cannot be used.
    #[error("the peer's certificate cannot be used: {0}")]
    Malformed(String),
    /// A peer that speaks no version of TLS that is allowed here.
    #[error("the peer speaks no version of TLS that is allowed here: {0}")]
    Version(String),
    /// The peer ended the handshake because of us.
    #[error("the peer refused us: {0}")]
    Refused(Refusal),
    /// Anything else: no TLS, a cut connection, a broken peer.
    #[error("TLS failed: {0}")]
    Tls(String),
}

/// Why the peer refused us, by the alert that it sent (RFC 8446, section 6.2).
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// `certificate_required`: we showed no certificate.
    #[error("it demands a certificate and got none (alert certificate_required)")]
    NoCertificate,
    /// `unknown_ca`: it does not trust our CA.
    #[error("it does not trust the CA of our certificate (alert unknown_ca)")]
    UnknownIssuer,
    /// `certificate_expired`: by its clock our certificate is not valid now.
    #[error("by its clock our certificate is not valid now (alert certificate_expired)")]
    Expired,
    /// `certificate_unknown`, `access_denied`: our certificate is valid, our identity not wanted.
    #[error("it does not accept our identity (alert certificate_unknown or access_denied)")]
    Identity,
    /// `bad_certificate`, `unsupported_certificate`, `certificate_revoked`, `decrypt_error`.
    #[error("it cannot use our certificate (alert {0})")]
    Certificate(&'static str),
    /// `protocol_version`: it speaks no version of TLS that is allowed here.
    #[error("it speaks no version of TLS that is allowed here (alert protocol_version)")]
    Version,
    /// Any other alert.
    #[error("alert {0}")]
    Other(String),
}

impl PeerFault {
    /// One word from a closed set, for a metric's label. `ok` is not among them.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::NoCertificate => "no_certificate",
            Self::UnknownIssuer => "unknown_issuer",
            Self::Expired { .. } => "expired",
            Self::NotYetValid { .. } => "not_yet_valid",
            Self::WrongIdentity { .. } => "wrong_identity",
            Self::NotSpiffe(_) => "not_spiffe",
            Self::WrongTrustDomain { .. } => "wrong_trust_domain",
            Self::Malformed(_) => "malformed",
            Self::Version(_) => "version",
            Self::Refused(Refusal::NoCertificate) => "refused_no_certificate",
            Self::Refused(Refusal::UnknownIssuer) => "refused_unknown_issuer",
            Self::Refused(Refusal::Expired) => "refused_expired",
            Self::Refused(Refusal::Identity) => "refused_identity",
            Self::Refused(Refusal::Certificate(_)) => "refused_certificate",
            Self::Refused(Refusal::Version) => "refused_version",
            Self::Refused(Refusal::Other(_)) => "refused_other",
            Self::Tls(_) => "tls",
        }
    }

    /// Every label that [`PeerFault::label`] can give.
    pub const LABELS: [&'static str; 17] = [
        "no_certificate",
        "unknown_issuer",
        "expired",
        "not_yet_valid",
        "wrong_identity",
        "not_spiffe",
        "wrong_trust_domain",
        "malformed",
        "version",
        "refused_no_certificate",
        "refused_unknown_issuer",
        "refused_expired",
        "refused_identity",
        "refused_certificate",
        "refused_version",
        "refused_other",
        "tls",
    ];

    /// The fault behind an error of a TLS session.
    #[must_use]
    pub fn from_error(error: &rustls::Error) -> Self {
        use rustls::Error;
        match error {
            Error::NoCertificatesPresented => Self::NoCertificate,
            Error::InvalidCertificate(error) => Self::from_certificate_error(error),
            Error::PeerIncompatible(
                reason @ (PeerIncompatible::Tls12NotOffered
                | PeerIncompatible::Tls12NotOfferedOrEnabled
                | PeerIncompatible::ServerDoesNotSupportTls12Or13
                | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
                | PeerIncompatible::SupportedVersionsExtensionRequired),
            ) => Self::Version(format!("{reason:?}")),
            Error::AlertReceived(alert) => Self::Refused(Refusal::of(*alert)),
            Error::Other(other) => of_other(other).unwrap_or_else(|| Self::Tls(other.to_string())),
            other => Self::Tls(other.to_string()),
        }
    }

    /// The fault behind an I/O error, as a handshake or the first read after it gives it.
    #[must_use]
    pub fn from_io(error: &io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(error) => Self::from_error(error),
            None => {
                let text = error.to_string();
                // HTTP/2 libraries hand on an error's text without the error itself.
                let alert = text.strip_prefix(ALERT_RECEIVED).and_then(Refusal::of_text);
                alert.map_or(Self::Tls(text), Self::Refused)
            }
        }
    }

    fn from_certificate_error(error: &CertificateError) -> Self {
        match error {
            CertificateError::UnknownIssuer => Self::UnknownIssuer,
            CertificateError::ExpiredContext { not_after, .. } => {
                Self::Expired { not_after: since_epoch(*not_after) }
            }
            CertificateError::NotValidYetContext { not_before, .. } => {
                Self::NotYetValid { not_before: since_epoch(*not_before) }
            }
            CertificateError::Other(other) => {
                of_other(other).unwrap_or_else(|| Self::Malformed(other.to_string()))
            }
            other => Self::Malformed(other.to_string()),
        }
    }

    /// The fault as a verifier of certificates states it to rustls. Where rustls has its own
    /// word for it, that word is used, so that the peer receives the exact alert.
    pub(crate) fn into_error(self, now: UnixTime) -> rustls::Error {
        let error = match self {
            Self::UnknownIssuer => CertificateError::UnknownIssuer,
            Self::Expired { not_after } => {
                CertificateError::ExpiredContext { time: now, not_after: unix(not_after) }
            }
            Self::NotYetValid { not_before } => {
                CertificateError::NotValidYetContext { time: now, not_before: unix(not_before) }
            }
            other => CertificateError::Other(OtherError(Arc::new(other))),
        };
        rustls::Error::InvalidCertificate(error)
    }
}

impl Refusal {
    fn of(alert: AlertDescription) -> Self {
        match alert {
            AlertDescription::CertificateRequired | AlertDescription::NoCertificate => {
                Self::NoCertificate
            }
            AlertDescription::UnknownCA => Self::UnknownIssuer,
            AlertDescription::CertificateExpired => Self::Expired,
            AlertDescription::CertificateUnknown | AlertDescription::AccessDenied => Self::Identity,
            AlertDescription::BadCertificate => Self::Certificate("bad_certificate"),
            AlertDescription::UnsupportedCertificate => {
                Self::Certificate("unsupported_certificate")
            }
            AlertDescription::CertificateRevoked => Self::Certificate("certificate_revoked"),
            AlertDescription::DecryptError => Self::Certificate("decrypt_error"),
            AlertDescription::ProtocolVersion => Self::Version,
            other => Self::Other(format!("{other:?}")),
        }
    }

    fn of_text(name: &str) -> Option<Self> {
        // Every alert has a number of one byte: this asks all of them for their names.
        (0..=u8::MAX)
            .map(AlertDescription::from)
            .find(|alert| format!("{alert:?}") == name)
            .map(Self::of)
    }
}

fn of_other(error: &OtherError) -> Option<PeerFault> {
    error.0.downcast_ref::<PeerFault>().cloned()
}

pub(crate) fn unix(time: SystemTime) -> UnixTime {
    UnixTime::since_unix_epoch(time.duration_since(UNIX_EPOCH).unwrap_or_default())
}

pub(crate) fn since_epoch(time: UnixTime) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_secs(time.as_secs())).unwrap_or(UNIX_EPOCH)
}
