//! Whether a process still lives. One that decided to end runs on to its next await: nothing that it does there may leave
//! it any more.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use tokio::sync::Notify;

/// Shared by a process and all that it touches.
#[derive(Debug, Clone, Default)]
pub struct Lifeline(Arc<Line>);

#[derive(Debug, Default)]
struct Line {
    over: AtomicBool,
    ended: Notify,
}

impl Lifeline {
    /// The process ends here.
    pub fn end(&self) {
        self.0.over.store(true, Relaxed);
        self.0.ended.notify_waiters();
    }

    /// Whether it has ended.
    pub fn is_over(&self) -> bool {
        self.0.over.load(Relaxed)
    }

    /// Returns when it ends; to all who wait, in the order in which they came.
    pub async fn ended(&self) {
        while !self.is_over() {
            self.0.ended.notified().await;
        }
    }

    /// Returns only to the living.
    pub async fn hold_if_over(&self) {
        if self.is_over() {
            pending().await
        }
    }
}
