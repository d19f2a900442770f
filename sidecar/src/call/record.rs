//! What one call leaves in the metrics, however it ends.

use std::rc::Rc;

use tokio::time::Instant;

use crate::fault::{Code, Fault};
use crate::telemetry::labels::Direction;
use crate::telemetry::metrics::{CallSeries, Shard};

/// Counts one call from its begin to its end.
pub struct Record {
    series: Rc<CallSeries>,
    begin: Instant,
    /// CANCELLED until something better is known: a call that is dropped was given up.
    status: Option<u8>,
    /// When it ended, where that is known before it is dropped.
    end: Option<Instant>,
}

impl Record {
    /// Counts the call as in flight.
    pub fn begin(series: Rc<CallSeries>, begin: Instant) -> Self {
        series.begin();
        Self { series, begin, status: Some(Code::Cancelled as u8), end: None }
    }

    /// It ended at this time.
    pub fn set_end(&mut self, at: Instant) {
        self.end = Some(at);
    }

    /// How it ended: a gRPC status, or none for what is not gRPC.
    pub fn set_status(&mut self, status: Option<u8>) {
        self.status = status;
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let end = self.end.unwrap_or_else(Instant::now);
        self.series.end(self.status, end.saturating_duration_since(self.begin));
    }
}

/// Counts and logs the faults of one peer.
#[derive(Clone)]
pub struct Reporter {
    /// The worker's metrics.
    pub shard: Rc<Shard>,
    /// Which way the call went.
    pub direction: Direction,
    /// The service at the other end.
    pub peer: Rc<str>,
}

impl Reporter {
    /// A call ended with this fault.
    pub fn fault(&self, fault: &Fault) {
        if fault.is_injected() {
            // As the app's own status would be: no reason of ours, and counted with the call.
            return tracing::debug!(direction = self.direction.label(), peer = %self.peer, "{fault}");
        }
        self.shard.fault(self.direction, &self.peer, fault.reason.as_str());
        tracing::debug!(direction = self.direction.label(), peer = %self.peer, "{fault}");
    }
}
