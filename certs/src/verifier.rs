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
use crate::roots::{Root, Roots};
use crate::spiffe::{SpiffeId, TrustDomain};
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

/// A chain as TLS hands it over: the leaf, then what may lead to a root.
pub(crate) type Chain<'a> = (&'a CertificateDer<'a>, &'a [CertificateDer<'a>]);

/// The judgement over chains, from one set of roots.
pub(crate) struct Judge {
    roots: Roots,
    anchors: Vec<TrustAnchor<'static>>,
    /// Whose trust domain a root vouches for that states none.
    own: SpiffeId,
    /// The trust domains that are names of one and the same mesh.
    names: Vec<TrustDomain>,
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
    pub(crate) fn new(
        roots: Roots,
        own: SpiffeId,
        names: Vec<TrustDomain>,
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Self {
        let anchors = roots.iter().map(|root| root.anchor.clone()).collect();
        Self { roots, anchors, own, names, algorithms }
    }

    pub(crate) fn roots(&self) -> &Roots {
        &self.roots
    }

    /// Judges a client: any workload of the trust domain that its root vouches for.
    pub(crate) fn client(
        &self,
        chain: Chain<'_>,
        role: Role,
        now: UnixTime,
    ) -> Result<Peer, PeerFault> {
        let (peer, root) = self.prove(chain, role, now)?;
        let trusted = root.trust_domain.as_ref().map(TrustDomain::as_str);
        within(&peer.id, trusted.unwrap_or(self.own.trust_domain()))?;
        Ok(peer)
    }

    /// Judges a server: the one workload that was called. Since it was named exactly, a root
    /// that states no trust domain may prove any.
    pub(crate) fn server(
        &self,
        chain: Chain<'_>,
        expected: &SpiffeId,
        role: Role,
        now: UnixTime,
    ) -> Result<Peer, PeerFault> {
        let (peer, root) = self.prove(chain, role, now)?;
        if let Some(trusted) = &root.trust_domain {
            within(&peer.id, trusted.as_str())?;
        }
        if peer.id.is_same_workload(expected) || self.is_renamed(&peer.id, expected) {
            Ok(peer)
        } else {
            Err(PeerFault::WrongIdentity { expected: expected.clone(), found: peer.id })
        }
    }

    /// Whether two IDs differ only in which of the mesh's names they bear.
    fn is_renamed(&self, one: &SpiffeId, other: &SpiffeId) -> bool {
        let named =
            |id: &SpiffeId| self.names.iter().any(|name| name.as_str() == id.trust_domain());
        named(one) && named(other) && one.has_same_path(other)
    }

    /// The workload that a chain names, signed by a root and valid now; and that root. Whether
    /// the root may vouch for this workload is not asked here.
    pub(crate) fn prove(
        &self,
        (leaf, intermediates): Chain<'_>,
        role: Role,
        now: UnixTime,
    ) -> Result<(Peer, &Root), PeerFault> {
        let certificate = EndEntityCert::try_from(leaf).map_err(chain_fault)?;
        let all = self.algorithms.all;
        let path = certificate
            .verify_for_usage(all, &self.anchors, intermediates, now, role, None, None)
            .map_err(chain_fault)?;
        let root = self
            .roots
            .iter()
            .find(|root| root.anchor == *path.anchor())
            .ok_or(PeerFault::UnknownIssuer)?;
        // The path's builder does not ask whether a root itself is still valid.
        if unix(root.not_after) < now {
            return Err(PeerFault::Expired { not_after: root.not_after });
        }

        let facts = Facts::read(leaf).map_err(PeerFault::Malformed)?;
        let id = facts.workload().map_err(PeerFault::NotSpiffe)?;
        let mut not_after = facts.not_after.min(root.not_after);
        for intermediate in path.intermediate_certificates() {
            let facts = Facts::read(&intermediate.der()).map_err(PeerFault::Malformed)?;
            not_after = not_after.min(facts.not_after);
        }
        Ok((Peer { id, not_after }, root))
    }
}

fn within(id: &SpiffeId, trusted: &str) -> Result<(), PeerFault> {
    if id.trust_domain() == trusted {
        return Ok(());
    }
    Err(PeerFault::WrongTrustDomain { found: id.clone(), trusted: trusted.to_owned() })
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
        match self.0.client((end_entity, intermediates), Role::Client, now) {
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
        let chain = (end_entity, intermediates);
        match self.judge.server(chain, &self.expected, Role::Server, now) {
            Ok(_) => Ok(ServerCertVerified::assertion()),
            Err(fault) => Err(fault.into_error(now)),
        }
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
