//! The development CA and its leaves as files. A key is never on disk in a mode that others can
//! read, and never half written: it appears under its name whole, with mode 0600.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::rand;
use thiserror::Error;

use super::{CaError, DevelopmentCa, Issued};

/// The root certificate's file in a CA's directory.
const ROOT_FILE: &str = "ca.pem";
/// The root key's file in a CA's directory.
const KEY_FILE: &str = "ca-key.pem";
const SECRET: u32 = 0o600;
const PUBLIC: u32 = 0o644;

/// Why a CA or a leaf could not be read from or written to files.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CaFileError {
    /// The system refused.
    #[error("{}: cannot be {action}: {source}", path.display())]
    Io {
        /// Which file or directory.
        path: PathBuf,
        /// What was tried: `read`, `written`, `made`.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A CA is there already; a new one would end all trust in the old one's leaves.
    #[error("{}: a CA is here already, it is not overwritten", path.display())]
    Exists {
        /// The file that is there.
        path: PathBuf,
    },
    /// A directory in which anybody may replace files.
    #[error(
        "{}: everybody may write here (mode {mode:03o}), so no key is kept here: \
         use another directory, or chmod o-w", path.display()
    )]
    WorldWritable {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Files that are no CA.
    #[error("{}: this is no CA: {source}", path.display())]
    Ca {
        /// The directory.
        path: PathBuf,
        /// What is wrong.
        source: CaError,
    },
}

impl DevelopmentCa {
    /// Reads the CA that [`DevelopmentCa::save`] wrote.
    ///
    /// # Errors
    /// Where a file is missing or unreadable, or the two are no CA.
    pub fn load(directory: &Path) -> Result<Self, CaFileError> {
        let read = |name| {
            let path = directory.join(name);
            fs::read_to_string(&path).map_err(|source| CaFileError::Io {
                path,
                action: "read",
                source,
            })
        };
        Self::from_pem(read(ROOT_FILE)?.as_bytes(), &read(KEY_FILE)?)
            .map_err(|source| CaFileError::Ca { path: directory.to_owned(), source })
    }

    /// Writes the CA into a directory, which is made (mode 0700) where it is missing. A CA that
    /// is there already stays.
    ///
    /// # Errors
    /// Where a CA is there, everybody may write there, or the system refuses.
    pub fn save(&self, directory: &Path) -> Result<(), CaFileError> {
        let (root, key) = (directory.join(ROOT_FILE), directory.join(KEY_FILE));
        prepare(directory)?;
        for path in [&root, &key] {
            if path.symlink_metadata().is_ok() {
                return Err(CaFileError::Exists { path: path.clone() });
            }
        }
        write(&key, self.key.serialize_pem().as_bytes(), SECRET, Existing::Keep)?;
        write(&root, self.root_pem().as_bytes(), PUBLIC, Existing::Keep)
    }
}

impl Issued {
    /// Writes the leaf's certificate and key (mode 0600), over what was there.
    ///
    /// # Errors
    /// Where everybody may write to the key's directory, or the system refuses.
    pub fn save(&self, certificate: &Path, key: &Path) -> Result<(), CaFileError> {
        prepare(parent(key))?;
        prepare(parent(certificate))?;
        write(key, self.key_pem.as_bytes(), SECRET, Existing::Replace)?;
        write(certificate, self.certificate_pem.as_bytes(), PUBLIC, Existing::Replace)
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Existing {
    Keep,
    Replace,
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn prepare(directory: &Path) -> Result<(), CaFileError> {
    let failed =
        |action| move |source| CaFileError::Io { path: directory.to_owned(), action, source };
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed("made"))?;
    let mode = fs::metadata(directory).map_err(failed("read"))?.permissions().mode() & 0o7777;
    if mode & 0o002 != 0 {
        return Err(CaFileError::WorldWritable { path: directory.to_owned(), mode });
    }
    Ok(())
}

/// Writes a file whole, through a temporary one beside it.
fn write(path: &Path, content: &[u8], mode: u32, existing: Existing) -> Result<(), CaFileError> {
    let failed = |source| CaFileError::Io { path: path.to_owned(), action: "written", source };
    let mut tag = [0; 8];
    rand::fill(&mut tag).map_err(|_| failed(io::Error::other("no randomness")))?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{:016x}.tmp", u64::from_ne_bytes(tag)));
    let temporary = path.with_file_name(name);

    let written = (|| {
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(SECRET).open(&temporary)?;
        file.write_all(content)?;
        // The mode is set, not left to the umask, and before the name is: never too open.
        file.set_permissions(Permissions::from_mode(mode))?;
        file.sync_all()?;
        match existing {
            Existing::Replace => fs::rename(&temporary, path),
            // A link, unlike a rename, fails where the name is taken.
            Existing::Keep => fs::hard_link(&temporary, path),
        }
    })();
    if written.is_err() || existing == Existing::Keep {
        // Gone already, or of no use: what counts is the result above.
        let _ = fs::remove_file(&temporary);
    }
    written.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => CaFileError::Exists { path: path.to_owned() },
        _ => failed(error),
    })
}
