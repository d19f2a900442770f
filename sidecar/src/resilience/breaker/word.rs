//! A breaker's state in one word, so that it changes for all workers at once.
//!
//! Generation (16 bits, one more with every change of phase), trips in a row (4), phase (2), and
//! what belongs to the phase (42): failures in a row, or a time in milliseconds (139 years).

/// The state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word {
    /// Tells results that belong to this phase from those of calls let through before it.
    pub(super) generation: u16,
    /// How often it opened since it was closed.
    pub(super) trips: u8,
    pub(super) phase: Phase,
}

/// What the breaker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Lets calls through.
    Closed { failures: u32 },
    /// Lets none through until then.
    Open { until: u64 },
    /// Lets one call through and waits for its end; for another one's no longer than until then.
    HalfOpen { until: u64 },
}

const VALUE: u64 = (1 << 42) - 1;
const MOST_TRIPS: u8 = 15;

impl Word {
    /// The next phase.
    pub(super) fn then(self, trips: u8, phase: Phase) -> Self {
        let generation = self.generation.wrapping_add(1);
        Self { generation, trips: trips.min(MOST_TRIPS), phase }
    }

    pub(super) fn pack(self) -> u64 {
        let (tag, value) = match self.phase {
            Phase::Closed { failures } => (0, u64::from(failures)),
            Phase::Open { until } => (1, until),
            Phase::HalfOpen { until } => (2, until),
        };
        u64::from(self.generation) << 48 | u64::from(self.trips) << 44 | tag << 42 | value & VALUE
    }

    pub(super) fn unpack(word: u64) -> Self {
        let value = word & VALUE;
        let phase = match (word >> 42) & 3 {
            0 => Phase::Closed { failures: value as u32 },
            1 => Phase::Open { until: value },
            _ => Phase::HalfOpen { until: value },
        };
        let trips = (word >> 44) as u8 & MOST_TRIPS;
        Self { generation: (word >> 48) as u16, trips, phase }
    }
}
