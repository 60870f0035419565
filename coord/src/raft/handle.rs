//! The node's end of Raft.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use coord_core::{Members, NodeId, ServerSpec, Txn, Zxid};
use openraft::error::Fatal as EngineError;
use openraft::{Config, LogIdOptionExt, Raft, SnapshotPolicy};
use tokio::sync::{Notify, mpsc, watch};

use super::election::Election;
use super::event::{RaftEvent, Role};
use super::forward::{Answers, Forwarder, Leading, ToLeader};
use super::log::{LogFigures, LogStore};
use super::machine::{Machine, Outlook};
use super::member::{Engine, Member};
use super::membership::{self, Change, Changer};
use super::network::NetworkFactory;
use super::propose::{self, Proposal};
use super::recovery::Storage;
use super::roles::Roles;
use super::service::{Inner, Service};
use super::settings::Settings;
use super::transport::Transport;
use super::{confirm, founding, static_list, upkeep};

/// Entries that travel in one message, at most; their bytes are bounded too.
const MESSAGE_ENTRIES: u64 = 1024;

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
            found,
            snapshots,
            applied,
        } = storage;
        let disk = found.disk.clone();
        let restarted = found.log.last.is_some();
        let io = |cause| StartError::Io {
            dir: settings.data_dir.display().to_string(),
            cause,
        };
        let log = LogStore::start(found, settings.fatal.clone()).await;
        let log = log.map_err(io)?;
        let figures = log.figures();
        let outlook = Outlook::new(&applied, log.begun());
        let member = Arc::new(Member::new(
            settings,
            transport,
            outlook.clone(),
            log.durable(),
        ));
        let membership = applied.membership.membership().clone();
        if membership.nodes().next().is_some() {
            // The node is there to take it: it gave the sender.
            let members = membership::members(&membership);
            let _ = events.send(RaftEvent::Membership(members)).await;
        }
        let machine = Machine {
            events: events.clone(),
            applied,
            outlook,
            snapshots: snapshots.clone(),
            disk: disk.clone(),
            roller: log.roller(),
            since_snapshot: (0, 0),
            snap_count: upkeep::snap_count(&member),
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
        let leading = watch::Sender::new(Leading::default());
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
            answers: answers.clone(),
            leading: leading.clone(),
            appends: 0.into(),
            backlog: Default::default(),
            receiving: Arc::default(),
        }));
        let (to_leader, forwarder) = Forwarder::new(
            member.clone(),
            events.clone(),
            server.clone(),
            leader_ended.clone(),
        );
        let way = forwarder.way();
        super::runtime::spawn(forwarder.run());
        let roles = Roles {
            member: member.clone(),
            raft: raft.clone(),
            events: events.clone(),
            server: server.clone(),
            data: data.clone(),
            way,
            leading,
            role,
        };
        super::runtime::spawn(roles.run());
        let election = Election {
            member: member.clone(),
            raft: raft.clone(),
            server: server.clone(),
            data: data.clone(),
            leader_ended,
            restarted,
        };
        super::runtime::spawn(election.run());
        super::runtime::spawn(upkeep::run(member.clone(), raft.clone()));
        super::runtime::spawn(founding::run(member.clone(), raft.clone(), data.clone()));
        super::runtime::spawn(static_list::run(
            member.clone(),
            membership::members(&membership),
            server.clone(),
        ));
        let (proposals, inbox) = mpsc::unbounded_channel();
        let batch_max_len = member.settings.batch_max_len;
        let proposer = propose::run(raft.clone(), batch_max_len, figures.clone(), inbox);
        super::runtime::spawn(proposer);
        let (confirmations, inbox) = mpsc::unbounded_channel();
        super::runtime::spawn(confirm::run(
            member.clone(),
            raft.clone(),
            events.clone(),
            role_now.clone(),
            inbox,
        ));
        let changer = Changer {
            member,
            raft: raft.clone(),
            events,
            server,
            data,
            role: role_now.clone(),
            answers,
        };
        let (changes, inbox) = mpsc::unbounded_channel();
        super::runtime::spawn(changer.run(inbox));
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
    pub fn change_membership(&self, token: u64, servers: Members) {
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
            members: membership::members(membership)
                .into_iter()
                .map(|(node, server)| (node, (server, holds(&node))))
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
