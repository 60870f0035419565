//! Sessions: which exist (decided by transactions), and when they were last heard from (known here alone).

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::Duration;

use crate::error::OpError;
use crate::zxid::{SessionId, Zxid};

/// Bytes of a session's password.
pub const PASSWORD_LEN: usize = 16;

/// A session as every member of an ensemble knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// What resumes it.
    pub password: [u8; PASSWORD_LEN],
    /// How long it lives without being heard from, in milliseconds.
    pub timeout_ms: u32,
    /// The transaction that gave it to the connection that it speaks through: the one that opened it, or resumed it last.
    /// That connection alone names it with what it asks, so that every leader knows the others by it. Zero if a version
    /// that did not keep it wrote the snapshot; no connection is as old as that.
    pub claim: Zxid,
}

/// When a wake-up comes later than this behind the deadline that it was for, nobody was there to hear the sessions.
const PAUSED: Duration = Duration::from_millis(200);

/// The sessions that are open, or will be once what is decided is applied: the claim to each, and when it expires, to the
/// instant that its timeout after the last sign of life ends, without rounding to ticks. Known to the leader alone.
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
    /// As it will be once what is decided is applied.
    claim: Zxid,
}

impl SessionTracker {
    /// Starts, or starts anew with another timeout and claim, to watch over a session; `now` is time since any fixed
    /// start.
    pub fn track(&mut self, session: SessionId, timeout_ms: u32, claim: Zxid, now: Duration) {
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
                claim,
            },
        );
    }

    /// A sign of life from who has this claim: whether it is the one that holds.
    pub fn touch(&mut self, session: SessionId, claim: Zxid, now: Duration) -> Result<(), OpError> {
        let tracked = self
            .sessions
            .get_mut(&session)
            .ok_or(OpError::SessionExpired)?;
        if tracked.claim != claim {
            return Err(OpError::SessionMoved);
        }
        tracked.deadline = tracked.deadline.max(now + tracked.timeout);
        Ok(())
    }

    /// Whether the session is open, and will be once what is decided is applied.
    pub fn is_open(&self, session: SessionId) -> bool {
        self.sessions.contains_key(&session)
    }

    /// Gives every session its full timeout from `now` on.
    pub fn restart(&mut self, now: Duration) {
        for tracked in self.sessions.values_mut() {
            tracked.deadline = tracked.deadline.max(now + tracked.timeout);
        }
    }

    /// When each session expires if it is not heard before, in no particular order.
    pub fn deadlines(&self) -> impl Iterator<Item = (SessionId, Duration)> {
        let deadline = |(&session, tracked): (&SessionId, &Tracked)| (session, tracked.deadline);
        self.sessions.iter().map(deadline)
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

    const HERE: Zxid = Zxid(1);
    const THERE: Zxid = Zxid(2);
    const A: SessionId = SessionId(1);
    const B: SessionId = SessionId(2);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn expires_at_its_timeout_and_not_before() {
        let mut tracker = SessionTracker::default();
        tracker.track(A, 100, HERE, ms(0));
        assert_eq!(tracker.poll_timeout(), Some(ms(100)));
        assert!(tracker.expire(ms(99)).is_empty());
        assert_eq!(tracker.expire(ms(100)), [A]);
        assert_eq!(tracker.poll_timeout(), None);
    }

    #[test]
    fn a_sign_of_life_moves_the_deadline() {
        let mut tracker = SessionTracker::default();
        tracker.track(A, 100, HERE, ms(0));
        tracker.track(B, 100, HERE, ms(0));
        tracker.touch(A, HERE, ms(60)).unwrap();
        assert_eq!(tracker.expire(ms(100)), [B]);
        assert_eq!(tracker.poll_timeout(), Some(ms(160)));
        assert_eq!(tracker.expire(ms(160)), [A]);
    }

    #[test]
    fn a_shorter_timeout_holds_at_once() {
        let mut tracker = SessionTracker::default();
        tracker.track(A, 10_000, HERE, ms(0));
        tracker.track(A, 50, HERE, ms(10));
        assert_eq!(tracker.expire(ms(60)), [A]);
        assert!(tracker.expire(ms(10_000)).is_empty());
    }

    #[test]
    fn a_process_that_was_stopped_blames_nobody() {
        let mut tracker = SessionTracker::default();
        tracker.track(A, 100, HERE, ms(0));
        assert!(tracker.expire(ms(5_000)).is_empty());
        assert_eq!(tracker.expire(ms(5_100)), [A]);
    }

    #[test]
    fn a_forgotten_session_does_not_expire() {
        let mut tracker = SessionTracker::default();
        tracker.track(A, 100, HERE, ms(0));
        tracker.forget(A);
        assert!(tracker.expire(ms(100)).is_empty());
        tracker.track(A, 100, HERE, ms(50));
        assert_eq!(tracker.expire(ms(150)), [A]);
    }

    #[test]
    fn only_the_newest_claim_to_a_session_keeps_it_alive() {
        let mut tracker = SessionTracker::default();
        assert_eq!(tracker.touch(A, HERE, ms(0)), Err(OpError::SessionExpired));
        tracker.track(A, 100, HERE, ms(0));
        assert_eq!(tracker.touch(A, HERE, ms(10)), Ok(()));
        tracker.track(A, 100, THERE, ms(20));
        assert_eq!(tracker.touch(A, HERE, ms(90)), Err(OpError::SessionMoved));
        assert_eq!(tracker.expire(ms(120)), [A]);
    }
}
