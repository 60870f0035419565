//! The znodes.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;

use crate::acl::{self, Acl, Identity};
use crate::ephemeral_type::EphemeralType;
use crate::path;
use crate::quota;
use crate::zxid::{SessionId, Zxid};

/// How many different ACLs are remembered, so that znodes can share them.
const SHARED_ACLS: usize = 16;

/// One znode.
#[derive(Debug, Clone, PartialEq)]
pub struct Znode {
    /// Its data; clients may leave it null.
    pub data: Option<Bytes>,
    /// Who may do what to it.
    pub acl: Arc<[Acl]>,
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
    /// Names of its children.
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
        acl: Arc<[Acl]>,
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
fn own(bytes: Bytes) -> Bytes {
    Bytes::copy_from_slice(&bytes)
}

fn own_acl(acl: &Acl) -> Acl {
    let Identity { scheme, id } = &acl.identity;
    let identity = Identity {
        scheme: ByteString::from(&**scheme),
        id: ByteString::from(&**id),
    };
    Acl { identity, ..*acl }
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
    ephemerals: HashMap<SessionId, BTreeSet<Arc<str>>>,
    /// Containers and znodes with a time to live, for the one that removes them.
    reapable: BTreeSet<Arc<str>>,
    /// What quotas are set on.
    quotas: BTreeSet<Arc<str>>,
    /// ACLs that znodes were given of late, to be kept once each.
    acls: VecDeque<Arc<[Acl]>>,
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
            ephemerals: HashMap::new(),
            reapable: BTreeSet::new(),
            quotas: BTreeSet::new(),
            acls: VecDeque::new(),
            ephemerals_len: 0,
            data_len: 0,
        }
    }

    /// The same ACL, in the allocation that other znodes have it in: most trees know a few ACLs and many znodes.
    fn shared(&mut self, acl: Arc<[Acl]>) -> Arc<[Acl]> {
        if let Some(known) = self.acls.iter().find(|known| **known == acl) {
            return known.clone();
        }
        if self.acls.len() == SHARED_ACLS {
            self.acls.pop_front();
        }
        let acl: Arc<[Acl]> = acl.iter().map(own_acl).collect();
        self.acls.push_back(acl.clone());
        acl
    }

    /// Puts back a znode of a snapshot.
    pub(crate) fn restore(&mut self, path: Arc<str>, mut node: Znode) {
        node.acl = self.shared(node.acl);
        node.data = node.data.map(own);
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
            let Some((parent, name)) = path::split(&path) else {
                continue;
            };
            let Some(parent) = self.nodes.get_mut(parent) else {
                return Some(path);
            };
            Arc::make_mut(parent).children.insert(name.into());
        }
        None
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
        if path == "/" {
            return self.nodes.len() - 1;
        }
        self.subtree(path).count().saturating_sub(1)
    }

    /// A znode and all below it, in no particular order; nothing if there is no such znode.
    pub fn subtree(&self, path: &str) -> impl Iterator<Item = &Znode> {
        let mut unvisited: Vec<Arc<str>> = self
            .nodes
            .get_key_value(path)
            .map(|(path, _)| path.clone())
            .into_iter()
            .collect();
        std::iter::from_fn(move || {
            let path = unvisited.pop()?;
            let node = self.nodes.get(&path)?;
            let above = if &*path == "/" { "" } else { &path };
            unvisited.extend(
                node.children
                    .iter()
                    .map(|name| format!("{above}/{name}").into()),
            );
            Some(node.as_ref())
        })
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
        let (parent, name) = path::split(path).ok_or_else(missing)?;
        let parent = Arc::make_mut(self.nodes.get_mut(parent).ok_or_else(missing)?);
        parent.children.insert(name.into());
        parent.child_creates = parent.child_creates.wrapping_add(1);
        parent.pzxid = node.czxid;
        self.restore(path.into(), node);
        Ok(())
    }

    /// Removes a znode without children, and gives it back.
    pub fn delete(&mut self, path: &str, zxid: Zxid) -> Result<Arc<Znode>, TreeError> {
        let missing = || TreeError::Missing(path.into());
        let node = self.nodes.get(path).ok_or_else(missing)?;
        if !node.children.is_empty() {
            return Err(TreeError::HasChildren(path.into()));
        }
        let (parent, name) = path::split(path).ok_or_else(missing)?;
        let parent = Arc::make_mut(self.nodes.get_mut(parent).ok_or_else(missing)?);
        parent.children.remove(name);
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
    pub fn set_acl(&mut self, path: &str, acl: Arc<[Acl]>) -> Result<&mut Znode, TreeError> {
        let acl = self.shared(acl);
        let node = self.get_mut(path)?;
        node.acl = acl;
        Ok(node)
    }

    /// Replaces a znode's data and counts the bytes.
    pub fn set_data(&mut self, path: &str, data: Option<Bytes>) -> Result<&mut Znode, TreeError> {
        let new_len = data.as_ref().map_or(0, Bytes::len);
        let old = std::mem::replace(&mut self.get_mut(path)?.data, data.map(own));
        self.data_len = self.data_len - old.map_or(0, |old| old.len()) + new_len;
        self.get_mut(path)
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

    fn of(user: &str) -> Arc<[Acl]> {
        let identity = Identity {
            scheme: "sasl".into(),
            id: user.into(),
        };
        let perms = acl::ALL;
        Arc::new([Acl { perms, identity }])
    }

    #[test]
    fn nothing_of_a_frame_is_kept() {
        let frame = Bytes::from_static(b"digest user 0123456789");
        let text =
            |range: std::ops::Range<usize>| ByteString::try_from(frame.slice(range)).unwrap();
        let acl = |user| -> Arc<[Acl]> {
            let (scheme, id) = (text(0..6), text(user));
            let identity = Identity { scheme, id };
            Arc::new([Acl {
                perms: acl::ALL,
                identity,
            }])
        };
        let mut tree = Tree::default();
        let data = |range| Some(frame.slice(range));
        let node = Znode::new(data(12..22), acl(7..11), EphemeralType::Void, Zxid(1), 0);
        tree.create("/a", node).unwrap();
        let node = Znode::new(None, acl::open(), EphemeralType::Void, Zxid(2), 0);
        tree.create("/b", node).unwrap();
        tree.set_data("/b", data(12..15)).unwrap();
        tree.set_acl("/b", acl(7..8)).unwrap();
        for path in ["/a", "/b"] {
            let node = tree.get(path).unwrap();
            let identity = &node.acl[0].identity;
            let kept = [
                node.data.as_deref().unwrap(),
                identity.scheme.as_bytes(),
                identity.id.as_bytes(),
            ];
            for bytes in kept {
                assert!(!frame.as_ptr_range().contains(&bytes.as_ptr()), "{bytes:?}");
            }
        }
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
