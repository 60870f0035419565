//! Changes of who belongs to the ensemble: first new members follow and catch up, then the voters change in joint steps,
//! and who left is forgotten with the last of them.
//!
//! Each member's spec says from the beginning of a change what it is to be. What it is until then follows from who votes:
//! see [`members`].

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

/// The members as they are shown: who votes is a participant, whatever it is to be. As long as the voters change from some
/// to others, those from before the change count.
pub(super) fn members(membership: &Membership) -> Members {
    let voters = membership.get_joint_config().first();
    let is_voter = |node| voters.is_some_and(|voters| voters.contains(node));
    let mut members: Members = membership
        .nodes()
        .map(|(node, server)| (*node, server.clone()))
        .collect();
    for (node, server) in &mut members {
        server.role = match is_voter(node) {
            true => ServerRole::Participant,
            false => ServerRole::Observer,
        };
    }
    members
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
        let configs = membership.get_joint_config();
        if let [before, .., goal] = configs.as_slice() {
            // Of those who cease to vote, each such step has only such as stay or only such as leave.
            let stays = |node: &NodeId| {
                let server = membership.get_node(node);
                server.is_some_and(|server| server.role == ServerRole::Observer)
            };
            let retain = before.difference(goal).all(stays);
            return self.vote_by(term, goal.clone(), retain).await;
        }
        // From the first change on the log alone says who belongs to it.
        let since = self.server.borrow().membership_config.log_id().next_index();
        let mut observers = self.member.settings.servers.clone();
        observers.retain(|_, server| server.role == ServerRole::Observer);
        if since == 1 && !observers.is_empty() {
            self.submit(term, ChangeMembers::AddNodes(observers), true)
                .await?;
        }
        Ok(())
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
        let known: Members = membership
            .nodes()
            .map(|(node, server)| (*node, server.clone()))
            .collect();
        let voted: BTreeSet<NodeId> = membership.voter_ids().collect();
        // Observers leave at once, voters are there until they have left. A member at another address is the same one with
        // the same log, so no quorum is at risk.
        let mut listed = servers.clone();
        for (node, server) in &known {
            if voted.contains(node) && !listed.contains_key(node) {
                listed.insert(*node, server.clone());
            }
        }
        if listed != known {
            self.submit(term, ChangeMembers::ReplaceAllNodes(listed), true)
                .await?;
        }
        if let Err(error) = self.await_quorum(term, &voters, &voted).await {
            self.submit(term, ChangeMembers::ReplaceAllNodes(known), true)
                .await?;
            return Err(error);
        }
        let (observing, leaving): (BTreeSet<NodeId>, BTreeSet<NodeId>) = voted
            .difference(&voters)
            .partition(|node| servers.contains_key(node));
        // A leader that does not vote steps down, so that comes last.
        let first = match observing.contains(&self.member.node()) {
            true => (&leaving, &observing, false),
            false => (&observing, &leaving, true),
        };
        let (now, later, retain) = first;
        if !now.is_empty() && !later.is_empty() {
            self.vote_by(term, &voters | later, retain).await?;
            return self.vote_by(term, voters, !retain).await;
        }
        self.vote_by(term, voters, leaving.is_empty()).await
    }

    fn membership(&self) -> Membership {
        let metrics = self.server.borrow();
        metrics.membership_config.membership().clone()
    }

    /// The term that this member leads in.
    fn term(&self) -> Result<u64, MembershipError> {
        let metrics = self.server.borrow();
        match metrics.state.is_leader() {
            true => Ok(metrics.vote.leader_id.term),
            false => Err(MembershipError::NotLeader),
        }
    }

    /// Has `voters` vote and nobody else. Who voted before stays as an observer, or does not.
    async fn vote_by(
        &self,
        term: u64,
        voters: BTreeSet<NodeId>,
        retain: bool,
    ) -> Result<(), MembershipError> {
        let membership = self.membership();
        match membership.get_joint_config().as_slice() {
            [now] if *now == voters => Ok(()),
            _ => {
                let change = ChangeMembers::ReplaceAllVoters(voters);
                self.submit(term, change, retain).await
            }
        }
    }

    /// One change by the leader of `term`, which is committed and applied when this returns.
    async fn submit(
        &self,
        term: u64,
        change: ChangeMembers<NodeId, coord_core::ServerSpec>,
        retain: bool,
    ) -> Result<(), MembershipError> {
        // It may have led again since this began, on another log.
        if self.term()? != term {
            return Err(MembershipError::NotLeader);
        }
        let done = self.raft.change_membership(change, retain).await;
        let done = done.map_err(|error| refusal(&error))?;
        // The metrics may be a moment behind, and the next step goes by them.
        let mut server = self.server.clone();
        let reached = |metrics: &ServerMetrics| {
            metrics.membership_config.log_id().next_index() > done.log_id.index
        };
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
