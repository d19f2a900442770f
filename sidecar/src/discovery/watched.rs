//! A watch on Consul with all that goes with it: its outages are told, its age is exposed, and an
//! answer that must not be believed at once is marked.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use consul::{Event, Watch};
use tokio::time::{Instant, sleep};

use super::outage::Outage;
use crate::telemetry::labels::SnapshotKind;
use crate::telemetry::metrics::{Metrics, SnapshotAge};
use crate::telemetry::readiness::Readiness;

/// How often the age is brought up to date while nothing changes.
const AGE_EVERY: Duration = Duration::from_secs(5);

/// A watch.
pub(super) struct Watched<T> {
    watch: Watch<T>,
    age: SnapshotAge,
    outage: Outage,
    /// Whether it ever told a value.
    known: bool,
}

/// A good answer.
pub(super) struct News<T> {
    /// The value; none where it is the one told before.
    pub(super) value: Option<T>,
    /// Consul was away since the last answer.
    pub(super) returned: bool,
    /// Consul's index went backwards: it lost data.
    pub(super) regressed: bool,
}

impl<T> News<T> {
    /// Whether what the value lacks may only be missing for now.
    pub(super) fn is_doubtful(&self) -> bool {
        self.returned || self.regressed
    }
}

impl<T> Watched<T> {
    pub(super) fn new(
        kind: SnapshotKind,
        watch: Watch<T>,
        metrics: &Arc<Metrics>,
        readiness: &Arc<Readiness>,
    ) -> Self {
        let age = metrics.watch(kind, SystemTime::now());
        let outage = Outage::none(kind.label(), readiness);
        Self { watch, age, outage, known: false }
    }

    /// Waits for the next good answer that says something new. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> News<T> {
        loop {
            let event = tokio::select! {
                event = self.watch.next() => event,
                () = sleep(AGE_EVERY) => {
                    self.confirm();
                    continue;
                }
            };
            let (value, regressed) = match event {
                Event::Failed(error) => {
                    self.outage.failed(&error);
                    continue;
                }
                Event::Changed(change) => (Some(change.value), change.regressed),
                Event::Restored(_) => (None, false),
            };
            self.confirm();
            // The first answer takes nothing away.
            let returned = self.outage.over() && self.known;
            let regressed = regressed && self.known;
            self.known = true;
            return News { value, returned, regressed };
        }
    }

    /// Asks by another watch from now on, whose first question is answered at once.
    pub(super) fn ask_anew(&mut self, watch: Watch<T>) {
        self.watch = watch;
    }

    /// Whether Consul fails for now.
    pub(super) fn fails(&self) -> bool {
        self.outage.lasts()
    }

    fn confirm(&self) {
        let age = self.watch.age(Instant::now());
        if let Some(good) = age.and_then(|age| SystemTime::now().checked_sub(age)) {
            self.age.confirmed(good);
        }
    }
}
