//! The rules by which calls are spread over endpoints: which of many a caller takes, how many go to
//! its own zone, how weights become shares, how a new endpoint warms up, where a hash points.

pub mod slow_start;
pub mod subset;
pub mod table;
pub mod weighted;
pub mod zones;

/// FNV-1a, and the finish of MurmurHash3 for its high bits. The same in every process and version,
/// as callers must agree; not against an attacker, who could at most choose an endpoint.
pub fn hash(bytes: &[u8]) -> u64 {
    let fnv = bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    mix(fnv)
}

/// Spreads near numbers far apart.
fn mix(mut hash: u64) -> u64 {
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}
