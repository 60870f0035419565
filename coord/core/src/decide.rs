//! Deciding writes ahead of their being applied.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use bytestring::ByteString;

use crate::acl::{self, Acl, Identity};
use crate::error::OpError;
use crate::path;
use crate::request::{CreateMode, Write};
use crate::state::State;
use crate::txn::{Change, Effect, Txn};
use crate::zxid::{SessionId, Zxid};

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub struct Asker<'a> {
    /// The session.
    pub session: SessionId,
    /// Whom the connection has shown to be.
    pub identities: &'a [Identity],
}

/// A refused multi: which operation was at fault, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MultiError {
    /// The operation's place.
    pub at: usize,
    /// Why it was refused.
    pub error: OpError,
}

/// What deciding needs to know of a znode.
#[derive(Debug, Clone)]
struct NodeFacts {
    version: i32,
    aversion: i32,
    child_creates: i32,
    children: usize,
    ephemeral_owner: SessionId,
    acl: Arc<[Acl]>,
}

/// A znode as it will be once `zxid` is applied; without facts it will be gone.
#[derive(Debug, Clone)]
struct Future {
    zxid: Zxid,
    facts: Option<NodeFacts>,
}

/// What was decided and is not applied yet: the difference between the applied state and the one to decide against.
/// Forgetting it, as a deposed leader does, takes all of it back.
#[derive(Debug, Default)]
pub struct Outstanding {
    futures: HashMap<ByteString, Future>,
    closing: HashSet<SessionId>,
    /// The znodes that each outstanding transaction touches, oldest first.
    touched: VecDeque<(Zxid, Vec<ByteString>)>,
}

/// One transaction being decided; remembers what to put back if it is refused half-way.
struct Deciding<'a> {
    state: &'a State,
    outstanding: &'a mut Outstanding,
    asker: Asker<'a>,
    zxid: Zxid,
    undo: Vec<(ByteString, Option<Future>)>,
}

impl Outstanding {
    /// Whether the session's end is decided.
    pub fn is_closing(&self, session: SessionId) -> bool {
        self.closing.contains(&session)
    }

    /// Decides writes that happen together or not at all, to be applied as `zxid`.
    pub fn decide(
        &mut self,
        state: &State,
        asker: Asker<'_>,
        zxid: Zxid,
        time_ms: i64,
        writes: &[Write],
    ) -> Result<Txn, MultiError> {
        if self.is_closing(asker.session) {
            return Err(MultiError {
                at: 0,
                error: OpError::SessionExpired,
            });
        }
        let mut deciding = Deciding {
            state,
            outstanding: self,
            asker,
            zxid,
            undo: Vec::new(),
        };
        let mut effects = Vec::with_capacity(writes.len());
        for (at, write) in writes.iter().enumerate() {
            match deciding.write(write) {
                Ok(effect) => effects.push(effect),
                Err(error) => {
                    deciding.roll_back();
                    return Err(MultiError { at, error });
                }
            }
        }
        deciding.finish();
        Ok(Txn {
            session: asker.session,
            time_ms,
            origin: None,
            change: Change::Effects(effects),
        })
    }

    /// Decides the end of a session: whatever it owns by then goes with it, also what is created but not applied yet,
    /// and it creates nothing any more (ZOOKEEPER-1208).
    pub fn decide_close(
        &mut self,
        state: &State,
        session: SessionId,
        zxid: Zxid,
        time_ms: i64,
    ) -> Txn {
        let owned_now = state
            .tree
            .ephemerals(session)
            .filter(|path| !self.futures.contains_key(&***path));
        let mut ephemerals: BTreeSet<ByteString> =
            owned_now.map(|path| ByteString::from(&**path)).collect();
        let owned = |future: &Future| {
            future
                .facts
                .as_ref()
                .is_some_and(|facts| facts.ephemeral_owner == session)
        };
        ephemerals.extend(
            self.futures
                .iter()
                .filter(|(_, future)| owned(future))
                .map(|(path, _)| path.clone()),
        );

        self.closing.insert(session);
        let asker = Asker {
            session,
            identities: &[],
        };
        let mut deciding = Deciding {
            state,
            outstanding: self,
            asker,
            zxid,
            undo: Vec::new(),
        };
        for path in &ephemerals {
            deciding.remove(path);
        }
        deciding.finish();
        let ephemerals = ephemerals.into_iter().collect();
        Txn {
            session,
            time_ms,
            origin: None,
            change: Change::CloseSession { ephemerals },
        }
    }

    /// Drops what `txn`, now applied as `zxid`, was outstanding for.
    pub fn applied(&mut self, zxid: Zxid, txn: &Txn) {
        while let Some((decided, _)) = self.touched.front()
            && *decided <= zxid
        {
            let (_, paths) = self.touched.pop_front().unwrap_or_default();
            for path in paths {
                if self
                    .futures
                    .get(&path)
                    .is_some_and(|future| future.zxid <= zxid)
                {
                    self.futures.remove(&path);
                }
            }
        }
        if let Change::CloseSession { .. } = txn.change {
            self.closing.remove(&txn.session);
        }
    }
}

impl Deciding<'_> {
    fn write(&mut self, write: &Write) -> Result<Effect, OpError> {
        match write {
            Write::Create {
                path,
                data,
                acl,
                mode,
                ..
            } => {
                let acl = acl::normalize(acl, self.asker.identities);
                let (path, acl) = self.create(path, acl, *mode)?;
                Ok(Effect::Create {
                    path,
                    data: data.clone(),
                    acl,
                    ephemeral: mode.ephemeral,
                })
            }
            Write::Delete { path, version } => {
                path::validate(path)?;
                if path::RESERVED.contains(&&**path) {
                    return Err(OpError::BadArguments);
                }
                let (parent, _) = path::split(path).ok_or(OpError::BadArguments)?;
                let parent = self.facts(parent).ok_or(OpError::NoNode)?;
                let node = self.facts(path).ok_or(OpError::NoNode)?;
                acl::check(&parent.acl, acl::DELETE, self.asker.identities)?;
                check_version(node.version, *version)?;
                if node.children > 0 {
                    return Err(OpError::NotEmpty);
                }
                self.remove(path);
                Ok(Effect::Delete { path: path.clone() })
            }
            Write::SetData {
                path,
                data,
                version,
            } => {
                path::validate(path)?;
                let mut node = self.facts(path).ok_or(OpError::NoNode)?;
                acl::check(&node.acl, acl::WRITE, self.asker.identities)?;
                check_version(node.version, *version)?;
                node.version = node.version.wrapping_add(1);
                let version = node.version;
                self.set(path.clone(), Some(node));
                Ok(Effect::SetData {
                    path: path.clone(),
                    data: data.clone(),
                    version,
                })
            }
            Write::SetAcl { path, acl, version } => {
                path::validate(path)?;
                let acl = acl::normalize(acl, self.asker.identities)?;
                let mut node = self.facts(path).ok_or(OpError::NoNode)?;
                acl::check(&node.acl, acl::ADMIN, self.asker.identities)?;
                check_version(node.aversion, *version)?;
                node.aversion = node.aversion.wrapping_add(1);
                node.acl = acl.clone();
                let version = node.aversion;
                self.set(path.clone(), Some(node));
                Ok(Effect::SetAcl {
                    path: path.clone(),
                    acl,
                    version,
                })
            }
            Write::Check { path, version } => {
                path::validate(path)?;
                let node = self.facts(path).ok_or(OpError::NoNode)?;
                acl::check(&node.acl, acl::READ, self.asker.identities)?;
                check_version(node.version, *version)?;
                Ok(Effect::Check)
            }
        }
    }

    fn create(
        &mut self,
        path: &ByteString,
        acl: Result<Arc<[Acl]>, OpError>,
        mode: CreateMode,
    ) -> Result<(ByteString, Arc<[Acl]>), OpError> {
        // A sequential path may end in a slash, so only the full name can be checked.
        if !mode.sequential {
            path::validate(path)?;
        }
        let acl = acl?;
        let (parent_path, _) = path.rsplit_once('/').ok_or(OpError::BadArguments)?;
        let parent_path = if parent_path.is_empty() {
            "/"
        } else {
            parent_path
        };
        let mut parent = self.facts(parent_path).ok_or(OpError::NoNode)?;
        acl::check(&parent.acl, acl::CREATE, self.asker.identities)?;
        let path = match mode.sequential {
            true => format!("{path}{:010}", parent.child_creates).into(),
            false => path.clone(),
        };
        path::validate(&path)?;
        if self.facts(&path).is_some() {
            return Err(OpError::NodeExists);
        }
        if parent.ephemeral_owner.is_some() {
            return Err(OpError::NoChildrenForEphemerals);
        }
        parent.child_creates = parent.child_creates.wrapping_add(1);
        parent.children += 1;
        self.set(path.slice_ref(&path[..parent_path.len()]), Some(parent));
        let owner = if mode.ephemeral {
            self.asker.session
        } else {
            SessionId::NONE
        };
        let node = NodeFacts {
            version: 0,
            aversion: 0,
            child_creates: 0,
            children: 0,
            ephemeral_owner: owner,
            acl: acl.clone(),
        };
        self.set(path.clone(), Some(node));
        Ok((path, acl))
    }

    /// Takes a znode away from under its parent.
    fn remove(&mut self, path: &ByteString) {
        if let Some((parent_path, _)) = path::split(path)
            && let Some(mut parent) = self.facts(parent_path)
        {
            parent.children = parent.children.saturating_sub(1);
            self.set(path.slice_ref(&path[..parent_path.len()]), Some(parent));
        }
        self.set(path.clone(), None);
    }

    fn facts(&self, path: &str) -> Option<NodeFacts> {
        if let Some(future) = self.outstanding.futures.get(path) {
            return future.facts.clone();
        }
        let node = self.state.tree.get(path)?;
        Some(NodeFacts {
            version: node.version,
            aversion: node.aversion,
            child_creates: node.child_creates,
            children: node.children.len(),
            ephemeral_owner: node.ephemeral_owner,
            acl: node.acl.clone(),
        })
    }

    fn set(&mut self, path: ByteString, facts: Option<NodeFacts>) {
        let former = self.outstanding.futures.insert(
            path.clone(),
            Future {
                zxid: self.zxid,
                facts,
            },
        );
        self.undo.push((path, former));
    }

    fn roll_back(self) {
        for (path, former) in self.undo.into_iter().rev() {
            match former {
                Some(future) => self.outstanding.futures.insert(path, future),
                None => self.outstanding.futures.remove(&path),
            };
        }
    }

    fn finish(self) {
        if !self.undo.is_empty() {
            let paths = self.undo.into_iter().map(|(path, _)| path).collect();
            self.outstanding.touched.push_back((self.zxid, paths));
        }
    }
}

fn check_version(actual: i32, wanted: i32) -> Result<(), OpError> {
    if wanted == -1 || wanted == actual {
        Ok(())
    } else {
        Err(OpError::BadVersion)
    }
}
