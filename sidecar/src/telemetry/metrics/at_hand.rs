//! The series of a peer's methods, kept beside the connection or the upstream that counts by them.
//!
//! Invariant: no more than the metrics tell apart are kept, and nothing that a caller made up: a
//! path that is none of gRPC's is kept, and counted, as the empty one.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use foldhash::fast::RandomState;

use super::CallSeries;
use crate::telemetry::labels;

/// Series by path.
#[derive(Debug)]
pub struct AtHand {
    most: usize,
    /// Its keys come from outside, but few of them: a hash that is quick will do.
    series: RefCell<HashMap<Box<str>, Rc<CallSeries>, RandomState>>,
}

impl AtHand {
    /// At most so many.
    pub fn new(most: usize) -> Self {
        Self { most, series: RefCell::default() }
    }

    /// The series of a path, made where it is new.
    pub fn get(&self, path: &str, make: impl FnOnce(&str) -> Rc<CallSeries>) -> Rc<CallSeries> {
        let mut series = self.series.borrow_mut();
        if let Some(known) = series.get(path) {
            return known.clone();
        }
        let path = labels::grpc_path(path).map_or("", |_| path);
        if let Some(known) = series.get(path) {
            return known.clone();
        }
        let made = make(path);
        if series.len() < self.most {
            series.insert(path.into(), made.clone());
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
