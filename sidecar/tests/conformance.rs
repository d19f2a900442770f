//! What others' suites and clients say of a pair of sidecars: grpc-go's interop cases, Connect's
//! conformance suite, h2spec and its sibling for clients, grpcio, grpc-js and HTTP/1.1.
//!
//! Each suite runs as it is. The cases that fail must be those that `conformance/exceptions.toml`
//! names, no more and no fewer.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test ends where a part of it is missing")]

#[path = "conformance/connect.rs"]
mod connect;
#[path = "conformance/exceptions.rs"]
mod exceptions;
#[path = "conformance/facts.rs"]
mod facts;
#[path = "conformance/h2spec.rs"]
mod h2spec;
#[path = "conformance/interop.rs"]
mod interop;
#[path = "conformance/pair.rs"]
mod pair;
#[path = "peers/peer.rs"]
mod peer;
#[path = "peers/ports.rs"]
mod ports;
#[path = "mesh/process.rs"]
#[expect(dead_code, reason = "the mesh's own tests use the rest")]
mod process;
#[path = "mesh/programs.rs"]
#[expect(dead_code, reason = "the mesh's own tests use the rest")]
mod programs;
#[path = "conformance/tunnel.rs"]
mod tunnel;
