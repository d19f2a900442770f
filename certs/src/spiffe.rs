//! Workload identities: SPIFFE IDs, parsed and typed (SPIFFE-ID standard, sections 2 and 3).
//!
//! Everything that names a workload goes through [`SpiffeId`]; a value of it has passed every
//! rule of the standard, so that two of them are the same identity exactly when their text is
//! (Consul's spelling of the default partition aside: [`SpiffeId::is_same_workload`]).

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

#[cfg(test)]
mod tests;

const SCHEME: &str = "spiffe://";
/// The longest SPIFFE ID in bytes (SPIFFE-ID, 2.3).
const MAX_ID: usize = 2048;
/// The longest trust domain in bytes (SPIFFE-ID, 2.1).
const MAX_TRUST_DOMAIN: usize = 255;
/// The partition that Consul leaves out of an ID.
const DEFAULT_PARTITION: &str = "default";

/// Who a workload is: `spiffe://<trust domain>/<path>`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffeId {
    text: Arc<str>,
    /// Where the path starts in `text`.
    path: u16,
}

/// The name of a trust domain: what one set of certificate authorities vouches for.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrustDomain(Arc<str>);

/// What Consul's form of a path says:
/// `/[ap/<partition>/]ns/<namespace>/dc/<datacenter>/svc/<service>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsulWorkload<'a> {
    /// The admin partition, where the ID states one; none is Consul's default partition.
    pub partition: Option<&'a str>,
    /// The namespace, `default` in Consul's community edition.
    pub namespace: &'a str,
    /// The datacenter that issued the certificate.
    pub datacenter: &'a str,
    /// The service's name.
    pub service: &'a str,
}

/// Why a text is no SPIFFE ID of a workload, or no trust domain.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SpiffeIdError {
    /// Another scheme, or none.
    #[error("it must begin with \"spiffe://\"")]
    Scheme,
    /// Over 2048 bytes.
    #[error("it has {0} bytes, at most {MAX_ID} are allowed")]
    TooLong(usize),
    /// Nothing between the scheme and the path.
    #[error("its trust domain is empty")]
    NoTrustDomain,
    /// Over 255 bytes of trust domain.
    #[error("its trust domain has {0} bytes, at most {MAX_TRUST_DOMAIN} are allowed")]
    TrustDomainTooLong(usize),
    /// A user before the trust domain.
    #[error("it has user information before its trust domain, which is not allowed")]
    UserInfo,
    /// A port after the trust domain.
    #[error("it has a port after its trust domain, which is not allowed")]
    Port,
    /// A character that no trust domain may hold.
    #[error("{0:?} in its trust domain: only a-z, 0-9, '.', '-' and '_' are allowed")]
    TrustDomainCharacter(char),
    /// A trust domain alone: it names no workload.
    #[error("it has no path, so it names a trust domain and no workload")]
    NoPath,
    /// `//` or a slash at the end.
    #[error("its path has an empty segment (a doubled slash, or one at the end)")]
    EmptySegment,
    /// `.` or `..`.
    #[error("its path has the segment {0:?}, which is not allowed")]
    DotSegment(String),
    /// A query.
    #[error("it has a query, which is not allowed")]
    Query,
    /// A fragment.
    #[error("it has a fragment, which is not allowed")]
    Fragment,
    /// A character that no path may hold, `%` included.
    #[error("{0:?} in its path: only a-z, A-Z, 0-9, '.', '-' and '_' are allowed")]
    PathCharacter(char),
}

impl SpiffeId {
    /// The identity that Consul gives to a service of its default partition.
    ///
    /// # Errors
    /// Where a part holds a character that no SPIFFE ID may hold, or is empty.
    pub fn for_consul(
        trust_domain: &str,
        namespace: &str,
        datacenter: &str,
        service: &str,
    ) -> Result<Self, SpiffeIdError> {
        ConsulWorkload { partition: None, namespace, datacenter, service }.id(trust_domain)
    }

    /// The whole ID.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The trust domain's name.
    #[must_use]
    pub fn trust_domain(&self) -> &str {
        &self.text[SCHEME.len()..usize::from(self.path)]
    }

    /// The path with its first slash; never empty.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.text[usize::from(self.path)..]
    }

    /// The parts of Consul's form; none for any other path, as SPIRE issues them.
    #[must_use]
    pub fn consul(&self) -> Option<ConsulWorkload<'_>> {
        let (partition, rest) = match self.path().strip_prefix("/ap/") {
            Some(rest) => {
                let (partition, rest) = rest.split_once('/')?;
                (Some(partition), rest)
            }
            None => (None, &self.path()[1..]),
        };
        let mut parts = rest.split('/');
        let mut after = |key: &str| if parts.next() == Some(key) { parts.next() } else { None };
        let workload = ConsulWorkload {
            partition,
            namespace: after("ns")?,
            datacenter: after("dc")?,
            service: after("svc")?,
        };
        parts.next().is_none().then_some(workload)
    }

    /// The service's name, where the path has Consul's form.
    #[must_use]
    pub fn service(&self) -> Option<&str> {
        self.consul().map(|workload| workload.service)
    }

    /// Whether both name one workload: the same text, or Consul's form with the default
    /// partition spelt out (`ap/default`) in one of them only.
    #[must_use]
    pub fn is_same_workload(&self, other: &Self) -> bool {
        self.trust_domain() == other.trust_domain() && self.has_same_path(other)
    }

    /// As [`SpiffeId::is_same_workload`], whatever the trust domains.
    pub(crate) fn has_same_path(&self, other: &Self) -> bool {
        if self.path() == other.path() {
            return true;
        }
        match (self.consul(), other.consul()) {
            (Some(mine), Some(theirs)) => mine.normal() == theirs.normal(),
            _ => false,
        }
    }
}

impl<'a> ConsulWorkload<'a> {
    /// The identity that Consul gives to this workload.
    ///
    /// # Errors
    /// Where a part holds a character that no SPIFFE ID may hold, or is empty.
    pub fn id(self, trust_domain: &str) -> Result<SpiffeId, SpiffeIdError> {
        check_trust_domain(trust_domain)?;
        let Self { namespace, datacenter, service, .. } = self;
        for part in [self.partition_name(), namespace, datacenter, service] {
            check_segment(part)?;
        }
        let partition = match self.partition_name() {
            DEFAULT_PARTITION => String::new(),
            other => format!("/ap/{other}"),
        };
        format!("{SCHEME}{trust_domain}{partition}/ns/{namespace}/dc/{datacenter}/svc/{service}")
            .parse()
    }

    /// The server name that Consul's own proxies send for this workload. It routes; it proves
    /// nothing. `<service>.<namespace>.<datacenter>.internal.<trust domain>` in the default
    /// partition, `<service>.<namespace>.<partition>.<datacenter>.internal-v1.<trust domain>` in
    /// another.
    #[must_use]
    pub fn server_name(self, trust_domain: &str) -> String {
        let Self { namespace, datacenter, service, .. } = self;
        match self.partition_name() {
            DEFAULT_PARTITION => {
                format!("{service}.{namespace}.{datacenter}.internal.{trust_domain}")
            }
            other => {
                format!("{service}.{namespace}.{other}.{datacenter}.internal-v1.{trust_domain}")
            }
        }
    }

    /// The admin partition: Consul's default one where the ID states none.
    #[must_use]
    pub fn partition_name(self) -> &'a str {
        self.partition.unwrap_or(DEFAULT_PARTITION)
    }

    fn normal(self) -> Self {
        Self { partition: Some(self.partition_name()), ..self }
    }
}

impl TrustDomain {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The trust domain's own URI, as a CA certificate states it: `spiffe://<trust domain>`.
    #[must_use]
    pub fn uri(&self) -> String {
        format!("{SCHEME}{}", self.0)
    }

    /// The trust domain in a URI of a CA certificate, whatever its path.
    pub(crate) fn of_uri(uri: &str) -> Option<Self> {
        uri.strip_prefix(SCHEME)?.split('/').next()?.parse().ok()
    }
}

impl FromStr for SpiffeId {
    type Err = SpiffeIdError;

    fn from_str(text: &str) -> Result<Self, SpiffeIdError> {
        let rest = text.strip_prefix(SCHEME).ok_or(SpiffeIdError::Scheme)?;
        if text.len() > MAX_ID {
            return Err(SpiffeIdError::TooLong(text.len()));
        }
        if rest.contains('#') {
            return Err(SpiffeIdError::Fragment);
        }
        if rest.contains('?') {
            return Err(SpiffeIdError::Query);
        }
        let (trust_domain, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        check_trust_domain(trust_domain)?;
        let segments = path.strip_prefix('/').filter(|segments| !segments.is_empty());
        for segment in segments.ok_or(SpiffeIdError::NoPath)?.split('/') {
            check_segment(segment)?;
        }
        let path = u16::try_from(text.len() - path.len())
            .map_err(|_| SpiffeIdError::TooLong(text.len()))?;
        Ok(Self { text: text.into(), path })
    }
}

impl FromStr for TrustDomain {
    type Err = SpiffeIdError;

    fn from_str(text: &str) -> Result<Self, SpiffeIdError> {
        check_trust_domain(text)?;
        Ok(Self(text.into()))
    }
}

fn check_trust_domain(name: &str) -> Result<(), SpiffeIdError> {
    if name.is_empty() {
        return Err(SpiffeIdError::NoTrustDomain);
    }
    if name.len() > MAX_TRUST_DOMAIN {
        return Err(SpiffeIdError::TrustDomainTooLong(name.len()));
    }
    let allowed = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '.' | '-' | '_');
    match name.chars().find(|&c| !allowed(c)) {
        None => Ok(()),
        Some(_) if name.contains('@') => Err(SpiffeIdError::UserInfo),
        Some(':') => Err(SpiffeIdError::Port),
        Some(other) => Err(SpiffeIdError::TrustDomainCharacter(other)),
    }
}

fn check_segment(segment: &str) -> Result<(), SpiffeIdError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    match segment {
        "" => Err(SpiffeIdError::EmptySegment),
        "." | ".." => Err(SpiffeIdError::DotSegment(segment.to_owned())),
        _ => match segment.chars().find(|&c| !allowed(c)) {
            None => Ok(()),
            Some(other) => Err(SpiffeIdError::PathCharacter(other)),
        },
    }
}

impl TryFrom<&str> for SpiffeId {
    type Error = SpiffeIdError;

    fn try_from(text: &str) -> Result<Self, SpiffeIdError> {
        text.parse()
    }
}

impl TryFrom<String> for SpiffeId {
    type Error = SpiffeIdError;

    fn try_from(text: String) -> Result<Self, SpiffeIdError> {
        text.parse()
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpiffeId({})", self.text)
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TrustDomain({})", self.0)
    }
}
