//! Reads of the applied state, and the watches that they leave.

use bytestring::ByteString;

use super::{Action, ConnectionId, Coordinator};
use crate::acl::{self, Identity};
use crate::error::OpError;
use crate::path;
use crate::request::{Read, Response};
use crate::state::State;
use crate::tree::Znode;
use crate::watch::{WatchEventType, WatchKind, Watches};
use crate::zxid::Zxid;

/// Reads for `connection`, which has shown to be `identities`.
pub(super) fn read(
    state: &State,
    watches: &mut Watches,
    connection: ConnectionId,
    identities: &[Identity],
    read: Read,
) -> Result<Response, OpError> {
    let readable = |path: &ByteString, perms: i32| -> Result<&Znode, OpError> {
        path::validate(path)?;
        let node = state.tree.get(path).ok_or(OpError::NoNode)?;
        acl::check(&node.acl, perms, identities)?;
        Ok(node)
    };
    match read {
        Read::Exists { path, watch } => {
            path::validate(&path)?;
            if watch {
                watches.add(WatchKind::Data, &path, connection);
            }
            state
                .tree
                .get(&path)
                .map(|node| Response::Stat(node.stat()))
                .ok_or(OpError::NoNode)
        }
        Read::GetData { path, watch } => {
            let node = readable(&path, acl::READ)?;
            if watch {
                watches.add(WatchKind::Data, &path, connection);
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
                watches.add(WatchKind::Child, &path, connection);
            }
            let names = node.children.iter().cloned().collect();
            Ok(if with_stat {
                Response::Children2(names, node.stat())
            } else {
                Response::Children(names)
            })
        }
        Read::GetAcl { path } => {
            let node = readable(&path, acl::READ | acl::ADMIN)?;
            let shown = match acl::check(&node.acl, acl::ADMIN, identities) {
                Ok(()) => node.acl.clone(),
                Err(_) => acl::without_digests(&node.acl),
            };
            Ok(Response::Acl(shown, node.stat()))
        }
        Read::Ping | Read::SetWatches { .. } => Ok(Response::Empty),
    }
}

/// The zxid of an event that was missed: which change it was is not known any more.
const MISSED: Zxid = Zxid(-1);

impl Coordinator {
    /// Sets the watches of a former connection again. What happened since is told at once, before the reply.
    pub(super) fn set_watches(
        &mut self,
        connection: ConnectionId,
        since: Zxid,
        [data, exist, child]: [Vec<ByteString>; 3],
        actions: &mut Vec<Action>,
    ) -> Result<Response, OpError> {
        for path in data.iter().chain(&exist).chain(&child) {
            path::validate(path)?;
        }
        let tree = &self.state.tree;
        let mut set =
            |kind: WatchKind, path: ByteString, missed: Option<WatchEventType>| match missed {
                Some(event) => actions.push(Action::Notify {
                    connection,
                    zxid: MISSED,
                    event,
                    path,
                }),
                None => self.watches.add(kind, &path, connection),
            };
        for path in data {
            let missed = match tree.get(&path) {
                None => Some(WatchEventType::NodeDeleted),
                Some(node) => (node.mzxid > since).then_some(WatchEventType::NodeDataChanged),
            };
            set(WatchKind::Data, path, missed);
        }
        for path in exist {
            let missed = tree.get(&path).map(|_| WatchEventType::NodeCreated);
            set(WatchKind::Data, path, missed);
        }
        for path in child {
            let missed = match tree.get(&path) {
                None => Some(WatchEventType::NodeDeleted),
                Some(node) => (node.pzxid > since).then_some(WatchEventType::NodeChildrenChanged),
            };
            set(WatchKind::Child, path, missed);
        }
        Ok(Response::Empty)
    }
}
