//! The development CA: what it issues, and how it lies on disk.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use certs::ca::{CaError, CaFileError, DevelopmentCa};
use certs::{Roots, SpiffeId};
use tempfile::TempDir;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::support::*;

#[test]
fn a_leaf_has_the_extensions_of_consuls() {
    let ca = ca();
    let leaf = leaf(&ca, &service("web"));
    let (_, certificate) = X509Certificate::from_der(&leaf.chain()[0]).unwrap();
    let usage = certificate.key_usage().unwrap().unwrap();
    assert!(usage.critical && usage.value.digital_signature() && usage.value.key_encipherment());
    assert!(usage.value.data_encipherment() && usage.value.key_agreement());
    assert!(!usage.value.key_cert_sign());
    let extended = certificate.extended_key_usage().unwrap().unwrap().value;
    assert!(extended.client_auth && extended.server_auth && !extended.any);
    let names = &certificate.subject_alternative_name().unwrap().unwrap().value.general_names;
    assert_eq!(names.as_slice(), [GeneralName::URI(service("web").as_str())]);
    let constraints = certificate.basic_constraints().unwrap().unwrap();
    assert!(constraints.critical && !constraints.value.ca);
    assert_eq!(leaf.not_before(), now() - Duration::from_secs(60));
    assert_eq!(leaf.not_after(), now() + DAY);
}

#[test]
fn the_root_states_its_trust_domain_and_its_ids_have_consuls_form() {
    let ca = ca();
    let roots = Roots::from_pem(ca.root_pem().as_bytes()).unwrap();
    assert_eq!(roots.trust_domains().map(|domain| domain.as_str()).collect::<Vec<_>>(), [TD]);
    // 32 bytes of key identifier and 20 of fingerprint, as Consul's agent shows them.
    assert_eq!((ca.key_id().len(), ca.fingerprint().len()), (32 * 3 - 1, 20 * 3 - 1));
    let (_, root) = X509Certificate::from_der(roots.certificates().next().unwrap()).unwrap();
    let usage = root.key_usage().unwrap().unwrap().value;
    assert!(usage.key_cert_sign() && usage.crl_sign() && usage.digital_signature());
    assert_eq!(root.raw_serial(), ca.serial());
    assert_eq!(root.raw_serial_as_string(), ca.serial_hex());
}

#[test]
fn serials_differ_and_are_positive() {
    let ca = ca();
    let mut serials: Vec<_> =
        (0..20).map(|_| ca.issue(&service("web"), DAY, now()).unwrap().serial).collect();
    assert!(serials.iter().all(|serial| serial.len() == 16 && serial[0] & 0x80 == 0));
    serials.sort();
    serials.dedup();
    assert_eq!(serials.len(), 20);
}

#[test]
fn a_ca_issues_only_in_its_trust_domain_and_its_time() {
    let ca = ca();
    let foreign: SpiffeId = "spiffe://other.example/web".parse().unwrap();
    assert!(matches!(ca.issue(&foreign, DAY, now()), Err(CaError::ForeignId { .. })));
    let (_, end) = ca.validity();
    let last = ca.issue(&service("web"), 30 * DAY, end - DAY).unwrap();
    assert_eq!(last.not_after, end);
    assert!(matches!(ca.issue(&service("web"), DAY, end), Err(CaError::NotValidNow)));
    assert!(matches!(ca.issue(&service("web"), Duration::MAX, now()), Err(CaError::Time)));
}

#[test]
fn a_ca_is_read_back_as_it_was_written_with_its_key_kept_from_others() {
    let directory = TempDir::new().unwrap();
    let home = directory.path().join("new/ca");
    let ca = ca();
    ca.save(&home).unwrap();
    let mode = |name| fs::metadata(home.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("ca-key.pem"), mode("ca.pem"), mode(".")), (0o600, 0o644, 0o700));
    assert_eq!(fs::read_dir(&home).unwrap().count(), 2, "nothing temporary is left");

    let again = DevelopmentCa::load(&home).unwrap();
    assert_eq!(again.fingerprint(), ca.fingerprint());
    let identity = identity_of(leaf(&again, &service("web")), &ca.roots().unwrap());
    assert!(identity.judge(identity.leaf().chain(), now()).is_ok());
}

#[test]
fn a_ca_is_never_overwritten() {
    let directory = TempDir::new().unwrap();
    let first = ca();
    first.save(directory.path()).unwrap();
    assert!(matches!(ca().save(directory.path()), Err(CaFileError::Exists { .. })));
    let kept = DevelopmentCa::load(directory.path()).unwrap();
    assert_eq!(kept.fingerprint(), first.fingerprint());
}

#[test]
fn no_key_is_written_where_everybody_may_write() {
    let directory = TempDir::new().unwrap();
    fs::set_permissions(directory.path(), Permissions::from_mode(0o777)).unwrap();
    let refused = ca().save(directory.path());
    assert!(matches!(refused, Err(CaFileError::WorldWritable { .. })));
    let issued = ca().issue(&service("web"), DAY, now()).unwrap();
    let at = |name| directory.path().join(name);
    assert!(issued.save(&at("cert.pem"), &at("key.pem")).is_err());
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn a_directory_that_holds_no_ca_is_told_with_its_reason() {
    let directory = TempDir::new().unwrap();
    let missing = DevelopmentCa::load(directory.path()).unwrap_err().to_string();
    assert!(missing.contains("ca.pem: cannot be read"), "{missing}");

    let (one, two) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    ca().save(one.path()).unwrap();
    ca().save(two.path()).unwrap();
    fs::copy(one.path().join("ca-key.pem"), two.path().join("ca-key.pem")).unwrap();
    let mixed = DevelopmentCa::load(two.path()).unwrap_err();
    assert!(matches!(&mixed, CaFileError::Ca { source: CaError::Key, .. }), "{mixed}");

    let leaf = ca().issue(&service("web"), DAY, now()).unwrap();
    let refused = DevelopmentCa::from_pem(leaf.certificate_pem.as_bytes(), &leaf.key_pem);
    assert!(refused.is_err());
}

#[test]
fn a_leafs_files_are_replaced_whole_and_its_key_kept_from_others() {
    let directory = TempDir::new().unwrap();
    let (cert, key) = (directory.path().join("cert.pem"), directory.path().join("key.pem"));
    fs::write(&key, "old").unwrap();
    fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
    let issued = ca().issue(&service("web"), DAY, now()).unwrap();
    issued.save(&cert, &key).unwrap();
    assert_eq!(fs::read_to_string(&key).unwrap(), issued.key_pem);
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
}

#[test]
fn an_identity_and_a_ca_go_to_any_thread() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<certs::Identity>();
    shared::<DevelopmentCa>();
    shared::<certs::PeerFault>();
}
