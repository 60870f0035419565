//! What the node is told about who leads.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use openraft::{RaftMetrics, ServerState};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::contact::Leader;
use super::event::{RaftEvent, Role};
use super::forward::{Leading, Way};
use super::member::{DataMetrics, Engine, Member, ServerMetrics};
use super::membership::{becomes_observer, is_leaving, will_vote};
use super::payload::{Begin, Content, Payload};

/// What openraft reports with each turn of its loop, whether it changed or not.
type Metrics = RaftMetrics<coord_core::NodeId, coord_core::ServerSpec>;

/// The task. It runs until openraft ends or the node is gone.
pub(super) struct Roles {
    pub(super) member: Arc<Member>,
    pub(super) raft: Engine,
    pub(super) events: mpsc::Sender<RaftEvent>,
    pub(super) server: watch::Receiver<ServerMetrics>,
    pub(super) data: watch::Receiver<DataMetrics>,
    /// Where what this node forwards goes.
    pub(super) way: watch::Receiver<Way>,
    pub(super) leading: watch::Sender<Leading>,
    pub(super) role: watch::Sender<Role>,
}

/// Notices that openraft's loop stands still, as it does while it waits for the disk: what it reported last grows old.
struct Pulse {
    metrics: watch::Receiver<Metrics>,
    at: Instant,
}

impl Pulse {
    fn beat(&mut self) {
        if self.metrics.has_changed().unwrap_or(false) {
            self.metrics.mark_unchanged();
            self.at = Instant::now();
        }
    }
}

/// A leader that is to vote no more leaves the rest of the change to the next: see `membership.rs`. openraft's leaders do not
/// step down by themselves, but this one falls silent, and supports whoever stands.
#[derive(Default)]
struct Abdication {
    since: Option<Instant>,
}

impl Abdication {
    /// Whether this leader is over. Until then what it has decided of late is given some time to come to be, and nothing that
    /// it sent is still on its way when its streams end.
    fn is_due(&mut self, roles: &Roles) -> bool {
        let goes = roles.goes();
        roles.raft.runtime_config().heartbeat(!goes);
        if !goes {
            self.since = None;
        } else if self.since.is_none() {
            self.since = Some(Instant::now());
        }
        let silence = roles.member.settings.heartbeat();
        let is_due = self.since.is_some_and(|since| since.elapsed() >= silence);
        roles.member.abdicates.store(is_due, Relaxed);
        is_due
    }
}

impl Roles {
    pub(super) async fn run(mut self) {
        let member = self.member.clone();
        let mut begun = member.outlook.begun.subscribe();
        let mut leader = member.contact.watch();
        let mut pulse = Pulse {
            metrics: self.raft.metrics(),
            at: Instant::now(),
        };
        let mut abdication = Abdication::default();
        let mut own = None;
        let mut told = None;
        loop {
            pulse.beat();
            let is_over = abdication.is_due(&self);
            let term = self.elected().filter(|_| !is_over);
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
            let heard = *leader.borrow_and_update();
            let way = *self.way.borrow_and_update();
            let has_quorum = self.has_quorum(&pulse);
            let role = match (term, begun_term) {
                (_, Some(term)) if has_quorum => Role::Leader { term },
                (_, Some(term)) => Role::QuorumLost { term },
                (Some(_), None) => Role::Leaderless,
                (None, None) if self.is_removed(way) => Role::Removed,
                (None, None) => self.following(heard, way),
            };
            // Its node first: what is forwarded must not overtake the news that it leads.
            let node_leads = begun_term.map(|term| Role::Leader { term });
            let node_leads = node_leads.is_some() && told == node_leads;
            self.lead(term.filter(|_| has_quorum), node_leads);
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
                changed = self.way.changed() => if changed.is_err() { return },
                // For what changes with time alone.
                () = tokio::time::sleep(member.settings.heartbeat()) => {}
            }
        }
    }

    /// Says whether what is forwarded to this member is heard: while it leads and a majority answers.
    fn lead(&self, term: Option<u32>, begun: bool) {
        self.leading.send_if_modified(|leading| {
            let stint = leading.stint + u64::from(leading.term != term);
            let now = Leading { stint, term, begun };
            let changed = *leading != now;
            *leading = now;
            changed
        });
    }

    /// The term that this member was elected in, if openraft takes it for the leader.
    fn elected(&mut self) -> Option<u32> {
        let metrics = self.server.borrow_and_update();
        let leads = metrics.state == ServerState::Leader
            && metrics.current_leader == Some(self.member.node());
        // A term beyond the numbers of zxids is not reached in the life of an ensemble.
        leads.then_some(metrics.vote.leader_id.term as u32)
    }

    /// Whether this member leads, and will not vote when the change that is under way has ended.
    fn goes(&self) -> bool {
        let metrics = self.server.borrow();
        let membership = &metrics.membership_config;
        let applied = self.data.borrow().last_applied;
        metrics.state == ServerState::Leader
            && *membership.log_id() <= applied
            && !will_vote(membership.membership(), self.member.node())
    }

    /// Whether the ensemble does without this member, or will, by its own log or by what a leader says. Its log counts before
    /// it is committed: the rest may never reach this member. Who becomes an observer is not listed for a moment, and a
    /// leader may say so.
    fn is_removed(&self, way: Way) -> bool {
        let metrics = self.server.borrow();
        let (membership, node) = (metrics.membership_config.membership(), self.member.node());
        is_leaving(membership, node) || way == Way::Removed && !becomes_observer(membership, node)
    }

    /// Whether a majority has answered this leader within the grace. Beyond it another may lead.
    fn has_quorum(&self, pulse: &Pulse) -> bool {
        let alone = {
            let metrics = self.server.borrow();
            let mut voters = metrics.membership_config.membership().voter_ids();
            voters.all(|voter| voter == self.member.node())
        };
        let silent = self.data.borrow().millis_since_quorum_ack;
        let silent = silent.map(|ms| Duration::from_millis(ms) + pulse.at.elapsed());
        alone || silent.is_none_or(|silent| silent <= self.member.settings.quorum_grace)
    }

    /// A member follows while it hears a leader that takes what it forwards. One without a majority does not, and what
    /// it says may be long out of date.
    fn following(&self, heard: Option<Leader>, way: Way) -> Role {
        match heard
            .filter(|leader| way == Way::Open(*leader) && self.member.contact.hears().is_some())
        {
            Some(leader) => Role::Follower {
                leader: leader.node,
                term: leader.term as u32,
            },
            None => Role::Leaderless,
        }
    }
}
