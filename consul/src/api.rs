//! The endpoint families of Consul's HTTP API, one module each.
//!
//! Types hold what a data plane reads or writes; unknown fields are ignored, and `null`, which
//! Go writes for an empty list or map, is the empty value.

pub mod acl;
pub mod agent;
pub mod catalog;
pub mod config;
pub mod connect;
pub mod health;
pub mod intention;
pub mod service;
pub mod status;

pub use intention::{Action, HeaderMatch, Intention, PathMatch, Permission, Rule};
pub use service::{
    Check, CheckDefinition, CheckMethod, CheckStatus, Node, Proxy, Service, ServiceAddress,
    ServiceEntry, ServiceRegistration, Weights,
};

/// Reads `null` as the default.
fn null<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: serde::Deserialize<'de> + Default,
{
    use serde::Deserialize as _;
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// Writes a duration in Go's form.
fn go_duration<S: serde::Serializer>(
    duration: &std::time::Duration,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{}ms", duration.as_millis()))
}
