//! How far the opening of a broker's logs has come.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counted by the threads that open logs, and looked at by whoever shows it, as often as they like.
///
/// Only the logs of a directory that was not shut down are verified: of the others there is nothing to do but to open
/// them.
#[derive(Debug, Default)]
pub struct LoadProgress {
    logs: AtomicU64,
    opened_logs: AtomicU64,
    bytes: AtomicU64,
    verified_bytes: AtomicU64,
}

impl LoadProgress {
    /// How many logs there are, as far as the directories have been looked at.
    pub fn logs(&self) -> u64 {
        self.logs.load(Ordering::Relaxed)
    }

    /// How many of them are open.
    pub fn opened_logs(&self) -> u64 {
        self.opened_logs.load(Ordering::Relaxed)
    }

    /// How many bytes of record batches have to be read and checked.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// How many of them have been, or need not be any more.
    pub fn verified_bytes(&self) -> u64 {
        self.verified_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn expect(&self, logs: u64, bytes: u64) {
        self.logs.fetch_add(logs, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn opened(&self) {
        self.opened_logs.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn verified(&self, bytes: u64) {
        self.verified_bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}
