//! What transactions make: the tree and the sessions. [`State::apply`] is the only way to change it, live, at recovery
//! and on every member of an ensemble.

use std::collections::HashMap;

use bytes::Bytes;
use bytestring::ByteString;

use crate::path;
use crate::quota::{self, Usage};
use crate::session::Session;
use crate::tree::{Stat, Tree, TreeError, Znode};
use crate::txn::{Change, Effect, Txn};
use crate::watch::{WatchEvent, WatchEventType};
use crate::zxid::{SessionId, Zxid};

/// The replicated state. A clone shares the znodes with its original, so a snapshot can be written while writes go on.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct State {
    /// The znodes.
    pub tree: Tree,
    /// The open sessions.
    pub sessions: HashMap<SessionId, Session>,
    /// The transaction that was applied last.
    pub last_zxid: Zxid,
    /// The largest session id ever given out: ids stay unique even if the clock goes back.
    pub last_session: SessionId,
}

/// What a transaction did.
#[derive(Debug, Default, PartialEq)]
pub struct Applied {
    /// The outcome of each effect, in order.
    pub results: Vec<EffectResult>,
    /// What to tell the watchers, in order.
    pub events: Vec<WatchEvent>,
}

/// What one effect did.
#[derive(Debug, Clone, PartialEq)]
pub enum EffectResult {
    /// A znode was created.
    Created {
        /// Where, sequence number included.
        path: ByteString,
        /// As it is.
        stat: Stat,
    },
    /// A znode's data or ACL was set.
    Set(Stat),
    /// A znode was deleted, or a check held.
    Done,
}

/// A transaction that does not fit this state. Decided transactions always fit, so the log is not this state's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// Its zxid is not above the last.
    #[error("transaction {zxid} comes after {last}")]
    Backwards {
        /// The transaction.
        zxid: Zxid,
        /// The one applied last.
        last: Zxid,
    },
    /// The tree cannot take it.
    #[error("transaction {zxid}: {error}")]
    Tree {
        /// The transaction.
        zxid: Zxid,
        /// Why.
        error: TreeError,
    },
    /// It resumes or ends a session that is not open.
    #[error("transaction {zxid}: there is no session {session}")]
    NoSession {
        /// The transaction.
        zxid: Zxid,
        /// The session.
        session: SessionId,
    },
}

impl State {
    /// Applies one transaction. After an error the state is not to be used any further.
    pub fn apply(&mut self, zxid: Zxid, txn: &Txn) -> Result<Applied, ApplyError> {
        if zxid <= self.last_zxid {
            return Err(ApplyError::Backwards {
                zxid,
                last: self.last_zxid,
            });
        }
        let mut applied = Applied::default();
        match &txn.change {
            Change::CreateSession {
                password,
                timeout_ms,
            } => {
                self.sessions.insert(
                    txn.session,
                    Session {
                        password: *password,
                        timeout_ms: *timeout_ms,
                        claim: zxid,
                    },
                );
                self.last_session = self.last_session.max(txn.session);
            }
            Change::ResumeSession { timeout_ms } => {
                let known = self.sessions.get_mut(&txn.session);
                let known = known.ok_or(ApplyError::NoSession {
                    zxid,
                    session: txn.session,
                })?;
                known.timeout_ms = *timeout_ms;
                known.claim = zxid;
            }
            Change::CloseSession => {
                let owned = self.tree.ephemerals(txn.session);
                let owned: Vec<ByteString> = owned.map(|path| (&**path).into()).collect();
                for path in &owned {
                    self.delete(zxid, path, &mut applied)?;
                }
                if self.sessions.remove(&txn.session).is_none() {
                    return Err(ApplyError::NoSession {
                        zxid,
                        session: txn.session,
                    });
                }
            }
            Change::Effects(effects) => {
                for effect in effects {
                    let result = self.effect(zxid, txn, effect, &mut applied)?;
                    applied.results.push(result);
                }
            }
        }
        self.last_zxid = zxid;
        Ok(applied)
    }

    fn effect(
        &mut self,
        zxid: Zxid,
        txn: &Txn,
        effect: &Effect,
        applied: &mut Applied,
    ) -> Result<EffectResult, ApplyError> {
        let at = |error| ApplyError::Tree { zxid, error };
        match effect {
            Effect::Create {
                path,
                data,
                acl,
                ephemeral_type,
            } => {
                let more = Usage {
                    count: 1,
                    bytes: len(data),
                };
                let (data, acl_of_node) = (data.clone(), acl.clone());
                let node = Znode::new(data, acl_of_node, *ephemeral_type, zxid, txn.time_ms);
                let stat = node.stat();
                self.tree.create(path, node).map_err(at)?;
                quota::recount(&mut self.tree, path);
                quota::count(&mut self.tree, path, more);
                applied.events.push(WatchEvent {
                    event_type: WatchEventType::NodeCreated,
                    path: path.clone(),
                    acl: acl.clone(),
                });
                self.children_changed(path, applied);
                Ok(EffectResult::Created {
                    path: path.clone(),
                    stat,
                })
            }
            Effect::Delete { path } => {
                self.delete(zxid, path, applied)?;
                Ok(EffectResult::Done)
            }
            Effect::SetData {
                path,
                data,
                version,
            } => {
                let before = self.tree.data_len();
                let node = self.tree.set_data(path, data.as_ref()).map_err(at)?;
                node.version = *version;
                node.mzxid = zxid;
                node.mtime_ms = txn.time_ms;
                applied.events.push(WatchEvent {
                    event_type: WatchEventType::NodeDataChanged,
                    path: path.clone(),
                    acl: node.acl.clone(),
                });
                let stat = node.stat();
                let more = Usage {
                    count: 0,
                    bytes: self.tree.data_len() as i64 - before as i64,
                };
                quota::count(&mut self.tree, path, more);
                Ok(EffectResult::Set(stat))
            }
            Effect::SetAcl { path, acl, version } => {
                let node = self.tree.set_acl(path, acl.clone()).map_err(at)?;
                node.aversion = *version;
                Ok(EffectResult::Set(node.stat()))
            }
            Effect::Check => Ok(EffectResult::Done),
        }
    }

    fn delete(
        &mut self,
        zxid: Zxid,
        path: &ByteString,
        applied: &mut Applied,
    ) -> Result<(), ApplyError> {
        let deleted = self.tree.delete(path, zxid);
        let deleted = deleted.map_err(|error| ApplyError::Tree { zxid, error })?;
        let less = Usage {
            count: -1,
            bytes: -len(&deleted.data),
        };
        quota::count(&mut self.tree, path, less);
        applied.events.push(WatchEvent {
            event_type: WatchEventType::NodeDeleted,
            path: path.clone(),
            acl: deleted.acl.clone(),
        });
        self.children_changed(path, applied);
        Ok(())
    }

    /// The parent of `path` has another set of children.
    fn children_changed(&self, path: &ByteString, applied: &mut Applied) {
        if let Some((parent, _)) = path::split(path)
            && let Some(node) = self.tree.get(parent)
        {
            applied.events.push(WatchEvent {
                event_type: WatchEventType::NodeChildrenChanged,
                path: path.slice_ref(&path[..parent.len()]),
                acl: node.acl.clone(),
            });
        }
    }
}

fn len(data: &Option<Bytes>) -> i64 {
    data.as_ref().map_or(0, |data| data.len() as i64)
}
