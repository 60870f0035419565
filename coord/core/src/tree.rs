//! The znodes.

mod subtree;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use crate::acl::{self, AclList};
use crate::ephemeral_type::EphemeralType;
use crate::path;
use crate::quota;
use crate::zxid::{SessionId, Zxid};
pub use subtree::Subtree;

/// How many different ACLs are remembered, so that znodes can share them.
const SHARED_ACLS: usize = 16;

/// One znode.
#[derive(Debug, Clone, PartialEq)]
pub struct Znode {
    /// Its data; clients may leave it null.
    pub data: Option<Bytes>,
    /// Who may do what to it.
    pub acl: Arc<AclList>,
    /// The transaction that created it.
    pub czxid: Zxid,
    /// The transaction that last set its data.
    pub mzxid: Zxid,
    /// The transaction that last changed its set of children.
    pub pzxid: Zxid,
    /// When it was created, in milliseconds since 1970.
    pub ctime_ms: i64,
    /// When its data was last set, in milliseconds since 1970.
    pub mtime_ms: i64,
    /// Changes of its data.
    pub version: i32,
    /// Changes of its ACL.
    pub aversion: i32,
    /// Children that were ever created: the next sequence number. Deleted ones do not take it back.
    pub child_creates: i32,
    /// What it lives in or by.
    pub ephemeral_type: EphemeralType,
    /// Paths of its children, which are those that the tree finds them by.
    pub children: BTreeSet<Arc<str>>,
}

/// What a znode is, beside its data and its children's names, as a client sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// The transaction that created it.
    pub czxid: Zxid,
    /// The transaction that last set its data.
    pub mzxid: Zxid,
    /// The transaction that last changed its set of children.
    pub pzxid: Zxid,
    /// When it was created, in milliseconds since 1970.
    pub ctime_ms: i64,
    /// When its data was last set, in milliseconds since 1970.
    pub mtime_ms: i64,
    /// Changes of its data.
    pub version: i32,
    /// Changes of its set of children.
    pub cversion: i32,
    /// Changes of its ACL.
    pub aversion: i32,
    /// The session that it lives in, or none. Of containers and of times to live clients are not told, as in ZooKeeper.
    pub ephemeral_owner: SessionId,
    /// Length of its data, in bytes.
    pub data_len: i32,
    /// Count of its children.
    pub children: i32,
}

impl Znode {
    /// A znode as it is just after its creation.
    pub fn new(
        data: Option<Bytes>,
        acl: Arc<AclList>,
        ephemeral_type: EphemeralType,
        zxid: Zxid,
        time_ms: i64,
    ) -> Znode {
        Znode {
            data,
            acl,
            czxid: zxid,
            mzxid: zxid,
            pzxid: zxid,
            ctime_ms: time_ms,
            mtime_ms: time_ms,
            version: 0,
            aversion: 0,
            child_creates: 0,
            ephemeral_type,
            children: BTreeSet::new(),
        }
    }

    /// What a client sees of it. Its cversion counts creations and deletions of children.
    pub fn stat(&self) -> Stat {
        let children = self.children.len() as i32;
        Stat {
            czxid: self.czxid,
            mzxid: self.mzxid,
            pzxid: self.pzxid,
            ctime_ms: self.ctime_ms,
            mtime_ms: self.mtime_ms,
            version: self.version,
            cversion: self.child_creates.wrapping_mul(2).wrapping_sub(children),
            aversion: self.aversion,
            ephemeral_owner: self.ephemeral_type.session().unwrap_or_default(),
            data_len: self.data.as_ref().map_or(0, |data| data.len() as i32),
            children,
        }
    }
}

/// The same bytes in an allocation of their own. What comes is a slice of a client's frame, or of a whole batch or file of
/// the log, which one small znode would hold in memory for as long as it lives.
fn own(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

/// A transaction that the tree cannot take: the log is not the one that made this tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// The znode, or the parent of one to create, does not exist.
    #[error("{0} does not exist")]
    Missing(String),
    /// The znode to create exists.
    #[error("{0} exists already")]
    Exists(String),
    /// The znode to delete has children.
    #[error("{0} has children")]
    HasChildren(String),
}

/// All znodes by path, and the ephemerals by session. Cloning shares the znodes, so a snapshot costs a pointer each.
#[derive(Debug, Clone)]
pub struct Tree {
    nodes: HashMap<Arc<str>, Arc<Znode>>,
    /// How many children every znode has that has any: what is below one is counted from this without going there.
    child_counts: BTreeMap<Arc<str>, usize>,
    ephemerals: HashMap<SessionId, BTreeSet<Arc<str>>>,
    /// Containers and znodes with a time to live, for the one that removes them.
    reapable: BTreeSet<Arc<str>>,
    /// What quotas are set on.
    quotas: BTreeSet<Arc<str>>,
    /// ACLs that znodes were given of late, to be kept once each.
    acls: VecDeque<Arc<AclList>>,
    ephemerals_len: usize,
    data_len: usize,
}

impl PartialEq for Tree {
    fn eq(&self, other: &Tree) -> bool {
        self.nodes == other.nodes
            && self.ephemerals == other.ephemerals
            && self.reapable == other.reapable
            && self.quotas == other.quotas
    }
}

impl Default for Tree {
    /// The reserved znodes alone.
    fn default() -> Tree {
        let mut tree = Tree::empty();
        for reserved in path::RESERVED {
            let acl = if reserved == "/zookeeper/config" {
                acl::read_only()
            } else {
                acl::open()
            };
            tree.restore(
                reserved.into(),
                Znode::new(Some(Bytes::new()), acl, EphemeralType::Void, Zxid(0), 0),
            );
        }
        tree.link_children();
        tree
    }
}

impl Tree {
    /// A tree without even a root, to be filled by [`Tree::restore`] and [`Tree::link_children`].
    pub(crate) fn empty() -> Tree {
        Tree {
            nodes: HashMap::new(),
            child_counts: BTreeMap::new(),
            ephemerals: HashMap::new(),
            reapable: BTreeSet::new(),
            quotas: BTreeSet::new(),
            acls: VecDeque::new(),
            ephemerals_len: 0,
            data_len: 0,
        }
    }

    /// The same ACL, in the allocation that other znodes have it in: most trees know a few ACLs and many znodes.
    fn shared(&mut self, acl: Arc<AclList>) -> Arc<AclList> {
        if let Some(known) = self.acls.iter().find(|known| **known == acl) {
            return known.clone();
        }
        if self.acls.len() == SHARED_ACLS {
            self.acls.pop_front();
        }
        self.acls.push_back(acl.clone());
        acl
    }

    /// Puts back a znode of a snapshot.
    pub(crate) fn restore(&mut self, path: Arc<str>, mut node: Znode) {
        node.acl = self.shared(node.acl);
        node.data = node.data.as_ref().map(own);
        self.data_len += path.len() + node.data.as_ref().map_or(0, Bytes::len);
        match node.ephemeral_type {
            EphemeralType::Void => {}
            EphemeralType::Normal(session) => {
                self.ephemerals_len += 1;
                let owned = self.ephemerals.entry(session).or_default();
                owned.insert(path.clone());
            }
            EphemeralType::Container | EphemeralType::Ttl(_) => {
                self.reapable.insert(path.clone());
            }
        }
        if let Some(of) = quota::limited_by(&path) {
            self.quotas.insert(of.into());
        }
        self.nodes.insert(path, Arc::new(node));
    }

    /// Enters every znode among its parent's children, once all are restored. Gives back a path without a parent.
    pub(crate) fn link_children(&mut self) -> Option<Arc<str>> {
        let paths: Vec<Arc<str>> = self.nodes.keys().cloned().collect();
        for path in paths {
            let Some((parent, _)) = path::split(&path) else {
                continue;
            };
            if self.add_child(parent, path.clone()).is_none() {
                return Some(path);
            }
        }
        None
    }

    /// Enters a znode among the children of `parent`, which it gives back if it exists.
    fn add_child(&mut self, parent: &str, path: Arc<str>) -> Option<&mut Znode> {
        match self.child_counts.get_mut(parent) {
            Some(count) => *count += 1,
            None => {
                let (parent, _) = self.nodes.get_key_value(parent)?;
                self.child_counts.insert(parent.clone(), 1);
            }
        }
        let parent = Arc::make_mut(self.nodes.get_mut(parent)?);
        parent.children.insert(path);
        Some(parent)
    }

    /// Takes a znode from among the children of `parent`, which it gives back if it exists.
    fn remove_child(&mut self, parent: &str, path: &str) -> Option<&mut Znode> {
        if let Some(count) = self.child_counts.get_mut(parent) {
            *count -= 1;
            if *count == 0 {
                self.child_counts.remove(parent);
            }
        }
        let parent = Arc::make_mut(self.nodes.get_mut(parent)?);
        parent.children.remove(path);
        Some(parent)
    }

    /// The znode at `path`.
    pub fn get(&self, path: &str) -> Option<&Znode> {
        self.nodes.get(path).map(Arc::as_ref)
    }

    /// Count of znodes.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is no znode; never so in a tree that clients see.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Every path with its znode, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Znode)> {
        self.nodes.iter().map(|(path, node)| (path, node.as_ref()))
    }

    /// The ephemerals that `session` owns.
    pub fn ephemerals(&self, session: SessionId) -> impl Iterator<Item = &Arc<str>> {
        self.ephemerals.get(&session).into_iter().flatten()
    }

    /// Those whose paths begin with `prefix`.
    pub fn ephemerals_below<'t>(
        &'t self,
        session: SessionId,
        prefix: &'t str,
    ) -> impl Iterator<Item = &'t Arc<str>> {
        let owned = self.ephemerals.get(&session).into_iter();
        let from = (Bound::Included(prefix), Bound::Unbounded);
        let owned = owned.flat_map(move |owned| owned.range::<str, _>(from));
        owned.take_while(move |path| path.starts_with(prefix))
    }

    /// The sessions that own ephemerals, each with them, in no particular order.
    pub fn ephemerals_by_session(&self) -> impl Iterator<Item = (SessionId, &BTreeSet<Arc<str>>)> {
        self.ephemerals
            .iter()
            .map(|(session, owned)| (*session, owned))
    }

    /// Containers and znodes with a time to live, in order.
    pub fn reapable(&self) -> impl Iterator<Item = &Arc<str>> {
        self.reapable.iter()
    }

    /// The deepest of a path and its ancestors that a quota is set on.
    pub fn quota_above<'p>(&self, path: &'p str) -> Option<&'p str> {
        if self.quotas.is_empty() {
            return None;
        }
        path::and_ancestors(path).find(|path| self.quotas.contains(*path))
    }

    /// How many znodes there are below one, children's children too.
    pub fn descendants_len(&self, path: &str) -> usize {
        let children = |path: &str| self.child_counts.get(path).copied().unwrap_or(0);
        let below = format!("{}/", path.trim_end_matches('/'));
        let from = (Bound::Included(&*below), Bound::Unbounded);
        let parents = self.child_counts.range::<str, _>(from);
        let parents = parents.take_while(|(parent, _)| parent.starts_with(&below));
        let parents = parents.filter(|(parent, _)| ***parent != *path);
        children(path) + parents.map(|(_, count)| count).sum::<usize>()
    }

    /// A znode and all below it; nothing if there is no such znode.
    pub fn subtree<'t>(&'t self, path: &str) -> Subtree<'t> {
        Subtree::new(self, path)
    }

    /// Count of all ephemerals.
    pub fn ephemerals_len(&self) -> usize {
        self.ephemerals_len
    }

    /// Bytes of all paths and data.
    pub fn data_len(&self) -> usize {
        self.data_len
    }

    /// Adds a znode under its parent, whose sequence it moves on.
    pub fn create(&mut self, path: &str, node: Znode) -> Result<(), TreeError> {
        if self.nodes.contains_key(path) {
            return Err(TreeError::Exists(path.into()));
        }
        let missing = || TreeError::Missing(path.into());
        let (parent, _) = path::split(path).ok_or_else(missing)?;
        let path: Arc<str> = path.into();
        let parent = self.add_child(parent, path.clone()).ok_or_else(missing)?;
        parent.child_creates = parent.child_creates.wrapping_add(1);
        parent.pzxid = node.czxid;
        self.restore(path, node);
        Ok(())
    }

    /// Removes a znode without children, and gives it back.
    pub fn delete(&mut self, path: &str, zxid: Zxid) -> Result<Arc<Znode>, TreeError> {
        let missing = || TreeError::Missing(path.into());
        let node = self.nodes.get(path).ok_or_else(missing)?;
        if !node.children.is_empty() {
            return Err(TreeError::HasChildren(path.into()));
        }
        let (parent, _) = path::split(path).ok_or_else(missing)?;
        let parent = self.remove_child(parent, path).ok_or_else(missing)?;
        parent.pzxid = zxid;
        let node = self.nodes.remove(path).ok_or_else(missing)?;
        self.data_len -= path.len() + node.data.as_ref().map_or(0, Bytes::len);
        if let EphemeralType::Normal(session) = node.ephemeral_type
            && let Some(owned) = self.ephemerals.get_mut(&session)
        {
            owned.remove(path);
            self.ephemerals_len -= 1;
            if owned.is_empty() {
                self.ephemerals.remove(&session);
            }
        }
        self.reapable.remove(path);
        if let Some(of) = quota::limited_by(path) {
            self.quotas.remove(of);
        }
        Ok(node)
    }

    /// Replaces a znode's ACL.
    pub fn set_acl(&mut self, path: &str, acl: Arc<AclList>) -> Result<&mut Znode, TreeError> {
        let acl = self.shared(acl);
        let node = self.get_mut(path)?;
        node.acl = acl;
        Ok(node)
    }

    /// Replaces a znode's data by a copy and counts the bytes.
    pub fn set_data(&mut self, path: &str, data: Option<&Bytes>) -> Result<&mut Znode, TreeError> {
        let missing = || TreeError::Missing(path.into());
        let node = Arc::make_mut(self.nodes.get_mut(path).ok_or_else(missing)?);
        let old_len = node.data.as_ref().map_or(0, Bytes::len);
        node.data = data.map(own);
        self.data_len = self.data_len - old_len + data.map_or(0, Bytes::len);
        Ok(node)
    }

    /// The znode at `path`, to change; its data by [`Tree::set_data`], its ACL by [`Tree::set_acl`].
    pub fn get_mut(&mut self, path: &str) -> Result<&mut Znode, TreeError> {
        self.nodes
            .get_mut(path)
            .map(Arc::make_mut)
            .ok_or_else(|| TreeError::Missing(path.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acl::{Acl, Identity};

    fn of(user: &str) -> Arc<AclList> {
        let identity = Identity {
            scheme: "sasl".into(),
            id: user.into(),
        };
        let perms = acl::ALL;
        Arc::new(AclList::new(&[Acl { perms, identity }]))
    }

    #[test]
    fn nothing_of_a_frame_is_kept() {
        let frame = Bytes::from_static(b"0123456789");
        let mut tree = Tree::default();
        let data = |range| Some(frame.slice(range));
        let node = Znode::new(data(2..10), acl::open(), EphemeralType::Void, Zxid(1), 0);
        tree.create("/a", node).unwrap();
        let node = Znode::new(None, acl::open(), EphemeralType::Void, Zxid(2), 0);
        tree.create("/b", node).unwrap();
        tree.set_data("/b", data(2..5).as_ref()).unwrap();
        for path in ["/a", "/b"] {
            let kept = tree.get(path).unwrap().data.as_deref().unwrap();
            assert!(!frame.as_ptr_range().contains(&kept.as_ptr()), "{path}");
        }
    }

    #[test]
    fn ephemerals_are_found_by_how_their_paths_begin() {
        let mut tree = Tree::default();
        let session = SessionId(1);
        for path in ["/a", "/ab", "/b", "/b-c"] {
            let node = Znode::new(
                None,
                acl::open(),
                EphemeralType::Normal(session),
                Zxid(1),
                0,
            );
            tree.create(path, node).unwrap();
        }
        let found = |session, prefix: &'static str| {
            let found = tree.ephemerals_below(session, prefix);
            found.map(|path| path.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(found(session, ""), ["/a", "/ab", "/b", "/b-c"]);
        assert_eq!(found(session, "/a"), ["/a", "/ab"]);
        assert_eq!(found(session, "/b"), ["/b", "/b-c"]);
        assert!(found(session, "/c").is_empty());
        assert!(found(SessionId(2), "").is_empty());
    }

    #[test]
    fn znodes_with_the_same_acl_share_it() {
        let mut tree = Tree::default();
        for path in ["/a", "/b", "/c"] {
            let node = Znode::new(None, of(path), EphemeralType::Void, Zxid(1), 0);
            tree.create(path, node).unwrap();
        }
        for number in 0..SHARED_ACLS - 2 {
            tree.set_acl("/c", of(&number.to_string())).unwrap();
        }
        tree.set_acl("/c", of("/b")).unwrap();
        let acl = |path: &str| tree.get(path).unwrap().acl.clone();
        assert!(Arc::ptr_eq(&acl("/b"), &acl("/c")));
        assert_eq!(tree.acls.len(), SHARED_ACLS);
    }
}
