//! What goes into a coordinator, and what comes out.

use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;

use crate::acl::Identity;
use crate::error::OpError;
use crate::request::{Request, Response};
use crate::session::PASSWORD_LEN;
use crate::txn::LogEntry;
use crate::watch::WatchEventType;
use crate::zxid::{SessionId, Zxid};

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
    /// A connection is gone. Its session lives on.
    Disconnected {
        /// Which.
        connection: ConnectionId,
    },
    /// Every log entry up to `index` is durable, on a majority where there is one.
    Committed {
        /// The last such entry.
        index: u64,
    },
    /// It is [`Coordinator::poll_timeout`], or later.
    Timeout,
}

/// What is to be done, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Make the entry durable, behind the ones before, then report [`Event::Committed`].
    Append(LogEntry),
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
    },
}

/// Bounds of what sessions may ask for.
#[derive(Debug, Clone, Copy)]
pub struct SessionLimits {
    /// The shortest timeout given out, in milliseconds.
    pub min_timeout_ms: u32,
    /// The longest timeout given out, in milliseconds.
    pub max_timeout_ms: u32,
}
