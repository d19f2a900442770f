//! Consul for a data plane: a small typed client for its HTTP API and, behind the feature
//! `agent`, an embedded single-node agent for development.
//!
//! The crate knows what Consul says and nothing of what a sidecar does with it: no TLS policy,
//! no load balancing. It never logs or prints a token or a private key.

#[cfg(feature = "agent")]
pub mod agent;
