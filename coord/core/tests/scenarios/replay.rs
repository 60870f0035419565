//! Replay equals live, a snapshot equals its state, and both behave as a model that a child could check.

use std::collections::BTreeMap;

use crate::harness::*;
use bytes::Bytes;
use coord_core::request::{CreateMode, NodeType, Request, Response, Write};
use coord_core::snapshot::{self, Loader};
use coord_core::{Action, CloseReason, Event, OpError, State, Zxid, txn};
use proptest::collection::vec;
use proptest::prelude::*;

/// The model: every node's data, version and count of children ever created, one write at a time.
#[derive(Debug, Clone, Default)]
struct Model {
    nodes: BTreeMap<String, Node>,
}

#[derive(Debug, Clone, Default)]
struct Node {
    data: Vec<u8>,
    version: i32,
    created: i32,
    owner: Option<usize>,
}

impl Model {
    fn new() -> Model {
        let nodes = ["/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config"];
        Model {
            nodes: nodes.map(|path| (path.to_owned(), Node::default())).into(),
        }
    }

    fn parent(path: &str) -> String {
        match path.rsplit_once('/') {
            Some(("", _)) | None => "/".to_owned(),
            Some((parent, _)) => parent.to_owned(),
        }
    }

    fn has_children(&self, path: &str) -> bool {
        self.nodes
            .keys()
            .any(|other| other != "/" && Model::parent(other) == path)
    }

    fn write(&mut self, session: usize, write: &Write) -> Result<(), OpError> {
        match write {
            Write::Create {
                path, data, mode, ..
            } => {
                let parent_path = Model::parent(path);
                let parent = self.nodes.get(&parent_path).ok_or(OpError::NoNode)?.clone();
                let path = if mode.sequential {
                    format!("{path}{:010}", parent.created)
                } else {
                    path.to_string()
                };
                if self.nodes.contains_key(&path) {
                    return Err(OpError::NodeExists);
                }
                if parent.owner.is_some() {
                    return Err(OpError::NoChildrenForEphemerals);
                }
                self.nodes.get_mut(&parent_path).unwrap().created += 1;
                let data = data.clone().unwrap_or_default().to_vec();
                let owner = (mode.node_type == NodeType::Ephemeral).then_some(session);
                self.nodes.insert(
                    path,
                    Node {
                        data,
                        owner,
                        ..Node::default()
                    },
                );
            }
            Write::Delete { path, version } => {
                let node = self.nodes.get(&**path).ok_or(OpError::NoNode)?;
                if *version != -1 && *version != node.version {
                    return Err(OpError::BadVersion);
                }
                if self.has_children(path) {
                    return Err(OpError::NotEmpty);
                }
                self.nodes.remove(&**path);
            }
            Write::SetData {
                path,
                data,
                version,
            } => {
                let node = self.nodes.get_mut(&**path).ok_or(OpError::NoNode)?;
                if *version != -1 && *version != node.version {
                    return Err(OpError::BadVersion);
                }
                node.data = data.clone().unwrap_or_default().to_vec();
                node.version += 1;
            }
            _ => {}
        }
        Ok(())
    }

    fn multi(&mut self, session: usize, writes: &[Write]) -> Option<(usize, OpError)> {
        let before = self.clone();
        for (at, write) in writes.iter().enumerate() {
            if let Err(error) = self.write(session, write) {
                *self = before;
                return Some((at, error));
            }
        }
        None
    }

    fn close(&mut self, session: usize) {
        self.nodes.retain(|_, node| node.owner != Some(session));
    }
}

#[derive(Debug, Clone)]
enum Step {
    Write(usize, Write),
    Multi(usize, Vec<Write>),
    Reconnect(usize),
    Commit(u8),
    Restart,
}

fn path() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("/a"),
        Just("/b"),
        Just("/a/x"),
        Just("/a/y"),
        Just("/a/x/1"),
        Just("/b/x"),
        Just("/a/s-0000000001")
    ]
    .prop_map(str::to_owned)
}

fn write() -> impl Strategy<Value = Write> {
    let node_type = prop_oneof![
        3 => Just(NodeType::Persistent),
        3 => Just(NodeType::Ephemeral),
        1 => Just(NodeType::Container),
    ];
    let mode = (node_type, prop_oneof![4 => Just(false), 1 => Just(true)]).prop_map(
        |(node_type, sequential)| CreateMode {
            node_type,
            sequential,
        },
    );
    prop_oneof![
        4 => (path(), mode).prop_map(|(path, mode)| create_write(&path, mode)),
        2 => (path(), -1..2i32).prop_map(|(path, version)| delete_write(&path, version)),
        2 => (path(), vec(any::<u8>(), 0..3), -1..2i32).prop_map(|(path, data, version)| set_write(&path, &data, version)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => (0..3usize, write()).prop_map(|(session, write)| Step::Write(session, write)),
        3 => (0..3usize, vec(write(), 1..4)).prop_map(|(session, writes)| Step::Multi(session, writes)),
        1 => (0..3usize).prop_map(Step::Reconnect),
        4 => any::<u8>().prop_map(Step::Commit),
        1 => Just(Step::Restart),
    ]
}

fn reloaded(state: &State) -> State {
    let mut loader = Loader::default();
    snapshot::encode(state, |chunk| loader.load(Bytes::copy_from_slice(chunk))).unwrap();
    loader.finish().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    /// Random writes of three sessions that overlap, close and crash: answers as the model's, in each session's order;
    /// the log replayed through its bytes, and the snapshot, are the live state.
    #[test]
    fn live_replay_snapshot_and_model_agree(steps in vec(step(), 1..60)) {
        let mut h = Harness::new();
        let mut sessions: Vec<_> = (0..3).map(|_| h.open()).collect();
        // The model of what is proposed, and of what is committed, by log index.
        let mut model = Model::new();
        let mut expected: Vec<Vec<bool>> = vec![Vec::new(); 3];
        let mut answered: Vec<Vec<bool>> = vec![Vec::new(); 3];
        for step in steps {
            let actions = match step {
                Step::Write(session, write) => {
                    expected[session].push(model.write(session, &write).is_ok());
                    h.ask(sessions[session].0, Request::Write(write))
                }
                Step::Multi(session, writes) => {
                    expected[session].push(model.multi(session, &writes).is_none());
                    h.ask(sessions[session].0, Request::Multi(writes))
                }
                Step::Reconnect(session) => {
                    // The end of one session and a new one in its place.
                    expected[session].push(true);
                    model.close(session);
                    let mut actions = h.ask(sessions[session].0, Request::CloseSession);
                    actions.extend(h.commit());
                    let ended = sessions[session].0;
                    let closed = close(ended, CloseReason::SessionEnded);
                    prop_assert!(actions.contains(&closed));
                    collect(&actions, &sessions, &mut answered);
                    sessions[session] = h.open();
                    Vec::new()
                }
                Step::Commit(part) => {
                    let open = h.coordinator.pending_len();
                    h.commit_to(h.log.len() - open + open * usize::from(part) / 255)
                }
                Step::Restart => {
                    let actions = h.commit();
                    collect(&actions, &sessions, &mut answered);
                    h.restart();
                    for (connection, session) in &mut sessions {
                        *connection = h.resume(*session, h.coordinator.state().last_zxid);
                    }
                    Vec::new()
                }
            };
            collect(&actions, &sessions, &mut answered);
        }
        let actions = h.commit();
        collect(&actions, &sessions, &mut answered);
        prop_assert_eq!(&answered, &expected);

        let live = h.coordinator.state();
        let nodes: BTreeMap<String, (Vec<u8>, i32, i32)> = live.tree.iter().map(|(path, node)| {
            (path.to_string(), (node.data.clone().unwrap_or_default().to_vec(), node.version, node.child_creates))
        }).collect();
        let wanted: BTreeMap<_, _> =
            model.nodes.into_iter().map(|(path, node)| (path, (node.data, node.version, node.created))).collect();
        prop_assert_eq!(nodes, wanted);

        let mut replayed = State::default();
        for (zxid, decided) in &h.log {
            let mut bytes = Vec::new();
            txn::encode(*zxid, decided, &mut bytes);
            let (zxid, txn) = txn::decode(bytes.into()).unwrap();
            prop_assert_eq!(&txn, &**decided);
            replayed.apply(zxid, &txn).unwrap();
        }
        prop_assert_eq!(&replayed, live);
        prop_assert_eq!(&reloaded(live), live);
    }

    #[test]
    fn hostile_bytes_are_no_transaction_and_no_snapshot(bytes in vec(prop_oneof![Just(0u8), 0..6u8, any::<u8>()], 0..120)) {
        let _ = txn::decode(bytes.clone().into());
        let mut loader = Loader::default();
        let _ = loader.load(bytes.into());
        let _ = loader.finish();
    }
}

/// Notes which answers, by session, were successes.
fn collect(
    actions: &[Action],
    sessions: &[(coord_core::ConnectionId, coord_core::SessionId)],
    answered: &mut [Vec<bool>],
) {
    for action in actions {
        if let Action::Reply {
            connection, result, ..
        } = action
            && let Some(at) = sessions.iter().position(|(of, _)| of == connection)
        {
            answered[at].push(
                matches!(result, Ok(response) if !matches!(response, Response::MultiFailed(_))),
            );
        }
    }
}

#[test]
fn a_snapshot_cut_anywhere_is_refused() {
    let mut h = Harness::new();
    let (a, _) = h.open();
    for path in ["/a", "/a/b", "/c"] {
        h.answer(a, Request::Write(create_write(path, PERSISTENT)))
            .unwrap();
    }
    h.handle(Event::Disconnected { connection: a });
    let mut bytes = Vec::new();
    snapshot::encode(h.coordinator.state(), |chunk| {
        bytes.extend_from_slice(chunk);
        Ok::<(), ()>(())
    })
    .unwrap();
    for len in 0..bytes.len() {
        let mut loader = Loader::default();
        let loaded = loader.load(Bytes::copy_from_slice(&bytes[..len]));
        assert!(
            loaded.is_err() || loader.finish().is_err(),
            "cut at {len} of {}",
            bytes.len()
        );
    }
}

#[test]
fn a_snapshot_of_a_version_without_claims_is_read() {
    let mut h = Harness::new();
    let (_, session) = h.open();
    let mut bytes = Vec::new();
    snapshot::encode(h.coordinator.state(), |chunk| {
        bytes.extend_from_slice(chunk);
        Ok::<(), ()>(())
    })
    .unwrap();
    // The claim is the last of the one session, which comes first behind the header.
    let session_at = 2 + 8 + 8 + 4 + 4;
    let claim_at = session_at + 1 + 8 + 16 + 4;
    bytes.drain(claim_at..claim_at + 8);
    bytes[1] = 1;
    let mut loader = Loader::default();
    loader.load(bytes.into()).unwrap();
    let state = loader.finish().unwrap();
    let mut expected = h.coordinator.state().clone();
    expected.sessions.get_mut(&session).unwrap().claim = Zxid(0);
    assert_eq!(state, expected);
}
