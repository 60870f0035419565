//! Members over real sockets and on a real disk. Each has a runtime of its own, and dropping it is its end: the operating
//! system then closes its sockets, as it does after SIGKILL.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use coord_core::server_spec::ServerSpec;
use coord_core::{NodeId, SessionId, State, Zxid};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use super::{GrpcTransport, QuorumTls, serve};
use crate::raft::tests::open_session;
use crate::raft::{
    Disk, Fatal, RaftEvent, RaftHandle, RecoveryError, Role, Settings, StdDisk, recover,
};

const DEADLINE: Duration = Duration::from_secs(30);

const BATCH_MAX_LEN: usize = 1024 * 1024;

#[derive(Debug, Default)]
struct Seen {
    state: State,
    role: Option<Role>,
    answers: Vec<Bytes>,
    installs: usize,
}

struct Member {
    raft: RaftHandle,
    runtime: Runtime,
    seen: Arc<Mutex<Seen>>,
}

impl Member {
    fn kill(self) {
        drop(self.raft);
        self.runtime.shutdown_timeout(Duration::from_secs(1));
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        let nodes: Vec<NodeId> = self.running.keys().copied().collect();
        for node in nodes {
            self.kill(node);
            // Its log is closed when its directory is free.
            let dir = self.dirs[&node].path();
            self.until("the directory is free", |_| StdDisk.lock(dir).is_ok());
        }
    }
}

struct Members {
    running: BTreeMap<NodeId, Member>,
    dirs: BTreeMap<NodeId, TempDir>,
    servers: BTreeMap<NodeId, ServerSpec>,
    tls: BTreeMap<NodeId, QuorumTls>,
    snap_count: u64,
}

impl Members {
    fn new(count: u64) -> Members {
        let free = || std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let listeners: Vec<_> = (0..count).map(|_| free()).collect();
        let server = |(node, listener): (u64, &std::net::TcpListener)| {
            let server = ServerSpec {
                host: "127.0.0.1".to_owned(),
                quorum_port: listener.local_addr().unwrap().port(),
                election_port: 1,
                ..ServerSpec::default()
            };
            (NodeId(node), server)
        };
        Members {
            dirs: (1..=count)
                .map(|node| (NodeId(node), tempfile::tempdir().unwrap()))
                .collect(),
            servers: (1..).zip(&listeners).map(server).collect(),
            running: BTreeMap::new(),
            tls: BTreeMap::new(),
            snap_count: 100_000,
        }
    }

    fn started(count: u64) -> Members {
        let mut members = Members::new(count);
        for node in 1..=count {
            members.start(NodeId(node));
        }
        members
    }

    fn start(&mut self, node: NodeId) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let settings = Settings {
            node,
            servers: self.servers.clone(),
            data_dir: self.dirs[&node].path().to_owned(),
            zookeeper_dirs: Vec::new(),
            tick_time_ms: 2000,
            sync_limit: 5,
            init_limit: 10,
            snap_count: self.snap_count,
            batch_max_len: BATCH_MAX_LEN,
            quorum_grace: Duration::from_secs(4),
            seed: node.0,
            fatal: Fatal::new(|reason| eprintln!("{reason}")),
        };
        let seen = Arc::new(Mutex::new(Seen::default()));
        let tls = self.tls.get(&node).cloned();
        let start = async {
            let port = self.servers[&node].quorum_port;
            let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
            let deadline = Instant::now() + DEADLINE;
            let recovered = loop {
                match recover(&settings, Arc::new(StdDisk)).await {
                    // The log of its life before is still being closed.
                    Err(RecoveryError::Lock(_)) if Instant::now() < deadline => {}
                    recovered => break recovered.unwrap(),
                }
            };
            seen.lock().unwrap().state = recovered.state;
            let transport = Arc::new(GrpcTransport::new(tls.clone(), BATCH_MAX_LEN));
            let (events, inbox) = mpsc::channel(64);
            let raft = RaftHandle::start(settings, recovered.storage, transport, events)
                .await
                .unwrap();
            tokio::spawn(serve(listener, raft.service(), tls, BATCH_MAX_LEN));
            tokio::spawn(observe(raft.clone(), inbox, seen.clone()));
            raft
        };
        let raft = runtime.block_on(start);
        let member = Member {
            runtime,
            raft,
            seen,
        };
        self.running.insert(node, member);
    }

    fn kill(&mut self, node: NodeId) {
        self.running.remove(&node).unwrap().kill();
    }

    fn until(&self, what: &str, condition: impl Fn(&Members) -> bool) -> Duration {
        let start = Instant::now();
        while !condition(self) {
            assert!(start.elapsed() < DEADLINE, "not in time: {what}");
            std::thread::yield_now();
        }
        start.elapsed()
    }

    fn seen<T>(&self, node: NodeId, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.running[&node].seen.lock().unwrap())
    }

    fn leader(&self) -> Option<(NodeId, u32)> {
        self.running
            .keys()
            .find_map(|node| match self.seen(*node, |seen| seen.role) {
                Some(Role::Leader { term }) => Some((*node, term)),
                _ => None,
            })
    }

    fn write(&self, session: i64) {
        self.until("a leader", |members| members.leader().is_some());
        let (leader, term) = self.leader().unwrap();
        let zxid = Zxid(Zxid::start_of(term).0 + session);
        let txns = vec![(zxid, open_session(session))];
        self.running[&leader].raft.propose(term, txns);
        self.until("all have it", |members| members.all_have(session));
    }

    fn all_have(&self, session: i64) -> bool {
        let has = |seen: &Seen| seen.state.sessions.contains_key(&SessionId(session));
        self.running.keys().all(|node| self.seen(*node, has))
    }
}

async fn observe(raft: RaftHandle, mut inbox: mpsc::Receiver<RaftEvent>, seen: Arc<Mutex<Seen>>) {
    while let Some(event) = inbox.recv().await {
        let mut seen = seen.lock().unwrap();
        match event {
            RaftEvent::Committed(txns) => {
                for (zxid, txn) in txns {
                    seen.state.apply(zxid, &txn).unwrap();
                }
            }
            RaftEvent::Install(state) => {
                seen.state = *state;
                seen.installs += 1;
            }
            RaftEvent::Snapshot(reply) => drop(reply.send(seen.state.clone())),
            RaftEvent::Role(role) => seen.role = Some(role),
            RaftEvent::Forwarded { from, frame } => raft.answer(from, frame),
            RaftEvent::Answered(frame) => seen.answers.push(frame),
            _ => {}
        }
    }
}

#[test]
fn a_leader_that_is_killed_is_replaced_at_once_and_comes_back() {
    let mut members = Members::started(3);
    for session in 1..20 {
        members.write(session);
    }
    let (leader, _) = members.leader().unwrap();
    members.kill(leader);
    let took = members.until("a new leader", |members| members.leader().is_some());
    assert!(took < Duration::from_secs(1), "{took:?}");
    members.write(20);
    members.start(leader);
    members.write(21);
}

#[test]
fn frames_are_answered_in_order() {
    let members = Members::started(3);
    members.write(1);
    let (leader, _) = members.leader().unwrap();
    let follower = *members
        .running
        .keys()
        .find(|node| **node != leader)
        .unwrap();
    let frames: Vec<Bytes> = (0..100u8).map(|at| vec![at; 10_000].into()).collect();
    for frame in &frames {
        members.running[&follower].raft.forward(frame.clone());
    }
    members.until("all answers", |members| {
        members.seen(follower, |seen| seen.answers.len()) == frames.len()
    });
    assert_eq!(members.seen(follower, |seen| seen.answers.clone()), frames);
}

#[test]
fn a_member_that_is_far_behind_is_sent_a_snapshot() {
    let mut members = Members::new(3);
    members.snap_count = 10;
    for node in 1..=3 {
        members.start(NodeId(node));
    }
    members.write(1);
    let (leader, _) = members.leader().unwrap();
    let follower = *members
        .running
        .keys()
        .find(|node| **node != leader)
        .unwrap();
    members.kill(follower);
    for session in 2..60 {
        members.write(session);
    }
    members.start(follower);
    members.until("it has all", |members| members.all_have(59));
    assert_eq!(members.seen(follower, |seen| seen.installs), 1);
    members.write(60);
}
