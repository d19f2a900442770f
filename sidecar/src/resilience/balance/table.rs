//! Which endpoint a hash points to: Maglev's table (Eisenbud et al., "Maglev: A Fast and Reliable
//! Software Network Load Balancer", NSDI 2016, section 3.4), with weights.
//!
//! One look a call, however many endpoints there are. Every caller that knows the same endpoints has
//! the same table, in whatever order they are listed. An endpoint that comes or goes moves its own
//! part of the hashes and a few more.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;

use super::{hash, mix};

/// Places, prime numbers: at least 65 for each endpoint up to a thousand endpoints, 100 for each of
/// ten thousand.
const SMALL: u32 = 65_537;
const LARGE: u32 = 1_000_003;
const FEW: usize = 1_000;

/// The table.
#[derive(Debug)]
pub struct Table {
    /// Numbers of endpoints.
    places: Vec<u32>,
}

impl Table {
    /// Of these endpoints, told by their address and weight; none where there are none. What weighs
    /// nothing has no place, unless all do. Takes up to a few tenths of a second for ten thousand.
    pub fn new(endpoints: impl IntoIterator<Item = (SocketAddr, u16)>) -> Option<Self> {
        let mut turns: Vec<_> = endpoints.into_iter().zip(0..).map(Turn::new).collect();
        if turns.iter().any(|turn| turn.weight > 0) {
            turns.retain(|turn| turn.weight > 0);
        }
        if turns.is_empty() {
            return None;
        }
        turns.sort_unstable_by_key(|turn| (turn.offset, turn.skip));
        let size = if turns.len() <= FEW { SMALL } else { LARGE };
        for turn in &mut turns {
            turn.offset %= u64::from(size);
            turn.skip = 1 + turn.skip % u64::from(size - 1);
        }
        let mut places = vec![u32::MAX; size as usize];
        // Who has had the least for its weight is next.
        let mut next: BinaryHeap<_> =
            (0..turns.len()).map(|at| Reverse((turns[at].pace(), at))).collect();
        for _ in 0..size {
            let Some(mut first) = next.peek_mut() else { break };
            let turn = &mut turns[first.0.1];
            first.0.0 += turn.pace();
            let place = turn.free(&places);
            places[place] = turn.number;
        }
        Some(Self { places })
    }

    /// The number of the endpoint that a call with this hash goes to where `attempt` others have not
    /// taken it.
    pub fn at(&self, hash: u64, attempt: u32) -> u32 {
        let hash = if attempt == 0 { hash } else { mix(hash ^ u64::from(attempt)) };
        // The high bits of a product: evenly, and without a division.
        let at = (u128::from(hash) * self.places.len() as u128) >> 64;
        self.places[at as usize]
    }
}

/// One endpoint's way through the places.
struct Turn {
    number: u32,
    weight: u16,
    offset: u64,
    skip: u64,
}

impl Turn {
    fn new(((address, weight), number): ((SocketAddr, u16), u32)) -> Self {
        let name = hash(address.to_string().as_bytes());
        Self { number, weight, offset: name, skip: mix(name ^ 1) }
    }

    /// The time from one of its places to the next.
    fn pace(&self) -> u64 {
        (1 << 32) / u64::from(self.weight.max(1))
    }

    /// The next place on its way that nobody has.
    fn free(&mut self, places: &[u32]) -> usize {
        loop {
            let at = self.offset as usize;
            self.offset = (self.offset + self.skip) % places.len() as u64;
            if places[at] == u32::MAX {
                return at;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u32) -> SocketAddr {
        let [_, a, b, c] = n.to_be_bytes();
        SocketAddr::from(([10, a, b, c], 21_000))
    }

    fn even(n: u32) -> Table {
        Table::new((0..n).map(|n| (address(n), 1))).unwrap()
    }

    fn shares(table: &Table, n: usize) -> Vec<f64> {
        let mut shares = vec![0.0; n];
        for number in &table.places {
            shares[*number as usize] += 1.0 / table.places.len() as f64;
        }
        shares
    }

    #[test]
    fn each_endpoint_has_its_share() {
        for n in [1, 3, 1_000, 1_001] {
            for share in shares(&even(n), n as usize) {
                assert!((share * f64::from(n) - 1.0).abs() < 0.02, "{share} of {n}");
            }
        }
        let weights = [1u16, 2, 0, 5];
        let table = Table::new(weights.iter().zip(0..).map(|(w, n)| (address(n), *w))).unwrap();
        for (share, weight) in shares(&table, 4).into_iter().zip(weights) {
            assert!((share - f64::from(weight) / 8.0).abs() < 0.001, "{share} for {weight}");
        }
    }

    #[test]
    fn one_that_goes_moves_little_beside_its_own() {
        let before = even(100);
        let after = Table::new((0..99).map(|n| (address(n), 1))).unwrap();
        let moved = before.places.iter().zip(&after.places).filter(|(b, a)| b != a && **b != 99);
        let moved = moved.count() as f64 / before.places.len() as f64;
        assert!(moved < 0.05, "{moved} of all hashes moved to another endpoint without need");
    }

    #[test]
    fn the_order_in_which_endpoints_are_listed_does_not_matter() {
        let table = even(50);
        let turned = Table::new((0..50).rev().map(|n| (address(n), 1))).unwrap();
        assert!(table.places.iter().zip(&turned.places).all(|(a, b)| *a == 49 - b));
    }

    #[test]
    fn further_attempts_lead_elsewhere() {
        let table = even(10);
        let found: std::collections::BTreeSet<_> =
            (0..32).map(|attempt| table.at(hash(b"ada"), attempt)).collect();
        assert!(found.len() > 7, "{found:?}");
    }

    #[test]
    fn what_weighs_nothing_has_no_place_unless_all_do() {
        assert!(Table::new([]).is_none());
        let table = Table::new([(address(0), 0), (address(1), 3)]).unwrap();
        assert!(table.places.iter().all(|number| *number == 1));
        assert!(shares(&Table::new([(address(0), 0), (address(1), 0)]).unwrap(), 2)[0] > 0.49);
    }
}
