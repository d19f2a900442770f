//! The policies that keep one outage from becoming two: when to send again, when to let an
//! endpoint rest, how much to let through.
//!
//! All of it is pure: time is an argument, chance a generator that the caller brings. What a limit
//! counts is shared by the workers of a process and lives in atomics; nothing here waits.

pub mod backoff;
pub mod balance;
pub mod breaker;
pub mod bucket;
pub mod budget;
pub mod gradient;
pub mod idempotency;
pub mod in_flight;
pub mod inject;
pub mod moment;
pub mod outcome;
pub mod quantile;
pub mod retry;
mod window;

#[cfg(test)]
mod simulation;
