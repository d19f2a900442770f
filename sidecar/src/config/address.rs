//! Addresses by role, so that no function takes one for another.
//! An address that must not leave the machine is a [`Loopback`] inside.

use std::fmt;
use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An address on this machine alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "SocketAddr")]
pub struct Loopback(SocketAddr);

impl TryFrom<SocketAddr> for Loopback {
    type Error = String;

    fn try_from(address: SocketAddr) -> Result<Self, String> {
        if address.ip().is_loopback() {
            Ok(Self(address))
        } else {
            Err(format!(
                "expected an address on loopback such as \"127.0.0.1:{}\": this side has no TLS",
                address.port()
            ))
        }
    }
}

impl TryFrom<String> for Loopback {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        parse(&text)?.try_into()
    }
}

impl From<Loopback> for SocketAddr {
    fn from(address: Loopback) -> Self {
        address.0
    }
}

/// An address that others may reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "SocketAddr")]
struct Anywhere(SocketAddr);

impl TryFrom<String> for Anywhere {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        parse(&text).map(Self)
    }
}

impl From<Anywhere> for SocketAddr {
    fn from(address: Anywhere) -> Self {
        address.0
    }
}

fn parse(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "expected an IP address and a port such as \"127.0.0.1:50051\"".to_owned())
}

macro_rules! role {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord,
            Serialize, Deserialize, JsonSchema,
        )]
        #[serde(transparent)]
        pub struct $name(#[schemars(with = "String")] $inner);

        impl $name {
            /// The plain address, for the socket itself.
            pub fn socket_addr(self) -> SocketAddr {
                self.0.into()
            }
        }

        impl From<$name> for SocketAddr {
            fn from(address: $name) -> Self {
                address.0.into()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.socket_addr().fmt(f)
            }
        }
    };
}

macro_rules! loopback_role {
    ($(#[$doc:meta])* $name:ident) => {
        role!($(#[$doc])* $name(Loopback));

        impl TryFrom<SocketAddr> for $name {
            type Error = String;

            fn try_from(address: SocketAddr) -> Result<Self, String> {
                Loopback::try_from(address).map(Self)
            }
        }
    };
}

macro_rules! open_role {
    ($(#[$doc:meta])* $name:ident) => {
        role!($(#[$doc])* $name(Anywhere));

        impl From<SocketAddr> for $name {
            fn from(address: SocketAddr) -> Self {
                Self(Anywhere(address))
            }
        }
    };
}

loopback_role!(
    /// Where the app itself listens.
    AppAddr
);
loopback_role!(
    /// Where the app calls the mesh.
    OutboundAddr
);
loopback_role!(
    /// Where metrics and readiness are read.
    AdminAddr
);
loopback_role!(
    /// A port of one upstream's own.
    UpstreamListenAddr
);
open_role!(
    /// Where the mesh calls this sidecar.
    InboundAddr
);
open_role!(
    /// What Consul is told to give to callers.
    AdvertiseAddr
);
open_role!(
    /// One address of an upstream.
    EndpointAddr
);
