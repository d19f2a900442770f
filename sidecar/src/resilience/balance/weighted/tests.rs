//! Shares are by weight, through any coming and going.

use std::collections::HashMap;

use fastrand::Rng;
use proptest::prelude::{any, prop, prop_assert_eq, proptest};

use super::*;

fn shares(set: &Weighted, draws: u32) -> HashMap<u32, f64> {
    let mut rng = Rng::with_seed(7);
    let mut drawn: HashMap<u32, u32> = HashMap::new();
    for _ in 0..draws {
        *drawn.entry(set.draw(&mut rng).unwrap().0).or_default() += 1;
    }
    drawn.into_iter().map(|(key, n)| (key, f64::from(n) / f64::from(draws))).collect()
}

#[test]
fn twice_the_weight_is_drawn_twice_as_often() {
    let mut set = Weighted::default();
    let weights = [1, 2, 3, 4, 7, 8, 100, 65_535, 0];
    weights.iter().zip(0..).for_each(|(weight, key)| set.insert(key, *weight));
    set.remove(7);
    let shares = shares(&set, 400_000);
    for (weight, key) in weights.iter().zip(0..).filter(|(_, key)| *key != 7) {
        let expected = f64::from(*weight.max(&1)) / 126.0;
        let share = shares[&key];
        assert!((share / expected - 1.0).abs() < 0.1, "{weight}: {share}, expected {expected}");
    }
}

#[test]
fn of_nothing_nothing_is_drawn() {
    let mut set = Weighted::default();
    assert_eq!(set.draw(&mut Rng::with_seed(1)), None);
    set.insert(3, 9);
    assert!(set.remove(3) && !set.remove(3) && !set.remove(99));
    assert_eq!(set.draw(&mut Rng::with_seed(1)), None);
    assert_eq!(set.nth(0), None);
}

proptest! {
    #[test]
    fn it_holds_what_was_put_in_and_not_taken_out(
        steps in prop::collection::vec((0u32..20, prop::option::of(any::<u16>())), 0..200),
    ) {
        let mut set = Weighted::default();
        let mut model: HashMap<u32, u16> = HashMap::new();
        for (key, step) in steps {
            prop_assert_eq!(set.remove(key), model.remove(&key).is_some());
            if let Some(weight) = step {
                set.insert(key, weight);
                model.insert(key, weight.max(1));
            }
            prop_assert_eq!(set.len(), model.len());
            prop_assert_eq!(set.weight(), model.values().map(|w| u64::from(*w)).sum::<u64>());
        }
        let found: HashMap<u32, u16> = (0..set.len()).map(|place| set.nth(place).unwrap()).collect();
        prop_assert_eq!(&found, &model);
        let mut rng = Rng::with_seed(1);
        for _ in 0..20 {
            if let Some((key, weight)) = set.draw(&mut rng) {
                prop_assert_eq!(model.get(&key), Some(&weight));
            }
        }
    }
}
