//! The cases that are known to fail, each with its reason: `exceptions.toml`.

use std::collections::BTreeSet;

use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    exception: Vec<Exception>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Exception {
    suites: Vec<String>,
    cases: Vec<String>,
    reason: String,
}

fn of(suite: &str) -> impl Iterator<Item = Exception> {
    let file: File = toml::from_str(include_str!("exceptions.toml")).unwrap();
    let exceptions =
        file.exception.into_iter().filter(move |e| e.suites.iter().any(|s| s == suite));
    exceptions.inspect(|exception| assert!(!exception.reason.is_empty()))
}

/// Ends the test unless exactly the cases failed that are known to. `said` is what the suite said.
pub(crate) fn judge(suite: &str, failed: &BTreeSet<String>, said: &str) {
    let known: BTreeSet<String> = of(suite).flat_map(|exception| exception.cases).collect();
    let new: Vec<_> = failed.difference(&known).collect();
    let mended: Vec<_> = known.difference(failed).collect();
    assert!(new.is_empty(), "{suite}: these cases fail: {new:#?}\n{said}");
    assert!(mended.is_empty(), "{suite}: exceptions.toml names what does not fail: {mended:#?}");
}
