//! The members, and what is between them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use coord_core::txn::{Change, Txn};
use coord_core::{Members, NodeId, ServerRole, ServerSpec, SessionId, State, Zxid};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::memory_disk::MemoryDisk;
use crate::raft::disk::Work;
use crate::raft::transport::{
    Envelope, Request, Response, Stream, StreamKind, Transport, TransportError,
};
use crate::raft::{Fatal, RaftEvent, RaftHandle, RecoveryError, Role, Service, Settings, recover};

/// What waits for a condition gives up after this much virtual time.
const DEADLINE: Duration = Duration::from_secs(60);

/// What [`World::with_a_tail_of_one`] leaves with that one.
const TAIL: std::ops::Range<i64> = 50..60;

/// How long a message travels.
const LATENCY: Duration = Duration::from_millis(1);

#[derive(Debug, Default)]
struct Links {
    cut: BTreeSet<(NodeId, NodeId)>,
    pumps: Vec<(NodeId, NodeId, AbortHandle)>,
}

/// The network.
#[derive(Clone, Default)]
pub(super) struct Net {
    services: Arc<Mutex<BTreeMap<NodeId, Service>>>,
    links: Arc<Mutex<Links>>,
    /// How long entries travel.
    pub(super) entries_take: Arc<Mutex<Duration>>,
}

impl std::fmt::Debug for Net {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Net")
    }
}

impl Net {
    fn service(&self, to: NodeId) -> Result<Service, TransportError> {
        let services = self.services.lock().unwrap();
        let gone = || TransportError::Broken("connection refused".to_owned());
        services.get(&to).cloned().ok_or_else(gone)
    }

    async fn travel(&self, from: NodeId, to: NodeId) {
        tokio::time::sleep(LATENCY).await;
        while self.links.lock().unwrap().cut.contains(&(from, to)) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn pump(&self, from: NodeId, to: NodeId) -> (mpsc::Sender<Bytes>, mpsc::Receiver<Bytes>) {
        let (sender, mut source) = mpsc::channel::<Bytes>(16);
        let (sink, receiver) = mpsc::channel(16);
        let net = self.clone();
        let pump = tokio::spawn(async move {
            while let Some(frame) = source.recv().await {
                net.travel(from, to).await;
                if sink.send(frame).await.is_err() {
                    break;
                }
            }
        });
        let pumps = &mut self.links.lock().unwrap().pumps;
        pumps.push((from, to, pump.abort_handle()));
        (sender, receiver)
    }

    /// Breaks what goes through `node`, as the end of its process does.
    fn drop_node(&self, node: NodeId) {
        self.services.lock().unwrap().remove(&node);
        let pumps = &mut self.links.lock().unwrap().pumps;
        pumps.retain(|(from, to, pump)| {
            let touched = *from == node || *to == node;
            if touched {
                pump.abort();
            }
            !touched
        });
    }
}

impl Transport for Net {
    fn call(
        &self,
        _: &ServerSpec,
        envelope: Envelope,
        request: Request,
    ) -> Work<'static, Result<Response, TransportError>> {
        let net = self.clone();
        Box::pin(async move {
            let service = net.service(envelope.to)?;
            net.travel(envelope.from, envelope.to).await;
            if matches!(&request, Request::AppendEntries(request) if !request.entries.is_empty()) {
                let entries_take = *net.entries_take.lock().unwrap();
                tokio::time::sleep(entries_take).await;
            }
            let response = service.call(envelope, request).await?;
            net.travel(envelope.to, envelope.from).await;
            net.service(envelope.to)?;
            Ok(response)
        })
    }

    fn open(
        &self,
        _: &ServerSpec,
        envelope: Envelope,
        kind: StreamKind,
    ) -> Work<'static, Result<Stream, TransportError>> {
        let net = self.clone();
        Box::pin(async move {
            net.travel(envelope.from, envelope.to).await;
            let service = net.service(envelope.to)?;
            let (outgoing, theirs) = net.pump(envelope.from, envelope.to);
            let (back, incoming) = net.pump(envelope.to, envelope.from);
            let stream = Stream {
                outgoing: back,
                incoming: theirs,
            };
            service.accept(envelope, kind, stream)?;
            net.travel(envelope.to, envelope.from).await;
            Ok(Stream { outgoing, incoming })
        })
    }
}

/// What a member's node has seen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) state: State,
    pub(super) role: Option<Role>,
    pub(super) installs: usize,
    /// The members, each time that they were told.
    pub(super) members: Vec<Members>,
    pub(super) frames: Vec<Bytes>,
    pub(super) forward_losses: usize,
    pub(super) tokens: Vec<(u64, bool)>,
    /// All of it as text, with its time.
    pub(super) trace: String,
}

/// One member.
pub(super) struct Node {
    pub(super) raft: RaftHandle,
    pub(super) seen: Arc<Mutex<Seen>>,
}

/// An ensemble.
pub(super) struct World {
    pub(super) net: Net,
    pub(super) servers: BTreeMap<NodeId, ServerSpec>,
    pub(super) disks: BTreeMap<NodeId, MemoryDisk>,
    pub(super) nodes: BTreeMap<NodeId, Node>,
    pub(super) snap_count: u64,
    pub(super) batch_max_len: usize,
    pub(super) seed: u64,
    start: Instant,
}

pub(super) fn spec(role: ServerRole) -> ServerSpec {
    ServerSpec {
        host: "h".to_owned(),
        quorum_port: 1,
        election_port: 2,
        role,
        client: None,
    }
}

impl World {
    /// Not started yet.
    pub(super) fn new(participants: u64, observers: u64) -> World {
        let role = |node| match node > participants {
            true => ServerRole::Observer,
            false => ServerRole::Participant,
        };
        let nodes = 1..=participants + observers;
        World {
            net: Net::default(),
            servers: nodes
                .clone()
                .map(|node| (NodeId(node), spec(role(node))))
                .collect(),
            disks: nodes
                .map(|node| (NodeId(node), MemoryDisk::default()))
                .collect(),
            nodes: BTreeMap::new(),
            snap_count: 1_000_000,
            batch_max_len: 1024 * 1024,
            seed: 7,
            start: Instant::now(),
        }
    }

    pub(super) async fn started(participants: u64, observers: u64) -> World {
        let mut world = World::new(participants, observers);
        for node in world.disks.keys().copied().collect::<Vec<_>>() {
            world.start(node).await.unwrap();
        }
        world
    }

    /// Three members, one of which is down: it led, and has the sessions [`TAIL`] that nobody else has. All have sessions 1
    /// and 2, but for the second there.
    pub(super) async fn with_a_tail_of_one() -> (World, NodeId) {
        let mut world = World::started(3, 0).await;
        world.write(1).await;
        let (leader, term) = world.leader().unwrap();
        world.isolate(leader);
        for session in TAIL {
            world.propose_on(leader, term, session);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        world.crash(leader, 0).await;
        world.write(2).await;
        world.heal();
        (world, leader)
    }

    /// Whether a member has nothing of [`TAIL`].
    pub(super) fn has_no_tail(&self, node: NodeId) -> bool {
        TAIL.into_iter().all(|session| !self.has(node, session))
    }

    pub(super) async fn start(&mut self, node: NodeId) -> Result<(), RecoveryError> {
        let servers = match self.servers.len() {
            1 => BTreeMap::new(),
            _ => self.servers.clone(),
        };
        let settings = Settings {
            node,
            servers,
            data_dir: PathBuf::from("/data"),
            zookeeper_dirs: Vec::new(),
            tick_time_ms: 2000,
            sync_limit: 5,
            init_limit: 10,
            snap_count: self.snap_count,
            batch_max_len: self.batch_max_len,
            quorum_grace: Duration::from_secs(4),
            seed: self.seed.wrapping_mul(31).wrapping_add(node.0),
            fatal: Fatal::new(|_| {}),
        };
        let disk = Arc::new(self.disks[&node].clone());
        let recovered = recover(&settings, disk).await?;
        let seen = Arc::new(Mutex::new(Seen {
            state: recovered.state,
            ..Seen::default()
        }));
        let (events, inbox) = mpsc::channel(16);
        let transport = Arc::new(self.net.clone());
        let raft = RaftHandle::start(settings, recovered.storage, transport, events)
            .await
            .unwrap();
        let services = &mut self.net.services.lock().unwrap();
        services.insert(node, raft.service());
        tokio::spawn(observe(raft.clone(), inbox, seen.clone(), self.start));
        self.nodes.insert(node, Node { raft, seen });
        Ok(())
    }

    /// Ends a member's process with a power cut that leaves `torn` bytes of what was not synced.
    pub(super) async fn crash(&mut self, node: NodeId, torn: usize) {
        self.net.drop_node(node);
        let disk = self.disks[&node].after_crash(torn);
        self.disks.insert(node, disk);
        let gone = self.nodes.remove(&node).unwrap();
        gone.raft.shutdown().await;
    }

    /// Nothing goes between `a` and `b`, in both directions.
    pub(super) fn cut(&self, a: NodeId, b: NodeId) {
        let cut = &mut self.net.links.lock().unwrap().cut;
        cut.extend([(a, b), (b, a)]);
    }

    pub(super) fn isolate(&self, node: NodeId) {
        for &other in self.disks.keys().filter(|other| **other != node) {
            self.cut(node, other);
        }
    }

    pub(super) fn heal(&self) {
        self.net.links.lock().unwrap().cut.clear();
    }

    pub(super) fn seen<T>(&self, node: NodeId, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.nodes[&node].seen.lock().unwrap())
    }

    /// Waits for a condition, and says how long it took.
    pub(super) async fn until(&self, what: &str, condition: impl Fn(&World) -> bool) -> Duration {
        let start = Instant::now();
        while !condition(self) {
            if start.elapsed() > DEADLINE {
                panic!("seed {}: not in time: {what}\n{}", self.seed, self.trace());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        start.elapsed()
    }

    pub(super) fn leader(&self) -> Option<(NodeId, u32)> {
        let leaders =
            self.nodes
                .keys()
                .filter_map(|&node| match self.seen(node, |seen| seen.role) {
                    Some(Role::Leader { term }) => Some((node, term)),
                    _ => None,
                });
        leaders.max_by_key(|(_, term)| *term)
    }

    pub(super) async fn wait_for_leader(&self) -> (NodeId, u32) {
        self.until("a leader", |world| world.leader().is_some())
            .await;
        self.leader().unwrap()
    }

    /// Has the leader open a session with the id `session`, and waits until every member has it.
    pub(super) async fn write(&self, session: i64) {
        self.propose(session).await;
        self.until_all_have(session).await;
    }

    pub(super) async fn propose(&self, session: i64) {
        let (leader, term) = self.wait_for_leader().await;
        self.propose_on(leader, term, session);
    }

    pub(super) fn propose_on(&self, leader: NodeId, term: u32, session: i64) {
        let zxid = Zxid(Zxid::start_of(term).0 + session);
        let txns = vec![(zxid, open_session(session))];
        self.nodes[&leader].raft.propose(term, txns);
    }

    pub(super) fn has(&self, node: NodeId, session: i64) -> bool {
        let id = SessionId(session);
        self.seen(node, |seen| seen.state.sessions.contains_key(&id))
    }

    pub(super) async fn until_all_have(&self, session: i64) -> Duration {
        self.until("every member has it", |world| {
            world.nodes.keys().all(|&node| world.has(node, session))
        })
        .await
    }

    pub(super) fn trace(&self) -> String {
        let mut all = String::new();
        for &node in self.nodes.keys() {
            let trace = self.seen(node, |seen| seen.trace.clone());
            write!(all, "server {node}\n{trace}").unwrap();
        }
        all
    }
}

pub(in crate::raft) fn open_session(session: i64) -> Arc<Txn> {
    Arc::new(Txn {
        session: SessionId(session),
        time_ms: 0,
        change: Change::CreateSession {
            password: [1; 16],
            timeout_ms: 1000,
        },
        origin: None,
    })
}

/// A node that only looks, and answers what is forwarded to it.
async fn observe(
    raft: RaftHandle,
    mut inbox: mpsc::Receiver<RaftEvent>,
    seen: Arc<Mutex<Seen>>,
    start: Instant,
) {
    while let Some(event) = inbox.recv().await {
        let mut seen = seen.lock().unwrap();
        let text = match &event {
            RaftEvent::Snapshot(_) => "Snapshot".to_owned(),
            RaftEvent::Install(state) => format!("Install {}", state.last_zxid),
            event => format!("{event:?}"),
        };
        writeln!(seen.trace, "{:?} {text}", start.elapsed()).unwrap();
        match event {
            RaftEvent::Committed(txns) => {
                for (zxid, txn) in txns {
                    seen.state.apply(zxid, &txn).unwrap();
                }
            }
            RaftEvent::Membership(members) => seen.members.push(members),
            RaftEvent::Install(state) => {
                seen.state = *state;
                seen.installs += 1;
            }
            RaftEvent::Snapshot(reply) => drop(reply.send(seen.state.clone())),
            RaftEvent::Role(role) => seen.role = Some(role),
            RaftEvent::Forwarded { from, frame } => raft.answer(from, frame),
            RaftEvent::Answered(frame) => seen.frames.push(frame),
            RaftEvent::ForwardLost => seen.forward_losses += 1,
            RaftEvent::LeadershipConfirmed { token } | RaftEvent::MembershipChanged { token } => {
                seen.tokens.push((token, true));
            }
            RaftEvent::LeadershipLost { token } | RaftEvent::MembershipRefused { token, .. } => {
                seen.tokens.push((token, false));
            }
        }
    }
}
