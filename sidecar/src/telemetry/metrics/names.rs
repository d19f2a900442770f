//! How many different strings from outside may become labels.
//!
//! One set for the process, so that all workers agree on which names are told apart; a copy in
//! each worker, so that a name seen before costs no lock, and neither does one that came too late.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use crate::telemetry::labels::OTHER;

/// The names of the process: the first `cap` that were seen.
#[derive(Debug)]
pub(super) struct Names {
    cap: usize,
    known: Mutex<HashSet<Arc<str>>>,
}

impl Names {
    pub(super) fn new(cap: usize) -> Self {
        Self { cap, known: Mutex::default() }
    }
}

/// A worker's copy.
#[derive(Debug)]
pub(super) struct KnownNames {
    known: RefCell<HashSet<Arc<str>>>,
    /// The process's set is full and all of it is in `known`.
    complete: Cell<bool>,
    other: Arc<str>,
}

impl KnownNames {
    pub(super) fn new() -> Self {
        Self { known: RefCell::default(), complete: Cell::new(false), other: OTHER.into() }
    }

    pub(super) fn other(&self) -> Arc<str> {
        self.other.clone()
    }

    /// `name` itself while the cap allows, then `other`.
    pub(super) fn resolve(&self, names: &Names, name: &str) -> Arc<str> {
        let mut local = self.known.borrow_mut();
        if let Some(known) = local.get(name) {
            return known.clone();
        }
        if self.complete.get() {
            return self.other();
        }
        let mut shared = names.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = match shared.get(name) {
            Some(known) => known.clone(),
            None if shared.len() < names.cap => {
                let known: Arc<str> = name.into();
                shared.insert(known.clone());
                known
            }
            None => {
                local.clone_from(&shared);
                self.complete.set(true);
                return self.other();
            }
        };
        local.insert(known.clone());
        known
    }
}
