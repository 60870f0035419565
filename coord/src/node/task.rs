//! The task that owns the coordinator: it feeds events in, and sends actions out to Raft and the connections.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use coord_core::coordinator::MembershipRefusal;
use coord_core::state::ApplyError;
use coord_core::txn::Change;
use coord_core::{Action, Coordinator, Event, Forward, ForwardAnswer, Now, Standing};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::clients::Clients;
use super::decided::Decided;
use super::held_back::HeldBack;
use super::inbox::Input;
use super::look::View;
use super::settings::Settings;
use super::wall_clock::WallClock;
use super::witness::{Told, Witness};
use crate::raft::{
    self, Disk, MembershipError, RaftEvent, RaftHandle, Recovered, RecoveryError, Role, StartError,
    Transport,
};
use crate::stats::{ServerState, Stats};

/// No further requests are taken while this many are on their way to a decision and the disks of a majority.
const PENDING_MAX: usize = 4096;

/// Requests taken at once, before the clock and Raft are looked at again.
pub(super) const INBOX_BATCH: usize = 256;

/// What Raft may tell before the node has heard it.
const EVENTS_LEN: usize = 1024;

/// Why a node does not start, or ends.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// What is on disk is not usable.
    #[error("cannot start from dataDir {dir}: {cause}")]
    Recovery {
        /// The directory.
        dir: String,
        /// Why.
        cause: RecoveryError,
    },
    /// Raft does not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A committed transaction does not fit the state.
    #[error("the log is not that of this server's state: {0}")]
    Apply(#[from] ApplyError),
    /// Raft has ended.
    #[error("Raft has ended")]
    RaftEnded,
}

/// A member of the ensemble, or a server by itself, ready to run.
pub struct Node {
    coordinator: Coordinator,
    clients: Clients,
    raft: RaftHandle,
    events: mpsc::Receiver<RaftEvent>,
    decided: Decided,
    held_back: HeldBack,
    /// Whether it is a server by itself.
    standalone: bool,
    clock: Arc<dyn WallClock>,
    witness: Witness,
    start: Instant,
    stats: Arc<Stats>,
    /// What of the disk's figures is in `stats`: how often it was waited for, and how long in microseconds.
    fsyncs: (u64, u64),
}

impl Node {
    /// Recovers what is on disk and takes up its place among the members.
    pub async fn start(
        settings: Settings,
        disk: Arc<dyn Disk>,
        transport: Arc<dyn Transport>,
        clock: Arc<dyn WallClock>,
    ) -> Result<Node, NodeError> {
        let Settings {
            coordinator,
            raft,
            witness,
        } = settings;
        let recovered = raft::recover(&raft, disk).await;
        let Recovered { state, storage } = recovered.map_err(|cause| NodeError::Recovery {
            dir: raft.data_dir.display().to_string(),
            cause,
        })?;
        witness.tell(Told::Recovered(&state));
        let standalone = raft.servers.is_empty();
        let (sender, events) = mpsc::channel(EVENTS_LEN);
        let raft = RaftHandle::start(raft, storage, transport, sender).await?;
        let start = Instant::now();
        let now = now(start, &*clock);
        let mut node = Node {
            coordinator: Coordinator::new(coordinator, state, now),
            clients: Clients::default(),
            raft,
            events,
            decided: Decided::default(),
            held_back: HeldBack::default(),
            standalone,
            clock,
            witness,
            start,
            stats: Arc::new(Stats::default()),
            fsyncs: (0, 0),
        };
        if standalone {
            node.lead().await?;
        }
        Ok(node)
    }

    /// A server by itself has nobody to wait for: it serves from its start.
    async fn lead(&mut self) -> Result<(), NodeError> {
        let mut actions = Vec::new();
        while self.coordinator.standing() != Standing::Leading {
            let event = self.events.recv().await.ok_or(NodeError::RaftEnded)?;
            let now = now(self.start, &*self.clock);
            self.hear_raft(now, event, &mut actions)?;
        }
        self.publish_stats();
        Ok(())
    }

    /// The figures that it keeps.
    pub(crate) fn stats(&self) -> Arc<Stats> {
        self.stats.clone()
    }

    /// The way to Raft, for those who carry what arrives from other members and for those who ask how it is.
    pub fn raft(&self) -> RaftHandle {
        self.raft.clone()
    }

    /// Runs until `stopped`.
    pub async fn run(
        mut self,
        mut inbox: mpsc::Receiver<Input>,
        mut stopped: oneshot::Receiver<()>,
    ) -> Result<(), NodeError> {
        let mut events = Vec::with_capacity(INBOX_BATCH);
        let mut inputs = Vec::with_capacity(INBOX_BATCH);
        let mut actions = Vec::new();
        loop {
            self.publish_stats();
            let pending = self.coordinator.pending_len();
            let (taking, may_time_out) = attention(self.coordinator.standing(), pending);
            let timeout = self.coordinator.poll_timeout();
            let wake_up = async {
                match timeout {
                    Some(at) => tokio::time::sleep_until(self.start + at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                // First, for once the server stops listening an inbox without connections is ready for ever.
                _ = &mut stopped => break,
                count = self.events.recv_many(&mut events, INBOX_BATCH) => if count == 0 {
                    return Err(NodeError::RaftEnded);
                },
                _ = inbox.recv_many(&mut inputs, INBOX_BATCH) => {}
                () = std::future::ready(()), if taking && !self.held_back.is_empty() => {}
                () = wake_up, if may_time_out => {}
            }
            let now = now(self.start, &*self.clock);
            for event in events.drain(..) {
                self.hear_raft(now, event, &mut actions)?;
            }
            while inputs.len() < INBOX_BATCH
                && let Ok(input) = inbox.try_recv()
            {
                inputs.push(input);
            }
            for _ in 0..INBOX_BATCH {
                let Some(input) = self.held_back.next_if(taking) else {
                    break;
                };
                self.hear_client(now, input, &mut actions)?;
            }
            for input in inputs.drain(..) {
                self.pass_client(now, input, taking, &mut actions)?;
            }
            let due = self.coordinator.poll_timeout();
            if may_time_out && due.is_some_and(|at| at <= now.elapsed) {
                // Behind all that has arrived, so that a sign of life that came in time counts.
                for _ in 0..self.events.len() {
                    let Ok(event) = self.events.try_recv() else {
                        break;
                    };
                    self.hear_raft(now, event, &mut actions)?;
                }
                for _ in 0..inbox.len() {
                    let Ok(input) = inbox.try_recv() else { break };
                    self.pass_client(now, input, taking, &mut actions)?;
                }
                self.handle(now, Event::Timeout, &mut actions)?;
            }
            if let Some((term, txns)) = self.decided.take() {
                self.raft.propose(term, txns);
            }
        }
        self.raft.shutdown().await;
        Ok(())
    }

    /// Hears a client. Where what it asks for has to wait, it lives all the same.
    fn pass_client(
        &mut self,
        now: Now,
        input: Input,
        taking: bool,
        actions: &mut Vec<Action>,
    ) -> Result<(), ApplyError> {
        match self.held_back.pass(input, taking) {
            Ok(input) => self.hear_client(now, input, actions),
            Err(connection) => self.handle(now, Event::Heard { connection }, actions),
        }
    }

    fn hear_client(
        &mut self,
        now: Now,
        input: Input,
        actions: &mut Vec<Action>,
    ) -> Result<(), ApplyError> {
        let event = match input {
            Input::Connect { connect, sender } => {
                self.clients.connected(connect.connection, sender);
                Some(Event::Connect(connect))
            }
            Input::Event { event, charge } => self.clients.heard(event, charge),
            Input::Look(look) => {
                look.take(View {
                    now,
                    coordinator: &self.coordinator,
                    raft: &self.raft,
                });
                None
            }
        };
        match event {
            Some(event) => self.handle(now, event, actions),
            None => Ok(()),
        }
    }

    fn hear_raft(
        &mut self,
        now: Now,
        event: RaftEvent,
        actions: &mut Vec<Action>,
    ) -> Result<(), ApplyError> {
        self.witness.tell(Told::Raft(&event));
        let event = match event {
            RaftEvent::Committed(txns) => {
                if self.coordinator.standing() == Standing::Leading {
                    self.stats.commits.fetch_add(txns.len() as u64, Relaxed);
                }
                Event::Committed { txns }
            }
            RaftEvent::Install(state) => Event::Installed(state),
            // A server by itself is a member in the log alone.
            RaftEvent::Membership(_) if self.standalone => return Ok(()),
            RaftEvent::Membership(members) => Event::MembershipChanged { members },
            RaftEvent::Snapshot(reply) => {
                let state = self.coordinator.state();
                self.stats.snapshot_saved(state.last_zxid.0, now.wall_ms);
                // Whoever asked has given up, if nobody is there.
                let _ = reply.send(state.clone());
                return Ok(());
            }
            RaftEvent::Role(role) => self.role(role),
            RaftEvent::Forwarded { from, frame } => match Forward::decode(frame) {
                Ok(forward) => Event::Forwarded { from, forward },
                Err(error) => {
                    // The next one shows that this one is missing, and its member is told so.
                    tracing::warn!("what server {from} has forwarded is not readable: {error}");
                    return Ok(());
                }
            },
            RaftEvent::Answered(frame) => match ForwardAnswer::decode(frame) {
                Ok(answer) => Event::Answered(answer),
                Err(error) => {
                    tracing::warn!("what the leader has answered is not readable: {error}");
                    Event::ForwardLost
                }
            },
            RaftEvent::ForwardLost => Event::ForwardLost,
            RaftEvent::LeadershipConfirmed { token } => Event::LeadershipConfirmed { token },
            RaftEvent::LeadershipLost { token } => Event::LeadershipLost { token },
            // The members themselves were told before.
            RaftEvent::MembershipChanged { token } => Event::ReconfigDone { token },
            RaftEvent::MembershipRefused { token, error } => {
                tracing::warn!("the members of the ensemble are not changed: {error}");
                let refusal = match error {
                    MembershipError::NotLeader => MembershipRefusal::Unknown,
                    MembershipError::InProgress => MembershipRefusal::InProgress,
                    MembershipError::NoParticipant | MembershipError::NotCaughtUp(_) => {
                        MembershipRefusal::NoQuorum
                    }
                };
                Event::ReconfigRefused { token, refusal }
            }
        };
        self.handle(now, event, actions)
    }

    fn role(&self, role: Role) -> Event {
        match role {
            Role::Leader { term } => {
                if !self.standalone {
                    tracing::info!("this server leads, in term {term}");
                }
                Event::Leading { term }
            }
            Role::Follower { leader, term } => {
                tracing::info!("server {leader} leads, in term {term}");
                Event::Following { term, leader }
            }
            Role::Leaderless => {
                tracing::info!("no leader is heard");
                // A server by itself looks for none.
                self.stats
                    .looking
                    .fetch_add(u64::from(!self.standalone), Relaxed);
                Event::Leaderless
            }
            Role::Removed => {
                tracing::warn!(
                    "this server was removed from the ensemble, and serves no clients any more: stop it, or add it again"
                );
                Event::Removed
            }
            Role::QuorumLost { term } => {
                tracing::warn!("this server leads in term {term}, but no majority answers it");
                Event::QuorumLost
            }
        }
    }

    fn handle(
        &mut self,
        now: Now,
        event: Event,
        actions: &mut Vec<Action>,
    ) -> Result<(), ApplyError> {
        self.coordinator.handle(now, event, actions)?;
        for action in actions.drain(..) {
            match action {
                Action::Append { term, zxid, txn } => {
                    self.stats.proposals.fetch_add(1, Relaxed);
                    // Who closes a session himself is told of it.
                    if txn.origin.is_none() && txn.change == Change::CloseSession {
                        self.stats.sessions_expired.fetch_add(1, Relaxed);
                    }
                    if let Some((term, txns)) = self.decided.add(term, zxid, txn) {
                        self.raft.propose(term, txns);
                    }
                }
                Action::Forward(forward) => {
                    let mut frame = Vec::with_capacity(256);
                    forward.encode(&mut frame);
                    self.raft.forward(frame.into());
                }
                Action::Answer { to, answer } => {
                    let mut frame = Vec::with_capacity(32);
                    answer.encode(&mut frame);
                    self.raft.answer(to, frame.into());
                }
                Action::ConfirmLeadership { token } => self.raft.confirm_leadership(token),
                Action::ChangeMembership { token, members } => {
                    self.raft.change_membership(token, members);
                }
                action => self.clients.perform(action),
            }
        }
        Ok(())
    }

    fn publish_stats(&mut self) {
        self.publish_fsyncs();
        let state = self.coordinator.state();
        self.stats.set_state(match self.coordinator.standing() {
            Standing::Leading if self.standalone => ServerState::Standalone,
            Standing::Leading => ServerState::Leader,
            Standing::Following(_) => ServerState::Follower,
            Standing::Observing(_) => ServerState::Observer,
            Standing::Leaderless | Standing::Removed => ServerState::NotServing,
            Standing::ReadOnly => ServerState::ReadOnly,
        });
        let put = |figure: &std::sync::atomic::AtomicU64, value: usize| {
            figure.store(value as u64, Relaxed)
        };
        self.stats.zxid.store(state.last_zxid.0 as u64, Relaxed);
        put(&self.stats.znodes, state.tree.len());
        put(&self.stats.ephemerals, state.tree.ephemerals_len());
        put(&self.stats.data_size, state.tree.data_len());
        put(&self.stats.sessions, state.sessions.len());
        put(&self.stats.watches, self.coordinator.watch_len());
        put(&self.stats.outstanding, self.coordinator.pending_len());
        put(
            &self.stats.ensemble.pending_syncs,
            self.coordinator.pending_sync_len(),
        );
    }

    /// What the disk took since the last look, each time as long as all of them on average: there is one as a rule.
    fn publish_fsyncs(&mut self) {
        let figures = self.raft.log_figures();
        let (count, sum_us) = (
            figures.fsyncs.load(Relaxed),
            figures.fsync_sum_us.load(Relaxed),
        );
        let more = count - self.fsyncs.0;
        if let Some(took_us) = (sum_us - self.fsyncs.1).checked_div(more) {
            let took = Duration::from_micros(took_us);
            for _ in 0..more {
                self.stats.fsynced(took);
            }
            self.fsyncs = (count, sum_us);
        }
    }
}

/// Whether requests are taken, and whether it is seen to what is due. No session expires while so much is on its way, for
/// other members that have heard its client may be held up likewise. Whoever does not lead goes on telling the leader whom
/// it hears: the leader may not be held up at all.
fn attention(standing: Standing, pending: usize) -> (bool, bool) {
    let taking = pending < PENDING_MAX || standing == Standing::Leaderless;
    (taking, taking || standing != Standing::Leading)
}

fn now(start: Instant, clock: &dyn WallClock) -> Now {
    Now {
        elapsed: start.elapsed(),
        wall_ms: clock.now_ms(),
    }
}

#[cfg(test)]
mod tests {
    use coord_core::NodeId;

    use super::*;

    #[test]
    fn a_follower_that_takes_nothing_more_still_tells_whom_it_hears() {
        let follower = Standing::Following(NodeId(1));
        assert_eq!(attention(follower, PENDING_MAX), (false, true));
        assert_eq!(attention(Standing::Leading, PENDING_MAX), (false, false));
        assert_eq!(attention(Standing::Leading, PENDING_MAX - 1), (true, true));
        assert_eq!(attention(Standing::Leaderless, PENDING_MAX), (true, true));
    }
}
