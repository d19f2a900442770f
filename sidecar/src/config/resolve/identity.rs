//! Where certificates come from. Files are read once here: they must be there, belong together
//! and be valid now.

use std::path::{Path, PathBuf};

use certs::{FileSource, Leaf, SpiffeId};

use super::Resolver;
use crate::config::keys::{IdentityKeys, SourceKey};
use crate::config::{Identity, IdentitySource};

impl Resolver<'_> {
    /// Where certificates come from, and our own identity where that is known already.
    pub(super) fn identity(
        &mut self,
        keys: &mut IdentityKeys,
        consul: bool,
    ) -> Option<(Identity, Option<SpiffeId>)> {
        let files = [
            ("identity.cert", &mut keys.cert),
            ("identity.key", &mut keys.key),
            ("identity.roots", &mut keys.roots),
        ];
        let (source, own) = match keys.source {
            SourceKey::Consul => {
                if !consul {
                    let (key, message) = if self.is_set("identity.source") {
                        (
                            "identity.source",
                            "found \"consul\" although consul.enabled is false, expected \"files\"",
                        )
                    } else {
                        (
                            "consul.enabled",
                            "found false, so identity.source must be \"files\", with cert, key and roots",
                        )
                    };
                    self.problem(key, message.into());
                }
                for (key, value) in files {
                    if value.is_some() && self.contradicts(key, "identity.source") {
                        self.problem(
                            key,
                            "set although identity.source is \"consul\", expected \"files\" there"
                                .into(),
                        );
                    }
                }
                (IdentitySource::Consul, None)
            }
            SourceKey::Files => {
                let [cert, key, roots] = files.map(|(key, value)| self.needed_path(key, value));
                let (cert, key, roots) = (cert?, key?, roots?);
                let leaf = check(self, &cert, &key, &roots);
                let source = IdentitySource::Files { cert, key, roots };
                (source, leaf.map(|leaf| leaf.id().clone()))
            }
        };
        let tls_min = keys.tls_min.into();
        Some((Identity { source, tls_min }, own))
    }

    fn needed_path(&mut self, key: &str, value: &mut Option<PathBuf>) -> Option<PathBuf> {
        let Some(path) = value else {
            if !self.is_set(key) {
                let message = "not set, expected a PEM file, as identity.source is \"files\"";
                self.problem_at("identity.source", key, message.into());
            }
            return None;
        };
        *path = self.path(key, path);
        Some(path.clone())
    }
}

/// Checks all three; the leaf, where they are good.
fn check(resolver: &mut Resolver<'_>, cert: &Path, key: &Path, roots: &Path) -> Option<Leaf> {
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
