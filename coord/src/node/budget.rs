//! The memory that the requests of all connections may hold together, from their first byte to the last of their answers.

use std::sync::Arc;

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

/// What is left, in KiB.
#[derive(Debug, Clone)]
pub struct Budget {
    left: Arc<Semaphore>,
    max_kib: u32,
}

/// A request's part of it; whoever drops it gives it back.
#[derive(Debug)]
pub struct Held(OwnedSemaphorePermit);

impl Budget {
    /// Of this many bytes.
    pub fn new(max_bytes: u64) -> Budget {
        let max_kib = u32::try_from(max_bytes / 1024).unwrap_or(u32::MAX).max(1);
        Budget {
            left: Arc::new(Semaphore::new(max_kib as usize)),
            max_kib,
        }
    }

    /// A part, if there is as much; those who wait come first.
    pub fn try_hold(&self, kib: u32) -> Option<Held> {
        let left = self.left.clone();
        left.try_acquire_many_owned(kib.min(self.max_kib))
            .ok()
            .map(Held)
    }

    /// A part, once there is as much. All of it does for a request that would need more.
    pub async fn hold(&self, kib: u32) -> Result<Held, AcquireError> {
        let left = self.left.clone();
        left.acquire_many_owned(kib.min(self.max_kib))
            .await
            .map(Held)
    }
}

impl Held {
    /// The answer turns out to be this long: what there is of it is held too. An answer does not wait, for those who wait
    /// behind it may be the ones that it waits for.
    pub fn grow(&mut self, bytes: usize) {
        let left = self.0.semaphore();
        let kib = (bytes / 1024).min(left.available_permits());
        if kib > 0
            && let Ok(more) = left.clone().try_acquire_many_owned(kib as u32)
        {
            self.0.merge(more);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_held_is_given_back() {
        let budget = Budget::new(10 * 1024);
        let mut held = budget.hold(4).await.unwrap();
        held.grow(3 * 1024 + 1);
        assert!(budget.try_hold(4).is_none());
        let other = budget.try_hold(3).unwrap();
        held.grow(1 << 30);
        drop(other);
        held.grow(2 * 1024);
        assert_eq!(budget.left.available_permits(), 1);
        drop(held);
        let all = budget.hold(u32::MAX).await.unwrap();
        assert!(budget.try_hold(1).is_none());
        drop(all);
        assert_eq!(budget.left.available_permits(), 10);
    }
}
