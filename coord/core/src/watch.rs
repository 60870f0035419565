//! One-shot watches: which connection waits to hear of which znode.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::coordinator::ConnectionId;

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

/// What a watch waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WatchKind {
    /// The znode's creation, deletion and data: set by exists and getData.
    Data,
    /// The znode's children and its deletion: set by getChildren.
    Child,
}

/// The memory, in bytes, that the watches of one connection may hold: some 300 000 watches of paths of ordinary length.
pub const CONNECTION_MAX_BYTES: usize = 64 * 1024 * 1024;

/// About what a watch holds beside its path, in bytes.
const WATCH_BYTES: usize = 128;

/// All watches of this node's connections. They belong to the connection: a client that reconnects sets them again.
#[derive(Debug, Default)]
pub struct Watches {
    data: HashMap<Arc<str>, BTreeSet<ConnectionId>>,
    child: HashMap<Arc<str>, BTreeSet<ConnectionId>>,
    connections: HashMap<ConnectionId, OfConnection>,
    len: usize,
}

#[derive(Debug, Default)]
struct OfConnection {
    watches: HashSet<(WatchKind, Arc<str>)>,
    bytes: usize,
}

impl Watches {
    fn of(&mut self, kind: WatchKind) -> &mut HashMap<Arc<str>, BTreeSet<ConnectionId>> {
        match kind {
            WatchKind::Data => &mut self.data,
            WatchKind::Child => &mut self.child,
        }
    }

    /// Leaves a watch; leaving it twice is leaving it once.
    pub fn add(&mut self, kind: WatchKind, path: &str, connection: ConnectionId) {
        let path: Arc<str> = match self.of(kind).get_key_value(path) {
            Some((path, _)) => path.clone(),
            None => path.into(),
        };
        if self
            .of(kind)
            .entry(path.clone())
            .or_default()
            .insert(connection)
        {
            self.len += 1;
            let of_connection = self.connections.entry(connection).or_default();
            of_connection.bytes += WATCH_BYTES + path.len();
            of_connection.watches.insert((kind, path));
        }
    }

    /// The connections to tell of an event, in order, each once; the watches that it fires are gone.
    pub fn fire(&mut self, event: WatchEventType, path: &str) -> BTreeSet<ConnectionId> {
        let kinds: &[WatchKind] = match event {
            WatchEventType::NodeCreated | WatchEventType::NodeDataChanged => &[WatchKind::Data],
            WatchEventType::NodeDeleted => &[WatchKind::Data, WatchKind::Child],
            WatchEventType::NodeChildrenChanged => &[WatchKind::Child],
        };
        let mut fired = BTreeSet::new();
        for &kind in kinds {
            let Some((path, watchers)) = self.of(kind).remove_entry(path) else {
                continue;
            };
            self.len -= watchers.len();
            for &connection in &watchers {
                if let Some(of_connection) = self.connections.get_mut(&connection)
                    && of_connection.watches.remove(&(kind, path.clone()))
                {
                    of_connection.bytes -= WATCH_BYTES + path.len();
                }
            }
            fired.extend(watchers);
        }
        fired
    }

    /// Drops every watch of a connection.
    pub fn remove_connection(&mut self, connection: ConnectionId) {
        let of_connection = self.connections.remove(&connection).unwrap_or_default();
        for (kind, path) in of_connection.watches {
            let watches = self.of(kind);
            let Some(watchers) = watches.get_mut(&path) else {
                continue;
            };
            if watchers.remove(&connection) {
                if watchers.is_empty() {
                    watches.remove(&path);
                }
                self.len -= 1;
            }
        }
    }

    /// Whether a connection's watches hold more than [`CONNECTION_MAX_BYTES`].
    pub fn are_too_many(&self, connection: ConnectionId) -> bool {
        self.connections
            .get(&connection)
            .is_some_and(|of_connection| of_connection.bytes > CONNECTION_MAX_BYTES)
    }

    /// Count of watches.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nobody watches anything.
    pub fn is_empty(&self) -> bool {
        self.len == 0
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
        watches.add(WatchKind::Data, "/a", A);
        watches.add(WatchKind::Data, "/a", A);
        watches.add(WatchKind::Data, "/a", B);
        assert_eq!(watches.len(), 2);
        assert_eq!(
            watches.fire(WatchEventType::NodeDataChanged, "/a"),
            BTreeSet::from([A, B])
        );
        assert!(
            watches
                .fire(WatchEventType::NodeDataChanged, "/a")
                .is_empty()
        );
        assert!(watches.is_empty());
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
        assert_eq!(
            watches.fire(WatchEventType::NodeDeleted, "/a"),
            BTreeSet::from([A])
        );
        assert!(watches.is_empty());
    }

    #[test]
    fn what_a_connection_watches_is_bounded_and_counted_until_it_fires() {
        let mut watches = Watches::default();
        let path = |number: usize| format!("/{}{number:04}", "n".repeat(65_536));
        let fit = CONNECTION_MAX_BYTES / (path(0).len() + WATCH_BYTES);
        for number in 0..fit {
            watches.add(WatchKind::Data, &path(number), A);
            watches.add(WatchKind::Data, &path(0), A);
        }
        assert!(!watches.are_too_many(A));
        watches.add(WatchKind::Child, &path(0), A);
        assert!(watches.are_too_many(A) && !watches.are_too_many(B));
        watches.fire(WatchEventType::NodeDeleted, &path(0));
        assert!(!watches.are_too_many(A));
    }

    #[test]
    fn a_gone_connection_leaves_nothing() {
        let mut watches = Watches::default();
        watches.add(WatchKind::Data, "/a", A);
        watches.add(WatchKind::Child, "/a", B);
        watches.remove_connection(A);
        assert_eq!(
            watches.fire(WatchEventType::NodeDeleted, "/a"),
            BTreeSet::from([B])
        );
        assert!(watches.is_empty());
    }
}
