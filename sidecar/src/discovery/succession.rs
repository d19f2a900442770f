//! Which leaf is presented and which roots are trusted, as Consul's authority changes. Pure: time
//! is an argument.
//!
//! Trust first, present later: every sidecar learns of new roots at a moment of its own. Invariant:
//! a leaf is presented only once its peers had the time to trust it, unless the one before it is of
//! no use any more; and what peers may still present stays trusted meanwhile.

use std::time::{Duration, SystemTime};

use certs::{Identity, IdentityError, Leaf, Roots, TlsMin, TrustDomain};
use tokio::time::Instant;

/// A leaf of a new trust domain is presented this long after its roots were learnt: the last
/// quarter of the hold. The slowest peer's watch pauses for 30 s.
pub(super) const PRESENTED: Duration = Duration::from_secs(45);

/// A leaf is presented this long after new roots of the same trust domain were learnt. Consul tells
/// them to everyone at once, since nothing was away.
pub(super) const SETTLED: Duration = Duration::from_secs(5);

/// The old trust domain stays trusted this long. Longer than the hold: a peer that learns of the
/// new one 30 s after us presents its old leaf until 75 s after we learnt of it.
pub(super) const TRUSTED: Duration = Duration::from_secs(90);

/// Trust domains that stay trusted beside the present one, at most.
const FORMERS: usize = 4;

/// What Consul said so far.
pub(super) struct Succession {
    tls_min: TlsMin,
    present: Option<Present>,
    /// Oldest first.
    formers: Vec<Former>,
    presented: Option<Leaf>,
    waiting: Option<Leaf>,
    published: Option<(Leaf, Roots, Vec<TrustDomain>)>,
}

/// The roots that Consul lists now.
struct Present {
    roots: Roots,
    domain: TrustDomain,
    /// When the newest of them was learnt.
    since: Instant,
}

/// The roots of a trust domain that Consul knows no more.
struct Former {
    roots: Roots,
    domain: TrustDomain,
    until: Instant,
}

impl Succession {
    pub(super) fn new(tls_min: TlsMin) -> Self {
        Self {
            tls_min,
            present: None,
            formers: Vec::new(),
            presented: None,
            waiting: None,
            published: None,
        }
    }

    /// Consul lists these roots. Returns whether the trust domain is another than before.
    pub(super) fn roots(
        &mut self,
        roots: Roots,
        domain: TrustDomain,
        now: Instant,
        wall: SystemTime,
    ) -> bool {
        let Some(before) = self.present.take() else {
            self.present = Some(Present { roots, domain, since: now });
            return false;
        };
        if before.domain == domain {
            // A root that Consul lists no more is trusted no more: someone withdrew it.
            let since = if before.roots.contains(&roots) { before.since } else { now };
            self.present = Some(Present { roots, domain, since });
            return false;
        }
        let left = self.presented.as_ref().map(|leaf| left(leaf, wall)).unwrap_or_default();
        let until = now + TRUSTED.min(left);
        self.formers.retain(|former| former.domain != domain);
        self.formers.push(Former { roots: before.roots, domain: before.domain, until });
        if self.formers.len() > FORMERS {
            self.formers.remove(0);
        }
        self.present = Some(Present { roots, domain, since: now });
        true
    }

    /// Consul issued this leaf.
    pub(super) fn leaf(&mut self, leaf: Leaf) {
        let is_presented = self.presented.as_ref().is_some_and(|p| p.chain() == leaf.chain());
        self.waiting = (!is_presented).then_some(leaf);
    }

    /// The newest leaf, presented or not yet.
    pub(super) fn newest(&self) -> Option<&Leaf> {
        self.waiting.as_ref().or(self.presented.as_ref())
    }

    /// The identity from now on, where it is another than the one before.
    ///
    /// # Errors
    /// Where no TLS can be made of it.
    pub(super) fn identity(
        &mut self,
        now: Instant,
        wall: SystemTime,
    ) -> Result<Option<Identity>, IdentityError> {
        let Some(present) = &self.present else { return Ok(None) };
        self.formers.retain(|former| now < former.until);
        let mut trusted = present.roots.clone();
        let mut names = vec![present.domain.clone()];
        for former in &self.formers {
            trusted = trusted.union(&former.roots);
            names.push(former.domain.clone());
        }
        if let Some(next) = self.waiting.take() {
            let proof =
                Identity::of_one_mesh(next.clone(), trusted.clone(), self.tls_min, names.clone())?;
            if self.presented.as_ref().is_none_or(|old| present.lets(&next, old, &proof, now, wall))
            {
                self.presented = Some(next);
            } else {
                self.waiting = Some(next);
            }
        }
        let Some(leaf) = &self.presented else { return Ok(None) };
        let is_published = self.published.as_ref().is_some_and(|(published, roots, of)| {
            published.chain() == leaf.chain() && *roots == trusted && *of == names
        });
        if is_published {
            return Ok(None);
        }
        let identity =
            Identity::of_one_mesh(leaf.clone(), trusted.clone(), self.tls_min, names.clone())?;
        self.published = Some((leaf.clone(), trusted, names));
        Ok(Some(identity))
    }
}

impl Present {
    /// Whether `next` is presented from now on in the place of `old`; `proof` trusts what is
    /// trusted now.
    fn lets(
        &self,
        next: &Leaf,
        old: &Leaf,
        proof: &Identity,
        now: Instant,
        wall: SystemTime,
    ) -> bool {
        if proof.judge(next.chain(), wall).is_err() {
            // Its root is still to come, unless there is nothing to lose.
            return old.not_after() <= wall;
        }
        let is_renamed = next.id().trust_domain() != old.id().trust_domain();
        let wait = if is_renamed { PRESENTED } else { SETTLED };
        now >= self.since + wait || proof.judge(old.chain(), wall).is_err()
    }
}

fn left(leaf: &Leaf, wall: SystemTime) -> Duration {
    leaf.not_after().duration_since(wall).unwrap_or_default()
}

#[cfg(test)]
mod tests;
