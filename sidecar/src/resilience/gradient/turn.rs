//! When a limit begins and ends, with the figures that decided it: for whoever tells people.
//!
//! A limit that has begun lasts two seconds at least, so there is no more than one of each in that
//! time.

use std::fmt;
use std::time::Duration;

/// A limit began or ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Turn {
    /// It begins.
    Begins {
        /// So many calls at a time from here on.
        limit: u32,
        /// The most in flight when the app began to be slow, and now.
        in_flight: (u32, u32),
        /// Answers a second then, and now.
        rate: (f64, f64),
        /// How many times what they usually take methods take now.
        slower: f64,
        /// Of the calls that were measured since the conclusion before, how many were given up late.
        given_up: u32,
    },
    /// It ends.
    Ends {
        /// It was this at last.
        limit: u32,
        /// It was there for so long.
        lasted: Duration,
        /// Why it is lifted.
        because: Ending,
    },
}

/// Why a limit is lifted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It was not reached for long.
    NotReached,
    /// Half the calls were no quicker.
    NoQuicker,
    /// No answer that could be measured came under it.
    NoAnswer,
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotReached => "it was not reached for 10 s",
            Self::NoQuicker => "half the calls at a time were no quicker",
            Self::NoAnswer => "no answer that could be measured came under it",
        })
    }
}
