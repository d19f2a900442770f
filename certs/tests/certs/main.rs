//! The crate from outside: one program, for one link.

// The lint's own exception for tests does not reach what tests share.
#![allow(clippy::expect_used, clippy::unwrap_used)]

mod authority;
mod files;
mod handshakes;
mod material;
mod reckless;
mod support;
