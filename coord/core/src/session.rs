//! Sessions: which exist (decided by transactions), and when they were last heard from (known here alone).

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::Duration;

use crate::zxid::SessionId;

/// Bytes of a session's password.
pub const PASSWORD_LEN: usize = 16;

/// A session as every member of an ensemble knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// What resumes it.
    pub password: [u8; PASSWORD_LEN],
    /// How long it lives without being heard from, in milliseconds.
    pub timeout_ms: u32,
}

/// When a wake-up comes later than this behind the deadline that it was for, nobody was there to hear the sessions.
const PAUSED: Duration = Duration::from_millis(200);

/// When each session expires, to the instant that its timeout after the last sign of life ends: no rounding to ticks.
///
/// A sign of life costs one store. The queue holds one live entry per session, at or before its deadline; an entry that
/// comes up early goes back to where the deadline has moved.
#[derive(Debug, Default)]
pub struct SessionTracker {
    sessions: HashMap<SessionId, Tracked>,
    queue: BinaryHeap<Reverse<(Duration, SessionId)>>,
}

#[derive(Debug)]
struct Tracked {
    timeout: Duration,
    deadline: Duration,
    /// Where its live entry in the queue stands; others are leftovers.
    queued: Duration,
}

impl SessionTracker {
    /// Starts, or starts anew with another timeout, to watch over a session; `now` is time since any fixed start.
    pub fn track(&mut self, session: SessionId, timeout_ms: u32, now: Duration) {
        let timeout = Duration::from_millis(timeout_ms.into());
        let deadline = now + timeout;
        let queued = match self.sessions.get(&session) {
            Some(known) if known.queued <= deadline => known.queued,
            _ => {
                self.queue.push(Reverse((deadline, session)));
                deadline
            }
        };
        self.sessions.insert(
            session,
            Tracked {
                timeout,
                deadline,
                queued,
            },
        );
    }

    /// A sign of life.
    pub fn touch(&mut self, session: SessionId, now: Duration) {
        if let Some(tracked) = self.sessions.get_mut(&session) {
            tracked.deadline = now + tracked.timeout;
        }
    }

    /// Stops watching over a session.
    pub fn forget(&mut self, session: SessionId) {
        self.sessions.remove(&session);
    }

    /// When to call [`SessionTracker::expire`] next.
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.queue.peek().map(|Reverse((at, _))| *at)
    }

    /// The sessions whose timeout is over, no longer tracked. If the call itself comes much too late, because this
    /// process was stopped, their clients were not heard and get another full timeout instead.
    pub fn expire(&mut self, now: Duration) -> Vec<SessionId> {
        let mut expired = Vec::new();
        while let Some(&Reverse((at, session))) = self.queue.peek()
            && at <= now
        {
            self.queue.pop();
            let Some(tracked) = self
                .sessions
                .get_mut(&session)
                .filter(|tracked| tracked.queued == at)
            else {
                continue;
            };
            if tracked.deadline <= now {
                if now - at <= PAUSED {
                    self.sessions.remove(&session);
                    expired.push(session);
                    continue;
                }
                tracked.deadline = now + tracked.timeout;
            }
            tracked.queued = tracked.deadline;
            self.queue.push(Reverse((tracked.deadline, session)));
        }
        expired
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: SessionId = SessionId(1);
    const B: SessionId = SessionId(2);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn expires_at_its_timeout_and_not_before() {
        let mut tracker = SessionTracker::default();
        tracker.track(A, 100, ms(0));
        assert_eq!(tracker.poll_timeout(), Some(ms(100)));
        assert!(tracker.expire(ms(99)).is_empty());
        assert_eq!(tracker.expire(ms(100)), [A]);
        assert_eq!(tracker.poll_timeout(), None);
    }

    #[test]
    fn a_sign_of_life_moves_the_deadline() {
        let mut tracker = SessionTracker::default();
        tracker.track(A, 100, ms(0));
        tracker.track(B, 100, ms(0));
        tracker.touch(A, ms(60));
        assert_eq!(tracker.expire(ms(100)), [B]);
        assert_eq!(tracker.poll_timeout(), Some(ms(160)));
        assert_eq!(tracker.expire(ms(160)), [A]);
    }

    #[test]
    fn a_shorter_timeout_holds_at_once() {
        let mut tracker = SessionTracker::default();
        tracker.track(A, 10_000, ms(0));
        tracker.track(A, 50, ms(10));
        assert_eq!(tracker.expire(ms(60)), [A]);
        assert!(tracker.expire(ms(10_000)).is_empty());
    }

    #[test]
    fn a_process_that_was_stopped_blames_nobody() {
        let mut tracker = SessionTracker::default();
        tracker.track(A, 100, ms(0));
        assert!(tracker.expire(ms(5_000)).is_empty());
        assert_eq!(tracker.expire(ms(5_100)), [A]);
    }

    #[test]
    fn a_forgotten_session_does_not_expire() {
        let mut tracker = SessionTracker::default();
        tracker.track(A, 100, ms(0));
        tracker.forget(A);
        assert!(tracker.expire(ms(100)).is_empty());
        tracker.track(A, 100, ms(50));
        assert_eq!(tracker.expire(ms(150)), [A]);
    }
}
