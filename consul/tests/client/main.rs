//! The client against a scripted server: transport, tokens, limits, errors, watches.

// Test code through and through, which the lints cannot tell from its folder.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod server;
mod transport;
mod watches;
mod words;
