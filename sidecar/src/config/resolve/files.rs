//! The PEM files of an identity: there, readable, belonging together, valid now.

use std::path::Path;

use certs::{FileSource, Leaf};

use super::Resolver;

/// Checks all three; the leaf, where they are good.
pub(super) fn check(
    resolver: &mut Resolver<'_>,
    cert: &Path,
    key: &Path,
    roots: &Path,
) -> Option<Leaf> {
    match FileSource::new(cert, key, roots).load(resolver.now) {
        Ok(loaded) => Some(loaded.leaf),
        Err(error) => {
            for fault in error.faults {
                let place = match &fault.path {
                    path if path == cert => "identity.cert",
                    path if path == key => "identity.key",
                    _ => "identity.roots",
                };
                resolver.problem(place, fault.to_string());
            }
            None
        }
    }
}
