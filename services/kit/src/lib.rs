//! What the bare services share: listening and shutting down, the store, pages, fields, context.
//!
//! A service built on this knows no TLS, retries, registry or metrics: its sidecar has those. It
//! listens on loopback, and calls others through its sidecar's outbound port.

mod cents;
mod context;
mod environment;
mod field;
mod moment;
mod outbound;
mod page;
mod serve;
mod store;
pub mod trailers;

pub use cents::{Cents, InvalidCents};
pub use context::Context;
pub use environment::{BadVariable, Database, Environment};
pub use field::{id, invalid, text};
pub use moment::Moment;
pub use outbound::channel;
pub use page::Page;
pub use serve::{Grpc, StartError, run, serve};
pub use store::{OpenError, Store, fault, next_id};
