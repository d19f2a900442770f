//! An identity from files: each thing that can be wrong with one is told before anything runs.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use certs::{DevelopmentCa, SpiffeId};
use insta::assert_snapshot;

use crate::config::{IdentitySource, Sources, load};

const CONFIG: &str = r#"[service]
name = "web"
[identity]
source = "files"
cert = "web.pem"
key = "web-key.pem"
roots = "ca.pem"
[upstreams.user-service]
endpoints = ["127.0.0.1:21001"]
"#;

const HOUR: Duration = Duration::from_secs(3600);

/// A folder with a CA, a leaf of this identity and a config.
fn folder(id: &str, now: SystemTime) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let ca = DevelopmentCa::new("example.org".parse().unwrap(), now).unwrap();
    ca.save(path).unwrap();
    let id: SpiffeId = id.parse().unwrap();
    let leaf = ca.issue(&id, HOUR, now).unwrap();
    leaf.save(&path.join("web.pem"), &path.join("web-key.pem")).unwrap();
    fs::write(path.join("sidecar.toml"), CONFIG).unwrap();
    folder
}

fn problems(folder: &Path, now: SystemTime) -> String {
    let sources = Sources { file: Some(folder.join("sidecar.toml")), ..Sources::default() };
    match load(&sources, now) {
        Ok(_) => "nothing".to_owned(),
        Err(problems) => problems.to_string().replace(&format!("{}/", folder.display()), ""),
    }
}

const WEB: &str = "spiffe://example.org/ns/default/dc/dc1/svc/web";

fn then() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

#[test]
fn good_files_are_taken_relative_to_the_config() {
    let folder = folder(WEB, then());
    let file = folder.path().join("sidecar.toml");
    let loaded = load(&Sources { file: Some(file), ..Sources::default() }, then()).unwrap();
    let IdentitySource::Files { cert, .. } = loaded.config.identity.source else {
        panic!("not from files");
    };
    assert_eq!(cert, folder.path().join("web.pem"));
}

#[test]
fn files_that_are_not_there_are_told_all_at_once() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("sidecar.toml"), CONFIG).unwrap();
    assert_snapshot!(problems(folder.path(), then()));
}

#[test]
fn files_that_are_not_named_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let text = "[service]\nname = \"web\"\n[identity]\nsource = \"files\"\n";
    fs::write(folder.path().join("sidecar.toml"), text).unwrap();
    assert_snapshot!(problems(folder.path(), then()));
}

#[test]
fn an_expired_certificate_is_told() {
    let folder = folder(WEB, then());
    assert_snapshot!(problems(folder.path(), then() + 2 * HOUR));
}

#[test]
fn a_key_of_another_certificate_is_told() {
    let (folder, other) = (folder(WEB, then()), folder(WEB, then()));
    fs::copy(other.path().join("web-key.pem"), folder.path().join("web-key.pem")).unwrap();
    assert_snapshot!(problems(folder.path(), then()));
}

#[test]
fn a_file_without_pem_is_told_and_none_of_it_shown() {
    let folder = folder(WEB, then());
    for name in ["web.pem", "web-key.pem", "ca.pem"] {
        fs::write(folder.path().join(name), "hunter2").unwrap();
    }
    assert_snapshot!(problems(folder.path(), then()));
}

#[test]
fn a_folder_in_place_of_a_key_is_told() {
    let folder = folder(WEB, then());
    let key = folder.path().join("web-key.pem");
    fs::remove_file(&key).unwrap();
    fs::create_dir(&key).unwrap();
    assert_snapshot!(problems(folder.path(), then()));
}

#[test]
fn an_identity_in_another_form_needs_the_upstreams_identity_too() {
    let folder = folder("spiffe://example.org/web", then());
    assert_snapshot!(problems(folder.path(), then()));
}
