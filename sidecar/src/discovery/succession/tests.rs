//! A renewal, a rotation, a Consul without its data, an expiry: what is presented and trusted when.

use certs::{DevelopmentCa, SpiffeId};

use super::*;

const OLD: &str = "old.consul";
const NEW: &str = "new.consul";
const DAY: Duration = Duration::from_secs(24 * 3600);

/// An authority, and the moment that every test starts at.
struct Story {
    succession: Succession,
    start: Instant,
    wall: SystemTime,
}

impl Story {
    /// Presents a leaf of `ca` that lives for `ttl`.
    fn begin(ca: &DevelopmentCa, ttl: Duration) -> Self {
        let (start, wall) = (Instant::now(), SystemTime::now());
        let mut story = Self { succession: Succession::new(TlsMin::V1_3), start, wall };
        story.leaf(ca, ttl, 0);
        assert!(story.at(0).is_none(), "nothing without roots");
        assert!(!story.roots(ca, 0));
        assert_eq!(presents(&story.at(0)), Some(domain(ca).to_owned()));
        story
    }

    fn now(&self, seconds: u64) -> (Instant, SystemTime) {
        let passed = Duration::from_secs(seconds);
        (self.start + passed, self.wall + passed)
    }

    fn roots(&mut self, ca: &DevelopmentCa, seconds: u64) -> bool {
        let (now, wall) = self.now(seconds);
        let name = ca.trust_domain().clone();
        self.succession.roots(ca.roots().unwrap(), name, now, wall)
    }

    fn leaf(&mut self, ca: &DevelopmentCa, ttl: Duration, seconds: u64) -> Leaf {
        let id = SpiffeId::for_consul(domain(ca), "default", "dc1", "web").unwrap();
        let issued = ca.issue(&id, ttl, self.now(seconds).1).unwrap();
        let leaf = Leaf::from_pem(issued.certificate_pem.as_bytes(), issued.key_pem.as_bytes());
        let leaf = leaf.unwrap();
        self.succession.leaf(leaf.clone());
        leaf
    }

    /// What is published at this time, if anything.
    fn at(&mut self, seconds: u64) -> Option<Identity> {
        let (now, wall) = self.now(seconds);
        self.succession.identity(now, wall).unwrap()
    }
}

fn ca(name: &str) -> DevelopmentCa {
    DevelopmentCa::new(name.parse().unwrap(), SystemTime::now()).unwrap()
}

fn domain(ca: &DevelopmentCa) -> &str {
    ca.trust_domain().as_str()
}

/// The trust domain that is presented.
fn presents(identity: &Option<Identity>) -> Option<String> {
    Some(identity.as_ref()?.leaf().id().trust_domain().to_owned())
}

fn trusts(identity: &Option<Identity>, ca: &DevelopmentCa) -> bool {
    identity.as_ref().is_some_and(|identity| identity.roots().contains(&ca.roots().unwrap()))
}

#[test]
fn a_renewed_leaf_is_presented_at_once_and_the_same_leaf_changes_nothing() {
    let old = ca(OLD);
    let mut story = Story::begin(&old, DAY);
    let renewed = story.leaf(&old, DAY, 100);
    assert_eq!(story.at(100).unwrap().leaf().chain(), renewed.chain());
    story.succession.leaf(renewed);
    assert!(story.at(101).is_none());
}

#[test]
fn after_a_rotation_new_roots_are_trusted_before_a_leaf_of_them_is_presented() {
    let (old, rotated) = (ca(OLD), ca(OLD));
    let mut story = Story::begin(&old, DAY);
    // The leaf arrives first: its root is still unknown.
    let next = story.leaf(&rotated, DAY, 100);
    assert!(story.at(100).is_none());
    let both = old.roots().unwrap().union(&rotated.roots().unwrap());
    let (now, wall) = story.now(101);
    assert!(!story.succession.roots(both, OLD.parse().unwrap(), now, wall));
    let trusting = story.at(101).unwrap();
    assert_ne!(trusting.leaf().chain(), next.chain());
    assert!(story.at(105).is_none());
    assert_eq!(story.at(106).unwrap().leaf().chain(), next.chain());
}

#[test]
fn a_leaf_whose_root_was_withdrawn_gives_way_at_once() {
    let (old, rotated) = (ca(OLD), ca(OLD));
    let mut story = Story::begin(&old, DAY);
    let next = story.leaf(&rotated, DAY, 100);
    assert!(!story.roots(&rotated, 100));
    assert_eq!(story.at(100).unwrap().leaf().chain(), next.chain());
}

#[test]
fn a_new_trust_domain_is_trusted_first_presented_later_and_the_old_one_outlives_both() {
    let (old, new) = (ca(OLD), ca(NEW));
    let mut story = Story::begin(&old, DAY);
    assert!(story.roots(&new, 100));
    story.leaf(&new, DAY, 101);
    let trusting = story.at(101);
    assert_eq!(presents(&trusting).as_deref(), Some(OLD));
    assert!(trusts(&trusting, &old) && trusts(&trusting, &new));
    assert!(story.at(144).is_none());
    let presenting = story.at(145);
    assert_eq!(presents(&presenting).as_deref(), Some(NEW));
    assert!(trusts(&presenting, &old), "a slow peer still presents its old leaf");
    assert!(story.at(189).is_none());
    let last = story.at(190);
    assert_eq!(presents(&last).as_deref(), Some(NEW));
    assert!(!trusts(&last, &old));
}

#[test]
fn the_old_trust_domain_is_trusted_and_presented_no_longer_than_our_leaf_of_it_lives() {
    let (old, new) = (ca(OLD), ca(NEW));
    let mut story = Story::begin(&old, Duration::from_secs(120));
    assert!(story.roots(&new, 100));
    story.leaf(&new, DAY, 101);
    assert_eq!(presents(&story.at(101)).as_deref(), Some(OLD));
    let after = story.at(122);
    assert_eq!(presents(&after).as_deref(), Some(NEW));
    assert!(!trusts(&after, &old));
}

#[test]
fn trust_domains_that_change_again_and_again_are_bounded() {
    let mut story = Story::begin(&ca(OLD), DAY);
    for n in 0..10 {
        assert!(story.roots(&ca(&format!("n{n}.consul")), 100 + n));
    }
    let identity = story.at(110).unwrap();
    assert_eq!(identity.roots().certificates().len(), 1 + FORMERS);
}
