//! Whether the sidecar is ready, and what it still waits for.
//!
//! What must happen first holds a [`Blocker`], and drops it when it has happened. Invariant: ready
//! means that no blocker is left.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What the sidecar waits for, and what it does without.
#[derive(Debug, Default)]
pub struct Readiness(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    next: u64,
    /// In the order of arrival.
    blocked: BTreeMap<u64, &'static str>,
    degraded: BTreeMap<u64, String>,
}

/// While it lives, the sidecar is not ready.
#[derive(Debug)]
#[must_use = "the sidecar waits only while the blocker lives"]
pub struct Blocker {
    readiness: Arc<Readiness>,
    id: u64,
}

/// While it lives, the sidecar is ready and says that something is amiss.
#[derive(Debug)]
#[must_use = "the degradation is told only while it lives"]
pub struct Degradation {
    readiness: Arc<Readiness>,
    id: u64,
}

impl Readiness {
    /// Ready, until something blocks.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Not ready until the blocker is dropped. `what` completes "waiting for".
    pub fn block(self: &Arc<Self>, what: &'static str) -> Blocker {
        let mut state = self.state();
        let id = state.next_id();
        state.blocked.insert(id, what);
        Blocker { readiness: self.clone(), id }
    }

    /// Still ready, but without `what`, for the reason `why`.
    pub fn degrade(self: &Arc<Self>, what: &'static str, why: String) -> Degradation {
        let mut state = self.state();
        let id = state.next_id();
        state.degraded.insert(id, format!("{what}: {why}"));
        Degradation { readiness: self.clone(), id }
    }

    /// What it waits for, each once, oldest first. Ready when empty.
    pub fn blocked(&self) -> Vec<String> {
        distinct(self.state().blocked.values().map(|what| (*what).to_owned()))
    }

    /// What is amiss, each once, oldest first.
    pub fn degraded(&self) -> Vec<String> {
        distinct(self.state().degraded.values().cloned())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn next_id(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

impl Drop for Blocker {
    fn drop(&mut self) {
        // What a thread that panics waited for has not happened.
        if !std::thread::panicking() {
            self.readiness.state().blocked.remove(&self.id);
        }
    }
}

impl Drop for Degradation {
    fn drop(&mut self) {
        self.readiness.state().degraded.remove(&self.id);
    }
}

fn distinct(all: impl Iterator<Item = String>) -> Vec<String> {
    let mut seen = Vec::new();
    for one in all {
        if !seen.contains(&one) {
            seen.push(one);
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blocker_blocks_until_it_is_dropped() {
        let readiness = Readiness::new();
        assert!(readiness.blocked().is_empty());
        let leaf = readiness.block("first leaf certificate");
        let roots = readiness.block("roots");
        assert_eq!(readiness.blocked(), ["first leaf certificate", "roots"]);
        drop(leaf);
        assert_eq!(readiness.blocked(), ["roots"]);
        drop(roots);
        assert!(readiness.blocked().is_empty());
    }

    #[test]
    fn two_blockers_of_the_same_thing_are_told_once_and_both_count() {
        let readiness = Readiness::new();
        let first = readiness.block("roots");
        let second = readiness.block("roots");
        assert_eq!(readiness.blocked(), ["roots"]);
        drop(first);
        assert_eq!(readiness.blocked(), ["roots"]);
        drop(second);
        assert!(readiness.blocked().is_empty());
    }

    #[test]
    fn a_degradation_is_told_and_does_not_block() {
        let readiness = Readiness::new();
        let degraded = readiness.degrade("Consul", "token refused (403)".to_owned());
        assert_eq!(readiness.degraded(), ["Consul: token refused (403)"]);
        assert!(readiness.blocked().is_empty());
        drop(degraded);
        assert!(readiness.degraded().is_empty());
    }

    #[test]
    fn what_a_panicking_thread_waited_for_still_blocks() {
        let readiness = Readiness::new();
        let held = readiness.clone();
        let task = std::thread::spawn(move || {
            let _blocker = held.block("roots");
            panic!("on purpose");
        });
        assert!(task.join().is_err());
        assert_eq!(readiness.blocked(), ["roots"]);
    }
}
