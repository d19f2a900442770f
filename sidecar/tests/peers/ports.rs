//! Free ports for what tests start, none of them given twice: below the range that the system takes
//! its own from, so that no outgoing connection can have one before its listener does. The tests of
//! the crate `consul` include this file too.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};

const FIRST: u16 = 12_000;
const LAST: u16 = 32_000;

/// An address on loopback that nobody listens on, for TCP or UDP.
pub(crate) fn free() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Two test runs at a time begin far apart.
    let start = std::process::id().wrapping_mul(613) % u32::from(LAST - FIRST);
    for _ in FIRST..LAST {
        let n = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = FIRST + u16::try_from((start + n) % u32::from(LAST - FIRST)).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
            return address;
        }
    }
    panic!("no port from {FIRST} to {LAST} is free")
}
