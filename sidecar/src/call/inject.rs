//! Does to a call what the config asks to be injected.

use tokio::time::sleep;

use crate::fault::Fault;
use crate::resilience::inject::Injection;
use crate::telemetry::labels::Injected;

/// Lets a call pass, after the delay where it meets one. Returns whether it was delayed; `count` is
/// told of whatever it meets.
///
/// # Errors
/// The injected status; `by` says in words whose config asks for it.
pub async fn apply(
    injection: &Injection,
    by: &str,
    count: impl Fn(Injected),
) -> Result<bool, Fault> {
    if !injection.draw(&mut fastrand::Rng::new()) {
        return Ok(false);
    }
    if let Some(delay) = injection.delay {
        count(Injected::Delay);
        sleep(delay).await;
    }
    match injection.abort {
        Some(code) => {
            count(Injected::Abort);
            Err(Fault::injected(code, format!("injected, as {by} says")))
        }
        None => Ok(injection.delay.is_some()),
    }
}
