//! One sidecar, from its start to its end.

use crate::config::Config;

/// Why a sidecar could not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// This build holds no data path.
    #[error("this build cannot run a sidecar")]
    Unavailable,
}

/// Runs until a signal ends it.
///
/// # Errors
/// Where a port is taken or a thread cannot start.
pub fn run(_config: Config) -> Result<(), RunError> {
    Err(RunError::Unavailable)
}
