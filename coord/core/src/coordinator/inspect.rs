//! What an administrator may ask of a coordinator; nothing here changes anything.

use std::time::Duration;

use super::Coordinator;
use super::role::Role;
use crate::server_spec::ServerRole;
use crate::zxid::{NodeId, SessionId};

/// What a member is to its clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It leads.
    Leading,
    /// It follows a leader, and votes.
    Following(NodeId),
    /// It follows a leader, and does not vote.
    Observing(NodeId),
    /// It has no leader.
    Leaderless,
    /// It has had no leader for so long that it serves only those who are content with reads.
    ReadOnly,
    /// It was removed from the ensemble, and serves nobody.
    Removed,
}

impl Coordinator {
    /// What this member is.
    pub fn standing(&self) -> Standing {
        let me = self.members.get(&self.settings.node);
        match self.role {
            Role::Leading(_) => Standing::Leading,
            Role::Following { leader, .. } => match me {
                Some(me) if me.role == ServerRole::Observer => Standing::Observing(leader),
                _ => Standing::Following(leader),
            },
            Role::Leaderless { over: true, .. } if self.settings.read_only_mode => {
                Standing::ReadOnly
            }
            Role::Leaderless { .. } => Standing::Leaderless,
            Role::Removed => Standing::Removed,
        }
    }

    /// When each open session expires if it is not heard before, in no particular order; known where this member leads.
    pub fn session_deadlines(&self) -> Option<impl Iterator<Item = (SessionId, Duration)>> {
        match &self.role {
            Role::Leading(leader) => Some(leader.session_deadlines()),
            Role::Following { .. } | Role::Leaderless { .. } | Role::Removed => None,
        }
    }

    /// Count of syncs that wait for a majority's word; 0 where this member does not lead.
    pub fn pending_sync_len(&self) -> usize {
        match &self.role {
            Role::Leading(leader) => leader.pending_sync_len(),
            Role::Following { .. } | Role::Leaderless { .. } | Role::Removed => 0,
        }
    }
}
