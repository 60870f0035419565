//! When to stand for election. openraft's own timer is off: it draws its timeout once for a whole life, and knows nothing
//! of connections.
//!
//! - A leader that is not heard for the election timeout, up to twice that, is held for dead. Long, so that a stalled disk
//!   or a busy machine changes nothing.
//! - A leader whose process has ended is known to be dead from its broken connections; then it takes a fraction of a second.
//! - Nobody asks for votes before a majority has said that it hears no leader either and is not ahead: a member that was
//!   cut off does not come back with a term that unseats a leader. Who says so to one says it to no other for a moment, so
//!   two that try at once do not split the votes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use coord_core::NodeId;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

use super::member::{DataMetrics, Engine, Member, ServerMetrics, is_quorum};
use super::membership::will_vote;
use super::transport::{Request, Response};

/// Each election that comes to nothing doubles the time until the next, up to so many times.
const ELECTIONS_MAX: u32 = 4;

/// The task. It runs until openraft ends.
pub(super) struct Election {
    pub(super) member: Arc<Member>,
    pub(super) raft: Engine,
    pub(super) server: watch::Receiver<ServerMetrics>,
    pub(super) data: watch::Receiver<DataMetrics>,
    pub(super) leader_ended: Arc<Notify>,
    /// Whether there was a log at the start.
    pub(super) restarted: bool,
}

impl Election {
    pub(super) async fn run(mut self) {
        let member = self.member.clone();
        let timeout = member.settings.election_timeout();
        let mut leader = member.contact.watch();
        // How long a silent leader is waited for, and when to try where there is none.
        let mut patience = member.random(timeout, 2 * timeout);
        let mut next_try = Instant::now() + self.soon();
        let mut elections = 0;
        loop {
            let heard = member.contact.leader();
            let idle = !self.may_stand();
            if heard.is_some() || idle {
                elections = 0;
            }
            if !idle && std::mem::take(&mut self.restarted) && self.is_alone() {
                // There is nobody to wait for.
                next_try = Instant::now();
            }
            let due = match heard {
                Some(_) => member.contact.last() + patience,
                None => next_try,
            };
            tokio::select! {
                biased;
                changed = self.server.changed() => if changed.is_err() { return },
                changed = leader.changed() => if changed.is_err() { return },
                () = self.leader_ended.notified() => next_try = Instant::now() + self.soon(),
                () = tokio::time::sleep_until(due), if !idle => {
                    if let Some(heard) = heard.filter(|_| member.contact.last() + patience <= Instant::now()) {
                        tracing::info!("server {}, the leader, is silent", heard.node);
                        member.contact.lost(heard);
                    }
                    if member.contact.leader().is_some() {
                        continue;
                    }
                    patience = member.random(timeout, 2 * timeout);
                    let pause = if self.may_win().await {
                        if self.raft.trigger().elect().await.is_err() {
                            return;
                        }
                        // A disk that is slow to take the votes is given more time with each try.
                        elections = (elections + 1).min(ELECTIONS_MAX);
                        member.random(2 * self.lease(), 3 * self.lease()) * 2u32.pow(elections - 1)
                    } else {
                        member.release(member.node());
                        self.soon()
                    };
                    next_try = Instant::now() + pause;
                }
            }
        }
    }

    /// For as long openraft gives no vote after its leader was heard.
    fn lease(&self) -> Duration {
        self.member.settings.heartbeat()
    }

    /// A time after which the others' leases have run out too, and which differs from theirs. Who is to vote no more waits
    /// longer: it would lead only to leave.
    fn soon(&self) -> Duration {
        let stays = {
            let metrics = self.server.borrow();
            will_vote(metrics.membership_config.membership(), self.member.node())
        };
        let patience = if stays { 1 } else { 8 };
        let lease = patience * (self.lease() + Duration::from_millis(3));
        self.member.random(lease, lease + self.lease() / 2)
    }

    /// Whether this member votes, and does not lead.
    fn may_stand(&self) -> bool {
        let metrics = self.server.borrow();
        let mut voters = metrics.membership_config.membership().voter_ids();
        !metrics.state.is_leader() && voters.any(|voter| voter == self.member.node())
    }

    /// Whether nobody else votes.
    fn is_alone(&self) -> bool {
        let metrics = self.server.borrow();
        let mut voters = metrics.membership_config.membership().voter_ids();
        voters.all(|voter| voter == self.member.node())
    }

    /// Whether a majority is there that hears no leader and is not ahead of this member.
    async fn may_win(&self) -> bool {
        let membership = self.server.borrow().membership_config.clone();
        let configs = membership.membership().get_joint_config();
        let last_log_id = self.data.borrow().last_log;
        if !self.member.promise(self.member.node()) {
            return false;
        }
        let mut support = BTreeSet::from([self.member.node()]);
        let (answers, mut answered) = mpsc::unbounded_channel::<NodeId>();
        for voter in membership.membership().voter_ids() {
            let Some(server) = membership.membership().get_node(&voter) else {
                continue;
            };
            if voter == self.member.node() {
                continue;
            }
            let request = Request::Status { last_log_id };
            let envelope = self.member.envelope(voter);
            let call = self.member.transport.call(server, envelope, request);
            let limit = self.member.settings.election_timeout() / 4;
            let (answers, member) = (answers.clone(), self.member.clone());
            super::runtime::spawn(async move {
                match tokio::time::timeout(limit, call).await {
                    Ok(Ok(Response::Status(status))) if status.supports => {
                        // Nobody waits for the others once there are enough.
                        let _ = answers.send(voter);
                    }
                    Ok(Err(error)) => member.complain(voter, &error),
                    _ => {}
                }
            });
        }
        drop(answers);
        while !is_quorum(configs, &support) {
            match answered.recv().await {
                Some(voter) => support.insert(voter),
                None => return false,
            };
        }
        true
    }
}
