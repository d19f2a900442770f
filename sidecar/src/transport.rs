//! Bytes and frames: bodies, the pump between two streams, pools of connections, keep-alive.
//!
//! Nothing here knows a policy; nothing here buffers more than one frame per direction of a call.

pub mod ahead;
pub mod aside;
pub mod body;
pub mod io;
pub mod keepalive;
pub mod pool;
pub mod pump;
