//! How many of a caller's calls stay in its own zone.
//!
//! As many as its zone's endpoints can take: each of them gets at most 1.4 times what it would if
//! all calls were spread evenly, and the rest spills over to other zones. What no caller can know is
//! how many other callers its zone has: taken is that each zone has as many. While no zone has under
//! 71 % of its even part, nothing crosses; a zone that lost most of its endpoints keeps those that
//! are left from drowning, and where all zones lost alike, nothing crosses either.

/// So much over its even part an endpoint gets for being near (Envoy's overprovisioning factor).
const OVER: f64 = 1.4;

/// How the weight of an upstream's endpoints lies, seen from one zone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Zones {
    /// In the caller's own zone.
    pub near: u64,
    /// In all others.
    pub far: u64,
    /// Zones that have endpoints; what is in none counts as one.
    pub count: u32,
}

impl Zones {
    /// The part of the calls that stay near, 0.0 to 1.0, where such parts (0.0 to 1.0) of the weight
    /// near and far take calls now.
    pub fn near_part(&self, near: f64, far: f64) -> f64 {
        let near = self.near as f64 * near;
        let all = near + self.far as f64 * far;
        if all <= 0.0 {
            return 0.0;
        }
        (OVER * near * f64::from(self.count) / all).min(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn zones(near: u64, far: u64, count: u32) -> Zones {
        Zones { near, far, count }
    }

    #[test]
    fn calls_stay_near_while_the_zone_has_its_part() {
        assert_eq!(zones(3, 6, 3).near_part(1.0, 1.0), 1.0);
        assert_eq!(zones(4, 0, 1).near_part(0.25, 1.0), 1.0, "there is no other zone");
        assert_eq!(zones(0, 6, 2).near_part(1.0, 1.0), 0.0);
        // 70 % of it is at the edge.
        assert!(zones(10, 20, 3).near_part(0.7, 1.0) > 0.99);
        assert!(zones(10, 20, 3).near_part(0.6, 1.0) < 0.99);
    }

    #[test]
    fn the_last_endpoint_of_a_zone_gets_no_more_than_its_part() {
        let part = zones(3, 6, 3).near_part(1.0 / 3.0, 1.0);
        assert!((part - 0.6).abs() < 1e-9, "{part}");
        // Whether the others are out or were taken away.
        assert_eq!(zones(1, 6, 3).near_part(1.0, 1.0), part);
    }

    #[test]
    fn where_all_zones_lost_alike_nothing_crosses() {
        assert_eq!(zones(3, 6, 3).near_part(1.0 / 3.0, 1.0 / 3.0), 1.0);
        assert_eq!(zones(3, 6, 3).near_part(0.5, 0.0), 1.0);
    }

    proptest! {
        /// All zones have as many callers, who decide alike.
        #[test]
        fn no_endpoint_drowns(weights in prop::collection::vec(1u64..50, 2..8)) {
            let all: u64 = weights.iter().sum();
            let count = weights.len();
            let even = 1.0 / all as f64;
            let demand = 1.0 / count as f64;
            let part = |near: u64| {
                zones(near, all - near, count as u32).near_part(1.0, 1.0)
            };
            for (at, near) in weights.iter().enumerate() {
                let own = part(*near) * demand / *near as f64;
                prop_assert!(own <= OVER * even + 1e-9);
                let spilt: f64 = weights
                    .iter()
                    .enumerate()
                    .filter(|(other, _)| *other != at)
                    .map(|(_, other)| (1.0 - part(*other)) * demand / (all - other) as f64)
                    .sum();
                prop_assert!(own + spilt <= (OVER + 1.0) * even);
            }
        }

        #[test]
        fn fewer_endpoints_near_never_draw_more_calls(
            near in 1u64..100, far in 0u64..100, count in 1u32..5, a in 0.0..1.0, b in 0.0..1.0,
        ) {
            let zones = zones(near, far, count);
            let (less, more) = (f64::min(a, b), f64::max(a, b));
            prop_assert!(zones.near_part(less, 1.0) <= zones.near_part(more, 1.0));
        }
    }
}
