//! Changes of who belongs to the ensemble: first new members follow and catch up, then the voters change in one joint
//! step, then who left is forgotten.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use coord_core::{NodeId, ServerRole, ServerSpec};
use openraft::error::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::{ChangeMembers, LogIdOptionExt};
use tokio::sync::{mpsc, watch};

use super::event::{MembershipError, RaftEvent};
use super::member::{DataMetrics, Engine, Member, ServerMetrics};
use super::types::Membership;

/// A new participant has so long to catch up with the log.
const CATCH_UP: Duration = Duration::from_secs(30);

/// It has caught up when it is not further behind than so many entries.
const CAUGHT_UP: u64 = 64;

/// The whole list that is to be.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) token: u64,
    pub(super) servers: BTreeMap<NodeId, ServerSpec>,
}

/// The task that makes changes, one at a time.
pub(super) struct Changer {
    pub(super) member: Arc<Member>,
    pub(super) raft: Engine,
    pub(super) events: mpsc::Sender<RaftEvent>,
    pub(super) server: watch::Receiver<ServerMetrics>,
    pub(super) data: watch::Receiver<DataMetrics>,
}

type WriteError = RaftError<NodeId, ClientWriteError<NodeId, ServerSpec>>;

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
    /// Until the node is gone.
    pub(super) async fn run(self, mut inbox: mpsc::UnboundedReceiver<Change>) {
        while let Some(Change { token, servers }) = inbox.recv().await {
            let event = match self.change(&servers).await {
                Ok(()) => RaftEvent::MembershipChanged { token },
                Err(error) => RaftEvent::MembershipRefused { token, error },
            };
            if self.events.send(event).await.is_err() {
                return;
            }
        }
    }

    async fn change(&self, servers: &BTreeMap<NodeId, ServerSpec>) -> Result<(), MembershipError> {
        let is_participant = |server: &ServerSpec| server.role == ServerRole::Participant;
        let voters: BTreeSet<NodeId> = servers
            .iter()
            .filter(|(_, server)| is_participant(server))
            .map(|(node, _)| *node)
            .collect();
        if voters.is_empty() {
            return Err(MembershipError::NoParticipant);
        }
        let before = self.membership();
        let known: BTreeMap<NodeId, ServerSpec> = before
            .nodes()
            .map(|(node, server)| (*node, server.clone()))
            .collect();
        let new: BTreeMap<NodeId, ServerSpec> = servers
            .iter()
            .filter(|(node, server)| known.get(node) != Some(server))
            .map(|(node, server)| (*node, server.clone()))
            .collect();
        // A member at another address is the same one with the same log, so no quorum is at risk.
        if !new.is_empty() {
            self.submit(ChangeMembers::SetNodes(new)).await?;
        }
        for voter in &voters {
            self.catch_up(*voter).await?;
        }
        if self.membership().voter_ids().collect::<BTreeSet<_>>() != voters {
            self.submit(ChangeMembers::ReplaceAllVoters(voters)).await?;
        }
        let gone: BTreeSet<NodeId> = known
            .into_keys()
            .filter(|node| !servers.contains_key(node))
            .collect();
        if !gone.is_empty() {
            self.submit(ChangeMembers::RemoveNodes(gone)).await?;
        }
        Ok(())
    }

    fn membership(&self) -> Membership {
        let metrics = self.server.borrow();
        metrics.membership_config.membership().clone()
    }

    /// One change, which is committed and applied when this returns. Who leaves the voters stays as a learner.
    async fn submit(
        &self,
        change: ChangeMembers<NodeId, ServerSpec>,
    ) -> Result<(), MembershipError> {
        let done = self.raft.change_membership(change, true).await;
        let done = done.map_err(|error| refusal(&error))?;
        // The metrics may be a moment behind, and the next step goes by them.
        let mut server = self.server.clone();
        let reached = |metrics: &ServerMetrics| {
            metrics.membership_config.log_id().next_index() > done.log_id.index
        };
        let waited = server.wait_for(reached).await;
        waited.map(drop).map_err(|_| MembershipError::NotLeader)
    }

    async fn catch_up(&self, voter: NodeId) -> Result<(), MembershipError> {
        if voter == self.member.node() || self.membership().voter_ids().any(|node| node == voter) {
            return Ok(());
        }
        let mut data = self.data.clone();
        let caught_up = |metrics: &DataMetrics| {
            let Some(replication) = &metrics.replication else {
                return true;
            };
            let matching = replication.get(&voter).copied().flatten();
            metrics.last_log.next_index() <= matching.next_index() + CAUGHT_UP
        };
        match tokio::time::timeout(CATCH_UP, data.wait_for(caught_up)).await {
            Ok(Ok(metrics)) if metrics.replication.is_some() => Ok(()),
            Ok(_) => Err(MembershipError::NotLeader),
            Err(_) => Err(MembershipError::NotCaughtUp(voter)),
        }
    }
}

/// The observers of the static list follow as soon as there is a leader: an ensemble is founded by its participants.
pub(super) async fn add_observers(member: &Member, raft: &Engine) {
    let observers: BTreeMap<NodeId, ServerSpec> = member
        .settings
        .servers
        .iter()
        .filter(|(_, server)| server.role == ServerRole::Observer)
        .map(|(node, server)| (*node, server.clone()))
        .collect();
    let metrics = raft.server_metrics().borrow().clone();
    // From the first change on the log alone says who belongs to it.
    let as_founded = metrics.membership_config.log_id().next_index() == 1;
    if as_founded
        && !observers.is_empty()
        && let Err(error) = raft
            .change_membership(ChangeMembers::AddNodes(observers), true)
            .await
    {
        tracing::debug!("the observers are not added by this leader: {error}");
    }
}
