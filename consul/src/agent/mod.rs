//! The embedded agent: to come.
