//! What the node is told about who leads.

use std::sync::Arc;

use openraft::ServerState;
use tokio::sync::{mpsc, watch};

use super::contact::Leader;
use super::event::{RaftEvent, Role};
use super::forward::Leading;
use super::member::{DataMetrics, Engine, Member, ServerMetrics};
use super::payload::{Begin, Content, Payload};

/// The task. It runs until openraft ends or the node is gone.
pub(super) struct Roles {
    pub(super) member: Arc<Member>,
    pub(super) raft: Engine,
    pub(super) events: mpsc::Sender<RaftEvent>,
    pub(super) server: watch::Receiver<ServerMetrics>,
    pub(super) data: watch::Receiver<DataMetrics>,
    pub(super) leading: watch::Sender<Option<Leading>>,
    pub(super) role: watch::Sender<Role>,
}

impl Roles {
    pub(super) async fn run(mut self) {
        let member = self.member.clone();
        let mut begun = member.outlook.begun.subscribe();
        let mut leader = member.contact.watch();
        let mut own = None;
        let mut told = None;
        loop {
            let term = self.elected();
            if let Some(term) = term
                && own.is_none_or(|own: Begin| own.term != term)
            {
                let begin = Begin {
                    term,
                    node: member.node(),
                    nonce: member.nonce(),
                };
                own = Some(begin);
                let payload = Payload::new(Content::Begin(begin));
                // Only a member that does not lead any more refuses it, and then its metrics will say so.
                if self.raft.client_write_ff(payload).await.is_err() {
                    return;
                }
            }
            let begun_term = term.filter(|_| own.is_some() && *begun.borrow_and_update() == own);
            let role = self.role(term.is_some(), begun_term, *leader.borrow_and_update());
            self.leading.send_if_modified(|leading| {
                let now = term.map(|term| Leading {
                    term: term.into(),
                    begun: begun_term.is_some(),
                });
                let changed = *leading != now;
                *leading = now;
                changed
            });
            if told != Some(role) {
                told = Some(role);
                self.role.send_replace(role);
                if self.events.send(RaftEvent::Role(role)).await.is_err() {
                    return;
                }
                continue;
            }
            tokio::select! {
                biased;
                changed = self.server.changed() => if changed.is_err() { return },
                changed = begun.changed() => if changed.is_err() { return },
                changed = leader.changed() => if changed.is_err() { return },
                // For what changes with time alone.
                () = tokio::time::sleep(member.settings.heartbeat()) => {}
            }
        }
    }

    /// The term that this member was elected in, if openraft takes it for the leader.
    fn elected(&mut self) -> Option<u32> {
        let metrics = self.server.borrow_and_update();
        let leads = metrics.state == ServerState::Leader
            && metrics.current_leader == Some(self.member.node());
        // A term beyond the numbers of zxids is not reached in the life of an ensemble.
        leads.then_some(metrics.vote.leader_id.term as u32)
    }

    fn role(&self, elected: bool, begun: Option<u32>, heard: Option<Leader>) -> Role {
        if let Some(term) = begun {
            let silent = self.data.borrow().millis_since_quorum_ack;
            let grace = self.member.settings.quorum_grace.as_millis() as u64;
            if silent.is_some_and(|silent| silent > grace) {
                return Role::QuorumLost { term };
            }
            return Role::Leader { term };
        }
        match heard.filter(|_| !elected && self.member.contact.hears().is_some()) {
            Some(leader) => Role::Follower {
                leader: leader.node,
                term: leader.term as u32,
            },
            None => Role::Leaderless,
        }
    }
}
