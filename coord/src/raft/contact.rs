//! Who this member hears from, and since when no more.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use coord_core::NodeId;
use tokio::sync::watch;
use tokio::time::Instant;

/// A leader, in its term.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Leader {
    pub(super) node: NodeId,
    pub(super) term: u64,
}

/// What the messages of a leader and the breaking of its connection say about it.
#[derive(Debug)]
pub(super) struct Contact {
    heard: watch::Sender<Option<Leader>>,
    at: Mutex<Instant>,
    timeout: Duration,
}

impl Contact {
    /// Nobody was heard yet. A leader counts as heard for `timeout` after each message.
    pub(super) fn new(timeout: Duration) -> Contact {
        Contact {
            heard: watch::Sender::new(None),
            at: Mutex::new(Instant::now()),
            timeout,
        }
    }

    /// `leader` sent something that this member took.
    pub(super) fn heard(&self, leader: Leader) {
        *self.at.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.heard.send_if_modified(|heard| {
            let older = heard.is_some_and(|heard| heard.term > leader.term);
            let news = !older && *heard != Some(leader);
            if news {
                *heard = Some(leader);
            }
            news
        });
    }

    /// `leader` is not heard any more, unless there is a newer one.
    pub(super) fn lost(&self, leader: Leader) {
        self.heard.send_if_modified(|heard| {
            let lost = *heard == Some(leader);
            if lost {
                *heard = None;
            }
            lost
        });
    }

    /// When the last message came.
    pub(super) fn last(&self) -> Instant {
        *self.at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The leader that was heard and is not lost, however long ago.
    pub(super) fn leader(&self) -> Option<Leader> {
        *self.heard.borrow()
    }

    /// The leader that is heard right now.
    pub(super) fn hears(&self) -> Option<Leader> {
        self.leader()
            .filter(|_| self.last().elapsed() < self.timeout)
    }

    /// Changes with the leader.
    pub(super) fn watch(&self) -> watch::Receiver<Option<Leader>> {
        self.heard.subscribe()
    }
}
