//! Threads that take turns, so that a test can try every order in which they reach what they share.
//!
//! A thread waits before each access ([`turn`]) until it is chosen; between two of its accesses no
//! other one runs. All orders of accesses are tried, depth first. As the accesses are sequentially
//! consistent, there is nothing that threads could see beside these.

use std::cell::RefCell;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

thread_local! {
    static SEAT: RefCell<Option<Seat>> = const { RefCell::new(None) };
}

/// Waits until it is this thread's turn, where it takes turns.
pub(super) fn turn() {
    SEAT.with_borrow(|seat| {
        if let Some(seat) = seat {
            seat.wait();
        }
    });
}

/// Runs both threads on what `make` gives, in every order, then `check` on what they leave and
/// return; returns how many orders there are.
pub(super) fn in_every_order<S: Sync, T: Send>(
    make: impl Fn() -> S,
    threads: [&(dyn Fn(&S) -> T + Sync); 2],
    check: impl Fn(S, [T; 2]),
) -> usize {
    let (mut orders, mut script) = (0, Vec::new());
    loop {
        let (scene, table) = (make(), Arc::<Table>::default());
        let (taken, results) = std::thread::scope(|scope| {
            let joined = [0, 1].map(|number| {
                let (scene, table) = (&scene, table.clone());
                scope.spawn(move || {
                    SEAT.set(Some(Seat { number, table }));
                    let result = threads[number](scene);
                    SEAT.set(None);
                    result
                })
            });
            (table.serve(&script), joined.map(|one| one.join().unwrap()))
        });
        check(scene, results);
        orders += 1;
        // The last choice that could have been another one is.
        script = taken.iter().map(|(chosen, _)| *chosen).collect();
        let Some(last) = taken.iter().rposition(|(chosen, of)| chosen + 1 < *of) else {
            return orders;
        };
        script.truncate(last + 1);
        script[last] += 1;
    }
}

/// A thread's place; it has ended when this is dropped.
struct Seat {
    number: usize,
    table: Arc<Table>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Standing {
    #[default]
    Runs,
    Waits,
    Ended,
}

#[derive(Debug, Default)]
struct Table {
    standings: Mutex<[Standing; 2]>,
    changed: Condvar,
}

impl Seat {
    fn wait(&self) {
        let mut standings = self.table.set(self.number, Standing::Waits);
        while standings[self.number] == Standing::Waits {
            standings = self.table.next(standings);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        drop(self.table.set(self.number, Standing::Ended));
    }
}

impl Table {
    fn set(&self, number: usize, standing: Standing) -> MutexGuard<'_, [Standing; 2]> {
        let mut standings = self.standings.lock().unwrap_or_else(PoisonError::into_inner);
        standings[number] = standing;
        self.changed.notify_all();
        standings
    }

    fn next<'a>(&self, held: MutexGuard<'a, [Standing; 2]>) -> MutexGuard<'a, [Standing; 2]> {
        self.changed.wait(held).unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives turns until both have ended: as the script says, then to the first that waits. Returns
    /// which one of how many was chosen each time.
    fn serve(&self, script: &[usize]) -> Vec<(usize, usize)> {
        let mut taken = Vec::new();
        let mut standings = self.standings.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            while standings.contains(&Standing::Runs) {
                standings = self.next(standings);
            }
            let waiting: Vec<_> =
                (0..2).filter(|number| standings[*number] == Standing::Waits).collect();
            if waiting.is_empty() {
                return taken;
            }
            let chosen = script.get(taken.len()).copied().unwrap_or(0);
            taken.push((chosen, waiting.len()));
            standings[waiting[chosen]] = Standing::Runs;
            self.changed.notify_all();
        }
    }
}
