//! The time of day, which znodes are stamped with. It may jump, and nothing is timed by it.

use std::fmt::Debug;
use std::time::{Duration, SystemTime};

/// A clock on the wall.
pub trait WallClock: Debug + Send + Sync + 'static {
    /// Milliseconds since 1970.
    fn now_ms(&self) -> i64;
}

/// The operating system's.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock;

impl WallClock for SystemClock {
    fn now_ms(&self) -> i64 {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        now.unwrap_or(Duration::ZERO).as_millis() as i64
    }
}
