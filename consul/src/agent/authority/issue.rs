//! What the Connect CA issues, made by the development CA of `certs`: the one place that knows
//! how certificates come about.

use std::time::{Duration, SystemTime};

use certs::{DevelopmentCa, SpiffeId, TrustDomain};

use super::CaError;

/// Certificates are valid from a minute before their issue.
const BACKDATE: Duration = Duration::from_secs(60);

/// A root with its key.
pub(super) struct RootMaterial {
    pub(super) id: String,
    pub(super) trust_domain: TrustDomain,
    pub(super) serial: u64,
    pub(super) key_id: String,
    pub(super) not_before: SystemTime,
    pub(super) not_after: SystemTime,
    pub(super) pem: String,
    ca: DevelopmentCa,
}

/// A leaf with its key.
#[derive(Clone)]
pub(super) struct LeafMaterial {
    pub(super) serial: String,
    pub(super) cert_pem: String,
    pub(super) key_pem: String,
    pub(super) uri: String,
    pub(super) valid_after: SystemTime,
    pub(super) valid_before: SystemTime,
}

impl LeafMaterial {
    /// When two thirds of its life are over, the backdated minute not counted.
    pub(super) fn renew_at(&self) -> SystemTime {
        let issued = self.valid_after + BACKDATE;
        issued + self.valid_before.duration_since(issued).unwrap_or_default() * 2 / 3
    }
}

/// A new self-signed root.
pub(super) fn root(trust_domain: TrustDomain, now: SystemTime) -> Result<RootMaterial, CaError> {
    let ca = DevelopmentCa::new(trust_domain.clone(), now)?;
    let (not_before, not_after) = ca.validity();
    // Consul shows the low 64 bits of a root's serial number.
    let serial = ca.serial().iter().fold(0_u64, |all, byte| all << 8 | u64::from(*byte));
    Ok(RootMaterial {
        id: ca.fingerprint(),
        trust_domain,
        serial,
        key_id: ca.key_id(),
        not_before,
        not_after,
        pem: ca.root_pem(),
        ca,
    })
}

/// A new leaf for a service.
pub(super) fn leaf(
    root: &RootMaterial,
    datacenter: &str,
    service: &str,
    now: SystemTime,
    ttl: Duration,
) -> Result<LeafMaterial, CaError> {
    let id = SpiffeId::for_consul(root.trust_domain.as_str(), "default", datacenter, service)?;
    let issued = root.ca.issue(&id, ttl, now)?;
    let serial: Vec<String> = issued.serial.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(LeafMaterial {
        serial: serial.join(":"),
        cert_pem: issued.certificate_pem,
        key_pem: issued.key_pem,
        uri: id.as_str().to_owned(),
        valid_after: issued.not_before,
        valid_before: issued.not_after,
    })
}
