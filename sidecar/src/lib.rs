//! A sidecar for gRPC services in Consul.
//!
//! Start reading at [`inbound`] and [`outbound`]: each is the whole path of a call on one screen.

pub mod admin;
pub mod call;
pub mod cli;
pub mod config;
pub mod discovery;
pub mod fault;
pub mod inbound;
pub mod launch;
pub mod outbound;
pub mod resilience;
pub mod run;
pub mod telemetry;
pub mod transport;
pub mod worker;
