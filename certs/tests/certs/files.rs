//! An identity from files: everything wrong is told at once, with the file's name, and every
//! change is seen.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use certs::files::{FileProblem, FileSource, FileWarning};
use certs::{Issued, LeafError, RootsError};
use tempfile::TempDir;

use crate::support::*;

struct Files {
    directory: TempDir,
    source: FileSource,
}

impl Files {
    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn problems(&mut self) -> Vec<(String, FileProblem)> {
        let error = self.source.load(now()).unwrap_err();
        let name = |path: PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
        error.faults.into_iter().map(|fault| (name(fault.path), fault.problem)).collect()
    }

    fn put(&self, issued: &Issued) {
        issued.save(&self.path("cert.pem"), &self.path("key.pem")).unwrap();
    }
}

fn empty() -> Files {
    let directory = TempDir::new().unwrap();
    let at = |name| directory.path().join(name);
    let source = FileSource::new(at("cert.pem"), at("key.pem"), at("roots.pem"));
    Files { directory, source }
}

fn filled() -> Files {
    let (files, ca) = (empty(), ca());
    files.put(&ca.issue(&service("web"), DAY, now()).unwrap());
    fs::write(files.path("roots.pem"), ca.root_pem()).unwrap();
    files
}

#[test]
fn good_files_are_loaded_without_a_warning() {
    let mut files = filled();
    let loaded = files.source.load(now()).unwrap();
    assert_eq!(loaded.leaf.id(), &service("web"));
    assert_eq!(loaded.roots.certificates().len(), 1);
    assert_eq!(loaded.warnings, []);
}

#[test]
fn a_key_that_others_may_read_is_warned_about_and_used() {
    let mut files = filled();
    let path = files.path("key.pem");
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    let warnings = files.source.load(now()).unwrap().warnings;
    assert_eq!(warnings, [FileWarning::KeyReadableByOthers { path: path.clone(), mode: 0o644 }]);
    let text = warnings[0].to_string();
    assert!(text.starts_with(&path.display().to_string()) && text.contains("644"), "{text}");
}

#[test]
fn all_faults_are_told_at_once_each_with_its_file() {
    let mut files = empty();
    let error = files.source.load(now()).unwrap_err();
    let lines: Vec<_> = error.to_string().lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), 3, "{error}");
    for (line, name) in lines.iter().zip(["cert.pem", "key.pem", "roots.pem"]) {
        assert!(line.starts_with(&files.path(name).display().to_string()), "{line}");
        assert!(line.contains("no such file"), "{line}");
    }

    fs::create_dir(files.path("cert.pem")).unwrap();
    fs::write(files.path("key.pem"), ca().root_pem()).unwrap();
    fs::write(files.path("roots.pem"), "hello").unwrap();
    let problems = files.problems();
    let [(_, FileProblem::NotPem(_)), (_, key), (_, roots)] = problems.as_slice() else {
        panic!("{problems:?}");
    };
    assert_eq!(key, &FileProblem::Leaf(LeafError::NoKey));
    assert_eq!(roots, &FileProblem::Roots(RootsError::Empty));
}

#[test]
fn a_key_of_another_certificate_is_told_with_both_files() {
    let mut files = filled();
    let other = ca().issue(&service("web"), DAY, now()).unwrap();
    fs::write(files.path("key.pem"), other.key_pem).unwrap();
    let cert = files.path("cert.pem");
    assert_eq!(files.problems(), [("key.pem".to_owned(), FileProblem::KeyMismatch { cert })]);
}

#[test]
fn an_expired_certificate_is_refused_with_its_time() {
    let mut files = filled();
    let error = files.source.load(now() + 2 * DAY).unwrap_err();
    let not_after = now() + DAY;
    assert_eq!(error.faults[0].problem, FileProblem::Expired { not_after });
    assert!(error.to_string().contains("expired at 2027-01-16T08:00:00Z"), "{error}");
}

#[test]
fn a_certificate_of_another_ca_is_told_with_both_files() {
    let mut files = filled();
    fs::write(files.path("roots.pem"), ca().root_pem()).unwrap();
    let problems = files.problems();
    let [(name, FileProblem::NotOfRoots { roots, reason })] = problems.as_slice() else {
        panic!("{problems:?}");
    };
    assert_eq!((name.as_str(), roots), ("cert.pem", &files.path("roots.pem")));
    assert_eq!(reason, "none of them has issued it");
}

#[test]
fn a_fault_of_the_files_quotes_no_key() {
    let mut files = filled();
    let key = fs::read_to_string(files.path("key.pem")).unwrap();
    // The secret on the line that opens the block: where a reader's own error would quote it.
    let spoilt = key.replacen("-----\n", "", 1);
    fs::write(files.path("key.pem"), &spoilt).unwrap();
    let error = files.source.load(now()).unwrap_err();
    let secret = key.lines().nth(1).unwrap();
    assert!(!format!("{error} {error:?}").contains(secret));
}

#[test]
fn every_replacement_is_seen_once() {
    let mut files = filled();
    assert!(files.source.changed(), "nothing was read yet");
    files.source.load(now()).unwrap();
    assert!(!files.source.changed());

    files.put(&ca().issue(&service("web"), DAY, now()).unwrap());
    assert!(files.source.changed());
    assert!(!files.source.changed());

    // Same size, same time: another file all the same.
    let (roots, beside) = (files.path("roots.pem"), files.path("roots.new"));
    fs::copy(&roots, &beside).unwrap();
    let modified = fs::metadata(&roots).unwrap().modified().unwrap();
    fs::File::options().write(true).open(&beside).unwrap().set_modified(modified).unwrap();
    fs::rename(&beside, &roots).unwrap();
    assert!(files.source.changed());

    fs::remove_file(files.path("roots.pem")).unwrap();
    assert!(files.source.changed());
    assert!(files.source.load(now()).is_err());
    assert!(!files.source.changed());
}
