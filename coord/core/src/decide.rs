//! Deciding writes ahead of their being applied.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;

use crate::acl::{self, Acl, AclList, Identity, Verdicts};
use crate::ephemeral_type::{EphemeralType, MAX_TTL_MS};
use crate::error::OpError;
use crate::path;
use crate::quota::{self, Usage};
use crate::request::{CreateMode, NodeType, Write};
use crate::session::PASSWORD_LEN;
use crate::state::State;
use crate::txn::{Change, Effect, Length, Txn};
use crate::zxid::{SessionId, Zxid};

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub struct Asker<'a> {
    /// The session.
    pub session: SessionId,
    /// Whom the connection has shown to be.
    pub identities: &'a [Identity],
}

/// What the server is set up to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rules {
    /// Whether znodes may have a time to live (`extendedTypesEnabled`).
    pub extended_types_enabled: bool,
    /// Whether writes above a hard limit of a quota are refused (`enforceQuota`).
    pub enforce_quota: bool,
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
    data_len: usize,
    ephemeral_type: EphemeralType,
    acl: Arc<AclList>,
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
    rules: Rules,
    futures: HashMap<ByteString, Future>,
    /// What resumes the sessions that are to begin.
    opening: HashMap<SessionId, [u8; PASSWORD_LEN]>,
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
    verdicts: Verdicts<'a>,
    undo: Vec<(ByteString, Option<Future>)>,
    /// Entries of ACLs beyond those that were asked for: what `auth` stood for.
    more_entries: usize,
    /// Quotas that it begins to count for.
    quotas: usize,
}

/// The most entries that `auth` may add to the ACLs of one transaction: a short request makes no long one.
const MORE_ENTRIES_MAX: usize = 10 * acl::MAX_ENTRIES;

/// The most quotas that one transaction may begin to count for: each has a whole subtree gone through.
const QUOTAS_MAX: usize = 16;

impl Outstanding {
    /// Nothing is decided yet.
    pub fn new(rules: Rules) -> Outstanding {
        Outstanding {
            rules,
            ..Outstanding::default()
        }
    }

    /// Whether the session's end is decided.
    pub fn is_closing(&self, session: SessionId) -> bool {
        self.closing.contains(&session)
    }

    /// What resumes the session. Its client may know it before this member has applied that it begins: another member
    /// may be ahead. None if there is no such session, or it has ended; whether its end is decided, see
    /// [`Outstanding::is_closing`].
    pub fn password<'a>(
        &'a self,
        state: &'a State,
        session: SessionId,
    ) -> Option<&'a [u8; PASSWORD_LEN]> {
        let begun = || state.sessions.get(&session).map(|known| &known.password);
        self.opening.get(&session).or_else(begun)
    }

    fn deciding<'a>(&'a mut self, state: &'a State, asker: Asker<'a>, zxid: Zxid) -> Deciding<'a> {
        Deciding {
            state,
            outstanding: self,
            asker,
            zxid,
            verdicts: Verdicts::new(asker.identities),
            undo: Vec::new(),
            more_entries: 0,
            quotas: 0,
        }
    }

    /// Decides writes that happen together or not at all, to be applied as `zxid`. More than fits into a transaction
    /// ([`txn::MAX_LEN`](crate::txn::MAX_LEN)) are bad arguments.
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
        let mut deciding = self.deciding(state, asker, zxid);
        let mut effects = Vec::with_capacity(writes.len());
        let mut length = Length::default();
        for (at, write) in writes.iter().enumerate() {
            let effect = deciding.write(write).and_then(|effect| {
                let fits = length.add(&effect);
                fits.then_some(effect).ok_or(OpError::BadArguments)
            });
            match effect {
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

    /// Decides the beginning of a session, which `password` resumes and silence ends after `timeout_ms`.
    pub fn decide_open(
        &mut self,
        session: SessionId,
        password: [u8; PASSWORD_LEN],
        timeout_ms: u32,
        time_ms: i64,
    ) -> Txn {
        self.opening.insert(session, password);
        Txn {
            session,
            time_ms,
            origin: None,
            change: Change::CreateSession {
                password,
                timeout_ms,
            },
        }
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
                .is_some_and(|facts| facts.ephemeral_type.session() == Some(session))
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
        let mut deciding = self.deciding(state, asker, zxid);
        for path in &ephemerals {
            deciding.remove(path);
        }
        deciding.finish();
        Txn {
            session,
            time_ms,
            origin: None,
            change: Change::CloseSession,
        }
    }

    /// Decides that a container, or a znode past its time to live, goes: one that the [`Reaper`](crate::reaper::Reaper)
    /// has found. Refused if it has children by then, or any change of it is on its way.
    pub fn decide_delete_container(
        &mut self,
        state: &State,
        path: &str,
        zxid: Zxid,
        time_ms: i64,
    ) -> Result<Txn, OpError> {
        let path = ByteString::from(path);
        if self.futures.contains_key(&path) {
            return Err(OpError::BadVersion);
        }
        let node = state.tree.get(&path).ok_or(OpError::NoNode)?;
        if !node.children.is_empty() {
            return Err(OpError::NotEmpty);
        }
        if !matches!(
            node.ephemeral_type,
            EphemeralType::Container | EphemeralType::Ttl(_)
        ) {
            return Err(OpError::BadVersion);
        }
        let asker = Asker {
            session: SessionId::NONE,
            identities: &[],
        };
        let mut deciding = self.deciding(state, asker, zxid);
        deciding.remove(&path);
        deciding.finish();
        Ok(Txn {
            session: SessionId::NONE,
            time_ms,
            origin: None,
            change: Change::Effects(vec![Effect::Delete { path }]),
        })
    }

    /// Drops what `txn`, now applied as `zxid`, was outstanding for.
    pub fn applied(&mut self, zxid: Zxid, txn: &Txn) {
        while let Some((decided, _)) = self.touched.front()
            && *decided <= zxid
        {
            let (_, paths) = self.touched.pop_front().unwrap_or_default();
            for path in paths {
                if let Entry::Occupied(future) = self.futures.entry(path)
                    && future.get().zxid <= zxid
                {
                    future.remove();
                }
            }
        }
        match txn.change {
            Change::CreateSession { .. } => drop(self.opening.remove(&txn.session)),
            Change::ResumeSession { .. } => {}
            Change::CloseSession => drop(self.closing.remove(&txn.session)),
            Change::Effects(_) => {}
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
                let data_len = data.as_ref().map_or(0, Bytes::len);
                let (path, acl, ephemeral_type) = self.create(path, data_len, acl, *mode)?;
                Ok(Effect::Create {
                    path,
                    data: data.clone(),
                    acl,
                    ephemeral_type,
                })
            }
            Write::Delete { path, version } => {
                let parent = path::parent_asked_for(path)?;
                if path::RESERVED.contains(&&**path) {
                    return Err(OpError::BadArguments);
                }
                let parent = self.facts(parent).ok_or(OpError::NoNode)?;
                self.verdicts.check(&parent.acl, acl::DELETE)?;
                let node = self.facts(path).ok_or(OpError::NoNode)?;
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
                self.verdicts.check(&node.acl, acl::WRITE)?;
                let data_len = data.as_ref().map_or(0, Bytes::len);
                self.check_quota(path, 0, data_len as i64 - node.data_len as i64)?;
                check_version(node.version, *version)?;
                node.version = node.version.wrapping_add(1);
                node.data_len = data_len;
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
                let acl = self.normalize(acl)?;
                let mut node = self.facts(path).ok_or(OpError::NoNode)?;
                self.verdicts.check(&node.acl, acl::ADMIN)?;
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
                self.verdicts.check(&node.acl, acl::READ)?;
                check_version(node.version, *version)?;
                Ok(Effect::Check)
            }
        }
    }

    /// Checks in ZooKeeper's order, so that of several reasons to refuse the client hears the same one.
    fn create(
        &mut self,
        path: &ByteString,
        data_len: usize,
        acl: &[Acl],
        mode: CreateMode,
    ) -> Result<(ByteString, Arc<AclList>, EphemeralType), OpError> {
        let ephemeral_type = self.ephemeral_type(mode.node_type)?;
        let parent_path = path::parent_asked_for(path)?;
        let acl = self.normalize(acl)?;
        let mut parent = self.facts(parent_path).ok_or(OpError::NoNode)?;
        self.verdicts.check(&parent.acl, acl::CREATE)?;
        let path = match mode.sequential {
            true => format!("{path}{:010}", parent.child_creates).into(),
            false => path.clone(),
        };
        path::validate(&path)?;
        if self.facts(&path).is_some() {
            return Err(OpError::NodeExists);
        }
        if parent.ephemeral_type.session().is_some() {
            return Err(OpError::NoChildrenForEphemerals);
        }
        self.check_quota(&path, 1, data_len as i64)?;
        self.quotas += usize::from(quota::counted_by(&path).is_some());
        if self.quotas > QUOTAS_MAX {
            return Err(OpError::BadArguments);
        }
        parent.child_creates = parent.child_creates.wrapping_add(1);
        parent.children += 1;
        self.set(path.slice_ref(&path[..parent_path.len()]), Some(parent));
        let node = NodeFacts {
            version: 0,
            aversion: 0,
            child_creates: 0,
            children: 0,
            data_len,
            ephemeral_type,
            acl: acl.clone(),
        };
        self.set(path.clone(), Some(node));
        Ok((path, acl, ephemeral_type))
    }

    fn normalize(&mut self, acl: &[Acl]) -> Result<Arc<AclList>, OpError> {
        let normalized = acl::normalize(acl, self.asker.identities)?;
        self.more_entries += normalized.len().saturating_sub(acl.len());
        match self.more_entries > MORE_ENTRIES_MAX {
            true => Err(OpError::InvalidAcl),
            false => Ok(normalized),
        }
    }

    fn ephemeral_type(&self, node_type: NodeType) -> Result<EphemeralType, OpError> {
        Ok(match node_type {
            NodeType::Persistent => EphemeralType::Void,
            NodeType::Ephemeral => EphemeralType::Normal(self.asker.session),
            NodeType::Container => EphemeralType::Container,
            NodeType::Ttl { .. } if !self.outstanding.rules.extended_types_enabled => {
                return Err(OpError::Unimplemented);
            }
            NodeType::Ttl { ttl_ms } if (1..=MAX_TTL_MS).contains(&ttl_ms) => {
                EphemeralType::Ttl(ttl_ms)
            }
            NodeType::Ttl { .. } => return Err(OpError::BadArguments),
        })
    }

    /// By the usage that is applied: writes on their way do not count yet, as in ZooKeeper.
    fn check_quota(&self, path: &str, count: i64, bytes: i64) -> Result<(), OpError> {
        match self.outstanding.rules.enforce_quota {
            true => quota::check(&self.state.tree, path, Usage { count, bytes }),
            false => Ok(()),
        }
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
            data_len: node.data.as_ref().map_or(0, Bytes::len),
            ephemeral_type: node.ephemeral_type,
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
