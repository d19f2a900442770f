//! A workload's identity at one moment: its leaf, the roots it trusts, and the TLS of both
//! directions made from them. It never changes; a new leaf or new roots make a new one, and all
//! resumption state of the old dies with it.

use std::sync::Arc;
use std::time::SystemTime;

use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs::{Ticketer, default_provider};
use rustls::pki_types::CertificateDer;
use rustls::server::NoServerSessionStorage;
use rustls::sign::SingleCertAndKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use thiserror::Error;

use crate::fault::{PeerFault, unix};
use crate::leaf::Leaf;
use crate::roots::Roots;
use crate::spiffe::{SpiffeId, TrustDomain};
use crate::verifier::{Chain, Inbound, Judge, Outbound, Peer, Role};
use crate::x509::Facts;

const ALPN_H2: &[u8] = b"h2";

static TLS13_ALONE: [&SupportedProtocolVersion; 1] = [&TLS13];
static TLS12_AND_13: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];

/// Sessions that one client configuration may resume: a few per server name, and it has one.
const CLIENT_SESSIONS: usize = 8;

/// The oldest version of TLS that is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsMin {
    /// For meshes with peers that know no TLS 1.3.
    V1_2,
    /// The default.
    #[default]
    V1_3,
}

/// A workload's leaf and roots, and the TLS made from them.
pub struct Identity {
    leaf: Leaf,
    judge: Arc<Judge>,
    tls_min: TlsMin,
    server: Arc<ServerConfig>,
    /// Accepts nobody until it is given whom to expect.
    client: ClientConfig,
}

/// Why no TLS could be made from a leaf and roots.
#[derive(Clone, Debug, PartialEq, Error)]
#[error("TLS cannot be set up: {0}")]
pub struct IdentityError(rustls::Error);

impl Identity {
    /// Makes the TLS of both directions. Costs one key for tickets; meant for each rotation,
    /// not for each connection.
    ///
    /// # Errors
    /// Where the cryptographic library refuses, which needs a broken installation.
    pub fn new(leaf: Leaf, roots: Roots, tls_min: TlsMin) -> Result<Self, IdentityError> {
        Self::of_one_mesh(leaf, roots, tls_min, Vec::new())
    }

    /// As [`Identity::new`], for a mesh that has more than one name, as while its authority goes
    /// from one trust domain to another: a server's ID counts as the expected one also where only
    /// their trust domains differ and both of these are in `names`. What a root may vouch for
    /// stays as it is: its own trust domain.
    ///
    /// # Errors
    /// As [`Identity::new`].
    pub fn of_one_mesh(
        leaf: Leaf,
        roots: Roots,
        tls_min: TlsMin,
        names: Vec<TrustDomain>,
    ) -> Result<Self, IdentityError> {
        let provider = Arc::new(default_provider());
        let algorithms = provider.signature_verification_algorithms;
        let judge = Arc::new(Judge::new(roots, leaf.id().clone(), names, algorithms));
        let resolver = Arc::new(SingleCertAndKey::from(leaf.certified_key().clone()));
        let mut server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(tls_min.versions())
            .map_err(IdentityError)?
            .with_client_cert_verifier(Arc::new(Inbound(judge.clone())))
            .with_cert_resolver(resolver.clone());
        server.alpn_protocols = vec![ALPN_H2.to_vec()];
        // Tickets keep a session with the client; a store would keep thousands of chains here.
        server.ticketer = Ticketer::new().map_err(IdentityError)?;
        server.session_storage = Arc::new(NoServerSessionStorage {});
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(tls_min.versions())
            .map_err(IdentityError)?
            .with_root_certificates(RootCertStore::empty())
            .with_client_cert_resolver(resolver);
        client.alpn_protocols = vec![ALPN_H2.to_vec()];
        client.resumption = Resumption::disabled();
        Ok(Self { leaf, judge, tls_min, server: Arc::new(server), client })
    }

    /// The workload's own certificate and key.
    #[must_use]
    pub fn leaf(&self) -> &Leaf {
        &self.leaf
    }

    /// The authorities it trusts.
    #[must_use]
    pub fn roots(&self) -> &Roots {
        self.judge.roots()
    }

    /// TLS for accepting: demands a client certificate and accepts every workload of the
    /// roots' trust domains. The one configuration of this identity, made once.
    #[must_use]
    pub fn server_config(&self) -> Arc<ServerConfig> {
        self.server.clone()
    }

    /// TLS for connecting to one workload: its chain is verified, no DNS name is asked, and its
    /// ID must be the expected one. Made anew by each call, with sessions of its own: keep it
    /// for as long as the endpoint and this identity live.
    #[must_use]
    pub fn client_config(&self, expected: &SpiffeId) -> Arc<ClientConfig> {
        let verifier = Outbound { judge: self.judge.clone(), expected: expected.clone() };
        let mut client = self.client.clone();
        client.dangerous().set_certificate_verifier(Arc::new(verifier));
        client.resumption = Resumption::in_memory_sessions(CLIENT_SESSIONS);
        Arc::new(client)
    }

    /// Judges a client's chain (leaf first) again, as on a connection that was accepted before
    /// the roots changed.
    ///
    /// # Errors
    /// Where a handshake with it would now be refused.
    pub fn judge(&self, chain: &[CertificateDer<'_>], now: SystemTime) -> Result<Peer, PeerFault> {
        self.judge.client(split(chain)?, Role::Either, unix(now))
    }

    /// Judges a server's chain (leaf first) again, as on a connection that was made to
    /// `expected` before the roots changed.
    ///
    /// # Errors
    /// Where a handshake with it would now be refused.
    pub fn judge_server(
        &self,
        chain: &[CertificateDer<'_>],
        expected: &SpiffeId,
        now: SystemTime,
    ) -> Result<Peer, PeerFault> {
        self.judge.server(split(chain)?, expected, Role::Either, unix(now))
    }

    /// The peer of a handshake that this identity has just made (`peer_certificates` of the TLS
    /// session). The handshake has accepted it; only its time is asked again, since a resumed
    /// session brings the chain of its first handshake. Cheap where the chain is a leaf alone,
    /// as Consul's mostly are: no signature is checked twice.
    ///
    /// # Errors
    /// Where the chain has expired meanwhile.
    pub fn peer(
        &self,
        handshake_chain: Option<&[CertificateDer<'_>]>,
        now: SystemTime,
    ) -> Result<Peer, PeerFault> {
        let chain = split(handshake_chain.unwrap_or_default())?;
        if !chain.1.is_empty() {
            // Which of the others lead to a root, and so limit its time, only a path tells.
            return self.judge.prove(chain, Role::Either, unix(now)).map(|(peer, _)| peer);
        }
        let leaf = Facts::read(chain.0).map_err(PeerFault::Malformed)?;
        let id = leaf.workload().map_err(PeerFault::NotSpiffe)?;
        let not_after = leaf.not_after;
        if not_after < now {
            Err(PeerFault::Expired { not_after })
        } else {
            Ok(Peer { id, not_after })
        }
    }
}

fn split<'a>(chain: &'a [CertificateDer<'a>]) -> Result<Chain<'a>, PeerFault> {
    chain.split_first().ok_or(PeerFault::NoCertificate)
}

impl TlsMin {
    fn versions(self) -> &'static [&'static SupportedProtocolVersion] {
        match self {
            Self::V1_2 => &TLS12_AND_13,
            Self::V1_3 => &TLS13_ALONE,
        }
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity")
            .field("leaf", &self.leaf)
            .field("roots", self.roots())
            .field("tls_min", &self.tls_min)
            .finish_non_exhaustive()
    }
}
