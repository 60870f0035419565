//! What the leader alone knows and decides. A member that loses its leadership forgets all of this, and with it whatever
//! it decided that no majority has.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use subtle::ConstantTimeEq;

use super::confirmations::Confirmations;
use super::membership::{Changes, ReconfigRules};
use super::{Action, Members, Now, Settings};
use crate::acl::Identity;
use crate::decide::{Asker, MultiError, Outstanding};
use crate::error::OpError;
use crate::forward::{Ask, Outcome, Touch};
use crate::origin::{Origin, RequestId};
use crate::reaper::Reaper;
use crate::request::Write;
use crate::session::{PASSWORD_LEN, SessionTracker};
use crate::state::State;
use crate::txn::{Change, Txn};
use crate::zxid::{NodeId, SessionId, Zxid};

/// For how long a member gathers signs of life before it passes them on.
pub(super) const TOUCH_INTERVAL: Duration = Duration::from_millis(100);

/// So many requests of one member may be on their way to a decision and the disks of a majority: four times what a member
/// forwards before it takes no more of its clients.
const FORWARDS_MAX: usize = 4 * 4096;

#[derive(Debug)]
pub(super) struct Leader {
    node: NodeId,
    term: u32,
    pub(super) outstanding: Outstanding,
    reaper: Reaper,
    last_proposed: Zxid,
    /// The transaction decided last, or applied last if none is outstanding: what an answer about the state to come
    /// waits for. It differs from `last_proposed` at the start of a term, whose first zxid is still to be given out.
    newest: Zxid,
    last_applied: Zxid,
    pending: usize,
    last_session: SessionId,
    tracker: SessionTracker,
    streams: HashMap<NodeId, Stream>,
    pub(super) confirmations: Confirmations,
    pub(super) reconfig_rules: ReconfigRules,
    /// None are known to a server that belongs to no ensemble.
    pub(super) members: Members,
    pub(super) changes: Changes,
}

/// What has come from a member.
#[derive(Debug)]
struct Stream {
    epoch: RequestId,
    next: RequestId,
    /// How many of its requests are not answered and not applied.
    pending: usize,
}

/// Who asks, and for which request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asking<'a> {
    pub(super) origin: Origin,
    pub(super) session: SessionId,
    pub(super) claim: Zxid,
    pub(super) identities: &'a [Identity],
}

/// What comes of it.
#[derive(Debug)]
pub(super) enum Decision {
    /// Answered by a transaction on its way.
    Proposed,
    /// Answered once something is found out; transactions that are proposed later may come before.
    Unconfirmed,
    /// Answered once `after` is applied.
    Settled { after: Zxid, outcome: Outcome },
}

impl Leader {
    /// Takes over in `term`, on a state that has everything from the terms before. Every open session gets its full
    /// timeout anew: nobody here knows when it was last heard. `leadership` counts how often this member has led.
    pub(super) fn new(
        settings: &Settings,
        term: u32,
        leadership: u32,
        state: &State,
        now: Now,
    ) -> Leader {
        let mut tracker = SessionTracker::default();
        for (&session, known) in &state.sessions {
            tracker.track(session, known.timeout_ms, known.claim, now.elapsed);
        }
        Leader {
            node: settings.node,
            term,
            outstanding: Outstanding::new(settings.rules),
            reaper: Reaper::new(settings.reaper, now.elapsed),
            last_proposed: state.last_zxid.max(Zxid::start_of(term)),
            newest: state.last_zxid,
            last_applied: state.last_zxid.max(Zxid::start_of(term)),
            pending: 0,
            last_session: state.last_session,
            tracker,
            streams: HashMap::new(),
            confirmations: Confirmations::new(leadership),
            reconfig_rules: settings.reconfig,
            members: Members::new(),
            changes: Changes::new(leadership),
        }
    }

    pub(super) fn term(&self) -> u32 {
        self.term
    }

    /// A majority is in reach again. Nobody could be heard meanwhile, so every session gets its full timeout anew.
    pub(super) fn resume(&mut self, now: Now) {
        self.tracker.restart(now.elapsed);
    }

    /// Count of transactions that are decided and not applied yet.
    pub(super) fn pending_len(&self) -> usize {
        self.pending
    }

    /// Count of syncs that wait for a majority's word.
    pub(super) fn pending_sync_len(&self) -> usize {
        self.confirmations.sync_len()
    }

    /// When each open session expires if it is not heard before.
    pub(super) fn session_deadlines(&self) -> impl Iterator<Item = (SessionId, Duration)> {
        self.tracker.deadlines()
    }

    pub(super) fn poll_timeout(&self) -> Option<Duration> {
        let reaping = self.reaper.poll_timeout();
        let expiring = self.tracker.poll_timeout();
        Some(expiring.map_or(reaping, |expiring| expiring.min(reaping)))
    }

    /// Whether nothing of the epoch was lost before this request, and it is not too many.
    pub(super) fn is_next(&mut self, from: NodeId, epoch: RequestId, request: RequestId) -> bool {
        let stream = self.streams.entry(from).or_insert(Stream {
            epoch,
            next: epoch,
            pending: 0,
        });
        let expected = match stream.epoch == epoch {
            true => stream.next,
            false => epoch,
        };
        // A member that keeps to its own bound stays far below this one. What comes behind is not next any more.
        let is_next = request == expected && stream.pending < FORWARDS_MAX;
        if is_next {
            stream.epoch = epoch;
            stream.next = request.next();
            stream.pending += 1;
        }
        is_next
    }

    /// A request of a member is answered, or applied.
    pub(super) fn done(&mut self, node: NodeId) {
        if let Some(stream) = self.streams.get_mut(&node) {
            stream.pending = stream.pending.saturating_sub(1);
        }
    }

    /// Decides what a client of any member asks for.
    pub(super) fn ask(
        &mut self,
        state: &State,
        now: Now,
        asking: Asking<'_>,
        ask: &Ask,
        actions: &mut Vec<Action>,
    ) -> Decision {
        let decided = match ask {
            Ask::CreateSession {
                password,
                timeout_ms,
            } => Ok(self.create_session(now, asking, *password, *timeout_ms, actions)),
            Ask::ResumeSession {
                password,
                timeout_ms,
            } => Ok(self.resume_session(state, now, asking, (password, *timeout_ms), actions)),
            _ => self.ask_in_session(state, now, asking, ask, actions),
        };
        decided
            .unwrap_or_else(|error| self.settled(asking.origin, Outcome::Refused(error), actions))
    }

    fn ask_in_session(
        &mut self,
        state: &State,
        now: Now,
        asking: Asking<'_>,
        ask: &Ask,
        actions: &mut Vec<Action>,
    ) -> Result<Decision, OpError> {
        let Asking {
            origin,
            session,
            claim,
            ..
        } = asking;
        self.tracker
            .touch(session, claim, self.heard_at(origin.node, now))?;
        match ask {
            Ask::Write(write) => {
                let decided = self.write(state, now, asking, std::slice::from_ref(write), actions);
                decided.map_err(|refused| refused.error)?;
            }
            Ask::Multi(writes) => {
                if let Err(refused) = self.write(state, now, asking, writes, actions) {
                    let outcome = Outcome::MultiRefused {
                        at: refused.at as u32,
                        error: refused.error,
                    };
                    return Ok(self.settled(origin, outcome, actions));
                }
            }
            Ask::Reconfig(reconfig) => {
                self.reconfig(state, asking, reconfig, actions)?;
                return Ok(Decision::Unconfirmed);
            }
            Ask::Sync => {
                self.confirmations
                    .add(origin, self.newest, Outcome::Synced, actions);
                return Ok(Decision::Unconfirmed);
            }
            Ask::CloseSession => self.close_session(state, now, session, Some(origin), actions),
            Ask::CreateSession { .. } | Ask::ResumeSession { .. } => {
                return Err(OpError::BadArguments);
            }
        }
        Ok(Decision::Proposed)
    }

    /// An answer without a transaction. A majority has to be asked whether this member still leads, unless there is none
    /// but this member. Where the answer rests on a transaction on its way, its commit does not show it: a majority may
    /// have taken that one long ago, and another leader since.
    fn settled(&mut self, origin: Origin, outcome: Outcome, actions: &mut Vec<Action>) -> Decision {
        let after = self.newest;
        if self.members.is_empty() {
            return Decision::Settled { after, outcome };
        }
        self.confirmations.add(origin, after, outcome, actions);
        Decision::Unconfirmed
    }

    /// Decides and proposes writes that happen together or not at all.
    fn write(
        &mut self,
        state: &State,
        now: Now,
        asking: Asking<'_>,
        writes: &[Write],
        actions: &mut Vec<Action>,
    ) -> Result<(), MultiError> {
        let asker = Asker {
            session: asking.session,
            identities: asking.identities,
        };
        let zxid = self.next_zxid();
        let decided = self
            .outstanding
            .decide(state, asker, zxid, now.wall_ms, writes);
        let txn = Txn {
            origin: Some(asking.origin),
            ..decided?
        };
        self.propose(txn, actions);
        Ok(())
    }

    fn create_session(
        &mut self,
        now: Now,
        asking: Asking<'_>,
        password: [u8; PASSWORD_LEN],
        timeout_ms: u32,
        actions: &mut Vec<Action>,
    ) -> Decision {
        let session = self.new_session_id(now);
        let (claim, heard) = (self.next_zxid(), self.heard_at(asking.origin.node, now));
        self.tracker.track(session, timeout_ms, claim, heard);
        let txn = self
            .outstanding
            .decide_open(session, password, timeout_ms, now.wall_ms);
        let origin = Some(asking.origin);
        self.propose(Txn { origin, ..txn }, actions);
        Decision::Proposed
    }

    /// Gives a session to whoever shows its password. What it wrote on its former connection is visible to it on this one,
    /// for it comes before this transaction, and nothing comes behind it from there.
    fn resume_session(
        &mut self,
        state: &State,
        now: Now,
        asking: Asking<'_>,
        (password, timeout_ms): (&[u8; PASSWORD_LEN], u32),
        actions: &mut Vec<Action>,
    ) -> Decision {
        let session = asking.session;
        let known = self.outstanding.password(state, session);
        if !self.tracker.is_open(session)
            || known.is_none_or(|known| !bool::from(known.ct_eq(password)))
        {
            return self.settled(asking.origin, Outcome::Expired, actions);
        }
        let (claim, heard) = (self.next_zxid(), self.heard_at(asking.origin.node, now));
        self.tracker.track(session, timeout_ms, claim, heard);
        let txn = Txn {
            session,
            time_ms: now.wall_ms,
            origin: Some(asking.origin),
            change: Change::ResumeSession { timeout_ms },
        };
        self.propose(txn, actions);
        Decision::Proposed
    }

    /// Above every id ever given out, and by the clock where that is higher: unique across restarts either way.
    fn new_session_id(&mut self, now: Now) -> SessionId {
        let by_clock = (now.wall_ms & 0xff_ffff_ffff) << 16;
        let id = SessionId(by_clock.max(self.last_session.0.saturating_add(1)));
        self.last_session = id;
        id
    }

    /// Decides and proposes a session's end.
    fn close_session(
        &mut self,
        state: &State,
        now: Now,
        session: SessionId,
        origin: Option<Origin>,
        actions: &mut Vec<Action>,
    ) {
        self.tracker.forget(session);
        let zxid = self.next_zxid();
        let txn = self
            .outstanding
            .decide_close(state, session, zxid, now.wall_ms);
        self.propose(Txn { origin, ..txn }, actions);
    }

    /// Ends the sessions that were not heard for too long.
    pub(super) fn expire(&mut self, state: &State, now: Now, actions: &mut Vec<Action>) {
        for session in self.tracker.expire(now.elapsed) {
            self.close_session(state, now, session, None, actions);
        }
    }

    /// Removes the containers and the znodes past their time to live whose turn it is.
    pub(super) fn reap(&mut self, state: &State, now: Now, actions: &mut Vec<Action>) {
        while let Some(path) = self.reaper.next(now, &state.tree) {
            let zxid = self.next_zxid();
            let decided = self
                .outstanding
                .decide_delete_container(state, &path, zxid, now.wall_ms);
            // One that is in use again, or is changed just now, is looked at another time.
            if let Ok(txn) = decided {
                self.propose(txn, actions);
            }
        }
    }

    /// A client of this very member was heard.
    pub(super) fn heard(&mut self, touch: Touch, now: Now) {
        self.touched(self.node, &[touch], now);
    }

    /// A member's clients were heard.
    pub(super) fn touched(&mut self, from: NodeId, touches: &[Touch], now: Now) {
        let heard = self.heard_at(from, now);
        for touch in touches {
            // A client whose session is gone or has moved is told so by other means.
            let _ = self.tracker.touch(touch.session, touch.claim, heard);
        }
    }

    /// Another member tells of the next sign of life only after a while, which must not cost the session its life.
    fn heard_at(&self, node: NodeId, now: Now) -> Duration {
        if node == self.node {
            now.elapsed
        } else {
            now.elapsed + TOUCH_INTERVAL
        }
    }

    /// The number of the next transaction to be decided.
    pub(super) fn next_zxid(&self) -> Zxid {
        self.last_proposed.next()
    }

    pub(super) fn propose(&mut self, txn: Txn, actions: &mut Vec<Action>) {
        let zxid = self.next_zxid();
        self.last_proposed = zxid;
        self.newest = zxid;
        self.pending += 1;
        let txn = Arc::new(txn);
        let term = self.term;
        actions.push(Action::Append { term, zxid, txn });
    }

    /// A transaction was applied.
    pub(super) fn applied(&mut self, zxid: Zxid, txn: &Txn) {
        if let Some(origin) = txn.origin {
            self.done(origin.node);
        }
        self.outstanding.applied(zxid, txn);
        self.last_applied = zxid;
        self.pending = self.pending.saturating_sub(1);
    }

    /// Whether it is the oldest of those that this leader decided and that are not applied: only they can be committed
    /// while it leads.
    pub(super) fn expects(&self, zxid: Zxid) -> bool {
        self.pending > 0 && zxid == self.last_applied.next()
    }
}
