//! A sidecar for gRPC services in Consul.
pub mod cli;
pub mod config;
pub mod run;

pub mod admin;
pub mod launch;
pub mod telemetry;
