//! What the sidecar does for the app that it stands before: how many calls it lets through.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use super::amount::whole;
use super::{Count, Wait};

/// How many calls from the mesh wait for the app's response heads at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Concurrency {
    /// Whether the limit is learned from how long answers take. There is none below `most` until
    /// nearly all methods take several times what they usually take while calls pile up. `false`:
    /// `most` alone is the limit.
    pub adaptive: bool,
    /// The learned limit is never less.
    pub least: Count,
    /// Never more calls than this.
    pub most: Count,
    /// Where the limit is learned, answers may take so many percent of what they usually take
    /// (101 to 10000) …
    #[serde(deserialize_with = "tolerance")]
    pub tolerance_percent: u32,
    /// … and this beyond it.
    pub slack: Wait,
    /// Calls over the limit that wait, in the whole sidecar; one more takes the place of the oldest,
    /// which is refused.
    pub queue: Count,
    /// A call over the limit waits so long, and never past its deadline, before it is refused.
    pub queue_timeout: Wait,
}

impl Default for Concurrency {
    fn default() -> Self {
        Self {
            adaptive: true,
            least: Count::new(16),
            most: Count::new(10_000),
            tolerance_percent: 300,
            slack: Wait::millis(20),
            queue: Count::new(1_024),
            queue_timeout: Wait::millis(100),
        }
    }
}

fn tolerance<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    let percent = whole(from, 101..=10_000, "a number of percent from 101 to 10000")?;
    Ok(u32::try_from(percent).unwrap_or(u32::MAX))
}
