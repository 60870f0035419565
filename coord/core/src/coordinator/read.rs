//! Reads of the applied state, the watches that they leave, and those whom a change is told to.

use std::collections::HashMap;
use std::sync::Arc;

use bytestring::ByteString;

use super::{Action, ConnectionId, Coordinator};
use crate::acl::{self, Identity, Verdicts};
use crate::error::OpError;
use crate::names::Names;
use crate::path;
use crate::request::{Read, Response};
use crate::tree::Znode;
use crate::watch::{WatchEvent, WatchEventType, WatchKind, WatchSummary};
use crate::zxid::{SessionId, Zxid};

/// The zxid of an event that was missed: which change it was is not known any more.
const MISSED: Zxid = Zxid(-1);

/// The most that a multiRead answers, in bytes: its reads are short, and each may be of a megabyte.
const MULTI_READ_MAX_BYTES: usize = 16 * 1024 * 1024;

/// Who reads.
struct Reader<'a> {
    connection: ConnectionId,
    session: SessionId,
    identities: &'a [Identity],
    verdicts: Verdicts<'a>,
}

impl Coordinator {
    /// Reads for `connection`. Paths are not checked, as in ZooKeeper: one that cannot exist does not exist,
    /// and the empty one is the root.
    pub(super) fn answer_read(
        &mut self,
        connection: ConnectionId,
        read: Read,
        actions: &mut Vec<Action>,
    ) -> Result<Response, OpError> {
        let asking = self.connections.get(&connection);
        let asking = asking.ok_or(OpError::SessionExpired)?;
        let identities = asking.identities.clone();
        let mut reader = Reader {
            connection,
            session: asking.session,
            identities: &identities,
            verdicts: Verdicts::new(&identities),
        };
        self.read_as(&mut reader, read, actions)
    }

    fn read_as(
        &mut self,
        reader: &mut Reader<'_>,
        read: Read,
        actions: &mut Vec<Action>,
    ) -> Result<Response, OpError> {
        let Reader {
            connection,
            session,
            identities,
            ref mut verdicts,
        } = *reader;
        let mut readable = |path: &str, perms: i32| -> Result<&Znode, OpError> {
            let node = self
                .state
                .tree
                .get(path::to_read(path))
                .ok_or(OpError::NoNode)?;
            verdicts.check(&node.acl, perms)?;
            Ok(node)
        };
        match read {
            Read::Exists { path, watch } => {
                if path.contains('\0') {
                    return Err(OpError::BadArguments);
                }
                let found = match readable(&path, acl::READ) {
                    Err(OpError::NoNode) => None,
                    found => Some(found?),
                };
                if watch {
                    self.watches.add(WatchKind::Data, &path, connection);
                }
                let stat = found.map(|node| Response::Stat(node.stat()));
                stat.ok_or(OpError::NoNode)
            }
            Read::GetData { path, watch } => {
                let node = readable(&path, acl::READ)?;
                if watch {
                    self.watches.add(WatchKind::Data, &path, connection);
                }
                Ok(Response::Data(node.data.clone(), node.stat()))
            }
            Read::GetChildren {
                path,
                watch,
                with_stat,
            } => {
                let node = readable(&path, acl::READ)?;
                if watch {
                    self.watches.add(WatchKind::Child, &path, connection);
                }
                let names = Names::below(&path, node.children.iter().cloned().collect());
                Ok(if with_stat {
                    Response::Children2(names, node.stat())
                } else {
                    Response::Children(names)
                })
            }
            Read::GetAllChildrenNumber { path } => {
                readable(&path, acl::READ)?;
                Ok(Response::Count(
                    self.state.tree.descendants_len(path::to_read(&path)),
                ))
            }
            Read::GetEphemerals { prefix } => {
                let all = matches!(prefix.trim(), "" | "/");
                let prefix = if all { "" } else { &prefix };
                let owned = self.state.tree.ephemerals_below(session, prefix);
                Ok(Response::Children(Names::whole(owned.cloned().collect())))
            }
            Read::GetAcl { path } => {
                let node = readable(&path, acl::READ | acl::ADMIN)?;
                let shown = match node.acl.check(acl::ADMIN, identities) {
                    Ok(()) => node.acl.clone(),
                    Err(_) => acl::without_digests(&node.acl),
                };
                Ok(Response::Acl(shown, node.stat()))
            }
            Read::WhoAmI => {
                let shown = identities.iter().map(|identity| Identity {
                    scheme: identity.scheme.clone(),
                    id: acl::user(identity),
                });
                Ok(Response::Identities(shown.collect()))
            }
            Read::Multi(reads) => self.multi_read(reader, reads, actions),
            Read::AddWatch { path, recursive } => {
                let kind = match recursive {
                    true => WatchKind::PersistentRecursive,
                    false => WatchKind::Persistent,
                };
                self.watches.add(kind, &path, connection);
                Ok(Response::Watching)
            }
            Read::CheckWatches { path, kind } => {
                match self.watches.contains(kind, &path, connection) {
                    true => Ok(Response::Empty),
                    false => Err(OpError::NoWatcher),
                }
            }
            Read::RemoveWatches { path, kind } => {
                match self.watches.remove(kind, &path, connection) {
                    true => Ok(Response::Empty),
                    false => Err(OpError::NoWatcher),
                }
            }
            Read::SetWatches {
                since,
                data,
                exist,
                child,
                persistent,
                persistent_recursive,
            } => {
                self.set_one_shot_watches(reader, since, [data, exist, child], actions);
                for path in persistent {
                    self.watches.add(WatchKind::Persistent, &path, connection);
                }
                for path in persistent_recursive {
                    self.watches
                        .add(WatchKind::PersistentRecursive, &path, connection);
                }
                Ok(Response::Empty)
            }
            Read::Ping => Ok(Response::Empty),
        }
    }

    /// Each read by itself. [`OpError::BadArguments`] if the answers take too much together.
    fn multi_read(
        &mut self,
        reader: &mut Reader<'_>,
        reads: Vec<Read>,
        actions: &mut Vec<Action>,
    ) -> Result<Response, OpError> {
        let mut results = Vec::with_capacity(reads.len());
        let mut bytes = 0;
        for read in reads {
            let result = self.read_as(reader, read, actions);
            bytes += result.as_ref().map_or(0, Response::extra_len);
            if bytes > MULTI_READ_MAX_BYTES {
                return Err(OpError::BadArguments);
            }
            results.push(result);
        }
        Ok(Response::MultiRead(results))
    }

    /// Sets the one-shot watches of a former connection again. What happened since is told at once, before the reply,
    /// but not of a znode that the client may not read (CVE-2024-23944): that watch is just spent.
    fn set_one_shot_watches(
        &mut self,
        reader: &mut Reader<'_>,
        since: Zxid,
        [data, exist, child]: [Vec<ByteString>; 3],
        actions: &mut Vec<Action>,
    ) {
        let connection = reader.connection;
        let mut set = |kind: WatchKind, path: ByteString, missed: Option<WatchEventType>| {
            let node = self.state.tree.get(path::to_read(&path));
            let mut may_hear =
                || node.is_none_or(|node| reader.verdicts.check(&node.acl, acl::READ).is_ok());
            match missed {
                None => self.watches.add(kind, &path, connection),
                Some(_) if !may_hear() => {}
                Some(event) => actions.push(Action::Notify {
                    connection,
                    zxid: MISSED,
                    event,
                    path,
                }),
            }
        };
        let tree = &self.state.tree;
        for path in data {
            let missed = match tree.get(path::to_read(&path)) {
                None => Some(WatchEventType::NodeDeleted),
                Some(node) => (node.mzxid > since).then_some(WatchEventType::NodeDataChanged),
            };
            set(WatchKind::Data, path, missed);
        }
        for path in exist {
            let missed = tree
                .get(path::to_read(&path))
                .map(|_| WatchEventType::NodeCreated);
            set(WatchKind::Data, path, missed);
        }
        for path in child {
            let missed = match tree.get(path::to_read(&path)) {
                None => Some(WatchEventType::NodeDeleted),
                Some(node) => (node.pzxid > since).then_some(WatchEventType::NodeChildrenChanged),
            };
            set(WatchKind::Child, path, missed);
        }
    }

    /// Tells the watchers what transaction `zxid` did. Who may not read a znode does not hear of it, and a one-shot watch
    /// of it is spent all the same, as in ZooKeeper.
    pub(super) fn notify(
        &mut self,
        zxid: Zxid,
        events: Vec<WatchEvent>,
        actions: &mut Vec<Action>,
    ) {
        let mut verdicts = HashMap::new();
        for WatchEvent {
            event_type,
            path,
            acl,
        } in events
        {
            for connection in self.watches.fire(event_type, &path) {
                let mut may_hear = || {
                    let verdicts = verdicts.entry(connection).or_insert_with(|| {
                        let known = self.connections.get(&connection);
                        Verdicts::new(known.map_or(&[][..], |known| &known.identities))
                    });
                    verdicts.check(&acl, acl::READ).is_ok()
                };
                if acl.is_open_to_all(acl::READ) || may_hear() {
                    actions.push(Action::Notify {
                        connection,
                        zxid,
                        event: event_type,
                        path: path.clone(),
                    });
                }
            }
        }
    }

    /// How much this node's clients watch.
    pub fn watch_summary(&self) -> WatchSummary {
        self.watches.summary()
    }

    /// Every path that this node's clients watch, with the sessions that do; paths in order.
    pub fn watches_by_path(&self) -> Vec<(Arc<str>, Vec<SessionId>)> {
        let session = |id: &ConnectionId| Some(self.connections.get(id)?.session);
        let by_path = self.watches.by_path().into_iter();
        by_path
            .map(|(path, connections)| {
                let sessions = connections.iter().filter_map(session);
                (path, sessions.collect())
            })
            .collect()
    }

    /// Every session of this node that watches something, with the paths that it watches, in order.
    pub fn watches_by_session(&self) -> Vec<(SessionId, Vec<Arc<str>>)> {
        let by_connection = self.watches.by_connection().into_iter();
        by_connection
            .filter_map(|(id, paths)| Some((self.connections.get(&id)?.session, paths)))
            .collect()
    }
}
