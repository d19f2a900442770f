//! A set of keys, each with a weight, from which one is drawn by chance: twice the weight, twice as
//! often. Adding, removing and drawing cost the same for ten keys and for ten thousand.
//!
//! Keys whose weights have the same highest bit share a class. A class is drawn by its weight, of
//! which there are few; in a class a key is drawn evenly and kept by its weight, which is at least
//! half of the most: two attempts on average, whatever the weights are.

use fastrand::Rng;

/// Weights are 1 to 65,535.
const CLASSES: usize = 16;

/// The set. Keys are small numbers, as a slab gives them.
#[derive(Clone, Debug, Default)]
pub struct Weighted {
    classes: [Class; CLASSES],
    /// Where each key is.
    places: Vec<Option<Place>>,
    weight: u64,
    len: usize,
}

#[derive(Clone, Debug, Default)]
struct Class {
    members: Vec<Member>,
    weight: u64,
}

#[derive(Clone, Copy, Debug)]
struct Member {
    key: u32,
    weight: u16,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    class: u8,
    at: u32,
}

impl Weighted {
    /// Adds a key that is not in it. A weight of 0 counts as 1.
    pub fn insert(&mut self, key: u32, weight: u16) {
        let weight = weight.max(1);
        let class = weight.ilog2() as u8;
        let members = &mut self.classes[usize::from(class)];
        let at = members.members.len() as u32;
        members.members.push(Member { key, weight });
        members.weight += u64::from(weight);
        self.weight += u64::from(weight);
        self.len += 1;
        if self.places.len() <= key as usize {
            self.places.resize(key as usize + 1, None);
        }
        self.places[key as usize] = Some(Place { class, at });
    }

    /// Removes a key; returns whether it was there.
    pub fn remove(&mut self, key: u32) -> bool {
        let Some(place) = self.places.get_mut(key as usize).and_then(Option::take) else {
            return false;
        };
        let class = &mut self.classes[usize::from(place.class)];
        let removed = class.members.swap_remove(place.at as usize);
        class.weight -= u64::from(removed.weight);
        if let Some(moved) = class.members.get(place.at as usize) {
            self.places[moved.key as usize] = Some(place);
        }
        self.weight -= u64::from(removed.weight);
        self.len -= 1;
        true
    }

    /// How many keys.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The sum of all weights.
    pub fn weight(&self) -> u64 {
        self.weight
    }

    /// Draws a key and its weight; none of an empty set.
    pub fn draw(&self, rng: &mut Rng) -> Option<(u32, u16)> {
        if self.len == 0 {
            return None;
        }
        let class = if self.classes[0].members.len() == self.len {
            0
        } else {
            let mut left = rng.u64(..self.weight);
            self.classes.iter().position(|class| match left.checked_sub(class.weight) {
                Some(rest) => {
                    left = rest;
                    false
                }
                None => true,
            })?
        };
        let members = &self.classes[class].members;
        let most = u16::MAX >> (CLASSES - 1 - class);
        loop {
            let member = members[rng.usize(..members.len())];
            // In the first class all weigh 1.
            if class == 0 || rng.u16(1..=most) <= member.weight {
                return Some((member.key, member.weight));
            }
        }
    }

    /// The key in this place, of [`Weighted::len`] places, and its weight.
    pub fn nth(&self, mut place: usize) -> Option<(u32, u16)> {
        let class = self.classes.iter().find(|class| {
            let is_in = place < class.members.len();
            place -= if is_in { 0 } else { class.members.len() };
            is_in
        })?;
        let member = class.members.get(place)?;
        Some((member.key, member.weight))
    }
}

#[cfg(test)]
mod tests;
