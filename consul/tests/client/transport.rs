//! TCP, unix sockets, TLS; kept connections, limits and times.

use std::{fs, sync::Arc, time::Duration};

use consul::{Address, Client, Config, Error, Tls};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tokio::net::{TcpListener, UnixListener};
use tokio_rustls::TlsAcceptor;

use crate::server::{Server, answer};

#[tokio::test]
async fn requests_share_a_connection() {
    let server = Server::new(|_, _| answer(200, 1, "[]"));
    let client = server.client().await;
    for _ in 0..5 {
        client.health().service("x").send().await.unwrap();
    }
    assert_eq!((server.asked().len(), server.connections()), (5, 1));
}

#[tokio::test]
async fn a_refusal_leaves_the_connection_usable() {
    let server = Server::new(|_, _| answer(403, 1, "Permission denied"));
    let client = server.client().await;
    for _ in 0..3 {
        assert!(client.health().service("x").send().await.unwrap_err().is_forbidden());
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_unix_socket_serves() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("consul.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let server = Server::new(|_, _| answer(200, 7, "[]"));
    tokio::spawn({
        let server = server.clone();
        async move { server.serve(listener.accept().await.unwrap().0).await }
    });
    let address = format!("unix://{}", path.display()).parse().unwrap();
    let client = Client::new(Config { address, ..Config::default() }).unwrap();
    let meta = client.health().service("x").send().await.unwrap().meta;
    assert_eq!(meta.index, Some(7));
}

#[tokio::test]
async fn an_agent_that_is_not_there_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let address = Address::Tcp { host: "127.0.0.1".into(), port, tls: false };
    let client = Client::new(Config { address, ..Config::default() }).unwrap();
    let error = client.status().leader().send().await.unwrap_err();
    assert!(error.is_outage());
    let words = error.to_string();
    assert!(words.contains(&format!("http://127.0.0.1:{port}")), "{words}");
    assert!(words.contains("refused"), "{words}");
}

#[tokio::test]
async fn an_agent_that_says_nothing_is_given_up() {
    let server = Server::new(|_, _| None);
    let config = Config { request_timeout: Duration::from_millis(50), ..server.listen().await };
    let error = Client::new(config).unwrap().status().leader().send().await.unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error:?}");
    assert!(error.is_outage());
}

#[tokio::test]
async fn an_answer_over_the_limit_is_not_read() {
    let server = Server::new(|_, _| answer(200, 1, &format!("[{}]", " ".repeat(2000))));
    let config = Config { max_body: 1000, ..server.listen().await };
    let error = Client::new(config).unwrap().health().service("x").send().await.unwrap_err();
    let words = error.to_string();
    assert!(matches!(error, Error::TooLarge { limit: 1000, .. }), "{words}");
    assert!(words.contains("GET /v1/health/service/x"), "{words}");
}

/// A server's and a client's certificate from one CA, as PEM files.
struct Pki {
    dir: tempfile::TempDir,
}

impl Pki {
    fn new() -> Pki {
        let dir = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        fs::write(dir.path().join("ca.pem"), ca.pem()).unwrap();
        for name in ["server.dc1.consul", "client"] {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            let cert = params.signed_by(&key, &ca).unwrap();
            fs::write(dir.path().join(format!("{name}.pem")), cert.pem()).unwrap();
            fs::write(dir.path().join(format!("{name}.key")), key.serialize_pem()).unwrap();
        }
        Pki { dir }
    }

    fn path(&self, file: &str) -> std::path::PathBuf {
        self.dir.path().join(file)
    }

    /// Serves HTTPS to those with a certificate of the same CA.
    async fn listen(&self, server: &Server) -> Address {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.path("ca.pem")).unwrap()).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(
                vec![CertificateDer::from_pem_file(self.path("server.dc1.consul.pem")).unwrap()],
                PrivateKeyDer::from_pem_file(self.path("server.dc1.consul.key")).unwrap(),
            )
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = server.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                if let Ok(stream) = acceptor.accept(stream).await {
                    tokio::spawn(server.clone().serve(stream));
                }
            }
        });
        Address::Tcp { host: "127.0.0.1".into(), port, tls: true }
    }

    fn tls(&self) -> Tls {
        Tls {
            ca_file: Some(self.path("ca.pem")),
            client: Some((self.path("client.pem"), self.path("client.key"))),
            server_name: Some("server.dc1.consul".into()),
            ..Tls::default()
        }
    }
}

#[tokio::test]
async fn tls_is_verified_both_ways() {
    let pki = Pki::new();
    let server = Server::new(|_, _| answer(200, 1, "\"leader\""));
    let address = pki.listen(&server).await;
    let ask = async |tls: Tls| {
        let config = Config { address: address.clone(), tls, ..Config::default() };
        Client::new(config).unwrap().status().leader().send().await
    };
    assert_eq!(ask(pki.tls()).await.unwrap().value, "leader");
    let anonymous = ask(Tls { client: None, ..pki.tls() }).await.unwrap_err();
    assert!(anonymous.is_outage(), "{anonymous}");
    let misnamed = ask(Tls { server_name: None, ..pki.tls() }).await.unwrap_err();
    assert!(misnamed.to_string().contains("not valid for name"), "{misnamed}");
    let stranger = Pki::new();
    let unknown = Tls { ca_file: Some(stranger.path("ca.pem")), ..pki.tls() };
    let unknown = ask(unknown).await.unwrap_err();
    assert!(unknown.to_string().contains("certificate"), "{unknown}");
    let unverified = Tls { ca_file: None, server_name: None, verify: false, ..pki.tls() };
    assert_eq!(ask(unverified).await.unwrap().value, "leader");
}

#[test]
fn a_tls_file_that_does_not_serve_is_named() {
    let pki = Pki::new();
    let refused = |tls: Tls| {
        let address = "https://localhost:8501".parse().unwrap();
        Client::new(Config { address, tls, ..Config::default() }).unwrap_err().to_string()
    };
    let missing = refused(Tls { ca_file: Some("/nowhere/ca.pem".into()), ..pki.tls() });
    assert!(missing.starts_with("CONSUL_CACERT: found /nowhere/ca.pem"), "{missing}");
    let key = (pki.path("client.pem"), pki.path("client.pem"));
    let no_key = refused(Tls { client: Some(key), ..pki.tls() });
    assert!(no_key.starts_with("CONSUL_CLIENT_KEY: found "), "{no_key}");
    let mismatched = (pki.path("client.pem"), pki.path("server.dc1.consul.key"));
    let mismatched = refused(Tls { client: Some(mismatched), ..pki.tls() });
    assert!(mismatched.contains("expected the key of CONSUL_CLIENT_CERT"), "{mismatched}");
    let path = refused(Tls { ca_path: Some("/nowhere".into()), ..pki.tls() });
    assert!(path.starts_with("CONSUL_CAPATH: found /nowhere"), "{path}");
}
