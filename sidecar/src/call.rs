//! What both directions know of one call: its deadline, its headers, the exchange with the callee.

pub mod attempt;
pub mod carry;
pub mod control;
pub mod deadline;
pub mod exchange;
pub mod headers;
pub mod http1;
pub mod inject;
pub mod record;
pub mod told;
pub mod tracestate;
pub mod web;
