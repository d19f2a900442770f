//! Consul for a data plane: a small typed client for its HTTP API and, behind the feature
//! `agent`, an embedded single-node agent for development.
//!
//! The crate knows what Consul says and nothing of what a sidecar does with it: no TLS policy,
//! no load balancing. It never logs or prints a token or a private key.
//!
//! ```no_run
//! # async fn f() -> Result<(), Box<dyn std::error::Error>> {
//! let client = consul::Client::new(consul::Config::from_env()?)?;
//! let answer = client.health().connect("user-service").passing().send().await?;
//! for entry in answer.value {
//!     println!("{}:{}", entry.address(), entry.service.port);
//! }
//! let mut leaf = client.agent().leaf("user-service").watch();
//! while let consul::Event::Changed(change) = leaf.next().await {
//!     println!("{} until {}", change.value.service_uri, change.value.valid_before);
//! }
//! # Ok(()) }
//! ```

#[cfg(feature = "agent")]
pub mod agent;
pub mod api;
mod client;
mod config;
mod error;
mod get;
mod meta;
mod pool;
mod tls;
mod token;
mod watch;

pub use client::Client;
pub use config::{Address, Config, ConfigError, Tls};
pub use error::Error;
pub use get::Get;
pub use meta::{Answer, Cache, Meta};
pub use token::Token;
pub use watch::{Change, Event, Watch};
