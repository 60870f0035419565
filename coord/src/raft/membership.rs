//! Changes of who belongs to the ensemble: first new members follow and catch up, then the voters change in joint steps,
//! and who left is forgotten with the last of them.
//!
//! Each member's spec says from the beginning of a change what it is to be, except that an observer remains one until it
//! votes: should the change be given up, it still belongs to the ensemble. What a member is until then follows from who
//! votes: see [`members`].
//!
//! Whoever is to vote no more never gets the entry that says so, and does not write it as the leader either: it might be the
//! only one that has it, whose log all others are behind, and openraft lets only those stand who vote by their own log. So
//! those who stay as observers leave and come back, and a leader that is to vote no more ends its leadership in the midst of
//! the change, which the next one brings to its end.

use std::collections::BTreeSet;
use std::sync::Arc;

use coord_core::{Members, NodeId, ServerRole};
use openraft::error::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::{ChangeMembers, LogIdOptionExt};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::event::{MembershipError, RaftEvent, Role};
use super::forward::Answers;
use super::member::{DataMetrics, Engine, Member, ServerMetrics, is_quorum};
use super::types::Membership;

/// A member has caught up when it is not further behind than so many entries.
const CAUGHT_UP: u64 = 64;

/// The whole list that is to be.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) token: u64,
    pub(super) servers: Members,
}

/// The task that makes changes, one at a time.
pub(super) struct Changer {
    pub(super) member: Arc<Member>,
    pub(super) raft: Engine,
    pub(super) events: mpsc::Sender<RaftEvent>,
    pub(super) server: watch::Receiver<ServerMetrics>,
    pub(super) data: watch::Receiver<DataMetrics>,
    pub(super) role: watch::Receiver<Role>,
    pub(super) answers: Answers,
}

type WriteError = RaftError<NodeId, ClientWriteError<NodeId, coord_core::ServerSpec>>;

/// The members as they are shown: who votes is a participant, whatever it is to be, and a new one that is to vote and does
/// not yet is none. As long as the voters change from some to others, those from before the change count.
pub(super) fn members(membership: &Membership) -> Members {
    let voters = membership.get_joint_config().first();
    let is_voter = |node: &NodeId| voters.is_some_and(|voters| voters.contains(node));
    let mut members = listed(membership);
    members.retain(|node, server| is_voter(node) || server.role == ServerRole::Observer);
    for (node, server) in &mut members {
        if is_voter(node) {
            server.role = ServerRole::Participant;
        }
    }
    members
}

/// All that follow the log, each as what it is to be.
fn listed(membership: &Membership) -> Members {
    let nodes = membership.nodes();
    nodes
        .map(|(node, server)| (*node, server.clone()))
        .collect()
}

/// Whether the votes of `node` count when the change that is under way has ended.
pub(super) fn will_vote(membership: &Membership, node: NodeId) -> bool {
    let voters = membership.get_joint_config().last();
    voters.is_some_and(|voters| voters.contains(&node))
}

/// Whether `node` votes until the change that is under way has ended, and is no member then. Who stays as an observer has
/// the role of one from the change's beginning, and who is new has not voted yet.
pub(super) fn is_leaving(membership: &Membership, node: NodeId) -> bool {
    last_vote_as(membership, node, ServerRole::Participant)
}

/// Whether `node` votes until the change that is under way has ended, and observes then.
pub(super) fn becomes_observer(membership: &Membership, node: NodeId) -> bool {
    last_vote_as(membership, node, ServerRole::Observer)
}

fn last_vote_as(membership: &Membership, node: NodeId, role: ServerRole) -> bool {
    let server = membership.get_node(&node);
    server.is_some_and(|server| server.role == role)
        && membership.voter_ids().any(|voter| voter == node)
        && !will_vote(membership, node)
}

/// Whether the ensemble does without `node`, by a leader's log. A member cannot tell by its own that it is not listed: one
/// that joins has the log of before it was, until it has caught up.
pub(super) fn is_removed(membership: &Membership, node: NodeId) -> bool {
    let is_listed = membership.get_node(&node).is_some();
    is_leaving(membership, node) || !is_listed && membership.nodes().next().is_some()
}

/// The place in the log behind the entry that made the membership what it is.
fn membership_since(metrics: &ServerMetrics) -> u64 {
    metrics.membership_config.log_id().next_index()
}

fn refusal(error: &WriteError) -> MembershipError {
    match error {
        RaftError::APIError(ClientWriteError::ChangeMembershipError(
            ChangeMembershipError::InProgress(_),
        )) => MembershipError::InProgress,
        RaftError::APIError(ClientWriteError::ChangeMembershipError(
            ChangeMembershipError::EmptyMembership(_),
        )) => MembershipError::NoParticipant,
        RaftError::APIError(ClientWriteError::ChangeMembershipError(
            ChangeMembershipError::LearnerNotFound(error),
        )) => MembershipError::NotCaughtUp(error.node_id),
        _ => MembershipError::NotLeader,
    }
}

impl Changer {
    /// Until the node is gone or openraft ends.
    pub(super) async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Change>) {
        loop {
            tokio::select! {
                biased;
                changed = self.role.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let leads = matches!(*self.role.borrow_and_update(), Role::Leader { .. });
                    if leads && let Err(error) = self.take_over().await {
                        tracing::debug!("the members are left as they are: {error}");
                    }
                }
                change = inbox.recv() => {
                    let Some(Change { token, servers }) = change else { return };
                    let event = match self.change(servers).await {
                        Ok(()) => RaftEvent::MembershipChanged { token },
                        Err(error) => RaftEvent::MembershipRefused { token, error },
                    };
                    if self.events.send(event).await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// Ends what a former leader has begun, and has the observers of the static list follow once there is a leader: an
    /// ensemble is founded by its participants.
    async fn take_over(&self) -> Result<(), MembershipError> {
        let term = self.term()?;
        let membership = self.membership();
        let mut servers = listed(&membership);
        servers.retain(|node, server| {
            let votes = will_vote(&membership, *node);
            if votes {
                server.role = ServerRole::Participant;
            }
            votes || server.role == ServerRole::Observer
        });
        let voters = membership.get_joint_config().last();
        self.vote_by(term, voters.cloned().unwrap_or_default())
            .await?;
        // From the first change on the log alone says who belongs to it.
        if membership_since(&self.server.borrow()) == 1 {
            let mut observers = self.member.settings.servers.clone();
            observers.retain(|_, server| server.role == ServerRole::Observer);
            servers.extend(observers);
        }
        self.list(term, servers).await
    }

    async fn change(&self, servers: Members) -> Result<(), MembershipError> {
        let term = self.term()?;
        let participates = |node: &NodeId| {
            let server = servers.get(node);
            server.is_some_and(|server| server.role == ServerRole::Participant)
        };
        let voters: BTreeSet<NodeId> = servers.keys().copied().filter(participates).collect();
        if voters.is_empty() {
            return Err(MembershipError::NoParticipant);
        }
        let membership = self.membership();
        let before = listed(&membership);
        let voted: BTreeSet<NodeId> = membership.voter_ids().collect();
        // Observers leave at once, voters are there until they have left. A member at another address is the same one with
        // the same log, so no quorum is at risk.
        let mut meanwhile = servers.clone();
        for (node, server) in &before {
            match meanwhile.get_mut(node) {
                Some(to_be) if !voted.contains(node) && server.role == ServerRole::Observer => {
                    to_be.role = ServerRole::Observer;
                }
                None if voted.contains(node) => drop(meanwhile.insert(*node, server.clone())),
                _ => {}
            }
        }
        self.list(term, meanwhile).await?;
        if let Err(error) = self.await_quorum(term, &voters, &voted).await {
            self.list(term, before).await?;
            return Err(error);
        }
        if !voters.contains(&self.member.node()) {
            return Err(self.leave_to_the_next(term, voters).await);
        }
        self.vote_by(term, voters).await?;
        self.list(term, servers).await
    }

    fn membership(&self) -> Membership {
        let metrics = self.server.borrow();
        metrics.membership_config.membership().clone()
    }

    /// The term that this member leads in, unless it is about to end its leadership.
    fn term(&self) -> Result<u64, MembershipError> {
        let metrics = self.server.borrow();
        let membership = metrics.membership_config.membership();
        match metrics.state.is_leader() && will_vote(membership, self.member.node()) {
            true => Ok(metrics.vote.leader_id.term),
            false => Err(MembershipError::NotLeader),
        }
    }

    /// Has these follow the log, and nobody else. Those who vote have to be among them.
    async fn list(&self, term: u64, servers: Members) -> Result<(), MembershipError> {
        if listed(&self.membership()) == servers {
            return Ok(());
        }
        self.submit(term, ChangeMembers::ReplaceAllNodes(servers))
            .await
    }

    /// Has `voters` vote and nobody else; who voted before does not even follow.
    async fn vote_by(&self, term: u64, voters: BTreeSet<NodeId>) -> Result<(), MembershipError> {
        match self.membership().get_joint_config().as_slice() {
            [now] if *now == voters => Ok(()),
            _ => {
                self.submit(term, ChangeMembers::ReplaceAllVoters(voters))
                    .await
            }
        }
    }

    /// The first half of a change after which this leader does not vote. It knows that it is over: see `roles.rs`. The next
    /// one does the other half.
    async fn leave_to_the_next(&self, term: u64, voters: BTreeSet<NodeId>) -> MembershipError {
        let mut server = self.server.clone();
        let begun = |metrics: &ServerMetrics| {
            metrics
                .membership_config
                .membership()
                .get_joint_config()
                .len()
                > 1
        };
        let change = ChangeMembers::ReplaceAllVoters(voters);
        tokio::select! {
            biased;
            // openraft would go on with the other half by itself. This is known as soon as the first half is in the log, and
            // looked at before openraft can be told that it is committed.
            begun = server.wait_for(begun) => {
                if begun.is_err() {
                    return MembershipError::NotLeader;
                }
            }
            done = self.submit(term, change) => match done {
                Ok(()) => return MembershipError::NotLeader,
                Err(error) => return error,
            },
        }
        let deposed = |metrics: &ServerMetrics| {
            !metrics.state.is_leader() || metrics.vote.leader_id.term != term
        };
        // An error says that openraft has ended, and its leadership with it.
        let _ = server.wait_for(deposed).await;
        MembershipError::NotLeader
    }

    /// One change by the leader of `term`, which is committed and applied when this returns.
    async fn submit(
        &self,
        term: u64,
        change: ChangeMembers<NodeId, coord_core::ServerSpec>,
    ) -> Result<(), MembershipError> {
        // It may have led again since this began, on another log.
        if self.term()? != term {
            return Err(MembershipError::NotLeader);
        }
        let done = self.raft.change_membership(change, false).await;
        let done = done.map_err(|error| refusal(&error))?;
        // The metrics may be a moment behind, and the next step goes by them.
        let mut server = self.server.clone();
        let reached = |metrics: &ServerMetrics| membership_since(metrics) > done.log_id.index;
        let waited = server.wait_for(reached).await;
        waited.map(drop).map_err(|_| MembershipError::NotLeader)
    }

    /// Waits until those of `voters` who did not vote before have caught up, and a majority of all has a way to this leader.
    async fn await_quorum(
        &self,
        term: u64,
        voters: &BTreeSet<NodeId>,
        voted: &BTreeSet<NodeId>,
    ) -> Result<(), MembershipError> {
        let limit = Instant::now() + self.member.settings.init_timeout();
        while let Some(behind) = self.behind(voters, voted) {
            if self.term()? != term {
                return Err(MembershipError::NotLeader);
            }
            if Instant::now() >= limit {
                return Err(MembershipError::NotCaughtUp(behind));
            }
            tokio::time::sleep(self.member.settings.heartbeat()).await;
        }
        Ok(())
    }

    /// One that has to be waited for, if there is any.
    fn behind(&self, voters: &BTreeSet<NodeId>, voted: &BTreeSet<NodeId>) -> Option<NodeId> {
        let me = self.member.node();
        let mut connected = self.answers.connected();
        connected.insert(me);
        let data = self.data.borrow();
        let last = data.last_log.next_index();
        let caught_up = |node: &NodeId| {
            let matching = data.replication.as_ref()?.get(node).copied().flatten()?;
            Some(connected.contains(node) && last <= matching.index + CAUGHT_UP)
        };
        let mut new = voters.difference(voted).filter(|node| **node != me);
        if let Some(behind) = new.find(|node| caught_up(node) != Some(true)) {
            return Some(*behind);
        }
        match is_quorum([voters], &connected) {
            true => None,
            false => voters.difference(&connected).next().copied(),
        }
    }
}
