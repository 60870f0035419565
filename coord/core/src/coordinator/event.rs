//! What goes into a coordinator, and what comes out.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;

use super::membership::ReconfigRules;
use crate::acl::Identity;
use crate::decide::Rules;
use crate::error::OpError;
use crate::forward::{Forward, ForwardAnswer};
use crate::origin::RequestId;
use crate::reaper::ReaperSettings;
use crate::request::{Request, Response};
use crate::required_schemes::RequiredSchemes;
use crate::server_spec::ServerSpec;
use crate::session::PASSWORD_LEN;
use crate::state::State;
use crate::txn::Txn;
use crate::watch::WatchEventType;
use crate::zxid::{NodeId, SessionId, Zxid};

/// A client's connection to this node, named by the shell; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// The time, as the shell hands it in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// Time since any fixed start: what timeouts are measured by. Never goes back.
    pub elapsed: Duration,
    /// Milliseconds since 1970: what znodes are stamped with. May jump.
    pub wall_ms: i64,
}

/// The members of the ensemble.
pub type Members = BTreeMap<NodeId, ServerSpec>;

/// A client's wish for a session, with what the shell knows of the client.
#[derive(Debug, Clone, PartialEq)]
pub struct Connect {
    /// The connection that it asks on, new to this coordinator.
    pub connection: ConnectionId,
    /// The newest state that it has seen.
    pub last_zxid_seen: Zxid,
    /// The timeout that it would like, in milliseconds.
    pub timeout_ms: i32,
    /// The session to resume.
    pub session: SessionId,
    /// That session's password.
    pub password: Bytes,
    /// The password of a new session: random, from the shell.
    pub new_password: [u8; PASSWORD_LEN],
    /// Whether it would take a member that is cut off from the others and only serves reads.
    pub read_only: bool,
    /// Whom the connection is known to be: its address.
    pub identities: Vec<Identity>,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A client asks for a session: a new one if it names none, else that one.
    Connect(Connect),
    /// A client asks for something in its session.
    Request {
        /// On which connection.
        connection: ConnectionId,
        /// The client's number for it.
        xid: i32,
        /// What.
        request: Request,
    },
    /// A client has sent something that is taken later. It is a sign of life at once.
    Heard {
        /// On which connection.
        connection: ConnectionId,
    },
    /// A connection is gone. Its session lives on.
    Disconnected {
        /// Which.
        connection: ConnectionId,
    },
    /// This member leads: everything committed before `term` is applied here.
    Leading {
        /// The Raft term.
        term: u32,
    },
    /// Another member leads, and what is forwarded goes there.
    Following {
        /// The Raft term.
        term: u32,
        /// Who leads.
        leader: NodeId,
    },
    /// Nobody leads, as far as this member hears.
    Leaderless,
    /// This member belongs to the ensemble no more, or is about to leave it. If it comes back, it is told who leads.
    Removed,
    /// This member leads, and no majority has answered it for a while. If one does again, before another leads, this
    /// member is told that it leads in the same term.
    QuorumLost,
    /// Transactions are durable on a majority: the next ones, in order, and each exactly once.
    Committed {
        /// The transactions.
        txns: Vec<(Zxid, Arc<Txn>)>,
    },
    /// The leader's snapshot took the place of the state.
    Installed(Box<State>),
    /// A member passes on what its clients ask for. Of one member they come in the order that it sent them.
    Forwarded {
        /// The member.
        from: NodeId,
        /// What it asks.
        forward: Forward,
    },
    /// The leader answers what was forwarded.
    Answered(ForwardAnswer),
    /// The way to the leader broke: forwards may be lost, or their answers.
    ForwardLost,
    /// This member was the leader still when, or after, [`Action::ConfirmLeadership`] asked.
    LeadershipConfirmed {
        /// That action's token.
        token: u64,
    },
    /// That could not be found out, or it is not the leader any more.
    LeadershipLost {
        /// The action's token.
        token: u64,
    },
    /// The ensemble has these members from now on; told at the start too, before who leads. A server that belongs to none
    /// is not told.
    MembershipChanged {
        /// All of them.
        members: Members,
    },
    /// [`Action::ChangeMembership`] is done: the members that it asked for were told before this, or others since.
    ReconfigDone {
        /// That action's token.
        token: u64,
    },
    /// [`Action::ChangeMembership`] came to nothing.
    ReconfigRefused {
        /// That action's token.
        token: u64,
        /// Why.
        refusal: MembershipRefusal,
    },
    /// It is [`Coordinator::poll_timeout`](super::Coordinator::poll_timeout), or later.
    Timeout,
}

/// What is to be done, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Put the transaction into the log behind those before, if this member leads in that very term. It comes back in
    /// [`Event::Committed`], unless that term's leadership is lost first.
    Append {
        /// The term that it was decided in: on the state of another it may not apply.
        term: u32,
        /// Its number.
        zxid: Zxid,
        /// The transaction.
        txn: Arc<Txn>,
    },
    /// Pass on to the leader, in order.
    Forward(Forward),
    /// Answer a member. If that fails it has to hear [`Event::ForwardLost`].
    Answer {
        /// The member.
        to: NodeId,
        /// The answer.
        answer: ForwardAnswer,
    },
    /// Find out whether this member is the leader still, by asking a majority.
    ConfirmLeadership {
        /// Comes back with the answer.
        token: u64,
    },
    /// Change who the ensemble's members are; one change at a time. Meanwhile members may be told that are neither those
    /// from before nor those asked for.
    ChangeMembership {
        /// Comes back with the answer.
        token: u64,
        /// All members as they shall be.
        members: Members,
    },
    /// Tell the client that it has its session.
    Accept {
        /// On which connection.
        connection: ConnectionId,
        /// The session.
        session: SessionId,
        /// What resumes it.
        password: [u8; PASSWORD_LEN],
        /// The timeout that holds, in milliseconds.
        timeout_ms: u32,
        /// Whether this member is cut off from the others, and only serves reads.
        read_only: bool,
    },
    /// Tell the client that the session it asked for is gone. A [`Action::Close`] follows.
    Expired {
        /// On which connection.
        connection: ConnectionId,
    },
    /// Answer a request.
    Reply {
        /// On which connection.
        connection: ConnectionId,
        /// The client's number for the request.
        xid: i32,
        /// The state that the answer shows.
        zxid: Zxid,
        /// The answer.
        result: Result<Response, OpError>,
    },
    /// Tell of a watched change.
    Notify {
        /// On which connection.
        connection: ConnectionId,
        /// The transaction that made the change; −1 if the change was missed while the client was away.
        zxid: Zxid,
        /// What happened.
        event: WatchEventType,
        /// Where.
        path: ByteString,
    },
    /// Close the connection once everything before is sent. No event for it is to follow.
    Close {
        /// Which.
        connection: ConnectionId,
        /// Why.
        reason: CloseReason,
    },
}

/// Why a connection is closed from this side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// Its session ended: as its client wished, or because the client was not heard for too long.
    SessionEnded,
    /// The session that it asked for is gone.
    SessionExpired,
    /// Its session speaks through another connection now.
    SessionMoved,
    /// It asked for what is not known here, or showed wrong credentials.
    Refused,
    /// Its client has seen a later state than there is here.
    LaterStateSeen,
    /// It watches more than its share.
    TooManyWatches,
    /// The leader was lost, and what comes of a request on its way there is unknown.
    OutcomeUnknown,
    /// No majority is in reach.
    NoQuorum,
    /// This member was removed from the ensemble.
    Removed,
    /// The majority is in reach again, so nobody has to be content with reads.
    QuorumRegained,
    /// The state was replaced by the leader's snapshot, so watch events may have been missed.
    SnapshotInstalled,
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CloseReason::SessionEnded => "its session ended",
            CloseReason::SessionExpired => "the session that it asked for is gone",
            CloseReason::SessionMoved => "its session is held by another connection",
            CloseReason::Refused => "its last request was refused",
            CloseReason::LaterStateSeen => "its client has seen a later state than this server has",
            CloseReason::TooManyWatches => "its watches take too much memory",
            CloseReason::OutcomeUnknown => {
                "the leader was lost before it told what came of a request"
            }
            CloseReason::NoQuorum => "no majority of the ensemble is in reach",
            CloseReason::Removed => "this server was removed from the ensemble",
            CloseReason::QuorumRegained => {
                "the ensemble is in reach again, and the session was read-only"
            }
            CloseReason::SnapshotInstalled => "the state was replaced by the leader's snapshot",
        })
    }
}

/// Why the members of the ensemble are not changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MembershipRefusal {
    /// This member does not lead any more; the change may still come to be.
    Unknown,
    /// Another change is under way.
    InProgress,
    /// No majority of the new members is connected and in step.
    NoQuorum,
}

/// Bounds of what sessions may ask for.
#[derive(Debug, Clone, Copy)]
pub struct SessionLimits {
    /// The shortest timeout given out, in milliseconds.
    pub min_timeout_ms: u32,
    /// The longest timeout given out, in milliseconds.
    pub max_timeout_ms: u32,
}

/// What a coordinator is told once.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Which member this is.
    pub node: NodeId,
    /// Bounds of what sessions may ask for.
    pub limits: SessionLimits,
    /// How long clients are kept while there is no leader.
    pub leaderless_grace: Duration,
    /// Whether clients that asked for it are served reads while there is no leader.
    pub read_only_mode: bool,
    /// What clients may ask for.
    pub rules: Rules,
    /// What a session has to have shown before it does anything.
    pub required_schemes: RequiredSchemes,
    /// Which changes of the ensemble are taken.
    pub reconfig: ReconfigRules,
    /// How containers and znodes past their time to live are removed.
    pub reaper: ReaperSettings,
    /// The number of this member's first request: random, from the shell.
    pub first_request: RequestId,
}
