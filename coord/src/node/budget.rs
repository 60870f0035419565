//! The memory that the large requests of all connections, and the answers that are made for them, may hold together: from
//! when a request arrives until its answer is sent.

use std::sync::Arc;

use tokio::sync::{AcquireError, Semaphore};

/// What one connection may hold of it: one part of so many.
const CONNECTIONS: usize = 4;

/// What is left, in KiB.
#[derive(Debug, Clone)]
pub struct Budget {
    all: Arc<Semaphore>,
    own_max_kib: usize,
}

/// A connection's part of it.
#[derive(Debug)]
pub struct Allowance(Arc<Left>);

#[derive(Debug)]
struct Left {
    all: Arc<Semaphore>,
    own: Semaphore,
    own_max_kib: usize,
}

/// A request's part of that; whoever drops it gives it back.
#[derive(Debug)]
pub struct Held {
    left: Arc<Left>,
    kib: usize,
}

impl Budget {
    /// Of this many bytes.
    pub fn new(max_bytes: u64) -> Budget {
        let max_kib = u32::try_from(max_bytes / 1024).unwrap_or(u32::MAX).max(1) as usize;
        Budget {
            all: Arc::new(Semaphore::new(max_kib)),
            own_max_kib: (max_kib / CONNECTIONS).max(1),
        }
    }

    /// What one more connection may hold.
    pub fn allowance(&self) -> Allowance {
        Allowance(Arc::new(Left {
            all: self.all.clone(),
            own: Semaphore::new(self.own_max_kib),
            own_max_kib: self.own_max_kib,
        }))
    }
}

impl Allowance {
    /// Nothing yet: what a small request holds, whose answer may be long.
    pub fn nothing(&self) -> Held {
        let left = self.0.clone();
        Held { left, kib: 0 }
    }

    /// This many bytes, once there are as many. The whole allowance does for more.
    pub async fn hold(&self, bytes: usize) -> Result<Held, AcquireError> {
        let kib = (bytes / 1024).min(self.0.own_max_kib);
        let own = self.0.own.acquire_many(kib as u32).await?;
        let all = self.0.all.acquire_many(kib as u32).await?;
        own.forget();
        all.forget();
        let left = self.0.clone();
        Ok(Held { left, kib })
    }
}

impl Held {
    /// This many bytes more, or what there is of them. It never waits, for those who wait may wait for this very request.
    /// Whether it got all that its connection may have.
    pub fn grow(&mut self, bytes: usize) -> bool {
        let wanted = (bytes / 1024).min(self.left.own.available_permits());
        let kib = wanted.min(self.left.all.available_permits());
        if kib > 0
            && let Ok(own) = self.left.own.try_acquire_many(kib as u32)
            && let Ok(all) = self.left.all.try_acquire_many(kib as u32)
        {
            own.forget();
            all.forget();
            self.kib += kib;
        }
        kib == wanted
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.kib > 0 {
            self.left.own.add_permits(self.kib);
            self.left.all.add_permits(self.kib);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1024;

    #[tokio::test]
    async fn what_is_held_is_given_back() {
        let budget = Budget::new(40 * 1024);
        let allowance = budget.allowance();
        let mut held = allowance.hold(4 * KIB).await.unwrap();
        assert!(held.grow(3 * KIB + 1));
        assert_eq!(budget.all.available_permits(), 33);
        let mut other = allowance.nothing();
        assert!(other.grow(2 * KIB));
        drop(other);
        drop(held);
        assert_eq!(budget.all.available_permits(), 40);
        assert_eq!(allowance.0.own.available_permits(), 10);
    }

    #[tokio::test]
    async fn one_connection_holds_a_quarter_at_most() {
        let budget = Budget::new(40 * 1024);
        let allowance = budget.allowance();
        let mut held = allowance.hold(4 * KIB).await.unwrap();
        assert!(held.grow(1 << 30), "it has all that it may have");
        assert!(allowance.nothing().grow(1 << 30));
        assert_eq!(budget.all.available_permits(), 30);
        let mut others = Vec::new();
        for _ in 0..3 {
            others.push(budget.allowance().hold(1 << 30).await.unwrap());
        }
        assert_eq!(budget.all.available_permits(), 0);
        assert!(!budget.allowance().nothing().grow(KIB), "others have it");
        drop(held);
        assert!(budget.allowance().nothing().grow(KIB));
    }
}
