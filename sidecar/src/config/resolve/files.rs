//! The PEM files of an identity: there, readable, belonging together, valid now.

use std::path::Path;

use certs::{Leaf, LeafError, Roots};

use super::Resolver;

/// No chain or bundle is larger.
const LARGEST: u64 = 1 << 20;

/// Checks all three; the leaf, where it is good.
pub(super) fn check(
    resolver: &mut Resolver<'_>,
    cert: &Path,
    key: &Path,
    roots: &Path,
) -> Option<Leaf> {
    let certificates = read(resolver, "identity.cert", cert);
    let private = read(resolver, "identity.key", key);
    if let Some(pem) = read(resolver, "identity.roots", roots)
        && let Err(error) = Roots::from_pem(&pem)
    {
        resolver.problem(
            "identity.roots",
            format!("found {roots:?}, expected the roots' certificates in PEM: {error}"),
        );
    }
    let leaf = Leaf::from_pem(&certificates?, &private?)
        .map_err(|error| {
            let (place, path, what) = match error {
                LeafError::NoKey | LeafError::KeyPem | LeafError::UnusableKey => {
                    ("identity.key", key, "a private key in PEM")
                }
                LeafError::KeyMismatch => ("identity.key", key, "the key of identity.cert"),
                _ => ("identity.cert", cert, "a workload's certificate in PEM"),
            };
            resolver.problem(place, format!("found {path:?}, expected {what}: {error}"));
        })
        .ok()?;
    let now = resolver.now;
    if now > leaf.not_after() {
        let ago = hours(now.duration_since(leaf.not_after()));
        resolver.problem(
            "identity.cert",
            format!(
                "found {cert:?}, which expired {ago} ago, expected a certificate that is valid now"
            ),
        );
    } else if now < leaf.not_before() {
        let ahead = hours(leaf.not_before().duration_since(now));
        resolver.problem(
            "identity.cert",
            format!("found {cert:?}, which is valid in {ahead} only, expected a certificate that is valid now"),
        );
    }
    Some(leaf)
}

fn read(resolver: &mut Resolver<'_>, key: &str, path: &Path) -> Option<Vec<u8>> {
    let read = std::fs::metadata(path).and_then(|meta| match meta.len() {
        0..=LARGEST => std::fs::read(path),
        bytes => Err(std::io::Error::other(format!("it has {bytes} bytes, at most 1 MiB is read"))),
    });
    read.map_err(|error| {
        resolver.problem(key, format!("found {path:?}, which cannot be read: {error}"));
    })
    .ok()
}

fn hours(gap: Result<std::time::Duration, std::time::SystemTimeError>) -> String {
    let secs = gap.unwrap_or_default().as_secs();
    match secs {
        0..120 => format!("{secs} s"),
        120..7_200 => format!("{} min", secs / 60),
        7_200..172_800 => format!("{} h", secs / 3_600),
        _ => format!("{} days", secs / 86_400),
    }
}
