//! A sidecar for gRPC services in Consul.
pub mod config;

pub mod admin;
pub mod launch;
pub mod telemetry;
