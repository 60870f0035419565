//! Who leads, and what becomes of the clients while nobody does.

use std::time::Duration;

use super::leader::Leader;
use super::{Action, CloseReason, ConnectionId, Coordinator, Now};
use crate::state::State;
use crate::zxid::{NodeId, Zxid};

/// What this member is.
#[derive(Debug)]
pub(super) enum Role {
    Leading(Box<Leader>),
    Following {
        term: u32,
        leader: NodeId,
    },
    /// It may be cut off, and what it has applied may be old.
    Leaderless {
        since: Duration,
        /// The grace is over: clients were dropped, and none is taken, but for those content with reads.
        over: bool,
        /// It leads, but for the majority: what it decided may come to be yet.
        suspended: Option<Box<Leader>>,
    },
    /// The ensemble goes on without it, and what it has applied grows old: no client is served.
    Removed,
}

impl Role {
    pub(super) fn leaderless(since: Duration) -> Role {
        Role::Leaderless {
            since,
            over: false,
            suspended: None,
        }
    }

    /// Whether the next transaction can be this one, if who leads is who this member takes for it. `last` was applied
    /// before it.
    pub(super) fn expects(&self, zxid: Zxid, last: Zxid) -> bool {
        match self {
            Role::Leading(leader) => leader.expects(zxid),
            // A term of very many transactions goes on with the numbers of the next.
            Role::Following { term, .. } => zxid.term() <= *term || zxid == last.next(),
            Role::Leaderless { suspended, .. } => {
                suspended.as_ref().is_none_or(|leader| leader.expects(zxid))
            }
            Role::Removed => true,
        }
    }

    /// What this member decides by, if it leads, also where no majority has answered it of late.
    pub(super) fn leader(&mut self) -> Option<&mut Leader> {
        match self {
            Role::Leading(leader) => Some(leader),
            Role::Leaderless { suspended, .. } => suspended.as_deref_mut(),
            Role::Following { .. } | Role::Removed => None,
        }
    }
}

impl Coordinator {
    pub(super) fn lead(&mut self, now: Now, term: u32, actions: &mut Vec<Action>) {
        if let Role::Leaderless { suspended, .. } = &mut self.role
            && let Some(mut leader) = suspended.take_if(|leader| leader.term() == term)
        {
            leader.resume(now);
            self.role = Role::Leading(leader);
            // It may have heard of other members meanwhile.
            self.show_membership(now, actions);
            return self.back_in_touch(now, actions);
        }
        self.lose_way_to_leader(actions);
        self.leaderships = self.leaderships.wrapping_add(1);
        let leader = Leader::new(&self.settings, term, self.leaderships, &self.state, now);
        self.role = Role::Leading(Box::new(leader));
        self.show_membership(now, actions);
        self.back_in_touch(now, actions);
    }

    pub(super) fn follow(
        &mut self,
        now: Now,
        term: u32,
        leader: NodeId,
        actions: &mut Vec<Action>,
    ) {
        if matches!(self.role, Role::Following { term: known, leader: same } if known == term && same == leader)
        {
            return;
        }
        self.lose_way_to_leader(actions);
        self.role = Role::Following { term, leader };
        self.back_in_touch(now, actions);
    }

    pub(super) fn lose_leader(&mut self, now: Now, actions: &mut Vec<Action>) {
        match &mut self.role {
            Role::Leaderless {
                suspended: None, ..
            } => {}
            Role::Leaderless { suspended, .. } => {
                *suspended = None;
                self.lose_way_to_leader(actions);
            }
            Role::Leading(_) | Role::Following { .. } | Role::Removed => {
                self.lose_way_to_leader(actions);
                self.role = Role::leaderless(now.elapsed);
            }
        }
    }

    /// This member was removed from the ensemble, or is about to be: nobody waits for it to come back.
    pub(super) fn be_removed(&mut self, actions: &mut Vec<Action>) {
        self.lose_way_to_leader(actions);
        self.role = Role::Removed;
        for id in self.connection_ids() {
            self.close(id, CloseReason::Removed, actions);
        }
    }

    /// This member leads, but no majority has answered it of late. Whose requests wait for it wait on for the grace.
    pub(super) fn lose_quorum(&mut self, now: Now) {
        let leaderless = Role::leaderless(now.elapsed);
        match std::mem::replace(&mut self.role, leaderless) {
            Role::Leading(leader) => {
                if let Role::Leaderless { suspended, .. } = &mut self.role {
                    *suspended = Some(leader);
                }
            }
            role => self.role = role,
        }
    }

    /// The way to the leader broke, but it leads still.
    pub(super) fn forward_lost(&mut self, actions: &mut Vec<Action>) {
        if let Role::Following { .. } = self.role {
            self.lose_way_to_leader(actions);
        }
    }

    /// Closes every connection to which an answer is due that may never come, or rests on what may never be applied.
    fn lose_way_to_leader(&mut self, actions: &mut Vec<Action>) {
        let last_zxid = self.state.last_zxid;
        for id in self.connection_ids() {
            let connection = self.connections.get(&id);
            if connection.is_some_and(|connection| connection.rests_on_the_lost(last_zxid)) {
                self.close(id, CloseReason::OutcomeUnknown, actions);
            }
        }
        self.epoch = self.next_request;
    }

    /// There is a leader: read-only clients go and find theirs, the others' requests that were held back go to it.
    fn back_in_touch(&mut self, now: Now, actions: &mut Vec<Action>) {
        for id in self.connection_ids() {
            if self
                .connections
                .get(&id)
                .is_some_and(|connection| connection.read_only)
            {
                self.close(id, CloseReason::QuorumRegained, actions);
            } else {
                self.release(now, id, actions);
                self.drain(now, id, actions);
            }
        }
    }

    /// In an order that does not depend on where they lie in memory.
    pub(super) fn connection_ids(&self) -> Vec<ConnectionId> {
        let mut ids: Vec<ConnectionId> = self.connections.keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    pub(super) fn grace_ends(&self) -> Option<Duration> {
        match self.role {
            Role::Leaderless {
                since, over: false, ..
            } => Some(since + self.settings.leaderless_grace),
            _ => None,
        }
    }

    /// Drops all clients once the grace is over: what they read here may be old.
    pub(super) fn end_grace(&mut self, now: Now, actions: &mut Vec<Action>) {
        if self.grace_ends().is_none_or(|ends| ends > now.elapsed) {
            return;
        }
        if let Role::Leaderless { over, .. } = &mut self.role {
            *over = true;
        }
        for id in self.connection_ids() {
            self.close(id, CloseReason::NoQuorum, actions);
        }
    }

    /// The leader's snapshot takes the place of the state.
    pub(super) fn install(&mut self, state: State, actions: &mut Vec<Action>) {
        self.state = state;
        for id in self.connection_ids() {
            self.close(id, CloseReason::SnapshotInstalled, actions);
        }
    }
}
