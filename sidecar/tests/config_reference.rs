//! The reference of config keys in the repository is the one that the types make.

#[test]
fn the_reference_is_fresh() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/CONFIG.md");
    let found = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        found == outrigger::config::reference(),
        "sidecar/CONFIG.md is stale: outrigger check --reference > sidecar/CONFIG.md"
    );
}
