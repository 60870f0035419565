//! The two clocks of a broker: one that only goes forward, for decisions, and the one on the wall, for
//! timestamps of records.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds since this clock was made.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that begins at 0.
    pub fn start() -> Clock {
        Clock {
            start: Instant::now(),
        }
    }

    /// The monotonic time.
    pub fn now_ms(&self) -> i64 {
        i64::try_from(self.start.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    /// The time on the wall, since the epoch.
    pub fn wall_ms() -> i64 {
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
    }
}
