//! The node's end of Raft.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use coord_core::{NodeId, ServerRole, ServerSpec, Txn, Zxid};
use openraft::error::Fatal as EngineError;
use openraft::{Config, LogIdOptionExt, Raft, SnapshotPolicy};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

use super::election::Election;
use super::event::{RaftEvent, Role};
use super::forward::{Answers, Forwarder, ToLeader};
use super::log::{LogFigures, LogStore};
use super::machine::{Machine, Outlook};
use super::member::{DataMetrics, Engine, Member};
use super::membership::{Change, Changer, add_observers};
use super::network::NetworkFactory;
use super::propose::{self, Proposal};
use super::recovery::Storage;
use super::roles::Roles;
use super::service::{Inner, Service};
use super::settings::Settings;
use super::transport::{Request, Response, Transport};

/// Entries that travel in one message, at most; their bytes are bounded too.
const MESSAGE_ENTRIES: u64 = 1024;

/// How often a member without an ensemble asks the others for one.
const FOUND_RETRY: Duration = Duration::from_millis(200);

/// Why Raft did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The disk does not take the log.
    #[error("the log in {dir} cannot be written: {cause}")]
    Io {
        /// The directory.
        dir: String,
        /// What the operating system says.
        cause: std::io::Error,
    },
    /// openraft does not take what was recovered.
    #[error("Raft does not start: {0}")]
    Engine(#[from] EngineError<NodeId>),
}

/// The node's end. A clone is the same end.
#[derive(Clone)]
pub struct RaftHandle {
    raft: Engine,
    proposals: mpsc::UnboundedSender<Proposal>,
    confirmations: mpsc::UnboundedSender<u64>,
    changes: mpsc::UnboundedSender<Change>,
    to_leader: ToLeader,
    service: Service,
    role: watch::Receiver<Role>,
    figures: Arc<LogFigures>,
}

/// What can be said of Raft at a moment.
#[derive(Debug, Clone)]
pub struct RaftStatus {
    /// What this member is.
    pub role: Role,
    /// The term.
    pub term: u64,
    /// The index of the last entry; none if there is none.
    pub last_index: Option<u64>,
    /// The index of the last entry that the node was given.
    pub applied_index: Option<u64>,
    /// The index of the last entry in a snapshot.
    pub snapshot_index: Option<u64>,
    /// The members, and how many entries each holds for certain if this member leads.
    pub members: BTreeMap<NodeId, (ServerSpec, Option<u64>)>,
    /// The members whose nodes have a way to this one, which they have if it leads.
    pub connected: BTreeSet<NodeId>,
    /// Whether this member votes.
    pub is_voter: bool,
}

impl RaftHandle {
    /// Starts Raft on what was recovered. Everything that happens comes out of `events`, whose capacity bounds how far
    /// the node may fall behind.
    pub async fn start(
        settings: Settings,
        storage: Storage,
        transport: Arc<dyn Transport>,
        events: mpsc::Sender<RaftEvent>,
    ) -> Result<RaftHandle, StartError> {
        let Storage {
            disk,
            dir,
            lock,
            log,
            newest,
            vote,
            snapshots,
            snapshot,
            applied,
        } = storage;
        let io = |cause| StartError::Io {
            dir: dir.display().to_string(),
            cause,
        };
        let log = LogStore::start(
            disk.clone(),
            dir.clone(),
            log,
            newest,
            snapshot,
            vote,
            lock,
            settings.fatal.clone(),
        );
        let log = log.await.map_err(io)?;
        let figures = log.figures();
        let outlook = Outlook::new(&applied);
        let member = Arc::new(Member::new(settings, transport, outlook.clone()));
        let membership = applied.membership.membership().clone();
        if membership.nodes().next().is_some() {
            // The node is there to take it: it gave the sender.
            let _ = events.send(RaftEvent::Membership(membership)).await;
        }
        let machine = Machine {
            events: events.clone(),
            applied,
            outlook,
            snapshots: snapshots.clone(),
            disk: disk.clone(),
            roller: log.roller(),
            since_snapshot: (0, 0),
            snap_count: snap_count(&member),
        };
        let network = NetworkFactory {
            member: member.clone(),
            snapshots: snapshots.clone(),
        };
        let config = Arc::new(config(&member.settings));
        let raft = Raft::new(member.node(), config, network, log, machine).await?;
        let server = raft.server_metrics();
        let data = raft.data_metrics();
        let leader_ended = Arc::new(Notify::new());
        let answers = Answers::default();
        let leading = watch::Sender::new(None);
        let role = watch::Sender::new(Role::Leaderless);
        let role_now = role.subscribe();
        let service = Service(Arc::new(Inner {
            member: member.clone(),
            raft: raft.clone(),
            disk,
            snapshots,
            events: events.clone(),
            server: server.clone(),
            data: data.clone(),
            answers,
            leading: leading.clone(),
            appends: 0.into(),
            receiving: Arc::default(),
        }));
        let (to_leader, forwarder) = Forwarder::new(
            member.clone(),
            events.clone(),
            server.clone(),
            leader_ended.clone(),
        );
        tokio::spawn(forwarder.run());
        let roles = Roles {
            member: member.clone(),
            raft: raft.clone(),
            events: events.clone(),
            server: server.clone(),
            data: data.clone(),
            leading,
            role,
        };
        tokio::spawn(roles.run());
        let election = Election {
            member: member.clone(),
            raft: raft.clone(),
            server: server.clone(),
            data: data.clone(),
            leader_ended,
        };
        tokio::spawn(election.run());
        tokio::spawn(keep(member.clone(), raft.clone(), role_now.clone()));
        tokio::spawn(found(member.clone(), raft.clone(), data.clone()));
        let (proposals, inbox) = mpsc::unbounded_channel();
        let batch_max_len = member.settings.batch_max_len;
        let proposer = propose::run(raft.clone(), batch_max_len, figures.clone(), inbox);
        tokio::spawn(proposer);
        let (confirmations, inbox) = mpsc::unbounded_channel();
        tokio::spawn(confirm(member.clone(), raft.clone(), events.clone(), inbox));
        let changer = Changer {
            member,
            raft: raft.clone(),
            events,
            server,
            data,
        };
        let (changes, inbox) = mpsc::unbounded_channel();
        tokio::spawn(changer.run(inbox));
        Ok(RaftHandle {
            raft,
            proposals,
            confirmations,
            changes,
            to_leader,
            service,
            role: role_now,
            figures,
        })
    }

    /// Has `txns` go into the log, behind those before them. They come back as [`RaftEvent::Committed`], on all members,
    /// unless this one ceases to lead in `term`. Never waits: the node bounds what it has on the way.
    pub fn propose(&self, term: u32, txns: Vec<(Zxid, Arc<Txn>)>) {
        if !txns.is_empty() {
            let txns = txns.into_iter();
            // The task ends with Raft, and the process with it.
            let _ = self.proposals.send(Proposal { term, txns });
        }
    }

    /// Asks a majority whether this member still leads. The answer is [`RaftEvent::LeadershipConfirmed`] or
    /// [`RaftEvent::LeadershipLost`].
    pub fn confirm_leadership(&self, token: u64) {
        let _ = self.confirmations.send(token);
    }

    /// Makes `servers` the members. The answer is [`RaftEvent::MembershipChanged`] or [`RaftEvent::MembershipRefused`].
    pub fn change_membership(&self, token: u64, servers: BTreeMap<NodeId, ServerSpec>) {
        let _ = self.changes.send(Change { token, servers });
    }

    /// Sends `frame` to the node of the leader that this member hears from, behind those before it. If it may not have
    /// got there, [`RaftEvent::ForwardLost`] says so.
    pub fn forward(&self, frame: Bytes) {
        self.to_leader.send(frame);
    }

    /// Sends `frame` to a node that forwards to this one. It is told if the answer is lost.
    pub fn answer(&self, to: NodeId, frame: Bytes) {
        self.service.0.answers.send(to, frame);
    }

    /// Where to hand in what arrives from other members.
    pub fn service(&self) -> Service {
        self.service.clone()
    }

    /// What the log has cost so far.
    pub fn log_figures(&self) -> Arc<LogFigures> {
        self.figures.clone()
    }

    /// How it is right now.
    pub fn status(&self) -> RaftStatus {
        let server = self.service.0.server.borrow().clone();
        let data = self.service.0.data.borrow().clone();
        let membership = server.membership_config.membership();
        let holds = |node: &NodeId| {
            let replication = data.replication.as_ref()?;
            Some(replication.get(node).copied().flatten().next_index())
        };
        RaftStatus {
            role: *self.role.borrow(),
            term: server.vote.leader_id.term,
            last_index: data.last_log.index(),
            applied_index: data.last_applied.index(),
            snapshot_index: data.snapshot.index(),
            members: membership
                .nodes()
                .map(|(node, server)| (*node, (server.clone(), holds(node))))
                .collect(),
            connected: self.service.0.answers.connected(),
            is_voter: membership
                .voter_ids()
                .any(|voter| voter == self.service.0.member.node()),
        }
    }

    /// Ends Raft on this member. What was proposed before is on its way or not; a restart tells.
    pub async fn shutdown(&self) {
        // It only fails where openraft has failed, and said so.
        let _ = self.raft.shutdown().await;
    }
}

fn config(settings: &Settings) -> Config {
    let heartbeat = settings.heartbeat().as_millis() as u64;
    Config {
        cluster_name: "coord".to_owned(),
        heartbeat_interval: heartbeat,
        // Elections are decided in `election.rs`. What is left of these is the lease that a voter gives its leader: short,
        // so that it does not outlive a leader whose process has ended.
        election_timeout_min: heartbeat + 1,
        election_timeout_max: heartbeat + 2,
        enable_elect: false,
        max_payload_entries: MESSAGE_ENTRIES,
        // Snapshots are due by transactions, not by entries, and the log is kept behind the older of two.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        ..Config::default()
    }
}

/// `snapCount`, or up to half as many: the members do not all write their snapshots at once.
fn snap_count(member: &Member) -> u64 {
    let most = member.settings.snap_count.max(2);
    let spread = Duration::from_micros(most / 2);
    let less = member.random(Duration::ZERO, spread).as_micros() as u64;
    most - less
}

/// Has snapshots written when they are due and the log purged behind them, adds the observers, and ends the process if
/// openraft has ended by itself.
async fn keep(member: Arc<Member>, raft: Engine, mut role: watch::Receiver<Role>) {
    let mut unneeded = member.outlook.unneeded.subscribe();
    let mut server = raft.server_metrics();
    loop {
        tokio::select! {
            biased;
            changed = server.changed() => if changed.is_err() {
                let ended = raft.metrics().borrow().running_state.clone();
                if let Err(error) = ended
                    && error != EngineError::Stopped
                {
                    member.settings.fatal.end(&format!("Raft has ended: {error}"));
                }
                return;
            },
            () = member.outlook.snapshot_due.notified() => {
                let _ = raft.trigger().snapshot().await;
            }
            changed = unneeded.changed() => {
                let upto = *unneeded.borrow_and_update();
                if changed.is_ok() && let Some(upto) = upto {
                    let _ = raft.trigger().purge_log(upto).await;
                }
            }
            changed = role.changed() => {
                let role = *role.borrow_and_update();
                if changed.is_ok() && matches!(role, Role::Leader { .. }) {
                    let (member, raft) = (member.clone(), raft.clone());
                    tokio::spawn(async move { add_observers(&member, &raft).await });
                }
            }
        }
    }
}

/// Founds the ensemble, if this member is a participant without one and a majority of the participants has none either.
/// The one with the smallest number among them goes first; what the others would write is the same.
async fn found(member: Arc<Member>, raft: Engine, data: watch::Receiver<DataMetrics>) {
    let servers = &member.settings.servers;
    let founders: BTreeMap<NodeId, ServerSpec> = servers
        .iter()
        .filter(|(_, server)| server.role == ServerRole::Participant)
        .map(|(node, server)| (*node, server.clone()))
        .collect();
    let founders = if servers.is_empty() {
        BTreeMap::from([(member.node(), ServerSpec::default())])
    } else {
        founders
    };
    if !founders.contains_key(&member.node()) {
        return;
    }
    let start = Instant::now();
    while data.has_changed().is_ok() && data.borrow().last_log.is_none() {
        let mut without = vec![member.node()];
        for (node, server) in &founders {
            if *node == member.node() {
                continue;
            }
            let request = Request::Status { last_log_id: None };
            let envelope = member.envelope(*node);
            let call = member.transport.call(server, envelope, request);
            match tokio::time::timeout(FOUND_RETRY, call).await {
                Ok(Ok(Response::Status(status))) if !status.founded => {
                    without.push(*node);
                }
                // There is an ensemble: its leader will speak.
                Ok(Ok(_)) => without.clear(),
                Ok(Err(error)) => member.complain(*node, &error),
                Err(_) => {}
            }
        }
        let first = without.iter().min() == Some(&member.node());
        let waited = start.elapsed() > member.settings.election_timeout();
        if without.len() > founders.len() / 2 && (first || waited) {
            // It fails only where somebody else was faster.
            let _ = raft.initialize(founders.clone()).await;
            return;
        }
        if founders.len() > 1 {
            tokio::time::sleep(FOUND_RETRY).await;
        }
    }
}

/// Confirms leadership for all who asked meanwhile at once.
async fn confirm(
    member: Arc<Member>,
    raft: Engine,
    events: mpsc::Sender<RaftEvent>,
    mut inbox: mpsc::UnboundedReceiver<u64>,
) {
    let mut applied = member.outlook.applied.subscribe();
    let mut tokens = Vec::new();
    while inbox.recv_many(&mut tokens, usize::MAX >> 1).await > 0 {
        let confirmed = match raft.get_read_log_id().await {
            Ok((read, _)) => {
                let next = read.next_index();
                applied.wait_for(|applied| *applied >= next).await.is_ok()
            }
            Err(_) => false,
        };
        for token in tokens.drain(..) {
            let event = if confirmed {
                RaftEvent::LeadershipConfirmed { token }
            } else {
                RaftEvent::LeadershipLost { token }
            };
            if events.send(event).await.is_err() {
                return;
            }
        }
    }
}
