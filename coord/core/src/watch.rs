//! Watches: which connection waits to hear of which znode.

mod recursive;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytestring::ByteString;

use crate::acl::AclList;
use crate::coordinator::ConnectionId;
use recursive::RecursivePaths;

/// What happened to a watched znode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WatchEventType {
    /// It came to be.
    NodeCreated,
    /// It is gone.
    NodeDeleted,
    /// Its data was set.
    NodeDataChanged,
    /// A child came or went.
    NodeChildrenChanged,
}

/// A change that watchers may be told of.
#[derive(Debug, Clone, PartialEq)]
pub struct WatchEvent {
    /// What happened.
    pub event_type: WatchEventType,
    /// To which znode.
    pub path: ByteString,
    /// That znode's ACL as it happened: who may not read the znode is not told (CVE-2024-23944).
    pub acl: Arc<AclList>,
}

/// What a watch waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WatchKind {
    /// The znode's creation, deletion and data, once: set by exists and getData.
    Data,
    /// The znode's children and its deletion, once: set by getChildren.
    Child,
    /// All of that, until it is removed: set by addWatch.
    Persistent,
    /// The creation, deletion and data of the znode and of all below it, until it is removed: set by addWatch.
    PersistentRecursive,
}

/// The memory, in bytes, that the watches of one connection may hold: some 300 000 watches of paths of ordinary length.
pub const CONNECTION_MAX_BYTES: usize = 64 * 1024 * 1024;

/// About what a watched path holds beside its own bytes.
const WATCH_BYTES: usize = 128;

/// The kinds of watch that one connection has at one path, a bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Kinds(u8);

impl Kinds {
    const NONE: Kinds = Kinds(0);
    const ANY: Kinds = Kinds(0b1111);
    /// What hears of the znode's creation and data.
    const OF_DATA: Kinds = Kinds(0b1101);
    /// What hears of the znode's children.
    const OF_CHILDREN: Kinds = Kinds(0b0110);
    /// What hears of what is below.
    const RECURSIVE: Kinds = Kinds(0b1000);

    fn of(kind: WatchKind) -> Kinds {
        match kind {
            WatchKind::Data => Kinds(0b0001),
            WatchKind::Child => Kinds(0b0010),
            WatchKind::Persistent => Kinds(0b0100),
            WatchKind::PersistentRecursive => Kinds::RECURSIVE,
        }
    }

    fn has(self, any: Kinds) -> bool {
        self.0 & any.0 != 0
    }

    fn with(self, more: Kinds) -> Kinds {
        Kinds(self.0 | more.0)
    }

    fn without(self, less: Kinds) -> Kinds {
        Kinds(self.0 & !less.0)
    }

    /// As ZooKeeper counts: a table for data, one for children, and a persistent watch stands in both.
    fn count(self) -> usize {
        usize::from(self.has(Kinds::OF_DATA)) + usize::from(self.has(Kinds::OF_CHILDREN))
    }
}

/// All watches of this node's connections. They belong to the connection: a client that reconnects sets them again.
#[derive(Debug, Default)]
pub struct Watches {
    /// Who watches a path, in the order of the connections.
    paths: HashMap<Arc<str>, Vec<(ConnectionId, Kinds)>>,
    connections: HashMap<ConnectionId, OfConnection>,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    recursive: RecursivePaths,
}

impl Counts {
    fn change(&mut self, path: &str, before: Kinds, after: Kinds) {
        self.all = self.all + after.count() - before.count();
        match (before.has(Kinds::RECURSIVE), after.has(Kinds::RECURSIVE)) {
            (false, true) => self.recursive.add(path),
            (true, false) => self.recursive.remove(path),
            _ => {}
        }
    }
}

#[derive(Debug, Default)]
struct OfConnection {
    paths: HashSet<Arc<str>>,
    bytes: usize,
}

/// How much is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchSummary {
    /// Connections that watch something.
    pub connections: usize,
    /// Paths that are watched.
    pub paths: usize,
    /// Watches.
    pub watches: usize,
}

impl Watches {
    /// Leaves a watch; leaving it twice is leaving it once.
    pub fn add(&mut self, kind: WatchKind, path: &str, connection: ConnectionId) {
        let path: Arc<str> = match self.paths.get_key_value(path) {
            Some((path, _)) => path.clone(),
            None => path.into(),
        };
        let watchers = self.paths.entry(path.clone()).or_default();
        let at = watchers.binary_search_by_key(&connection, |(connection, _)| *connection);
        let at = at.unwrap_or_else(|at| {
            watchers.insert(at, (connection, Kinds::NONE));
            let of_connection = self.connections.entry(connection).or_default();
            of_connection.bytes += WATCH_BYTES + path.len();
            of_connection.paths.insert(path.clone());
            at
        });
        let before = watchers[at].1;
        let after = before.with(Kinds::of(kind));
        watchers[at].1 = after;
        self.counts.change(&path, before, after);
    }

    /// Whether a connection has a watch of this kind, or of any, at a path.
    pub fn contains(&self, kind: Option<WatchKind>, path: &str, connection: ConnectionId) -> bool {
        let Some(watchers) = self.paths.get(path) else {
            return false;
        };
        let at = watchers.binary_search_by_key(&connection, |(connection, _)| *connection);
        at.is_ok_and(|at| watchers[at].1.has(kind.map_or(Kinds::ANY, Kinds::of)))
    }

    /// Takes a connection's watch of this kind, or all, from a path; whether there was one.
    pub fn remove(
        &mut self,
        kind: Option<WatchKind>,
        path: &str,
        connection: ConnectionId,
    ) -> bool {
        let contained = self.contains(kind, path, connection);
        if contained {
            let less = kind.map_or(Kinds::ANY, Kinds::of);
            self.lessen(path, less, Some(connection));
        }
        contained
    }

    /// The connections to tell of an event, in order, each once; the one-shot watches that it fires are gone.
    pub fn fire(&mut self, event: WatchEventType, path: &str) -> Vec<ConnectionId> {
        if self.paths.is_empty() {
            return Vec::new();
        }
        let (hearing, spent) = match event {
            WatchEventType::NodeCreated | WatchEventType::NodeDataChanged => {
                (Kinds::OF_DATA, Kinds::of(WatchKind::Data))
            }
            WatchEventType::NodeDeleted => (
                Kinds::ANY,
                Kinds::of(WatchKind::Data).with(Kinds::of(WatchKind::Child)),
            ),
            WatchEventType::NodeChildrenChanged => {
                (Kinds::OF_CHILDREN, Kinds::of(WatchKind::Child))
            }
        };
        let watching = |path: &str, hearing: Kinds| {
            let watchers = self.paths.get(path).map_or(&[][..], Vec::as_slice);
            let hearing = watchers.iter().filter(move |(_, kinds)| kinds.has(hearing));
            hearing.map(|(connection, _)| *connection)
        };
        let mut fired: Vec<ConnectionId> = watching(path, hearing).collect();
        if !self.counts.recursive.is_empty() && event != WatchEventType::NodeChildrenChanged {
            for above in self.counts.recursive.above(path) {
                fired.extend(watching(above, Kinds::RECURSIVE));
            }
            fired.sort_unstable();
            fired.dedup();
        }
        if !fired.is_empty() {
            self.lessen(path, spent, None);
        }
        fired
    }

    /// Takes kinds from one watcher of a path, or from all.
    fn lessen(&mut self, path: &str, less: Kinds, who: Option<ConnectionId>) {
        let Some((path, mut watchers)) = self.paths.remove_entry(path) else {
            return;
        };
        let mut keeps = |(connection, kinds): &mut (ConnectionId, Kinds)| {
            let before = *kinds;
            *kinds = before.without(less);
            let left = *kinds != Kinds::NONE;
            if !left && let Some(of_connection) = self.connections.get_mut(connection) {
                of_connection.paths.remove(&path);
                of_connection.bytes -= WATCH_BYTES + path.len();
                if of_connection.paths.is_empty() {
                    self.connections.remove(connection);
                }
            }
            self.counts.change(&path, before, *kinds);
            left
        };
        match who {
            None => watchers.retain_mut(keeps),
            // Without a look at the others: as many as watch it may all go at the same time.
            Some(who) => {
                let at = watchers.binary_search_by_key(&who, |(connection, _)| *connection);
                if let Ok(at) = at
                    && !keeps(&mut watchers[at])
                {
                    watchers.remove(at);
                }
            }
        }
        if !watchers.is_empty() {
            self.paths.insert(path, watchers);
        }
    }

    /// Drops every watch of a connection.
    pub fn remove_connection(&mut self, connection: ConnectionId) {
        let Some(of_connection) = self.connections.get_mut(&connection) else {
            return;
        };
        for path in std::mem::take(&mut of_connection.paths) {
            self.lessen(&path, Kinds::ANY, Some(connection));
        }
        self.connections.remove(&connection);
    }

    /// Whether a connection's watches hold more than [`CONNECTION_MAX_BYTES`].
    pub fn are_too_many(&self, connection: ConnectionId) -> bool {
        self.connections
            .get(&connection)
            .is_some_and(|of_connection| of_connection.bytes > CONNECTION_MAX_BYTES)
    }

    /// Count of watches.
    pub fn len(&self) -> usize {
        self.counts.all
    }

    /// Whether nobody watches anything.
    pub fn is_empty(&self) -> bool {
        self.counts.all == 0
    }

    /// How much is watched.
    pub fn summary(&self) -> WatchSummary {
        WatchSummary {
            connections: self.connections.len(),
            paths: self.paths.len(),
            watches: self.counts.all,
        }
    }

    /// Every watched path with those who watch it, both in order.
    pub fn by_path(&self) -> Vec<(Arc<str>, Vec<ConnectionId>)> {
        let path = |(path, watchers): (&Arc<str>, &Vec<(ConnectionId, Kinds)>)| {
            let watchers = watchers.iter().map(|(connection, _)| *connection);
            (path.clone(), watchers.collect())
        };
        let mut paths: Vec<_> = self.paths.iter().map(path).collect();
        paths.sort_unstable();
        paths
    }

    /// Every connection that watches something with what it watches, both in order.
    pub fn by_connection(&self) -> Vec<(ConnectionId, Vec<Arc<str>>)> {
        let connection = |(connection, of): (&ConnectionId, &OfConnection)| {
            let mut paths: Vec<Arc<str>> = of.paths.iter().cloned().collect();
            paths.sort_unstable();
            (*connection, paths)
        };
        let mut connections: Vec<_> = self.connections.iter().map(connection).collect();
        connections.sort_unstable();
        connections
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ConnectionId = ConnectionId(1);
    const B: ConnectionId = ConnectionId(2);

    #[test]
    fn a_watch_fires_once() {
        let mut watches = Watches::default();
        watches.add(WatchKind::Data, "/a", B);
        watches.add(WatchKind::Data, "/a", A);
        watches.add(WatchKind::Data, "/a", A);
        assert_eq!(watches.len(), 2);
        assert_eq!(watches.fire(WatchEventType::NodeDataChanged, "/a"), [A, B]);
        assert!(
            watches
                .fire(WatchEventType::NodeDataChanged, "/a")
                .is_empty()
        );
        assert!(watches.is_empty() && watches.by_path().is_empty());
    }

    #[test]
    fn a_deletion_is_told_once_to_a_connection_with_both_kinds() {
        let mut watches = Watches::default();
        watches.add(WatchKind::Data, "/a", A);
        watches.add(WatchKind::Child, "/a", A);
        assert!(
            watches
                .fire(WatchEventType::NodeChildrenChanged, "/b")
                .is_empty()
        );
        assert_eq!(watches.fire(WatchEventType::NodeDeleted, "/a"), [A]);
        assert!(watches.is_empty());
    }

    #[test]
    fn a_persistent_watch_tells_of_all_that_befalls_its_znode_and_stays() {
        let mut watches = Watches::default();
        watches.add(WatchKind::Persistent, "/a", A);
        for event in [
            WatchEventType::NodeCreated,
            WatchEventType::NodeDataChanged,
            WatchEventType::NodeChildrenChanged,
            WatchEventType::NodeDeleted,
            WatchEventType::NodeCreated,
        ] {
            assert_eq!(watches.fire(event, "/a"), [A], "{event:?}");
            assert!(watches.fire(event, "/a/b").is_empty(), "{event:?}");
        }
        assert_eq!(watches.len(), 2, "one for the data, one for the children");
    }

    #[test]
    fn a_recursive_watch_tells_of_all_below_but_of_no_set_of_children() {
        let mut watches = Watches::default();
        watches.add(WatchKind::PersistentRecursive, "/a", A);
        watches.add(WatchKind::PersistentRecursive, "/", B);
        watches.add(WatchKind::Data, "/a/b", A);
        for path in ["/a", "/a/b", "/a/b/c"] {
            for event in [
                WatchEventType::NodeCreated,
                WatchEventType::NodeDataChanged,
                WatchEventType::NodeDeleted,
            ] {
                assert_eq!(watches.fire(event, path), [A, B], "{event:?} {path}");
            }
            assert!(
                watches
                    .fire(WatchEventType::NodeChildrenChanged, path)
                    .is_empty()
            );
        }
        assert_eq!(watches.fire(WatchEventType::NodeCreated, "/ab"), [B]);
        assert_eq!(watches.len(), 2, "the one-shot watch is spent");
        assert!(watches.remove(Some(WatchKind::PersistentRecursive), "/", B));
        assert!(watches.fire(WatchEventType::NodeCreated, "/ab").is_empty());
    }

    #[test]
    fn a_watch_is_found_and_removed_by_its_kind() {
        let kinds = [
            WatchKind::Data,
            WatchKind::Child,
            WatchKind::Persistent,
            WatchKind::PersistentRecursive,
        ];
        for kind in kinds {
            let mut watches = Watches::default();
            watches.add(kind, "/a", A);
            for other in kinds {
                assert_eq!(watches.contains(Some(other), "/a", A), other == kind);
                assert!(other == kind || !watches.remove(Some(other), "/a", A));
            }
            assert!(watches.contains(None, "/a", A));
            assert!(!watches.contains(None, "/a", B) && !watches.contains(None, "/", A));
            assert!(watches.remove(Some(kind), "/a", A));
            assert!(!watches.remove(None, "/a", A) && watches.is_empty());
        }
        let mut watches = Watches::default();
        for kind in kinds {
            watches.add(kind, "/a", A);
        }
        assert!(watches.remove(None, "/a", A) && watches.is_empty());
    }

    #[test]
    fn what_a_connection_watches_is_bounded_and_counted_until_it_fires() {
        let mut watches = Watches::default();
        let path = |number: usize| format!("/{}{number:04}", "n".repeat(65_536));
        let fit = CONNECTION_MAX_BYTES / (path(0).len() + WATCH_BYTES);
        for number in 0..fit {
            watches.add(WatchKind::Data, &path(number), A);
            watches.add(WatchKind::Child, &path(0), A);
        }
        assert!(!watches.are_too_many(A));
        watches.add(WatchKind::PersistentRecursive, &path(fit), A);
        assert!(watches.are_too_many(A) && !watches.are_too_many(B));
        watches.fire(WatchEventType::NodeDeleted, &path(0));
        assert!(!watches.are_too_many(A));
    }

    #[test]
    fn a_gone_connection_leaves_nothing() {
        let mut watches = Watches::default();
        watches.add(WatchKind::Data, "/a", A);
        watches.add(WatchKind::PersistentRecursive, "/", A);
        watches.add(WatchKind::Child, "/a", B);
        watches.remove_connection(A);
        assert_eq!(watches.fire(WatchEventType::NodeDeleted, "/a"), [B]);
        assert!(watches.is_empty());
        let nothing = WatchSummary {
            connections: 0,
            paths: 0,
            watches: 0,
        };
        assert_eq!(watches.summary(), nothing);
    }

    #[test]
    fn watches_are_shown_by_path_and_by_connection() {
        let mut watches = Watches::default();
        watches.add(WatchKind::Data, "/b", A);
        watches.add(WatchKind::Persistent, "/a", B);
        watches.add(WatchKind::Child, "/a", A);
        let summary = WatchSummary {
            connections: 2,
            paths: 2,
            watches: 4,
        };
        assert_eq!(watches.summary(), summary);
        assert_eq!(
            watches.by_path(),
            [("/a".into(), vec![A, B]), ("/b".into(), vec![A])]
        );
        assert_eq!(
            watches.by_connection(),
            [(A, vec!["/a".into(), "/b".into()]), (B, vec!["/a".into()])]
        );
    }
}
