//! What the workers of one process share.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::{Notify, mpsc};

use crate::config::ServiceName;
use crate::inbound::admission::Gate;
use crate::inbound::rate::Rates;
use crate::outbound::fallback::answers::Answers;
use crate::telemetry::labels::Direction;

/// Counts, and what is made once for all of them.
pub struct Shared {
    /// What is kept of requests.
    pub(super) kept: Arc<AtomicUsize>,
    /// Streams open in the whole process.
    pub(super) open_streams: Arc<AtomicUsize>,
    /// Connections open in each direction.
    pub(super) doors: [AtomicUsize; 2],
    /// Woken when the last connection of a direction has closed.
    pub(super) emptied: Notify,
    /// Names that a first call went to.
    pub(super) demand: mpsc::Sender<ServiceName>,
    /// The way to the app.
    pub(super) gate: OnceLock<Arc<Gate>>,
    /// Good answers for when there is none.
    pub(super) answers: OnceLock<Arc<Answers>>,
    /// How many calls callers may make.
    pub(super) rates: OnceLock<Arc<Rates>>,
}

impl Shared {
    /// Of a process without connections yet.
    pub fn new(demand: mpsc::Sender<ServiceName>) -> Arc<Self> {
        Arc::new(Self {
            kept: Arc::default(),
            open_streams: Arc::default(),
            doors: Default::default(),
            emptied: Notify::new(),
            demand,
            gate: OnceLock::new(),
            answers: OnceLock::new(),
            rates: OnceLock::new(),
        })
    }

    /// Ends once no connection of this direction is open.
    pub async fn empty(&self, direction: Direction) {
        loop {
            let emptied = self.emptied.notified();
            if self.doors[direction as usize].load(Ordering::Acquire) == 0 {
                return;
            }
            emptied.await;
        }
    }
}
