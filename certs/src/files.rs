//! An identity from PEM files. Everything that is wrong with them is told at once, each fault
//! with its file; files that fail to load change nothing, so the caller keeps what it has.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use thiserror::Error;

use crate::fault::{PeerFault, unix};
use crate::leaf::{Leaf, LeafError, chain_from_pem, key_from_pem};
use crate::roots::{Roots, RootsError};
use crate::verifier::{Judge, Role};
use crate::x509::{Facts, rfc3339};

/// The most that a PEM file may hold: a bundle of thousands of certificates.
const MAX_FILE: u64 = 4 << 20;

/// Where the three files are, and what they looked like when they were last read.
#[derive(Clone, Debug)]
pub struct FileSource {
    cert: PathBuf,
    key: PathBuf,
    roots: PathBuf,
    seen: [Option<Stamp>; 3],
}

/// What the files hold.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Loaded {
    /// The certificate and its key.
    pub leaf: Leaf,
    /// The authorities to trust.
    pub roots: Roots,
    /// What should be mended, but refuses nothing.
    pub warnings: Vec<FileWarning>,
}

/// What should be mended about the files; for the caller to log.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FileWarning {
    /// Anybody on this machine can be this workload.
    #[error("{}: every user of this machine may read this key (mode {mode:03o}): chmod 600 it", path.display())]
    KeyReadableByOthers {
        /// The key's file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

/// Everything that is wrong with the files, one line each; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilesError {
    /// The faults, in the order certificate, key, roots.
    pub faults: Vec<FileFault>,
}

/// One thing that is wrong with one file.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}: {problem}", path.display())]
pub struct FileFault {
    /// The file.
    pub path: PathBuf,
    /// What is wrong, and what was expected.
    pub problem: FileProblem,
}

/// What can be wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FileProblem {
    /// It does not exist.
    #[error("no such file, {expected} in PEM was expected")]
    Missing {
        /// What the file is for.
        expected: &'static str,
    },
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(String),
    /// It is a directory, or larger than any PEM file.
    #[error("{0}")]
    NotPem(&'static str),
    /// It holds no usable certificate or key.
    #[error(transparent)]
    Leaf(LeafError),
    /// It holds no usable roots.
    #[error(transparent)]
    Roots(RootsError),
    /// A key of another certificate.
    #[error("this key is not that of the certificate in {}: their public keys differ", cert.display())]
    KeyMismatch {
        /// The certificate's file.
        cert: PathBuf,
    },
    /// A certificate whose time is over.
    #[error("this certificate expired at {}, a valid one was expected", rfc3339(*not_after))]
    Expired {
        /// The last second of its validity.
        not_after: SystemTime,
    },
    /// A certificate that its own roots do not accept.
    #[error("this certificate is not accepted by the roots in {}: {reason}", roots.display())]
    NotOfRoots {
        /// The roots' file.
        roots: PathBuf,
        /// Why.
        reason: String,
    },
}

/// What changes when a file is replaced or written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl FileSource {
    /// Names the certificate chain, the private key and the trusted roots.
    pub fn new(
        cert: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
        roots: impl Into<PathBuf>,
    ) -> Self {
        let (cert, key, roots) = (cert.into(), key.into(), roots.into());
        Self { cert, key, roots, seen: [None; 3] }
    }

    /// Reads the three files and judges them at a time.
    ///
    /// # Errors
    /// All that is wrong with them: missing, unreadable, without the expected block, a key of
    /// another certificate, expired, not issued by the roots.
    pub fn load(&mut self, now: SystemTime) -> Result<Loaded, FilesError> {
        // Before reading: what is written meanwhile shows as a change.
        self.seen = self.stamps();
        let mut faults = Vec::new();
        let mut fault = |path: &Path, problem| {
            faults.push(FileFault { path: path.to_owned(), problem });
        };

        let chain = read(&self.cert, "a certificate chain").and_then(|pem| {
            let chain = chain_from_pem(&pem).map_err(FileProblem::Leaf)?;
            let facts = Facts::read(&chain[0])
                .map_err(|reason| FileProblem::Leaf(LeafError::MalformedCertificate(reason)))?;
            facts.workload().map_err(|reason| FileProblem::Leaf(reason.into()))?;
            Ok(chain)
        });
        let chain = chain.map_err(|problem| fault(&self.cert, problem)).ok();
        let key = read(&self.key, "a private key").and_then(|pem| {
            let key = key_from_pem(&pem).map_err(FileProblem::Leaf)?;
            any_supported_type(&key).map_err(|_| FileProblem::Leaf(LeafError::UnusableKey))?;
            Ok(key)
        });
        let key = key.map_err(|problem| fault(&self.key, problem)).ok();
        let roots = read(&self.roots, "one or more CA certificates")
            .and_then(|pem| Roots::from_pem(&pem).map_err(FileProblem::Roots));
        let roots = roots.map_err(|problem| fault(&self.roots, problem)).ok();

        let leaf = chain.zip(key).and_then(|(chain, key)| {
            let leaf = Leaf::from_der(chain, &key);
            leaf.map_err(|error| match error {
                LeafError::KeyMismatch => {
                    fault(&self.key, FileProblem::KeyMismatch { cert: self.cert.clone() });
                }
                other => fault(&self.cert, FileProblem::Leaf(other)),
            })
            .ok()
        });
        match leaf.zip(roots) {
            Some((leaf, roots)) => match self.refusal(&leaf, &roots, now) {
                None => Ok(Loaded { leaf, roots, warnings: self.warnings() }),
                Some(problem) => {
                    fault(&self.cert, problem);
                    Err(FilesError { faults })
                }
            },
            None => Err(FilesError { faults }),
        }
    }

    /// Whether a file was replaced, written to, removed or made since the last call of this or
    /// of [`FileSource::load`]. Three calls of `stat`: cheap enough to ask every second.
    pub fn changed(&mut self) -> bool {
        let now = self.stamps();
        std::mem::replace(&mut self.seen, now) != now
    }

    fn stamps(&self) -> [Option<Stamp>; 3] {
        [&self.cert, &self.key, &self.roots].map(|path| Stamp::of(path))
    }

    fn refusal(&self, leaf: &Leaf, roots: &Roots, now: SystemTime) -> Option<FileProblem> {
        let algorithms = default_provider().signature_verification_algorithms;
        let judge = Judge::new(roots.clone(), leaf.id().clone(), Vec::new(), algorithms);
        let chain = leaf.chain().split_first()?;
        let fault = judge.client(chain, Role::Either, unix(now)).err()?;
        let reason = match fault {
            PeerFault::Expired { not_after } if not_after == leaf.not_after() => {
                return Some(FileProblem::Expired { not_after });
            }
            PeerFault::Expired { not_after } => {
                format!("a CA certificate of its chain expired at {}", rfc3339(not_after))
            }
            PeerFault::UnknownIssuer => "none of them has issued it".to_owned(),
            PeerFault::NotYetValid { not_before } => {
                format!("it is valid only from {} (is a clock wrong?)", rfc3339(not_before))
            }
            PeerFault::WrongTrustDomain { found, trusted } => {
                format!("it names {found}, and they vouch for the trust domain {trusted} only")
            }
            PeerFault::Malformed(reason) => reason,
            other => other.to_string(),
        };
        Some(FileProblem::NotOfRoots { roots: self.roots.clone(), reason })
    }

    fn warnings(&self) -> Vec<FileWarning> {
        let mode = fs::metadata(&self.key).map(|metadata| metadata.mode() & 0o7777);
        match mode {
            Ok(mode) if mode & 0o004 != 0 => {
                vec![FileWarning::KeyReadableByOthers { path: self.key.clone(), mode }]
            }
            _ => Vec::new(),
        }
    }
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        })
    }
}

fn read(path: &Path, expected: &'static str) -> Result<Vec<u8>, FileProblem> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => FileProblem::Missing { expected },
        _ => FileProblem::Unreadable(error.to_string()),
    };
    // Asked before opening: a pipe would never open.
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err(FileProblem::NotPem("this is no regular file, a PEM file was expected"));
    }
    let mut content = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut content))
        .map_err(failed)?;
    if content.len() as u64 > MAX_FILE {
        return Err(FileProblem::NotPem("this has over 4 MiB, a PEM file was expected"));
    }
    Ok(content)
}

impl fmt::Display for FilesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.faults.iter().enumerate() {
            let line = if index == 0 { "" } else { "\n" };
            write!(f, "{line}{fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for FilesError {}
