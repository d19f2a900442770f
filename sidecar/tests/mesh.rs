//! The mesh with real processes: what it promises a service, shown from outside.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test ends where a part of it is missing")]

#[path = "mesh/abuse.rs"]
mod abuse;
#[path = "mesh/admission.rs"]
mod admission;
#[path = "mesh/app.rs"]
mod app;
#[path = "mesh/authority.rs"]
mod authority;
#[path = "mesh/deadline.rs"]
mod deadline;
#[path = "mesh/embedded.rs"]
mod embedded;
#[path = "mesh/hops.rs"]
mod hops;
#[path = "mesh/instances.rs"]
mod instances;
#[path = "mesh/leaving.rs"]
mod leaving;
#[path = "mesh/load.rs"]
mod load;
#[path = "launch/mark.rs"]
mod mark;
#[path = "mesh/methods.rs"]
mod methods;
#[path = "mesh/patterns.rs"]
mod patterns;
#[path = "peers/peer.rs"]
mod peer;
#[path = "mesh/pki.rs"]
mod pki;
#[path = "peers/ports.rs"]
mod ports;
#[path = "mesh/process.rs"]
mod process;
#[path = "mesh/programs.rs"]
mod programs;
#[path = "mesh/real.rs"]
mod real;
#[path = "../../certs/tests/certs/reckless.rs"]
mod reckless;
#[path = "mesh/renewal.rs"]
mod renewal;
#[path = "mesh/shares.rs"]
mod shares;
#[path = "mesh/sidecar.rs"]
mod sidecar;
#[path = "mesh/sparing.rs"]
mod sparing;
#[path = "mesh/spread.rs"]
mod spread;
#[path = "mesh/stalls.rs"]
mod stalls;
#[path = "mesh/watches.rs"]
mod watches;
#[path = "mesh/whole.rs"]
mod whole;
