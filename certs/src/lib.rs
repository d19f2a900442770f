//! Workload identity: who a workload is, whom it trusts, and how it proves the one and demands
//! the other in TLS.
//!
//! - [`SpiffeId`] names a workload; [`Roots`] are the authorities that are trusted; a [`Leaf`]
//!   is a workload's own certificate and key.
//! - An [`Identity`] is a leaf and roots at one moment, and the TLS made from them. It never
//!   changes: a rotation makes a new one, and open connections are judged again with
//!   [`Identity::judge`]. After each handshake, resumed ones too, [`Identity::peer`] tells who
//!   is there and until when that holds.
//! - [`PeerFault`] says why a handshake failed, on either side.
//! - [`renewal`] says when a leaf is renewed, [`files`] reads an identity from PEM files,
//!   [`ca`] is a small authority for development, [`describe()`] tells what a PEM text holds.
//!
//! The crate knows no network and reads no clock: it is given bytes (or the names of files) and the
//! time.

pub mod ca;
pub mod describe;
mod fault;
pub mod files;
mod identity;
mod leaf;
pub mod renewal;
mod roots;
mod spiffe;
mod verifier;
mod x509;

pub use ca::{CaError, DevelopmentCa, Issued};
pub use describe::describe;
pub use fault::{PeerFault, Refusal};
pub use files::{FileSource, FilesError};
pub use identity::{Identity, IdentityError, TlsMin};
pub use leaf::{Leaf, LeafError};
pub use renewal::{Standing, renew_at};
pub use roots::{Roots, RootsError};
pub use spiffe::{ConsulWorkload, SpiffeId, SpiffeIdError, TrustDomain};
pub use verifier::Peer;
pub use x509::NotSpiffe;
