//! Who waits for a replica: produce requests for the high watermark, deletions of records for the low one, fetch
//! requests for records.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use kafka_wire::ErrorCode;
use tokio::sync::{Notify, oneshot};

/// Tells a request that its offset was reached, or why it will not be.
pub(crate) type Reached = oneshot::Receiver<Result<(), ErrorCode>>;

/// Requests that are answered when a watermark reaches an offset, by that offset.
#[derive(Debug, Default)]
pub(super) struct OffsetWaiters {
    /// Ascending, for that is how records are appended; a retry of an earlier batch may come in between.
    queue: VecDeque<(i64, oneshot::Sender<Result<(), ErrorCode>>)>,
    /// At this length those who have timed out are thrown out, so that a watermark which stands
    /// still for long keeps no more than about twice as many as still wait.
    purge_at: usize,
}

/// Shorter queues are not worth a look.
const PURGE_MIN: usize = 64;

impl OffsetWaiters {
    pub(super) fn wait_for(&mut self, offset: i64) -> Reached {
        if self.queue.len() >= self.purge_at {
            self.queue.retain(|(_, waiter)| !waiter.is_closed());
            self.purge_at = PURGE_MIN.max(2 * self.queue.len());
        }
        let (sender, receiver) = oneshot::channel();
        let at = self
            .queue
            .partition_point(|(required, _)| *required <= offset);
        self.queue.insert(at, (offset, sender));
        receiver
    }

    /// Answers all up to this watermark.
    pub(super) fn reached(&mut self, watermark: i64, outcome: Result<(), ErrorCode>) {
        while let Some((required, _)) = self.queue.front()
            && *required <= watermark
            && let Some((_, waiter)) = self.queue.pop_front()
        {
            // Who timed out does not listen any more.
            let _ = waiter.send(outcome);
        }
    }

    /// Answers all.
    pub(super) fn fail(&mut self, error: ErrorCode) {
        self.reached(i64::MAX, Err(error));
    }
}

/// What a waiting fetch wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Readable {
    /// Records, as a follower reads them.
    Appended,
    /// Records below the high watermark.
    Committed,
}

/// Fetch requests that found too little.
#[derive(Debug, Default)]
pub(super) struct FetchWaiters {
    waiters: Vec<(Weak<Notify>, Readable)>,
}

impl FetchWaiters {
    /// Wakes this one when there is more. Who is woken has to come again.
    pub(super) fn wait(&mut self, waiter: &Arc<Notify>, wanted: Readable) {
        let alive = |other: &Weak<Notify>| {
            other.strong_count() > 0 && other.as_ptr() != Arc::as_ptr(waiter)
        };
        self.waiters.retain(|(other, _)| alive(other));
        self.waiters.push((Arc::downgrade(waiter), wanted));
    }

    pub(super) fn wake(&mut self, happened: Readable) {
        self.waiters.retain(|(waiter, wanted)| {
            if *wanted == happened
                && let Some(waiter) = waiter.upgrade()
            {
                waiter.notify_one();
            }
            *wanted != happened
        });
    }

    pub(super) fn wake_all(&mut self) {
        self.waiters
            .drain(..)
            .filter_map(|(waiter, _)| waiter.upgrade())
            .for_each(|waiter| waiter.notify_one());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(waiter: &mut Reached) -> Option<Result<(), ErrorCode>> {
        waiter.try_recv().ok()
    }

    #[test]
    fn offset_waiters_are_answered_by_their_offset_and_not_by_their_turn() {
        let mut waiters = OffsetWaiters::default();
        let mut late = waiters.wait_for(10);
        let mut retry = waiters.wait_for(4);
        waiters.reached(9, Ok(()));
        assert_eq!(
            (answer(&mut retry), answer(&mut late)),
            (Some(Ok(())), None)
        );
        waiters.fail(ErrorCode::NotLeaderOrFollower);
        assert_eq!(answer(&mut late), Some(Err(ErrorCode::NotLeaderOrFollower)));
    }

    #[test]
    fn who_timed_out_is_not_kept_for_ever() {
        let mut waiters = OffsetWaiters::default();
        let waiting = waiters.wait_for(0);
        (0..1000).for_each(|offset| drop(waiters.wait_for(offset)));
        assert!(
            waiters.queue.len() <= PURGE_MIN + 1,
            "{}",
            waiters.queue.len()
        );
        drop(waiting);
    }

    #[test]
    fn a_consumer_is_not_woken_by_what_is_not_committed() {
        let mut waiters = FetchWaiters::default();
        let (follower, consumer) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        waiters.wait(&follower, Readable::Appended);
        waiters.wait(&consumer, Readable::Committed);
        waiters.wake(Readable::Appended);
        assert_eq!(waiters.waiters.len(), 1);
        waiters.wake(Readable::Committed);
        assert!(waiters.waiters.is_empty());
    }

    #[test]
    fn who_waits_twice_or_not_any_more_is_not_kept() {
        let mut waiters = FetchWaiters::default();
        let (gone, waiting) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        waiters.wait(&gone, Readable::Appended);
        drop(gone);
        waiters.wait(&waiting, Readable::Appended);
        waiters.wait(&waiting, Readable::Appended);
        assert_eq!(waiters.waiters.len(), 1);
    }
}
