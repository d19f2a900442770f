//! Who may be at the other end of a connection: the chain first, then the name it vouches for.
//! One judgement serves both directions and open connections alike; no DNS name is ever asked.

use std::sync::Arc;
use std::time::SystemTime;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, SignatureScheme};
use webpki::{EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter, KeyUsage};

use crate::fault::{PeerFault, since_epoch, unix};
use crate::roots::Roots;
use crate::spiffe::SpiffeId;
use crate::x509::Facts;

/// A workload at the other end of a connection, proved by its certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Who it is.
    pub id: SpiffeId,
    /// Until when it has proved that: the first end of validity in its chain.
    pub not_after: SystemTime,
}

/// What a certificate is shown for.
#[derive(Clone, Copy)]
pub(crate) enum Role {
    Client,
    Server,
    /// On an open connection, whose handshake has asked for the usage.
    Either,
}

/// The judgement over chains, from one set of roots.
pub(crate) struct Judge {
    roots: Roots,
    anchors: Vec<TrustAnchor<'static>>,
    /// Whose trust domain a root vouches for that states none.
    own: SpiffeId,
    algorithms: WebPkiSupportedAlgorithms,
}

/// Accepts every workload of the trust domains, as a server.
#[derive(Debug)]
pub(crate) struct Inbound(pub(crate) Arc<Judge>);

/// Accepts one workload alone, as a client.
#[derive(Debug)]
pub(crate) struct Outbound {
    pub(crate) judge: Arc<Judge>,
    pub(crate) expected: SpiffeId,
}

impl Judge {
    pub(crate) fn new(roots: Roots, own: SpiffeId, algorithms: WebPkiSupportedAlgorithms) -> Self {
        let anchors = roots.iter().map(|root| root.anchor.clone()).collect();
        Self { roots, anchors, own, algorithms }
    }

    pub(crate) fn roots(&self) -> &Roots {
        &self.roots
    }

    /// The peer that a chain proves: signed by a root, valid now, one SPIFFE ID, of the trust
    /// domain that its root vouches for.
    pub(crate) fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        role: Role,
        now: UnixTime,
    ) -> Result<Peer, PeerFault> {
        let certificate = EndEntityCert::try_from(leaf).map_err(chain_fault)?;
        let path = certificate
            .verify_for_usage(
                self.algorithms.all,
                &self.anchors,
                intermediates,
                now,
                role,
                None,
                None,
            )
            .map_err(chain_fault)?;

        let facts = Facts::read(leaf).map_err(PeerFault::Malformed)?;
        let id = facts.workload().map_err(PeerFault::NotSpiffe)?;
        let mut not_after = facts.not_after;
        for intermediate in path.intermediate_certificates() {
            let facts = Facts::read(&intermediate.der()).map_err(PeerFault::Malformed)?;
            not_after = not_after.min(facts.not_after);
        }
        let root = self
            .roots
            .iter()
            .find(|root| root.anchor == *path.anchor())
            .ok_or(PeerFault::UnknownIssuer)?;
        // The path's builder does not ask whether a root itself is still valid.
        if unix(root.not_after) < now {
            return Err(PeerFault::Expired { not_after: root.not_after });
        }
        not_after = not_after.min(root.not_after);
        let trusted = match &root.trust_domain {
            Some(domain) => domain.as_str(),
            None => self.own.trust_domain(),
        };
        // A client names the very ID that it expects: a root without a trust domain may prove it.
        let exact = matches!(role, Role::Server) && root.trust_domain.is_none();
        if !exact && id.trust_domain() != trusted {
            return Err(PeerFault::WrongTrustDomain { found: id, trusted: trusted.to_owned() });
        }
        Ok(Peer { id, not_after })
    }
}

impl ClientCertVerifier for Inbound {
    // Every certificate authority's name would go to whoever connects, and no workload chooses
    // its certificate by it.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        match self.0.judge(end_entity, intermediates, Role::Client, now) {
            Ok(_) => Ok(ClientCertVerified::assertion()),
            Err(fault) => Err(fault.into_error(now)),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.algorithms.supported_schemes()
    }
}

impl ServerCertVerifier for Outbound {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let fault = match self.judge.judge(end_entity, intermediates, Role::Server, now) {
            Ok(peer) if peer.id.is_same_workload(&self.expected) => {
                return Ok(ServerCertVerified::assertion());
            }
            Ok(peer) => {
                PeerFault::WrongIdentity { expected: self.expected.clone(), found: peer.id }
            }
            Err(fault) => fault,
        };
        Err(fault.into_error(now))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.judge.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.judge.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.judge.algorithms.supported_schemes()
    }
}

impl ExtendedKeyUsageValidator for Role {
    fn validate(&self, usages: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        match self {
            Self::Client => KeyUsage::client_auth().validate(usages),
            Self::Server => KeyUsage::server_auth().validate(usages),
            Self::Either => Ok(()),
        }
    }
}

fn chain_fault(error: webpki::Error) -> PeerFault {
    use webpki::Error;
    match error {
        // A bad signature is that of a CA with a trusted one's name and another key.
        Error::UnknownIssuer | Error::InvalidSignatureForPublicKey => PeerFault::UnknownIssuer,
        Error::CertExpired { not_after, .. } => {
            PeerFault::Expired { not_after: since_epoch(not_after) }
        }
        Error::CertNotValidYet { not_before, .. } => {
            PeerFault::NotYetValid { not_before: since_epoch(not_before) }
        }
        Error::RequiredEkuNotFoundContext(_) => PeerFault::Malformed(
            "its extended key usage does not allow what it is shown for (both client and \
             server authentication are expected)"
                .to_owned(),
        ),
        Error::CaUsedAsEndEntity => PeerFault::NotSpiffe(crate::x509::NotSpiffe::Ca),
        other => PeerFault::Malformed(other.to_string()),
    }
}

impl std::fmt::Debug for Judge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Judge").field("roots", &self.roots).field("own", &self.own).finish()
    }
}
