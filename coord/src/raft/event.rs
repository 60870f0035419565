//! What the node is told, in the order in which it is to act on it.

use std::sync::Arc;

use bytes::Bytes;
use coord_core::{Members, NodeId, State, Txn, Zxid};
use tokio::sync::oneshot;

/// What comes out of Raft for the node. The queue is bounded: a node that falls behind holds back what is applied, and
/// so in the end the leader.
#[derive(Debug)]
pub enum RaftEvent {
    /// Transactions were committed: they are on the disks of a majority. In order, each exactly once.
    Committed(Vec<(Zxid, Arc<Txn>)>),
    /// The members of the ensemble, as the log has them from here on: who votes is a participant. While the voters change
    /// from some to others, and a new one catches up, they are still those from before.
    Membership(Members),
    /// This member was so far behind that the leader sent its whole state: it takes the place of the one that is there.
    Install(Box<State>),
    /// A snapshot is to be written: a clone of the state as it is now is asked for.
    Snapshot(oneshot::Sender<State>),
    /// What this member is from here on.
    Role(Role),
    /// A member sent what only a leader answers; see [`RaftHandle::forward`](super::RaftHandle::forward).
    Forwarded {
        /// Who sent it.
        from: NodeId,
        /// What it sent.
        frame: Bytes,
    },
    /// The leader answered something that was forwarded to it.
    Answered(Bytes),
    /// What was forwarded since the last `Forwarded` answer may be lost, answers too: the way to the leader broke.
    ForwardLost,
    /// This member led at some time after it was asked to confirm it, and everything committed by then stands in the
    /// events before this one.
    LeadershipConfirmed {
        /// As it was asked.
        token: u64,
    },
    /// This member could not make sure that it still leads.
    LeadershipLost {
        /// As it was asked.
        token: u64,
    },
    /// The membership that was asked for is committed, and stands in the events before this one.
    MembershipChanged {
        /// As it was asked.
        token: u64,
    },
    /// The membership did not change as asked, or not for certain.
    MembershipRefused {
        /// As it was asked.
        token: u64,
        /// Why.
        error: MembershipError,
    },
}

/// What a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It leads, and its state holds everything that was committed before its term.
    Leader {
        /// The term, which nobody else leads in.
        term: u32,
    },
    /// It hears from a leader.
    Follower {
        /// The leader.
        leader: NodeId,
        /// The leader's term.
        term: u32,
    },
    /// It hears from none.
    Leaderless,
    /// The ensemble goes on without it: it was removed, or a change of the members that has begun will remove it.
    Removed,
    /// It led, and may still believe so, but no majority has answered it for so long that another may lead.
    QuorumLost {
        /// The term in which it led.
        term: u32,
    },
}

/// Why a membership was not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MembershipError {
    /// Only a leader can, and this member does not lead, or ceased to.
    #[error("this server does not lead, or not any more")]
    NotLeader,
    /// One at a time.
    #[error("another change of the membership is under way")]
    InProgress,
    /// The new members would have no voter.
    #[error("no participant would be left")]
    NoParticipant,
    /// A new participant did not catch up with the log in time, or most of the participants are not there: the ensemble
    /// would have no quorum.
    #[error("server {0} does not follow yet: start it, and try again")]
    NotCaughtUp(NodeId),
}
