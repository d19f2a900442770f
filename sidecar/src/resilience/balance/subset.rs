//! Which endpoints a caller takes of an upstream that has many, so that 1,000 callers of 1,000
//! endpoints do not open a million connections.
//!
//! Rendezvous hashing: of all endpoints those whose hash together with the caller's is the highest.
//! Each caller chooses alone, the same again after a restart; an endpoint that comes or goes changes
//! one place in the choice of those callers that took it or now do, and none in any other's.

use std::cmp::Reverse;
use std::net::{IpAddr, SocketAddr};

use super::{hash, mix};

/// One place in four is for other zones where there are any, to spill over to. It costs nothing
/// until then: connections are opened by the first call.
const SPILL: usize = 4;

/// Leaves of all endpoints those that `caller` takes, `most` of them, in the order in which they
/// were. Those that are near come first, save in the places kept for others.
pub fn choose<T>(
    caller: &str,
    most: usize,
    all: &mut Vec<T>,
    address: impl Fn(&T) -> SocketAddr,
    is_near: impl Fn(&T) -> bool,
) {
    if all.len() <= most {
        return;
    }
    let caller = hash(caller.as_bytes());
    let near = all.iter().filter(|one| is_near(one)).count();
    let far = all.len() - near;
    let take_near = near.min(most - far.min(most / SPILL));
    let take_far = most - take_near;
    let score = |one: &T| (score(caller, address(one)), address(one));
    let least_near = nth_highest(take_near, all.iter().filter(|one| is_near(one)).map(score));
    let least_far = nth_highest(take_far, all.iter().filter(|one| !is_near(one)).map(score));
    all.retain(|one| {
        let least = if is_near(one) { least_near } else { least_far };
        least.is_some_and(|least| score(one) >= least)
    });
}

type Score = (u64, SocketAddr);

/// The least of the `n` highest, of which there are as many.
fn nth_highest(n: usize, scores: impl Iterator<Item = Score>) -> Option<Score> {
    let mut scores: Vec<_> = scores.collect();
    let at = n.checked_sub(1).filter(|at| *at < scores.len())?;
    Some(*scores.select_nth_unstable_by_key(at, |score| Reverse(*score)).1)
}

fn score(caller: u64, address: SocketAddr) -> u64 {
    let ip = match address.ip() {
        IpAddr::V4(ip) => u64::from(u32::from(ip)),
        IpAddr::V6(ip) => hash(&ip.octets()),
    };
    mix(mix(ip ^ u64::from(address.port()) << 40) ^ caller)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    type One = (SocketAddr, bool);

    fn endpoints(n: u32, near: u32) -> Vec<One> {
        let one = |i: u32| {
            let [_, a, b, c] = i.to_be_bytes();
            (SocketAddr::from(([10, a, b, c], 21_000)), i < near)
        };
        (0..n).map(one).collect()
    }

    fn chosen(caller: &str, most: usize, all: &[One]) -> Vec<One> {
        let mut all = all.to_vec();
        choose(caller, most, &mut all, |one| one.0, |one| one.1);
        all
    }

    #[test]
    fn a_thousand_callers_spread_evenly_over_a_thousand_endpoints() {
        let all = endpoints(1_000, 0);
        let mut taken: BTreeMap<SocketAddr, u32> = BTreeMap::new();
        for caller in 0..1_000 {
            let subset = chosen(&format!("web-{caller}"), 100, &all);
            assert_eq!(subset.len(), 100);
            subset.iter().for_each(|one| *taken.entry(one.0).or_default() += 1);
        }
        assert_eq!(taken.len(), 1_000, "none is forgotten");
        let (least, most) = (taken.values().min().unwrap(), taken.values().max().unwrap());
        // 100 is even; by chance alone the most would be 133.
        assert!(*least > 60 && *most < 140, "{least} to {most} callers an endpoint");
    }

    #[test]
    fn the_own_zone_comes_first_and_others_are_there_to_spill_over_to() {
        let near = |all: &[One]| chosen("web-1", 100, all).iter().filter(|one| one.1).count();
        assert_eq!(near(&endpoints(1_000, 500)), 75);
        assert_eq!(near(&endpoints(1_000, 10)), 10, "the zone has no more");
        assert_eq!(near(&endpoints(1_000, 1_000)), 100, "there is no other zone");
        assert_eq!(near(&endpoints(505, 500)), 95);
    }

    #[test]
    fn of_few_all_are_taken_and_one_place_is_one() {
        assert_eq!(chosen("web-1", 100, &endpoints(100, 30)).len(), 100);
        assert_eq!(chosen("web-1", 1, &endpoints(100, 30)).len(), 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn one_that_goes_changes_one_place(
            n in 2u32..300, near in 0u32..300, most in 1usize..60, gone in any::<u32>(),
        ) {
            let all = endpoints(n, near);
            let gone = (gone % n) as usize;
            let mut fewer = all.clone();
            let gone = fewer.remove(gone);
            let before: BTreeSet<_> = chosen("web-1", most, &all).into_iter().collect();
            let after: BTreeSet<_> = chosen("web-1", most, &fewer).into_iter().collect();
            prop_assert_eq!(before.len(), most.min(all.len()));
            prop_assert_eq!(after.len(), most.min(fewer.len()));
            let new = after.difference(&before).count();
            prop_assert!(new <= 1);
            // Its going shifts at most one place between the zones.
            let lost = before.difference(&after).count();
            prop_assert!(lost <= 1 + usize::from(!before.contains(&gone)));
        }

        #[test]
        fn the_order_in_which_they_are_listed_does_not_matter(n in 2u32..300, most in 1usize..60) {
            let all = endpoints(n, n / 3);
            let mut turned = all.clone();
            turned.reverse();
            let mut again = chosen("web-1", most, &turned);
            again.reverse();
            prop_assert_eq!(chosen("web-1", most, &all), again);
        }
    }
}
