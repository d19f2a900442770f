//! The contract with Consul: facts that hold of a real agent and, with the feature `agent`, of the
//! embedded one.
//!
//! Each fact is named once and becomes a test per target (`facts::dns::real::…`,
//! `facts::dns::embedded::…`). Where the two differ, the real one is right. Facts share one agent a
//! target and keep to service names of their own; those that change an agent start one.

// Test code through and through, which the lints cannot tell from its folder.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[macro_use]
mod target;
mod dns;
mod facts;
#[path = "../../../sidecar/tests/peers/guarded.rs"]
mod guarded;
mod http;
#[path = "../../../sidecar/tests/peers/peer.rs"]
mod peer;
#[path = "../../../sidecar/tests/peers/ports.rs"]
mod ports;
