//! A member of an ensemble: takes events, decides, and says what is to be done.
//!
//! Every member serves its clients' reads from the state that it has applied. Whatever takes a decision is asked of the
//! leader: at once where this member leads, through [`Forward`](crate::Forward) elsewhere. What is decided comes back to
//! all members as committed transactions; the one whose client asked answers.

mod confirmations;
mod connection;
mod event;
mod inspect;
mod leader;
mod membership;
mod queue;
mod read;
mod requests;
mod role;
mod sessions;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::origin::RequestId;
use crate::state::{Applied, ApplyError, State};
use crate::txn::{Change, Txn};
use crate::watch::Watches;
use crate::zxid::{SessionId, Zxid};
use connection::{Connection, Wish};
pub use event::{
    Action, CloseReason, Connect, ConnectionId, Event, Members, MembershipRefusal, Now,
    SessionLimits, Settings,
};
pub use inspect::Standing;
pub use membership::ReconfigRules;
use role::Role;

/// The whole of coord, but for its sockets, its disk, its clock and Raft.
#[derive(Debug)]
pub struct Coordinator {
    settings: Settings,
    state: State,
    role: Role,
    /// How often this member has led.
    leaderships: u32,
    members: Members,
    connections: HashMap<ConnectionId, Connection>,
    by_session: HashMap<SessionId, ConnectionId>,
    watches: Watches,
    /// The number of the next request to the leader.
    next_request: RequestId,
    /// The first request since the way to the leader last changed.
    epoch: RequestId,
    /// Who waits for what was asked of the leader.
    asked: HashMap<RequestId, ConnectionId>,
    /// Connections whose queue begins with an answer that waits for this zxid.
    waiting: BTreeSet<(Zxid, ConnectionId)>,
    /// Whom the leader is to be told of, and when.
    touched: Vec<ConnectionId>,
    touch_due: Option<Duration>,
}

impl Coordinator {
    /// Takes up its work on a recovered state, without a leader yet.
    pub fn new(settings: Settings, state: State, now: Now) -> Coordinator {
        Coordinator {
            settings,
            state,
            role: Role::leaderless(now.elapsed),
            leaderships: 0,
            members: Members::new(),
            connections: HashMap::new(),
            by_session: HashMap::new(),
            watches: Watches::default(),
            next_request: settings.first_request,
            epoch: settings.first_request,
            asked: HashMap::new(),
            waiting: BTreeSet::new(),
            touched: Vec::new(),
            touch_due: None,
        }
    }

    /// The applied state.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The members of the ensemble, as far as this one knows.
    pub fn members(&self) -> &Members {
        &self.members
    }

    /// Count of requests on their way to a decision and back: those of this member's clients, or where it leads all that
    /// it has decided, if that is more.
    pub fn pending_len(&self) -> usize {
        match &self.role {
            Role::Leading(leader) => leader.pending_len().max(self.asked.len()),
            _ => self.asked.len(),
        }
    }

    /// Count of watches.
    pub fn watch_len(&self) -> usize {
        self.watches.len()
    }

    /// Count of connections that have, or are about to have, a session.
    pub fn connection_len(&self) -> usize {
        self.connections.len()
    }

    /// When to send [`Event::Timeout`], if nothing else happens before.
    pub fn poll_timeout(&self) -> Option<Duration> {
        match &self.role {
            Role::Leading(leader) => leader.poll_timeout(),
            Role::Following { .. } => self.touch_due,
            Role::Leaderless { .. } => self.grace_ends(),
            Role::Removed => None,
        }
    }

    /// Takes one event and adds what is to be done to `actions`. An error means that a committed transaction does not fit
    /// the state: nothing can be trusted any more, and the process has to end.
    pub fn handle(
        &mut self,
        now: Now,
        event: Event,
        actions: &mut Vec<Action>,
    ) -> Result<(), ApplyError> {
        match event {
            Event::Connect(connect) => self.connect(now, connect, actions),
            Event::Request {
                connection,
                xid,
                request,
            } => self.request(now, connection, xid, request, actions),
            Event::Heard { connection } => self.heard(now, connection),
            Event::Disconnected { connection } => self.drop_connection(connection),
            Event::Leading { term } => self.lead(now, term, actions),
            Event::Following { term, leader } => self.follow(now, term, leader, actions),
            Event::Leaderless => self.lose_leader(now, actions),
            Event::Removed => self.be_removed(actions),
            Event::QuorumLost => self.lose_quorum(now),
            Event::Committed { txns } => {
                for (zxid, txn) in txns {
                    self.apply(now, zxid, &txn, actions)?;
                }
            }
            Event::Installed(state) => self.install(*state, actions),
            Event::Forwarded { from, forward } => self.forwarded(now, from, forward, actions),
            Event::Answered(answer) => self.answered(now, answer, actions),
            Event::ForwardLost => self.forward_lost(actions),
            Event::LeadershipConfirmed { token } => self.confirmed(now, token, true, actions),
            Event::LeadershipLost { token } => self.confirmed(now, token, false, actions),
            Event::MembershipChanged { members } => self.membership_changed(now, members, actions),
            Event::ReconfigDone { token } => self.reconfig_done(now, token, actions),
            Event::ReconfigRefused { token, refusal } => {
                self.reconfig_refused(now, token, refusal, actions);
            }
            Event::Timeout => self.timeout(now, actions),
        }
        Ok(())
    }

    fn timeout(&mut self, now: Now, actions: &mut Vec<Action>) {
        match &mut self.role {
            Role::Leading(leader) => {
                leader.expire(&self.state, now, actions);
                leader.reap(&self.state, now, actions);
            }
            Role::Following { .. } => self.pass_on_touches(now, actions),
            Role::Leaderless { .. } => self.end_grace(now, actions),
            Role::Removed => {}
        }
    }

    /// Applies one committed transaction: its watch events first, then the answers and reads that waited for it.
    fn apply(
        &mut self,
        now: Now,
        zxid: Zxid,
        txn: &Arc<Txn>,
        actions: &mut Vec<Action>,
    ) -> Result<(), ApplyError> {
        // Whoever leads by now decided this one; what this member knows of its leader is old.
        if !self.role.expects(zxid, self.state.last_zxid) {
            self.lose_leader(now, actions);
        }
        let Applied { results, events } = self.state.apply(zxid, txn)?;
        if let Some(leader) = self.role.leader() {
            leader.applied(zxid, txn);
        }
        self.notify(zxid, events, actions);
        if let Change::ResumeSession { .. } = txn.change
            && let Some(&former) = self.by_session.get(&txn.session)
        {
            self.close(former, CloseReason::SessionMoved, actions);
        }
        if let Some(origin) = txn.origin
            && origin.node == self.settings.node
        {
            let answer = |wish: Wish| wish.granted(txn.session, zxid, results);
            self.settle(now, origin.request, zxid, answer, actions);
        }
        while let Some(&(after, connection)) = self.waiting.first()
            && after <= zxid
        {
            self.waiting.pop_first();
            self.drain(now, connection, actions);
        }
        if let Change::CloseSession = txn.change
            && let Some(&connection) = self.by_session.get(&txn.session)
        {
            self.close(connection, CloseReason::SessionEnded, actions);
        }
        Ok(())
    }
}
