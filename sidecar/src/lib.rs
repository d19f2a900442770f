//! A sidecar for gRPC services in Consul.
pub mod config;
