//! What ZooKeeper's specification says of a tree: a second, slow and plain opinion that shares no code with coord.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;
use coord_core::request::{CreateMode, NodeType, Read, Request, Response, Write};
use coord_core::tree::{Stat, Znode};
use coord_core::txn::{Change, Effect};
use coord_core::watch::WatchEventType;
use coord_core::{EphemeralType, OpError, SessionId, State, Txn, Zxid};

/// A znode.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    data: Option<Bytes>,
    czxid: Zxid,
    mzxid: Zxid,
    pzxid: Zxid,
    version: i32,
    cversion: i32,
    /// Children ever created.
    created: i32,
    /// What it lives in or by.
    kind: EphemeralType,
    /// When its data was set, by the clock of who decided it.
    mtime_ms: i64,
    children: BTreeSet<String>,
}

/// The tree and the open sessions behind one transaction.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// The transaction.
    pub zxid: Zxid,
    nodes: BTreeMap<String, Arc<Node>>,
    /// The open sessions.
    pub sessions: BTreeSet<SessionId>,
}

/// What a write answers, as far as the specification fixes it.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// A znode was created there.
    Created(String),
    /// A znode's data was set, and this is its version now.
    Set(i32),
    /// Deleted, or checked.
    Done,
}

fn parent_of(path: &str) -> &str {
    match path.rfind('/') {
        Some(0) | None => "/",
        Some(at) => &path[..at],
    }
}

/// The session that a znode lives in, or none.
pub fn owner_of(ephemeral_type: EphemeralType) -> SessionId {
    match ephemeral_type {
        EphemeralType::Normal(session) => session,
        _ => SessionId::NONE,
    }
}

fn name_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

/// The names of a znode's children.
fn names_of(znode: &Znode) -> BTreeSet<String> {
    let names = znode.children.iter().map(|path| name_of(path));
    names.map(str::to_owned).collect()
}

/// Paths that are there from the start, and that no client of the simulator touches.
pub fn is_fixed(path: &str) -> bool {
    path == "/" || path == "/zookeeper" || path.starts_with("/zookeeper/")
}

impl Default for Model {
    fn default() -> Model {
        let node = |children: &[&str]| {
            Arc::new(Node {
                data: None,
                czxid: Zxid(0),
                mzxid: Zxid(0),
                pzxid: Zxid(0),
                version: 0,
                cversion: 0,
                created: 0,
                kind: EphemeralType::Void,
                mtime_ms: 0,
                children: children.iter().map(ToString::to_string).collect(),
            })
        };
        Model {
            zxid: Zxid(0),
            nodes: BTreeMap::from([
                ("/".to_owned(), node(&["zookeeper"])),
                ("/zookeeper".to_owned(), node(&["config", "quota"])),
                ("/zookeeper/config".to_owned(), node(&[])),
                ("/zookeeper/quota".to_owned(), node(&[])),
            ]),
            sessions: BTreeSet::new(),
        }
    }
}

impl Model {
    /// What a node holds, taken on trust.
    pub fn of(state: &State) -> Model {
        let node = |znode: &Znode| Node {
            data: znode.data.clone(),
            czxid: znode.czxid,
            mzxid: znode.mzxid,
            pzxid: znode.pzxid,
            version: znode.version,
            cversion: znode.stat().cversion,
            created: znode.child_creates,
            kind: znode.ephemeral_type,
            mtime_ms: znode.mtime_ms,
            children: names_of(znode),
        };
        let nodes = state.tree.iter();
        Model {
            zxid: state.last_zxid,
            nodes: nodes
                .map(|(path, znode)| (path.to_string(), Arc::new(node(znode))))
                .collect(),
            sessions: state.sessions.keys().copied().collect(),
        }
    }

    /// Follows a transaction that was committed; says why if it contradicts the state.
    pub fn apply(&mut self, zxid: Zxid, txn: &Txn) -> Result<(), String> {
        match &txn.change {
            Change::CreateSession { .. } => {
                if !self.sessions.insert(txn.session) {
                    return Err(format!("session {} is opened twice", txn.session));
                }
            }
            Change::ResumeSession { .. } => {
                if !self.sessions.contains(&txn.session) {
                    return Err(format!("session {} is resumed and not open", txn.session));
                }
            }
            Change::CloseSession => {
                if !self.sessions.remove(&txn.session) {
                    return Err(format!("session {} ends and is not open", txn.session));
                }
                let owned: Vec<String> = self.ephemerals(txn.session).map(str::to_owned).collect();
                for path in &owned {
                    self.remove(path, zxid)?;
                }
            }
            Change::Effects(effects) => {
                if let ([Effect::Delete { path }], SessionId::NONE) = (&effects[..], txn.session) {
                    self.has_outlived(path, txn.time_ms)?;
                }
                for effect in effects {
                    self.effect(zxid, txn, effect)?;
                }
            }
        }
        self.zxid = zxid;
        Ok(())
    }

    /// Says why if a leader may not remove a znode by itself.
    fn has_outlived(&self, path: &str, time_ms: i64) -> Result<(), String> {
        let outlived = self.nodes.get(path).is_some_and(|node| match node.kind {
            EphemeralType::Container => node.created > 0,
            EphemeralType::Ttl(ttl_ms) => time_ms - node.mtime_ms > ttl_ms,
            EphemeralType::Void | EphemeralType::Normal(_) => false,
        });
        match outlived {
            true => Ok(()),
            false => Err(format!("{path} is removed, and nobody asked for it")),
        }
    }

    /// The containers that had children and have none, each with the transaction that took the last.
    pub fn outlived_containers(&self) -> impl Iterator<Item = (&str, Zxid)> {
        let outlived = |node: &Node| {
            node.kind == EphemeralType::Container && node.created > 0 && node.children.is_empty()
        };
        let nodes = self.nodes.iter();
        nodes.filter_map(move |(path, node)| outlived(node).then_some((&**path, node.pzxid)))
    }

    fn effect(&mut self, zxid: Zxid, txn: &Txn, effect: &Effect) -> Result<(), String> {
        let (session, time_ms) = (txn.session, txn.time_ms);
        match effect {
            Effect::Create {
                path,
                data,
                ephemeral_type,
                ..
            } => {
                let owner = owner_of(*ephemeral_type);
                if owner.is_some() && !self.sessions.contains(&session) {
                    return Err(format!(
                        "{path} is created for {session}, which is not open"
                    ));
                }
                self.create(path, data.clone(), *ephemeral_type, (zxid, time_ms))
            }
            Effect::Delete { path } => self.remove(path, zxid),
            Effect::SetData {
                path,
                data,
                version,
            } => {
                let node = self.node_mut(path)?;
                node.data = data.clone();
                node.version = *version;
                node.mzxid = zxid;
                node.mtime_ms = time_ms;
                Ok(())
            }
            Effect::Check => Ok(()),
            other => Err(format!("nobody asked for {other:?}")),
        }
    }

    fn create(
        &mut self,
        path: &str,
        data: Option<Bytes>,
        kind: EphemeralType,
        (zxid, time_ms): (Zxid, i64),
    ) -> Result<(), String> {
        let parent = self.node_mut(parent_of(path))?;
        parent.children.insert(name_of(path).to_owned());
        parent.cversion += 1;
        parent.created += 1;
        parent.pzxid = zxid;
        let node = Node {
            data,
            czxid: zxid,
            mzxid: zxid,
            pzxid: zxid,
            version: 0,
            cversion: 0,
            created: 0,
            kind,
            mtime_ms: time_ms,
            children: BTreeSet::new(),
        };
        match self.nodes.insert(path.to_owned(), Arc::new(node)) {
            None => Ok(()),
            Some(_) => Err(format!("{path} is created and exists")),
        }
    }

    fn remove(&mut self, path: &str, zxid: Zxid) -> Result<(), String> {
        match self.nodes.remove(path) {
            None => return Err(format!("{path} is deleted and does not exist")),
            Some(node) if !node.children.is_empty() => {
                return Err(format!("{path} is deleted and has children"));
            }
            Some(_) => {}
        }
        let parent = self.node_mut(parent_of(path))?;
        parent.children.remove(name_of(path));
        parent.cversion += 1;
        parent.pzxid = zxid;
        Ok(())
    }

    fn node_mut(&mut self, path: &str) -> Result<&mut Node, String> {
        self.nodes
            .get_mut(path)
            .map(Arc::make_mut)
            .ok_or_else(|| format!("{path} is changed and does not exist"))
    }

    /// The paths of the znodes that a session owns.
    pub fn ephemerals(&self, session: SessionId) -> impl Iterator<Item = &str> {
        self.nodes
            .iter()
            .filter(move |(_, node)| node.kind == EphemeralType::Normal(session))
            .map(|(path, _)| &**path)
    }

    /// Does what a session asks for as transaction `zxid`, decided at `time_ms`: all of it, or nothing and says which part is refused.
    pub fn execute(
        &self,
        session: SessionId,
        (zxid, time_ms): (Zxid, i64),
        writes: &[Write],
    ) -> Result<(Model, Vec<Outcome>), (usize, OpError)> {
        let mut after = self.clone();
        if !self.sessions.contains(&session) {
            return Err((0, OpError::SessionExpired));
        }
        let mut outcomes = Vec::with_capacity(writes.len());
        for (at, write) in writes.iter().enumerate() {
            let outcome = after.write(session, (zxid, time_ms), write);
            outcomes.push(outcome.map_err(|error| (at, error))?);
        }
        after.zxid = zxid;
        Ok((after, outcomes))
    }

    fn write(
        &mut self,
        session: SessionId,
        (zxid, time_ms): (Zxid, i64),
        write: &Write,
    ) -> Result<Outcome, OpError> {
        let versioned = |model: &Model, path: &str, wanted: i32| {
            let node = model.nodes.get(path).ok_or(OpError::NoNode)?;
            let fits = wanted == -1 || wanted == node.version;
            if fits {
                Ok(node.clone())
            } else {
                Err(OpError::BadVersion)
            }
        };
        // The checks above each change leave it no way to contradict the state.
        let changed =
            |result: Result<(), String>| result.map_err(|_| OpError::RuntimeInconsistency);
        match write {
            Write::Create {
                path, data, mode, ..
            } => {
                let CreateMode {
                    node_type,
                    sequential,
                } = *mode;
                let kind = match node_type {
                    NodeType::Persistent => EphemeralType::Void,
                    NodeType::Ephemeral => EphemeralType::Normal(session),
                    NodeType::Container => EphemeralType::Container,
                    NodeType::Ttl { ttl_ms } => EphemeralType::Ttl(ttl_ms),
                };
                let parent = self.nodes.get(parent_of(path)).ok_or(OpError::NoNode)?;
                let path = match sequential {
                    true => format!("{path}{:010}", parent.created),
                    false => path.to_string(),
                };
                if self.nodes.contains_key(&path) {
                    return Err(OpError::NodeExists);
                }
                if owner_of(parent.kind).is_some() {
                    return Err(OpError::NoChildrenForEphemerals);
                }
                changed(self.create(&path, data.clone(), kind, (zxid, time_ms)))?;
                Ok(Outcome::Created(path))
            }
            Write::Delete { path, version } => {
                let node = versioned(self, path, *version)?;
                if !node.children.is_empty() {
                    return Err(OpError::NotEmpty);
                }
                changed(self.remove(path, zxid))?;
                Ok(Outcome::Done)
            }
            Write::SetData {
                path,
                data,
                version,
            } => {
                versioned(self, path, *version)?;
                let node = self.node_mut(path).map_err(|_| OpError::NoNode)?;
                node.data = data.clone();
                node.version += 1;
                node.mzxid = zxid;
                node.mtime_ms = time_ms;
                Ok(Outcome::Set(node.version))
            }
            Write::Check { path, version } => {
                versioned(self, path, *version)?;
                Ok(Outcome::Done)
            }
            _ => Err(OpError::Unimplemented),
        }
    }

    /// Where a node's state differs from this, which it has to equal.
    pub fn difference(&self, state: &State) -> Option<String> {
        let sessions: BTreeSet<SessionId> = state.sessions.keys().copied().collect();
        if sessions != self.sessions {
            return Some(format!(
                "it has the sessions {sessions:?}, not {:?}",
                self.sessions
            ));
        }
        for (path, node) in self.nodes.iter().filter(|(path, _)| !is_fixed(path)) {
            let Some(znode) = state.tree.get(path) else {
                return Some(format!("it lacks {path}"));
            };
            let children = names_of(znode);
            let stat = znode.stat();
            let data = Response::Data(znode.data.clone(), stat);
            let expected = Seen::of(node, Some(node.data.clone()), None);
            if children != node.children || Seen::answered(&data) != Some(expected) {
                return Some(format!("its {path} is {znode:?}, not {node:?}"));
            }
        }
        let stray = state
            .tree
            .iter()
            .find(|(path, _)| !self.nodes.contains_key(&***path));
        stray.map(|(path, _)| format!("it has {path}"))
    }

    /// What a read has to answer here; `None` for what the specification leaves open.
    pub fn read(&self, read: &Read) -> Option<Result<Seen, OpError>> {
        let seen = |path: &str, what: fn(&Node) -> Seen| {
            Some(
                self.nodes
                    .get(path)
                    .map(|node| what(node))
                    .ok_or(OpError::NoNode),
            )
        };
        match read {
            Read::Exists { path, .. }
            | Read::GetData { path, .. }
            | Read::GetChildren { path, .. }
                if is_fixed(path) =>
            {
                None
            }
            Read::Exists { path, .. } => seen(path, |node| Seen::of(node, None, None)),
            Read::GetData { path, .. } => {
                seen(path, |node| Seen::of(node, Some(node.data.clone()), None))
            }
            Read::GetChildren { path, .. } => seen(path, |node| {
                Seen::of(node, None, Some(node.children.clone()))
            }),
            _ => None,
        }
    }

    /// The events of a one-shot watch on `path` that were missed since the state `since`, as SetWatches tells them.
    pub fn missed(&self, watched: Watched, path: &str, since: Zxid) -> Option<WatchEventType> {
        match (watched, self.nodes.get(path)) {
            (Watched::Absence, node) => node.map(|_| WatchEventType::NodeCreated),
            (_, None) => Some(WatchEventType::NodeDeleted),
            (Watched::Data, Some(node)) => {
                (node.mzxid > since).then_some(WatchEventType::NodeDataChanged)
            }
            (Watched::Children, Some(node)) => {
                (node.pzxid > since).then_some(WatchEventType::NodeChildrenChanged)
            }
        }
    }
}

/// What a watch was left on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Watched {
    /// A znode's data.
    Data,
    /// A znode that is not there.
    Absence,
    /// A znode's children.
    Children,
}

/// What a read shows of a znode.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    data: Option<Option<Bytes>>,
    children: Option<BTreeSet<String>>,
    stat: [i64; 8],
}

impl Seen {
    fn of(node: &Node, data: Option<Option<Bytes>>, children: Option<BTreeSet<String>>) -> Seen {
        let data_len = node.data.as_ref().map_or(0, Bytes::len);
        Seen {
            data,
            children,
            stat: [
                node.czxid.0,
                node.mzxid.0,
                node.pzxid.0,
                node.version.into(),
                node.cversion.into(),
                owner_of(node.kind).0,
                data_len as i64,
                node.children.len() as i64,
            ],
        }
    }

    /// What an answer showed; `None` if it is no answer to a read of the tree.
    pub fn answered(response: &Response) -> Option<Seen> {
        let (data, children, stat) = match response {
            Response::Stat(stat) => (None, None, stat),
            Response::Data(data, stat) => (Some(data.clone()), None, stat),
            Response::Children2(names, stat) => {
                let names = names.iter().map(ToString::to_string).collect();
                (None, Some(names), stat)
            }
            _ => return None,
        };
        let Stat {
            czxid,
            mzxid,
            pzxid,
            version,
            cversion,
            ephemeral_owner,
            data_len,
            children: children_len,
            ..
        } = *stat;
        Some(Seen {
            data,
            children,
            stat: [
                czxid.0,
                mzxid.0,
                pzxid.0,
                version.into(),
                cversion.into(),
                ephemeral_owner.0,
                data_len.into(),
                children_len.into(),
            ],
        })
    }
}

/// The writes of a request; `None` if it is no write.
pub fn writes(request: &Request) -> Option<&[Write]> {
    match request {
        Request::Write(write) => Some(std::slice::from_ref(write)),
        Request::Multi(writes) => Some(writes),
        _ => None,
    }
}

/// What a transaction on the state `before` tells the watchers of this path, in the order of its effects.
pub fn events_of(txn: &Txn, before: Option<&Model>) -> Vec<(WatchEventType, ByteString)> {
    let mut events = Vec::new();
    let parent = |path: &ByteString| ByteString::from(parent_of(path));
    let deleted = |path: &ByteString, events: &mut Vec<_>| {
        events.push((WatchEventType::NodeDeleted, path.clone()));
        events.push((WatchEventType::NodeChildrenChanged, parent(path)));
    };
    match &txn.change {
        Change::CreateSession { .. } | Change::ResumeSession { .. } => {}
        Change::CloseSession => {
            for path in before
                .iter()
                .flat_map(|before| before.ephemerals(txn.session))
            {
                deleted(&path.into(), &mut events);
            }
        }
        Change::Effects(effects) => {
            for effect in effects {
                match effect {
                    Effect::Create { path, .. } => {
                        events.push((WatchEventType::NodeCreated, path.clone()));
                        events.push((WatchEventType::NodeChildrenChanged, parent(path)));
                    }
                    Effect::Delete { path } => deleted(path, &mut events),
                    Effect::SetData { path, .. } => {
                        events.push((WatchEventType::NodeDataChanged, path.clone()));
                    }
                    _ => {}
                }
            }
        }
    }
    events
}
