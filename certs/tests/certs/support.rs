//! What the tests of handshakes share: a CA at a fixed time, strange certificates, and one
//! handshake on a pipe with both of its outcomes.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use certs::{DevelopmentCa, Identity, Leaf, PeerFault, Roots, SpiffeId, TlsMin};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, HandshakeKind, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio_rustls::{TlsAcceptor, TlsConnector};

pub(crate) const TD: &str = "11111111-2222-3333-4444-555555555555.consul";
pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);

/// The time of every test that states none.
pub(crate) fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

pub(crate) fn service(name: &str) -> SpiffeId {
    SpiffeId::for_consul(TD, "default", "dc1", name).unwrap()
}

pub(crate) fn ca() -> DevelopmentCa {
    DevelopmentCa::new(TD.parse().unwrap(), now()).unwrap()
}

pub(crate) fn leaf(ca: &DevelopmentCa, id: &SpiffeId) -> Leaf {
    let issued = ca.issue(id, DAY, now()).unwrap();
    Leaf::from_pem(issued.certificate_pem.as_bytes(), issued.key_pem.as_bytes()).unwrap()
}

pub(crate) fn identity(ca: &DevelopmentCa, name: &str) -> Identity {
    identity_of(leaf(ca, &service(name)), &ca.roots().unwrap())
}

pub(crate) fn identity_of(leaf: Leaf, roots: &Roots) -> Identity {
    Identity::new(leaf, roots.clone(), TlsMin::V1_3).unwrap()
}

/// A clock that stands still.
#[derive(Debug)]
pub(crate) struct At(pub(crate) SystemTime);

impl TimeProvider for At {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(self.0.duration_since(UNIX_EPOCH).ok()?))
    }
}

pub(crate) fn server_at(identity: &Identity, time: SystemTime) -> Arc<ServerConfig> {
    let mut config = ServerConfig::clone(&identity.server_config());
    config.time_provider = Arc::new(At(time));
    Arc::new(config)
}

pub(crate) fn client_at(
    identity: &Identity,
    expected: &SpiffeId,
    time: SystemTime,
) -> Arc<ClientConfig> {
    let mut config = ClientConfig::clone(&identity.client_config(expected));
    config.time_provider = Arc::new(At(time));
    Arc::new(config)
}

/// What one side holds after a handshake and one answered byte.
#[derive(Debug)]
pub(crate) struct Side {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) kind: HandshakeKind,
    pub(crate) alpn: Option<Vec<u8>>,
}

/// Both outcomes of one connection: the handshake, then a byte each way.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) client: Result<Side, PeerFault>,
    pub(crate) server: Result<Side, PeerFault>,
}

pub(crate) async fn connect(client: Arc<ClientConfig>, server: Arc<ServerConfig>) -> Outcome {
    let (near, far) = duplex(64 * 1024);
    let accepting = async {
        let mut stream = TlsAcceptor::from(server).accept(far).await?;
        let byte = stream.read_u8().await?;
        stream.write_u8(byte + 1).await?;
        stream.flush().await?;
        let (_, session) = stream.get_ref();
        let side = Side {
            chain: session.peer_certificates().unwrap_or_default().to_vec(),
            kind: session.handshake_kind().unwrap(),
            alpn: session.alpn_protocol().map(<[u8]>::to_vec),
        };
        // The client reads to the end of file, and with it the tickets.
        stream.shutdown().await?;
        Ok(side)
    };
    let connecting = async {
        let name = ServerName::try_from("web.default.dc1.internal.example").unwrap();
        let mut stream = TlsConnector::from(client).connect(name, near).await?;
        // A client of TLS 1.3 learns only on its first read that it was refused; what it
        // writes before that may or may not find the pipe open.
        let _ = stream.write_u8(1).await;
        let _ = stream.flush().await;
        assert_eq!(stream.read_u8().await?, 2);
        let _ = stream.read(&mut [0]).await;
        let (_, session) = stream.get_ref();
        Ok(Side {
            chain: session.peer_certificates().unwrap_or_default().to_vec(),
            kind: session.handshake_kind().unwrap(),
            alpn: session.alpn_protocol().map(<[u8]>::to_vec),
        })
    };
    let both = async { tokio::join!(connecting, accepting) };
    let (client, server): (io::Result<Side>, io::Result<Side>) =
        tokio::time::timeout(Duration::from_secs(10), both).await.expect("the handshake ends");
    let fault = |error: io::Error| PeerFault::from_io(&error);
    Outcome { client: client.map_err(fault), server: server.map_err(fault) }
}

/// A CA without any of Consul's habits, for certificates that no good CA issues.
pub(crate) struct Forge(CertifiedIssuer<'static, KeyPair>);

impl Forge {
    /// A root that states the given names.
    pub(crate) fn new(uris: &[&str]) -> Self {
        let params = Self::root_params(uris);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A root whose time ends.
    pub(crate) fn until(not_after: SystemTime) -> Self {
        let mut params = Self::root_params(&[]);
        params.not_after = not_after.into();
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// An authority below this one, whose time ends.
    pub(crate) fn below(&self, not_after: SystemTime) -> Self {
        let mut params = Self::root_params(&[]);
        params.not_after = not_after.into();
        params.distinguished_name.push(rcgen::DnType::CommonName, "below");
        Self(CertifiedIssuer::signed_by(params, KeyPair::generate().unwrap(), &self.0).unwrap())
    }

    pub(crate) fn certificate_pem(&self) -> String {
        self.0.pem()
    }

    fn root_params(uris: &[&str]) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.subject_alt_names = names(uris);
        params
    }

    pub(crate) fn roots(&self) -> Roots {
        Roots::from_der([self.0.der().clone()]).unwrap()
    }

    /// What a workload's certificate should be, to be spoilt.
    pub(crate) fn params(uris: &[&str]) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.not_before = (now() - Duration::from_secs(60)).into();
        params.not_after = (now() + DAY).into();
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        params.subject_alt_names = names(uris);
        params
    }

    /// The certificate and the key, in PEM.
    pub(crate) fn issue(&self, params: CertificateParams, key: &KeyPair) -> (String, String) {
        (params.signed_by(key, &self.0).unwrap().pem(), key.serialize_pem())
    }

    pub(crate) fn leaf(&self, params: CertificateParams) -> Leaf {
        let (cert, key) = self.issue(params, &KeyPair::generate().unwrap());
        Leaf::from_pem(cert.as_bytes(), key.as_bytes()).unwrap()
    }
}

fn names(uris: &[&str]) -> Vec<SanType> {
    uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect()
}
