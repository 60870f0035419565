use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How often a condition is looked at again.
const PAUSE: Duration = Duration::from_millis(4);

/// Asks `condition` until it answers with something, and returns that.
///
/// # Errors
/// After `limit`, with `what` was awaited and the last `Err` that the condition gave as the reason. An `Err` of the
/// condition only means "not yet".
pub fn await_some<T>(
    what: &str,
    limit: Duration,
    mut condition: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let started = Instant::now();
    loop {
        let last = condition();
        if let Ok(Some(value)) = last {
            return Ok(value);
        }
        if started.elapsed() >= limit {
            match last {
                Err(reason) => bail!("waited {limit:?} for {what}; last seen: {reason:#}"),
                Ok(_) => bail!("waited {limit:?} for {what}"),
            }
        }
        thread::sleep(PAUSE);
    }
}

/// As [`await_some`], for a condition that is true or not.
///
/// # Errors
/// As [`await_some`].
pub fn await_true(
    what: &str,
    limit: Duration,
    mut condition: impl FnMut() -> Result<bool>,
) -> Result<()> {
    await_some(what, limit, || Ok(condition()?.then_some(())))
}
