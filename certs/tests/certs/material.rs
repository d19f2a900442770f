//! Leaves, roots and descriptions from PEM: what is taken, what is refused and how it is told,
//! and that no bytes at all make any of them panic or be trusted.

use std::sync::OnceLock;

use certs::describe::Block;
use certs::{Leaf, LeafError, NotSpiffe, Roots, RootsError, SpiffeIdError, describe};
use proptest::prelude::*;
use rcgen::{BasicConstraints, IsCa, KeyPair, KeyUsagePurpose, PKCS_RSA_SHA256, RsaKeySize};
use rustls::pki_types::CertificateDer;

use crate::support::*;

const WEB: &str = "spiffe://a.example/web";

fn refusal(cert: &str, key: &str) -> LeafError {
    Leaf::from_pem(cert.as_bytes(), key.as_bytes()).unwrap_err()
}

fn good() -> (String, String) {
    Forge::new(&[]).issue(Forge::params(&[WEB]), &KeyPair::generate().unwrap())
}

#[test]
fn a_leaf_takes_pkcs8_sec1_and_rsa_keys() {
    let (cert, pkcs8) = good();
    assert!(pkcs8.starts_with("-----BEGIN PRIVATE KEY-----"));
    let leaf = Leaf::from_pem(cert.as_bytes(), pkcs8.as_bytes()).unwrap();
    assert_eq!(leaf.id().as_str(), WEB);
    assert_eq!(leaf.not_after(), now() + DAY);

    let sec1 = ca().issue(&service("web"), DAY, now()).unwrap();
    assert!(sec1.key_pem.starts_with("-----BEGIN EC PRIVATE KEY-----"));
    let leaf = Leaf::from_pem(sec1.certificate_pem.as_bytes(), sec1.key_pem.as_bytes()).unwrap();
    assert_eq!(leaf.id(), &service("web"));

    let rsa = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    let (cert, key) = Forge::new(&[]).issue(Forge::params(&[WEB]), &rsa);
    assert!(Leaf::from_pem(cert.as_bytes(), key.as_bytes()).is_ok());
}

#[test]
fn a_leaf_keeps_its_chain_in_order() {
    let (cert, key) = good();
    let chain = format!("{cert}{}", ca().root_pem());
    let leaf = Leaf::from_pem(chain.as_bytes(), key.as_bytes()).unwrap();
    assert_eq!(leaf.chain().len(), 2);
    assert_eq!(leaf.id().as_str(), WEB);
}

#[test]
fn each_unusable_leaf_is_told_apart() {
    let (cert, key) = good();
    let (_, other_key) = good();
    assert_eq!(refusal(&cert, &other_key), LeafError::KeyMismatch);
    assert_eq!(refusal(&key, &key), LeafError::NoCertificate);
    assert_eq!(refusal("", &key), LeafError::NoCertificate);
    assert_eq!(refusal(&cert, &cert), LeafError::NoKey);
    assert_eq!(refusal(&cert, ""), LeafError::NoKey);
    assert_eq!(refusal(&cert[..cert.len() / 2], &key), LeafError::CertificatePem);
    assert_eq!(refusal(&cert, &key[..key.len() / 2]), LeafError::KeyPem);
    let nonsense = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(matches!(refusal(nonsense, &key), LeafError::MalformedCertificate(_)));
    let nonsense = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    assert_eq!(refusal(&cert, nonsense), LeafError::UnusableKey);
}

#[test]
fn each_certificate_that_names_no_workload_is_told_apart() {
    let (forge, key) = (Forge::new(&[]), KeyPair::generate().unwrap());
    let refusal = |params| {
        let (cert, key) = forge.issue(params, &key);
        refusal(&cert, &key)
    };
    let not = LeafError::NotSpiffe;
    assert_eq!(refusal(Forge::params(&[])), not(NotSpiffe::NoUri));
    assert_eq!(refusal(Forge::params(&[WEB, WEB])), not(NotSpiffe::ManyUris(2)));
    let found = "https://a.example/web".to_owned();
    let source = SpiffeIdError::Scheme;
    assert_eq!(refusal(Forge::params(&[&found])), not(NotSpiffe::NoId { found, source }));
    let found = "spiffe://a.example".to_owned();
    let source = SpiffeIdError::NoPath;
    assert_eq!(refusal(Forge::params(&[&found])), not(NotSpiffe::NoId { found, source }));
    let mut params = Forge::params(&[WEB]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    assert_eq!(refusal(params), not(NotSpiffe::Ca));
    let mut params = Forge::params(&[WEB]);
    params.key_usages.push(KeyUsagePurpose::KeyCertSign);
    assert_eq!(refusal(params), not(NotSpiffe::Ca));
}

#[test]
fn a_key_shows_in_no_debug_output() {
    let (cert, key) = good();
    let leaf = Leaf::from_pem(cert.as_bytes(), key.as_bytes()).unwrap();
    let ca = ca();
    let issued = ca.issue(&service("web"), DAY, now()).unwrap();
    let identity = identity(&ca, "web");
    let shown = format!("{leaf:?} {ca:?} {issued:?} {identity:?} {:?}", identity.server_config());
    for line in key.lines().chain(issued.key_pem.lines()).filter(|line| !line.starts_with('-')) {
        assert!(!shown.contains(line));
    }
    assert!(!shown.contains("PRIVATE KEY"), "{shown}");
}

#[test]
fn roots_are_a_set_with_trust_domains() {
    let (one, two, plain) = (ca(), Forge::new(&["spiffe://other.example"]), Forge::new(&[]));
    let one = one.roots().unwrap();
    let both = one.union(&two.roots()).union(&one).union(&plain.roots());
    assert_eq!(both.certificates().len(), 3);
    let domains: Vec<_> = both.trust_domains().map(|domain| domain.as_str()).collect();
    assert_eq!(domains, [TD, "other.example"]);
    assert!(both.contains(&one) && !one.contains(&both));
    assert_eq!(two.roots().union(&one), one.union(&two.roots()));
    assert_ne!(one, two.roots());
}

#[test]
fn each_unusable_set_of_roots_is_told_apart() {
    let (leaf, key) = good();
    let root = ca().root_pem();
    let refusal = |pem: &str| Roots::from_pem(pem.as_bytes()).unwrap_err();
    assert_eq!(refusal(""), RootsError::Empty);
    assert_eq!(refusal(&key), RootsError::Empty);
    assert_eq!(refusal(&format!("{root}{leaf}")), RootsError::NotCa { number: 2 });
    assert_eq!(refusal(&root[..100]), RootsError::Pem);
    let nonsense = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let broken = refusal(&format!("{root}{nonsense}"));
    assert!(matches!(broken, RootsError::Malformed { number: 2, .. }));
    assert!(Roots::from_pem(format!("text before\n{key}{root}").as_bytes()).is_ok());
}

#[test]
fn a_description_tells_every_block_and_no_secret() {
    let ca = ca();
    let issued = ca.issue(&service("web"), DAY, now()).unwrap();
    let pem = format!("{}{}{}", issued.certificate_pem, issued.key_pem, ca.root_pem());
    let blocks = describe(pem.as_bytes());
    let [
        Block::Certificate(leaf),
        Block::PrivateKey { encoding, algorithm, public_key_sha256 },
        Block::Certificate(root),
    ] = blocks.as_slice()
    else {
        panic!("{blocks:?}");
    };
    assert_eq!(leaf.spiffe_id, Ok(service("web")));
    assert_eq!(leaf.issuer, root.subject);
    assert_eq!((leaf.not_before, leaf.not_after), (issued.not_before, issued.not_after));
    assert_eq!((leaf.key.as_str(), *encoding), ("ECDSA P-256", "SEC1"));
    assert_eq!(algorithm.as_deref(), Some("ECDSA"));
    assert_eq!(public_key_sha256.as_ref(), Some(&leaf.public_key_sha256));
    assert!(root.is_ca && !leaf.is_ca);
    assert_eq!(root.trust_domain.as_ref().unwrap().as_str(), TD);
    assert_eq!(leaf.sha256.len(), 32 * 3 - 1);
    let shown: String = blocks.iter().map(|block| format!("{block}\n{block:?}\n")).collect();
    assert!(shown.contains(&format!("SPIFFE ID           {}", service("web"))));
    for line in issued.key_pem.lines() {
        assert!(!shown.contains(line));
    }
}

#[test]
fn a_description_goes_on_past_a_block_that_is_no_certificate() {
    let nonsense = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let blocks = describe(format!("{nonsense}{}", ca().root_pem()).as_bytes());
    assert!(matches!(blocks.as_slice(), [Block::Broken { .. }, Block::Certificate(_)]));
    assert!(describe(b"no PEM at all").is_empty());
    assert!(matches!(
        describe(b"-----BEGIN CERTIFICATE-----\nAA").as_slice(),
        [Block::Broken { .. }]
    ));
}

/// One identity for all cases, since each costs keys.
fn own() -> &'static certs::Identity {
    static OWN: OnceLock<certs::Identity> = OnceLock::new();
    OWN.get_or_init(|| identity(&ca(), "web"))
}

proptest! {
    #[test]
    fn no_bytes_panic_or_are_trusted(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let chain = [CertificateDer::from(bytes.clone())];
        prop_assert!(own().judge(&chain, now()).is_err());
        prop_assert!(own().peer(Some(&chain), now()).is_err());
        prop_assert!(Leaf::from_pem(&bytes, &bytes).is_err());
        prop_assert!(Roots::from_pem(&bytes).is_err());
        let _ = describe(&bytes);
    }

    #[test]
    fn a_certificate_with_any_bit_changed_is_refused(at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let mut der = own().leaf().chain()[0].to_vec();
        let at = at.index(der.len());
        der[at] ^= 1 << bit;
        let chain = [CertificateDer::from(der)];
        prop_assert!(own().judge(&chain, now()).is_err());
    }

    #[test]
    fn a_pem_with_any_byte_changed_never_panics(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        static PEM: OnceLock<(String, String)> = OnceLock::new();
        let (cert, key) = PEM.get_or_init(good);
        let spoil = |text: &str| {
            let mut bytes = text.as_bytes().to_vec();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            bytes
        };
        let _ = Leaf::from_pem(&spoil(cert), key.as_bytes());
        let _ = Leaf::from_pem(cert.as_bytes(), &spoil(key));
        let _ = describe(&spoil(key));
        let _ = describe(&spoil(cert));
    }
}
