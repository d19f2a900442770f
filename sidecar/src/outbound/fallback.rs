//! What callers get once an upstream has failed.

pub mod answers;
