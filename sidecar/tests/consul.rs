//! The sidecar's control thread against Consul, the real one and the embedded agent: sidecars in
//! this process, calls through them, and a Consul that forgets, restarts and loses its data.
#![allow(clippy::expect_used, clippy::unwrap_used)]

#[path = "consul/agents.rs"]
mod agents;
#[path = "peers/guarded.rs"]
mod guarded;
#[path = "consul/life.rs"]
mod life;
#[path = "consul/loss.rs"]
mod loss;
#[path = "consul/mesh.rs"]
mod mesh;
#[path = "peers/peer.rs"]
mod peer;
#[path = "peers/ports.rs"]
mod ports;
#[path = "consul/way.rs"]
mod way;
