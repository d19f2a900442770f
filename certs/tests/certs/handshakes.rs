//! Who is accepted and who is refused, over real handshakes on pipes, each refusal told apart
//! on both sides.

use std::sync::Arc;
use std::time::Duration;

use certs::{DevelopmentCa, Identity, NotSpiffe, Peer, PeerFault, Refusal, SpiffeId, TlsMin};
use rcgen::{ExtendedKeyUsagePurpose, KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::CertificateDer;
use rustls::sign::SingleCertAndKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, HandshakeKind};

use crate::reckless::reckless;
use crate::support::*;

#[tokio::test]
async fn the_right_peer_is_accepted_both_ways_and_its_id_handed_on() {
    let ca = ca();
    let (web, api) = (identity(&ca, "web"), identity(&ca, "api"));
    let outcome = connect(client_at(&web, &service("api"), now()), server_at(&api, now())).await;
    let (client, server) = (outcome.client.unwrap(), outcome.server.unwrap());

    let seen = api.peer(Some(&server.chain), now()).unwrap();
    assert_eq!(seen, Peer { id: service("web"), not_after: web.leaf().not_after() });
    assert_eq!(web.peer(Some(&client.chain), now()).unwrap().id, service("api"));
    assert_eq!(api.judge(&server.chain, now()), Ok(seen));
    assert_eq!(client.alpn.as_deref(), Some(b"h2".as_slice()));
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused_and_told_so() {
    let api = identity(&ca(), "api");
    let outcome = connect(Arc::new(reckless(None, &[&TLS13])), server_at(&api, now())).await;
    assert_eq!(outcome.server.unwrap_err(), PeerFault::NoCertificate);
    assert_eq!(outcome.client.unwrap_err(), PeerFault::Refused(Refusal::NoCertificate));
}

#[tokio::test]
async fn a_client_of_another_ca_is_refused_and_told_so() {
    let (web, api) = (identity(&ca(), "web"), identity(&ca(), "api"));
    let outcome = connect(Arc::new(reckless(Some(&web), &[&TLS13])), server_at(&api, now())).await;
    assert_eq!(outcome.server.unwrap_err(), PeerFault::UnknownIssuer);
    assert_eq!(outcome.client.unwrap_err(), PeerFault::Refused(Refusal::UnknownIssuer));
}

#[tokio::test]
async fn a_server_of_another_ca_is_refused_and_told_so() {
    let (web, api) = (identity(&ca(), "web"), identity(&ca(), "api"));
    let outcome = connect(client_at(&web, &service("api"), now()), server_at(&api, now())).await;
    assert_eq!(outcome.client.unwrap_err(), PeerFault::UnknownIssuer);
    assert_eq!(outcome.server.unwrap_err(), PeerFault::Refused(Refusal::UnknownIssuer));
}

#[tokio::test]
async fn an_expired_client_is_refused_and_told_so() {
    let ca = ca();
    let (web, api) = (identity(&ca, "web"), identity(&ca, "api"));
    let late = now() + 2 * DAY;
    // The client's clock is behind: it still takes the server's leaf for valid.
    let outcome = connect(client_at(&web, &service("api"), now()), server_at(&api, late)).await;
    let not_after = web.leaf().not_after();
    assert_eq!(outcome.server.unwrap_err(), PeerFault::Expired { not_after });
    assert_eq!(outcome.client.unwrap_err(), PeerFault::Refused(Refusal::Expired));
}

#[tokio::test]
async fn an_expired_server_is_refused_and_told_so() {
    let ca = ca();
    let (web, api) = (identity(&ca, "web"), identity(&ca, "api"));
    let late = now() + 2 * DAY;
    let outcome = connect(client_at(&web, &service("api"), late), server_at(&api, now())).await;
    let not_after = api.leaf().not_after();
    assert_eq!(outcome.client.unwrap_err(), PeerFault::Expired { not_after });
    assert_eq!(outcome.server.unwrap_err(), PeerFault::Refused(Refusal::Expired));
}

#[tokio::test]
async fn a_leaf_from_the_future_is_refused() {
    let ca = ca();
    let (web, api) = (identity(&ca, "web"), identity(&ca, "api"));
    let early = now() - Duration::from_secs(3600);
    let outcome = connect(client_at(&web, &service("api"), now()), server_at(&api, early)).await;
    let not_before = now() - Duration::from_secs(60);
    assert_eq!(outcome.server.unwrap_err(), PeerFault::NotYetValid { not_before });
    assert_eq!(outcome.client.unwrap_err(), PeerFault::Refused(Refusal::Expired));
}

#[tokio::test]
async fn a_server_with_another_services_identity_is_refused_by_name() {
    let ca = ca();
    let (web, fake) = (identity(&ca, "web"), identity(&ca, "fake"));
    let outcome = connect(client_at(&web, &service("api"), now()), server_at(&fake, now())).await;
    let wrong = PeerFault::WrongIdentity { expected: service("api"), found: service("fake") };
    assert_eq!(outcome.client.unwrap_err(), wrong);
    assert_eq!(outcome.server.unwrap_err(), PeerFault::Refused(Refusal::Identity));
}

#[tokio::test]
async fn the_default_partition_spelt_out_is_the_same_server() {
    let ca = ca();
    let long = format!("spiffe://{TD}/ap/default/ns/default/dc/dc1/svc/api").parse().unwrap();
    let (web, api) = (identity(&ca, "web"), identity_of(leaf(&ca, &long), &ca.roots().unwrap()));
    let outcome = connect(client_at(&web, &service("api"), now()), server_at(&api, now())).await;
    assert!(outcome.client.is_ok() && outcome.server.is_ok());
}

#[tokio::test]
async fn a_mesh_of_two_names_takes_a_server_under_either_and_no_other_server() {
    let (old, new) = (ca(), DevelopmentCa::new("new.consul".parse().unwrap(), now()).unwrap());
    let renamed = SpiffeId::for_consul("new.consul", "default", "dc1", "api").unwrap();
    let roots = old.roots().unwrap().union(&new.roots().unwrap());
    let (web, api) = (leaf(&old, &service("web")), identity_of(leaf(&new, &renamed), &roots));
    let names = vec![TD.parse().unwrap(), new.trust_domain().clone()];
    let both = Identity::of_one_mesh(web.clone(), roots.clone(), TlsMin::V1_3, names).unwrap();
    for expected in [service("api"), renamed.clone()] {
        let outcome = connect(client_at(&both, &expected, now()), server_at(&api, now())).await;
        assert!(outcome.client.is_ok() && outcome.server.is_ok(), "{expected}: {outcome:?}");
    }
    let wrong = connect(client_at(&both, &service("db"), now()), server_at(&api, now())).await;
    assert_eq!(wrong.client.unwrap_err().label(), "wrong_identity");

    // That both are trusted makes them no names of one mesh.
    let two = identity_of(web, &roots);
    let wrong = connect(client_at(&two, &service("api"), now()), server_at(&api, now())).await;
    assert_eq!(wrong.client.unwrap_err().label(), "wrong_identity");
}

#[tokio::test]
async fn a_ca_cannot_vouch_for_another_trust_domain() {
    let ca = ca();
    let forge = Forge::new(&["spiffe://other.example"]);
    let roots = ca.roots().unwrap().union(&forge.roots());
    let api = identity_of(leaf(&ca, &service("api")), &roots);
    // Both trust domains are trusted, but each CA speaks for its own alone.
    let intruder = forge.leaf(Forge::params(&[service("web").as_str()]));
    let intruder = identity_of(intruder, &roots);
    let outcome =
        connect(client_at(&intruder, &service("api"), now()), server_at(&api, now())).await;
    let wrong =
        PeerFault::WrongTrustDomain { found: service("web"), trusted: "other.example".to_owned() };
    assert_eq!(outcome.server.unwrap_err(), wrong.clone());
    assert_eq!(outcome.client.unwrap_err(), PeerFault::Refused(Refusal::Identity));

    // Nor can it as a server, though the ID is the very one that was called.
    let outcome =
        connect(client_at(&api, &service("web"), now()), server_at(&intruder, now())).await;
    assert_eq!(outcome.client.unwrap_err(), wrong);

    let friend = identity_of(forge.leaf(Forge::params(&["spiffe://other.example/job"])), &roots);
    let outcome = connect(client_at(&friend, &service("api"), now()), server_at(&api, now())).await;
    let server = outcome.server.unwrap();
    let friend = "spiffe://other.example/job".parse().unwrap();
    assert_eq!(api.peer(Some(&server.chain), now()).unwrap().id, friend);
}

#[tokio::test]
async fn a_root_without_a_trust_domain_vouches_for_our_own() {
    let forge = Forge::new(&[]);
    let roots = forge.roots();
    let at = |uri: &str| identity_of(forge.leaf(Forge::params(&[uri])), &roots);
    let (web, api) = (at("spiffe://a.example/web"), at("spiffe://a.example/api"));
    let foreign = at("spiffe://b.example/web");
    let api_id = api.leaf().id();
    let outcome = connect(client_at(&web, api_id, now()), server_at(&api, now())).await;
    assert!(outcome.server.is_ok());
    // The server was named exactly, so a client of another trust domain accepts it; the server,
    // which named nobody, refuses the client.
    let outcome = connect(client_at(&foreign, api_id, now()), server_at(&api, now())).await;
    assert_eq!(outcome.server.unwrap_err().label(), "wrong_trust_domain");
    assert_eq!(outcome.client.unwrap_err(), PeerFault::Refused(Refusal::Identity));
    let chain = api.leaf().chain();
    assert_eq!(foreign.judge_server(chain, api_id, now()).unwrap().id, *api_id);
    assert_eq!(foreign.judge(chain, now()).unwrap_err().label(), "wrong_trust_domain");
}

#[tokio::test]
async fn a_certificate_that_names_no_single_workload_is_refused() {
    let forge = Forge::new(&[]);
    let roots = forge.roots();
    let own = identity_of(forge.leaf(Forge::params(&["spiffe://a.example/api"])), &roots);
    for (uris, reason) in [
        (&[][..], NotSpiffe::NoUri),
        (&["spiffe://a.example/a", "spiffe://a.example/b"][..], NotSpiffe::ManyUris(2)),
    ] {
        let key = KeyPair::generate().unwrap();
        let (cert, _) = forge.issue(Forge::params(uris), &key);
        let chain = certificates(&cert);
        assert_eq!(own.judge(&chain, now()), Err(PeerFault::NotSpiffe(reason)));
        // The refusal survives the trip through a real handshake too.
        let outcome = connect(client_with(&cert, &key), server_at(&own, now())).await;
        assert_eq!(outcome.server.unwrap_err().label(), "not_spiffe");
        assert_eq!(outcome.client.unwrap_err(), PeerFault::Refused(Refusal::Identity));
    }
}

#[tokio::test]
async fn a_certificate_for_servers_alone_is_no_clients() {
    let forge = Forge::new(&[]);
    let own = identity_of(forge.leaf(Forge::params(&["spiffe://a.example/api"])), &forge.roots());
    let mut params = Forge::params(&["spiffe://a.example/web"]);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let web = identity_of(forge.leaf(params), &forge.roots());
    let outcome = connect(client_at(&web, own.leaf().id(), now()), server_at(&own, now())).await;
    assert_eq!(outcome.server.unwrap_err().label(), "malformed");
}

fn certificates(pem: &str) -> Vec<CertificateDer<'static>> {
    use rustls::pki_types::pem::PemObject;
    CertificateDer::pem_slice_iter(pem.as_bytes()).map(Result::unwrap).collect()
}

fn client_with(cert: &str, key: &KeyPair) -> Arc<ClientConfig> {
    use rustls::pki_types::PrivateKeyDer;
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let key = rustls::sign::CertifiedKey::from_der(certificates(cert), key, &default_provider());
    let mut client = reckless(None, &[&TLS13]);
    client.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(key.unwrap()));
    Arc::new(client)
}

#[tokio::test]
async fn a_peer_of_tls_1_2_is_refused_by_default_and_accepted_where_allowed() {
    let ca = ca();
    let (web, strict) = (identity(&ca, "web"), identity(&ca, "api"));
    let old = Arc::new(reckless(Some(&web), &[&TLS12]));
    let outcome = connect(old.clone(), server_at(&strict, now())).await;
    assert_eq!(outcome.server.unwrap_err().label(), "version");
    assert_eq!(outcome.client.unwrap_err(), PeerFault::Refused(Refusal::Version));

    let mixed = Identity::new(strict.leaf().clone(), strict.roots().clone(), TlsMin::V1_2).unwrap();
    let outcome = connect(old, server_at(&mixed, now())).await;
    assert_eq!(mixed.peer(Some(&outcome.server.unwrap().chain), now()).unwrap().id, service("web"));
}

#[tokio::test]
async fn a_server_of_tls_1_2_is_refused_by_default() {
    let ca = ca();
    let (web, api) = (identity(&ca, "web"), identity(&ca, "api"));
    let old = rustls::ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&TLS12])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(api.server_config().cert_resolver.clone());
    let outcome = connect(client_at(&web, &service("api"), now()), Arc::new(old)).await;
    assert_eq!(outcome.client.unwrap_err(), PeerFault::Refused(Refusal::Version));
    assert_eq!(outcome.server.unwrap_err().label(), "version");
}

#[tokio::test]
async fn rsa_and_ecdsa_leaves_meet() {
    let forge = Forge::new(&["spiffe://a.example"]);
    let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    let (cert, key) = forge.issue(Forge::params(&["spiffe://a.example/rsa"]), &key);
    let leaf = certs::Leaf::from_pem(cert.as_bytes(), key.as_bytes()).unwrap();
    let rsa = identity_of(leaf, &forge.roots());
    let ec = identity_of(forge.leaf(Forge::params(&["spiffe://a.example/ec"])), &forge.roots());
    for (client, server) in [(&rsa, &ec), (&ec, &rsa)] {
        let expected = server.leaf().id();
        let outcome = connect(client_at(client, expected, now()), server_at(server, now())).await;
        assert!(outcome.client.is_ok() && outcome.server.is_ok(), "{outcome:?}");
    }
}

#[tokio::test]
async fn a_session_is_resumed_within_one_identity_and_never_by_the_next() {
    let ca = ca();
    let (web, api) = (identity(&ca, "web"), identity(&ca, "api"));
    let client = client_at(&web, &service("api"), now());
    let server = server_at(&api, now());
    let first = connect(client.clone(), server.clone()).await;
    assert_eq!(first.server.unwrap().kind, HandshakeKind::Full);
    let again = connect(client.clone(), server.clone()).await.server.unwrap();
    assert_eq!(again.kind, HandshakeKind::Resumed);
    // The resumed session still tells who is there, and its time is asked again.
    assert_eq!(api.peer(Some(&again.chain), now()).unwrap().id, service("web"));
    let not_after = web.leaf().not_after();
    let late = now() + 2 * DAY;
    assert_eq!(api.peer(Some(&again.chain), late), Err(PeerFault::Expired { not_after }));

    // The same leaf and roots, but a new identity: its tickets are of another key.
    let next = identity_of(api.leaf().clone(), api.roots());
    let outcome = connect(client, server_at(&next, now())).await;
    assert_eq!(outcome.server.unwrap().kind, HandshakeKind::Full);
    // And a new identity of the client brings no ticket of the old.
    let renewed = identity_of(web.leaf().clone(), web.roots());
    let outcome = connect(client_at(&renewed, &service("api"), now()), server).await;
    assert_eq!(outcome.server.unwrap().kind, HandshakeKind::Full);
}

#[tokio::test]
async fn two_roots_are_trusted_during_a_rotation_and_a_withdrawn_one_no_more() {
    let (old, new) = (ca(), ca());
    let both = old.roots().unwrap().union(&new.roots().unwrap());
    let api = identity_of(leaf(&old, &service("api")), &both);
    for issuer in [&old, &new] {
        let web = identity_of(leaf(issuer, &service("web")), &both);
        let outcome =
            connect(client_at(&web, &service("api"), now()), server_at(&api, now())).await;
        assert!(outcome.client.is_ok());
        let chain = outcome.server.unwrap().chain;
        let after = identity_of(leaf(&new, &service("api")), &new.roots().unwrap());
        let judged = after.judge(&chain, now());
        if std::ptr::eq(issuer, &old) {
            assert_eq!(judged, Err(PeerFault::UnknownIssuer));
        } else {
            assert_eq!(judged.unwrap().id, service("web"));
        }
    }
}

#[tokio::test]
async fn a_chain_holds_until_its_first_end_and_spare_certificates_do_not_count() {
    let root = Forge::new(&[]);
    let below = root.below(now() + DAY / 2);
    let key = KeyPair::generate().unwrap();
    let (cert, key) = below.issue(Forge::params(&["spiffe://a.example/web"]), &key);
    // One that leads nowhere and has expired long ago: it neither helps nor harms.
    let spare = Forge::until(now() - DAY);
    let chain = format!("{cert}{}{}", below.certificate_pem(), spare.certificate_pem());
    let leaf = certs::Leaf::from_pem(chain.as_bytes(), key.as_bytes()).unwrap();
    let web = identity_of(leaf, &root.roots());
    let api = identity_of(root.leaf(Forge::params(&["spiffe://a.example/api"])), &root.roots());
    let outcome = connect(client_at(&web, api.leaf().id(), now()), server_at(&api, now())).await;
    let chain = outcome.server.unwrap().chain;
    let not_after = now() + DAY / 2;
    let id = web.leaf().id().clone();
    assert_eq!(api.peer(Some(&chain), now()), Ok(Peer { id, not_after }));
    assert_eq!(api.judge(&chain, now()), api.peer(Some(&chain), now()));
    let late = not_after + Duration::from_secs(1);
    assert_eq!(api.peer(Some(&chain), late), Err(PeerFault::Expired { not_after }));
}

#[test]
fn an_expired_root_proves_nothing() {
    let not_after = now() + DAY / 2;
    let root = Forge::until(not_after);
    let web = identity_of(root.leaf(Forge::params(&["spiffe://a.example/web"])), &root.roots());
    let chain = web.leaf().chain();
    assert_eq!(web.judge(chain, now()).unwrap().not_after, not_after);
    let late = not_after + Duration::from_secs(1);
    assert_eq!(web.judge(chain, late), Err(PeerFault::Expired { not_after }));
}

#[tokio::test]
async fn no_early_data_is_taken() {
    let api = identity(&ca(), "api");
    assert_eq!(api.server_config().max_early_data_size, 0);
    assert!(!api.client_config(&service("web")).enable_early_data);
}

#[tokio::test]
async fn what_is_no_tls_is_a_tls_fault() {
    use tokio::io::{AsyncWriteExt, duplex};
    let api = identity(&ca(), "api");
    let (mut near, far) = duplex(1024);
    near.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(api.server_config());
    let fault = PeerFault::from_io(&acceptor.accept(far).await.unwrap_err());
    assert_eq!(fault.label(), "tls");

    let (near, far) = duplex(1024);
    drop(near);
    let fault = PeerFault::from_io(&acceptor.accept(far).await.unwrap_err());
    assert_eq!(fault.label(), "tls");
}
