//! Tells of Consul's failures: in the log when they begin, change and end, in readiness while they
//! last. Never more than that: a failure stops nothing.

use std::sync::Arc;

use consul::Error;

use crate::telemetry::readiness::{Degradation, Readiness};

/// Whether Consul fails for one purpose.
pub(super) struct Outage {
    /// What it fails for, in words.
    purpose: &'static str,
    readiness: Arc<Readiness>,
    told: Option<(String, Degradation)>,
}

impl Outage {
    pub(super) fn none(purpose: &'static str, readiness: &Arc<Readiness>) -> Self {
        Self { purpose, readiness: readiness.clone(), told: None }
    }

    /// Consul failed.
    pub(super) fn failed(&mut self, error: &Error) {
        let words = error.to_string();
        if self.told.as_ref().is_some_and(|(told, _)| *told == words) {
            return;
        }
        tracing::warn!(purpose = self.purpose, "{words}; what is known stays");
        let degradation = self.readiness.degrade("Consul", words.clone());
        self.told = Some((words, degradation));
    }

    /// Consul answered; returns whether it had failed before.
    pub(super) fn over(&mut self) -> bool {
        let was = self.told.take().is_some();
        if was {
            tracing::info!(purpose = self.purpose, "Consul answers again");
        }
        was
    }

    /// Whether it lasts.
    pub(super) fn lasts(&self) -> bool {
        self.told.is_some()
    }
}
