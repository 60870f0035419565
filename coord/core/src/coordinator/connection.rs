//! One connection's queue: what keeps the requests of a session in order while its writes are on their way.

use std::collections::VecDeque;

use crate::acl::Identity;
use crate::error::OpError;
use crate::request::{Read, Response, WriteKind};
use crate::session::PASSWORD_LEN;
use crate::state::EffectResult;
use crate::zxid::{SessionId, Zxid};

/// A connection with a session, or one that is about to hear that it has none.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) session: SessionId,
    pub(super) identities: Vec<Identity>,
    /// Unanswered requests, oldest first. The shell bounds how many it hands in.
    pub(super) queue: VecDeque<Queued>,
}

impl Connection {
    pub(super) fn new(session: SessionId, identities: Vec<Identity>) -> Connection {
        Connection {
            session,
            identities,
            queue: VecDeque::new(),
        }
    }
}

/// An unanswered request.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) xid: i32,
    /// It is answered once this is applied. Along a queue these only grow, but for those that wait for nothing.
    pub(super) after: Zxid,
    pub(super) item: Item,
}

/// What there is to answer.
#[derive(Debug)]
pub(super) enum Item {
    /// The session is there.
    Accept {
        password: [u8; PASSWORD_LEN],
        timeout_ms: u32,
    },
    /// The session to resume is gone.
    Expired,
    /// To be read in its turn.
    Read(Read),
    /// Decided and proposed; the answer comes with its being applied.
    Write(WriteKind),
    /// Likewise, several.
    Multi(Vec<WriteKind>),
    /// Answered already, but about changes that are not applied yet.
    Answer(Result<Response, OpError>),
    /// The session has ended as its client wished.
    Closed,
}

/// The answer to a write of `kind` that did `result`.
pub(super) fn response(kind: WriteKind, result: EffectResult) -> Response {
    match (kind, result) {
        (WriteKind::Create2, EffectResult::Created { path, stat }) => {
            Response::PathStat(path, stat)
        }
        (_, EffectResult::Created { path, .. }) => Response::Path(path),
        (_, EffectResult::Set(stat)) => Response::Stat(stat),
        (_, EffectResult::Done) => Response::Empty,
    }
}
