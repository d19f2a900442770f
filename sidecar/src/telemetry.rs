//! What a sidecar tells about itself: metrics and readiness.
//!
//! The data path writes here and never waits here: what costs (merging, text) is paid by the
//! control thread when someone asks. No caller's string becomes a label unchecked.

pub mod labels;
pub mod log;
pub mod metrics;
pub mod readiness;
