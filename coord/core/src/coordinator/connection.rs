//! One connection's queue: what keeps the answers of a session in order.

use std::collections::VecDeque;
use std::sync::Arc;

use bytestring::ByteString;

use crate::acl::Identity;
use crate::error::OpError;
use crate::forward::{Ask, Outcome, Touch};
use crate::origin::RequestId;
use crate::request::{Read, Response, WriteKind};
use crate::session::PASSWORD_LEN;
use crate::state::EffectResult;
use crate::zxid::{SessionId, Zxid};

/// The most identities that one connection may have.
const IDENTITIES_MAX: usize = 64;

/// The most bytes that they may have: they go with each request to the leader, and `auth` puts them into ACLs.
const IDENTITIES_MAX_LEN: usize = 64 * 1024;

/// A connection with a session, or one that waits for it.
#[derive(Debug)]
pub(super) struct Connection {
    /// None before it is accepted.
    pub(super) session: SessionId,
    /// What the leader knows it by: the transaction that gave it its session. None before it is accepted, nor where the
    /// session is for reads alone.
    pub(super) claim: Zxid,
    pub(super) timeout_ms: u32,
    pub(super) identities: Arc<[Identity]>,
    /// Its session is known to this member alone, which has no leader.
    pub(super) read_only: bool,
    /// Unanswered requests, oldest first. The shell bounds how many it hands in.
    pub(super) queue: VecDeque<Queued>,
    /// How many of them are [`Item::Read`].
    pub(super) reads: usize,
    /// How many of them are [`Item::Unconfirmed`].
    pub(super) unconfirmed: usize,
    /// How many of them are [`Item::Held`].
    pub(super) held: usize,
    /// Whether it is among those that the leader is to be told of.
    pub(super) touched: bool,
}

/// An unanswered request.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) xid: i32,
    pub(super) item: Item,
}

/// What there is to answer. Nothing is answered before what stands in front of it.
#[derive(Debug)]
pub(super) enum Item {
    /// To be read in its turn.
    Read(Read),
    /// To be asked of the leader, but not yet.
    Held(Ask, Wish),
    /// Asked of the leader, and answered before what is asked behind it.
    Asked(RequestId, Wish),
    /// Asked of this member, which leads; transactions of what is asked behind it may come before its answer.
    Unconfirmed(RequestId, Wish),
    /// Known, and told once `after` is applied.
    Settled { after: Zxid, answer: Answer },
}

/// What a client asked the leader for, as far as the answer depends on it.
#[derive(Debug)]
pub(super) enum Wish {
    /// A new session.
    Session {
        password: [u8; PASSWORD_LEN],
    },
    /// This session.
    Resume {
        session: SessionId,
        password: [u8; PASSWORD_LEN],
    },
    /// The session's end.
    Close,
    Write(WriteKind),
    Multi(Vec<WriteKind>),
    Sync(ByteString),
    Reconfig,
}

/// What a client is told.
#[derive(Debug)]
pub(super) enum Answer {
    /// It has a session.
    Accept {
        session: SessionId,
        claim: Zxid,
        password: [u8; PASSWORD_LEN],
    },
    /// The session that it asked for is gone.
    Expired,
    Reply(Result<Response, OpError>),
    /// The members of the ensemble, as they are shown by then.
    Config,
    /// A refusal that the connection does not outlive.
    LastReply(OpError),
    /// Nothing: it has to find out through another connection.
    Unknown,
}

impl Connection {
    pub(super) fn new(timeout_ms: u32, identities: Arc<[Identity]>) -> Connection {
        Connection {
            session: SessionId::NONE,
            claim: Zxid(0),
            timeout_ms,
            identities,
            read_only: false,
            queue: VecDeque::new(),
            reads: 0,
            unconfirmed: 0,
            held: 0,
            touched: false,
        }
    }

    /// The client has shown to be someone else too; [`OpError::AuthFailed`] if it is too many by now.
    pub(super) fn authenticate(&mut self, more: Vec<Identity>) -> Result<(), OpError> {
        let mut identities = self.identities.to_vec();
        for identity in more {
            if !identities.contains(&identity) {
                identities.push(identity);
            }
        }
        let len = |identity: &Identity| identity.scheme.len() + identity.id.len();
        let all_len: usize = identities.iter().map(len).sum();
        if identities.len() > IDENTITIES_MAX || all_len > IDENTITIES_MAX_LEN {
            return Err(OpError::AuthFailed);
        }
        self.identities = identities.into();
        Ok(())
    }

    /// A sign of life of its session.
    pub(super) fn touch(&self) -> Touch {
        Touch {
            session: self.session,
            claim: self.claim,
        }
    }

    /// Whether an answer rests on what may never be applied, now that the leader is lost.
    pub(super) fn rests_on_the_lost(&self, last_zxid: Zxid) -> bool {
        self.queue.iter().any(|queued| match queued.item {
            Item::Asked(..) | Item::Unconfirmed(..) => true,
            Item::Settled { after, .. } => after > last_zxid,
            Item::Read(_) | Item::Held(..) => false,
        })
    }

    /// What was asked as `request` is answered; gives back its place in the queue.
    pub(super) fn settle(
        &mut self,
        request: RequestId,
        after: Zxid,
        answer: impl FnOnce(Wish) -> Answer,
    ) -> Option<usize> {
        let waits = |queued: &Queued| match queued.item {
            Item::Asked(asked, _) | Item::Unconfirmed(asked, _) => asked == request,
            Item::Read(_) | Item::Held(..) | Item::Settled { .. } => false,
        };
        let at = self.queue.iter().position(waits)?;
        let item = &mut self.queue.get_mut(at)?.item;
        let unknown = Item::Settled {
            after,
            answer: Answer::Unknown,
        };
        let was = std::mem::replace(item, unknown);
        if let Item::Unconfirmed(..) = was {
            self.unconfirmed -= 1;
        }
        if let Item::Asked(_, wish) | Item::Unconfirmed(_, wish) = was {
            let answer = answer(wish);
            *item = Item::Settled { after, answer };
        }
        Some(at)
    }
}

impl Wish {
    /// The answer if the transaction `zxid` of `session` with these results was decided for it.
    pub(super) fn granted(
        self,
        session: SessionId,
        zxid: Zxid,
        results: Vec<EffectResult>,
    ) -> Answer {
        let mut results = results.into_iter();
        Answer::Reply(Ok(match self {
            Wish::Session { password } | Wish::Resume { password, .. } => {
                return Answer::Accept {
                    session,
                    claim: zxid,
                    password,
                };
            }
            Wish::Write(kind) => results
                .next()
                .map_or(Response::Empty, |result| response(kind, result)),
            Wish::Multi(kinds) => {
                let outcomes = kinds.into_iter().zip(results);
                let outcomes = outcomes.map(|(kind, result)| (kind, response(kind, result)));
                Response::Multi(outcomes.collect())
            }
            Wish::Sync(path) => Response::Path(path),
            Wish::Close => Response::Empty,
            Wish::Reconfig => return Answer::Config,
        }))
    }

    /// The answer if it was settled without one.
    pub(super) fn settled(self, outcome: Outcome) -> Answer {
        match (outcome, self) {
            (Outcome::Expired, Wish::Resume { .. }) => Answer::Expired,
            (Outcome::Synced, Wish::Sync(path)) => Answer::Reply(Ok(Response::Path(path))),
            (Outcome::MultiRefused { at, error }, Wish::Multi(kinds)) => {
                // ZooKeeper's clients know these shapes: what came before the fault reads as "no error, undone".
                let outcome = |place: usize| match place.cmp(&(at as usize)) {
                    std::cmp::Ordering::Less => None,
                    std::cmp::Ordering::Equal => Some(error),
                    std::cmp::Ordering::Greater => Some(OpError::RuntimeInconsistency),
                };
                let outcomes = (0..kinds.len()).map(outcome).collect();
                Answer::Reply(Ok(Response::MultiFailed(outcomes)))
            }
            (
                Outcome::Refused(error),
                Wish::Close | Wish::Write(_) | Wish::Multi(_) | Wish::Sync(_) | Wish::Reconfig,
            ) => Answer::Reply(Err(error)),
            // Also what no leader of this version answers to such a wish.
            _ => Answer::Unknown,
        }
    }
}

/// The answer to a write of `kind` that did `result`.
fn response(kind: WriteKind, result: EffectResult) -> Response {
    match (kind, result) {
        (WriteKind::Create2, EffectResult::Created { path, stat }) => {
            Response::PathStat(path, stat)
        }
        (_, EffectResult::Created { path, .. }) => Response::Path(path),
        (_, EffectResult::Set(stat)) => Response::Stat(stat),
        (_, EffectResult::Done) => Response::Empty,
    }
}
