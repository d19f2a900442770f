//! What is known of a peer's methods, such as their series, kept beside the connection or the upstream
//! that counts by them.
//!
//! Invariant: no more than the metrics tell apart are kept, and nothing that a caller made up: a
//! path that is none of gRPC's is kept, and counted, as the empty one.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use foldhash::fast::RandomState;

use crate::telemetry::labels;

/// Something by path.
#[derive(Debug)]
pub struct AtHand<T> {
    most: usize,
    /// Its keys come from outside, but few of them: a hash that is quick will do.
    known: RefCell<HashMap<Box<str>, Rc<T>, RandomState>>,
}

impl<T> AtHand<T> {
    /// At most so many.
    pub fn new(most: usize) -> Self {
        Self { most, known: RefCell::default() }
    }

    /// Everything that is kept, with its path.
    pub fn each(&self, mut visit: impl FnMut(&str, &T)) {
        self.known.borrow().iter().for_each(|(path, known)| visit(path, known));
    }

    /// That of a path, made where it is new.
    pub fn get(&self, path: &str, make: impl FnOnce(&str) -> Rc<T>) -> Rc<T> {
        let mut all = self.known.borrow_mut();
        if let Some(known) = all.get(path) {
            return known.clone();
        }
        let path = labels::grpc_path(path).map_or("", |_| path);
        if let Some(known) = all.get(path) {
            return known.clone();
        }
        let made = make(path);
        if all.len() < self.most {
            all.insert(path.into(), made.clone());
        }
        made
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::labels::Direction;
    use crate::telemetry::metrics::{Bounds, Metrics};

    #[test]
    fn what_is_no_grpc_path_shares_one_series_and_more_than_the_most_are_not_kept() {
        let metrics = Metrics::new("s", Bounds::default());
        let shard = metrics.shard();
        let (at_hand, made) = (AtHand::new(2), RefCell::new(Vec::new()));
        let get = |path: &str| {
            at_hand.get(path, |path| {
                made.borrow_mut().push(path.to_owned());
                shard.calls(Direction::Inbound, "p", path)
            })
        };
        let odd = get("/not/grpc/at/all");
        assert!(Rc::ptr_eq(&odd, &get(&"x".repeat(60_000))));
        for _ in 0..2 {
            get("/a.A/One");
            get("/a.A/Two");
        }
        assert_eq!(*made.borrow(), ["", "/a.A/One", "/a.A/Two", "/a.A/Two"]);
    }
}
