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
    /// Whether it, or the way to it, was away in this outage.
    away: bool,
}

impl Outage {
    pub(super) fn none(purpose: &'static str, readiness: &Arc<Readiness>) -> Self {
        Self { purpose, readiness: readiness.clone(), told: None, away: false }
    }

    /// Consul failed.
    pub(super) fn failed(&mut self, error: &Error) {
        self.away |= error.is_outage();
        let words = error.to_string();
        if self.told.as_ref().is_some_and(|(told, _)| *told == words) {
            return;
        }
        tracing::warn!(purpose = self.purpose, "{words}; what is known stays");
        let degradation = self.readiness.degrade("Consul", words.clone());
        self.told = Some((words, degradation));
    }

    /// Consul answered; returns whether it had been away. One that refused, or said what cannot be
    /// read, was there all the time.
    pub(super) fn over(&mut self) -> bool {
        if self.told.take().is_some() {
            tracing::info!(purpose = self.purpose, "Consul answers again");
        }
        std::mem::take(&mut self.away)
    }

    /// Whether it lasts.
    pub(super) fn lasts(&self) -> bool {
        self.told.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consul_was_away_where_it_was_not_reached_and_not_where_it_refused() {
        let error = |code: u16| Error::Status { what: "GET".into(), code, message: "no".into() };
        let mut outage = Outage::none("tests", &Readiness::new());
        assert!(!outage.over());
        outage.failed(&error(400));
        assert!(outage.lasts());
        assert!(!outage.over(), "it was there and refused");
        outage.failed(&error(503));
        outage.failed(&error(400));
        assert!(outage.over());
        assert!(!outage.over(), "told once");
    }
}
