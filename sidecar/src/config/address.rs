//! Addresses by role, so that no function takes one for another.
//! An address that must not leave the machine is a [`Loopback`] inside.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::str::FromStr;

use super::text::{Expected, text_type};

const ADDRESS: Expected = Expected::new("an IP address and a port such as \"127.0.0.1:50051\"");
const LOOPBACK: Expected = Expected::new(
    "an address on loopback such as \"127.0.0.1:50051\", as nothing there is encrypted",
);

const AGENT: Expected = Expected::new(
    "an agent's address such as \"127.0.0.1:8500\", \"https://consul:8501\" or \"unix:///run/consul.sock\"",
);

/// An address on this machine alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Loopback(SocketAddr);

impl TryFrom<SocketAddr> for Loopback {
    type Error = Expected;

    fn try_from(address: SocketAddr) -> Result<Self, Expected> {
        if address.ip().is_loopback() { Ok(Self(address)) } else { Err(LOOPBACK) }
    }
}

impl From<Loopback> for SocketAddr {
    fn from(address: Loopback) -> Self {
        address.0
    }
}

macro_rules! role {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name($inner);

        impl $name {
            /// The plain address, for the socket itself.
            pub fn socket_addr(self) -> SocketAddr {
                self.0.into()
            }
        }

        impl TryFrom<SocketAddr> for $name {
            type Error = Expected;

            fn try_from(address: SocketAddr) -> Result<Self, Expected> {
                match <$inner>::try_from(address) {
                    Ok(address) => Ok(Self(address)),
                    Err(_) => Err(LOOPBACK),
                }
            }
        }

        impl FromStr for $name {
            type Err = Expected;

            fn from_str(text: &str) -> Result<Self, Expected> {
                text.parse::<SocketAddr>().map_err(|_| ADDRESS)?.try_into()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.socket_addr().fmt(f)
            }
        }

        text_type!($name, "address", ADDRESS);
    };
}

role!(
    /// Where the app itself listens: on loopback.
    AppAddr(Loopback)
);
role!(
    /// Where the app calls the mesh: on loopback.
    OutboundAddr(Loopback)
);
role!(
    /// Where metrics and readiness are read: on loopback.
    AdminAddr(Loopback)
);
role!(
    /// A port of one upstream's own: on loopback.
    UpstreamListenAddr(Loopback)
);
role!(
    /// Where the mesh calls this sidecar.
    InboundAddr(SocketAddr)
);
role!(
    /// What Consul is told to give to callers.
    AdvertiseAddr(SocketAddr)
);
role!(
    /// One address of an upstream.
    EndpointAddr(SocketAddr)
);

/// Where the Consul agent answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AgentAddr(pub(super) consul::Address);

impl FromStr for AgentAddr {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        text.parse().map(Self).map_err(|_| AGENT)
    }
}

impl fmt::Display for AgentAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

text_type!(AgentAddr, "agent address", AGENT);

impl InboundAddr {
    pub(super) const DEFAULT: Self = Self(at([0, 0, 0, 0], 21000));
}

impl OutboundAddr {
    pub(super) const DEFAULT: Self = Self(Loopback(at([127, 0, 0, 1], 15001)));
}

impl AdminAddr {
    pub(super) const DEFAULT: Self = Self(Loopback(at([127, 0, 0, 1], 15000)));
}

const fn at([a, b, c, d]: [u8; 4], port: u16) -> SocketAddr {
    SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), port))
}
