//! Wall clocks, which jump.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use tokio::time::Instant;

/// Where they all start: 2023-11-14, in milliseconds since 1970.
const START_MS: i64 = 1_700_000_000_000;

/// One machine's.
#[derive(Debug, Clone)]
pub struct WallClock {
    start: Instant,
    off_ms: Arc<AtomicI64>,
}

impl WallClock {
    /// One that is right.
    pub fn new() -> WallClock {
        WallClock {
            start: Instant::now(),
            off_ms: Arc::default(),
        }
    }

    /// Puts it forward, or back.
    pub fn jump(&self, by_ms: i64) {
        self.off_ms.fetch_add(by_ms, Relaxed);
    }
}

impl coord::node::WallClock for WallClock {
    fn now_ms(&self) -> i64 {
        START_MS + self.start.elapsed().as_millis() as i64 + self.off_ms.load(Relaxed)
    }
}

impl Default for WallClock {
    fn default() -> WallClock {
        WallClock::new()
    }
}
