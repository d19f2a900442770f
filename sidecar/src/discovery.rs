//! What the control thread learns and publishes: immutable snapshots that workers read.

pub mod snapshot;
