//! What clients ask for and what they are answered, free of any wire format.

use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;

use crate::acl::{Acl, AclList, Identity};
use crate::error::OpError;
use crate::names::Names;
use crate::reconfig::Reconfig;
use crate::tree::Stat;
use crate::watch::WatchKind;
use crate::zxid::Zxid;

/// What kind of znode is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NodeType {
    /// It stays until it is deleted.
    #[default]
    Persistent,
    /// It lives in the session.
    Ephemeral,
    /// It goes some time after its last child.
    Container,
    /// It goes when its data was not set for a time and it has no children.
    Ttl {
        /// That time, in milliseconds.
        ttl_ms: i64,
    },
}

/// How a znode is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CreateMode {
    /// What kind it is.
    pub node_type: NodeType,
    /// Whether its name gets the parent's next sequence number, ten digits.
    pub sequential: bool,
}

/// A write, within a multi or alone. A version of −1 matches any.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    /// Creates a znode.
    Create {
        /// Where.
        path: ByteString,
        /// Its data.
        data: Option<Bytes>,
        /// Its ACL.
        acl: Vec<Acl>,
        /// How.
        mode: CreateMode,
        /// Whether the answer has the stat too (create2).
        with_stat: bool,
    },
    /// Deletes a znode.
    Delete {
        /// Which.
        path: ByteString,
        /// The version that it must have.
        version: i32,
    },
    /// Sets a znode's data.
    SetData {
        /// Whose.
        path: ByteString,
        /// The new data.
        data: Option<Bytes>,
        /// The version that it must have.
        version: i32,
    },
    /// Sets a znode's ACL.
    SetAcl {
        /// Whose.
        path: ByteString,
        /// The new ACL.
        acl: Vec<Acl>,
        /// The ACL version that it must have.
        version: i32,
    },
    /// Checks a znode's version.
    Check {
        /// Whose.
        path: ByteString,
        /// The version that it must have.
        version: i32,
    },
}

/// A read; `watch` leaves a one-shot watch.
#[derive(Debug, Clone, PartialEq)]
pub enum Read {
    /// The stat.
    Exists {
        /// Of which znode.
        path: ByteString,
        /// For its creation, deletion or data; also if it does not exist.
        watch: bool,
    },
    /// The data and the stat.
    GetData {
        /// Of which znode.
        path: ByteString,
        /// For its deletion or data.
        watch: bool,
    },
    /// The children's names.
    GetChildren {
        /// Of which znode.
        path: ByteString,
        /// For its children or its deletion.
        watch: bool,
        /// Whether the answer has the stat too (getChildren2).
        with_stat: bool,
    },
    /// How many znodes there are below one, children's children too.
    GetAllChildrenNumber {
        /// Below which.
        path: ByteString,
    },
    /// The ephemerals of the session whose paths begin so.
    GetEphemerals {
        /// How.
        prefix: ByteString,
    },
    /// Several reads of data or children, each answered or refused by itself.
    Multi(Vec<Read>),
    /// The connection's identities.
    WhoAmI,
    /// The ACL and the stat.
    GetAcl {
        /// Of which znode.
        path: ByteString,
    },
    /// Watches of a former connection: what changed since `since` is told at once, the others are left.
    SetWatches {
        /// The newest state that the client has seen.
        since: Zxid,
        /// Znodes watched for their data.
        data: Vec<ByteString>,
        /// Absent znodes watched for their creation.
        exist: Vec<ByteString>,
        /// Znodes watched for their children.
        child: Vec<ByteString>,
        /// Znodes under a persistent watch.
        persistent: Vec<ByteString>,
        /// Znodes under a persistent recursive watch.
        persistent_recursive: Vec<ByteString>,
    },
    /// Leaves a watch that stays.
    AddWatch {
        /// At which znode, whether it exists or not.
        path: ByteString,
        /// Whether it tells of everything below too, but of no set of children.
        recursive: bool,
    },
    /// Whether a watch is there.
    CheckWatches {
        /// At which znode.
        path: ByteString,
        /// Of which kind; any if none is given.
        kind: Option<WatchKind>,
    },
    /// Takes a watch away.
    RemoveWatches {
        /// At which znode.
        path: ByteString,
        /// Of which kind; all if none is given.
        kind: Option<WatchKind>,
    },
    /// A sign of life.
    Ping,
}

/// A request of a session.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// A read.
    Read(Read),
    /// One write.
    Write(Write),
    /// Several writes, all or none.
    Multi(Vec<Write>),
    /// Answered once everything committed before is applied here.
    Sync {
        /// Given back.
        path: ByteString,
    },
    /// Changes the members of the ensemble.
    Reconfig(Reconfig),
    /// The client has shown to be someone else too, from here on.
    Authenticated(Vec<Identity>),
    /// A step of a SASL authentication, which the edge has looked at.
    Sasl {
        /// The server's answer to it.
        token: Option<Bytes>,
        /// Whom the client has shown to be with it; nobody before the last step.
        identities: Vec<Identity>,
    },
    /// Ends the session.
    CloseSession,
    /// Refused by the edge, in its turn.
    Refused {
        /// Why.
        error: OpError,
        /// Whether the connection is closed behind the answer: an op code that is not known, credentials that are wrong.
        close: bool,
    },
}

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Response {
    /// Done.
    Empty,
    /// create, sync.
    Path(ByteString),
    /// create2.
    PathStat(ByteString, Stat),
    /// exists, setData, setACL.
    Stat(Stat),
    /// getData.
    Data(Option<Bytes>, Stat),
    /// getChildren, getEphemerals.
    Children(Names),
    /// getChildren2.
    Children2(Names, Stat),
    /// getACL.
    Acl(Arc<AclList>, Stat),
    /// getAllChildrenNumber.
    Count(usize),
    /// whoAmI: each identity's scheme, and who it is without any secret.
    Identities(Vec<Identity>),
    /// addWatch.
    Watching,
    /// sasl: the server's token.
    Token(Option<Bytes>),
    /// multiRead: the answer to each read.
    MultiRead(Vec<Result<Response, OpError>>),
    /// multi: the answer to each write.
    Multi(Vec<(WriteKind, Response)>),
    /// A multi that changed nothing: the error of each write, none for those before the one at fault.
    MultiFailed(Vec<Option<OpError>>),
}

impl Response {
    /// About the bytes that it takes on the wire beside what every answer does.
    pub fn extra_len(&self) -> usize {
        const EACH: usize = 100;
        match self {
            Response::Data(data, _) => data.as_ref().map_or(0, Bytes::len),
            Response::Children(names) | Response::Children2(names, _) => {
                names.iter().map(|name| name.len() + 4).sum()
            }
            Response::Multi(results) => results.len() * EACH,
            Response::MultiRead(results) => {
                let len = |result: &Result<Response, OpError>| {
                    result.as_ref().map_or(0, Response::extra_len)
                };
                results.iter().map(|result| EACH + len(result)).sum()
            }
            _ => 0,
        }
    }

    /// Which of them are the tree's own, and no copy.
    pub fn shared_len(&self) -> usize {
        match self {
            Response::Data(data, _) => data.as_ref().map_or(0, Bytes::len),
            Response::MultiRead(results) => {
                let answers = results.iter().flatten();
                answers.map(Response::shared_len).sum()
            }
            _ => 0,
        }
    }
}

/// Which kind a write is, for the answer's shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteKind {
    /// A create that answers the path.
    Create,
    /// A create that answers path and stat, of whatever kind of znode.
    Create2,
    /// A delete.
    Delete,
    /// A setData.
    SetData,
    /// A setACL.
    SetAcl,
    /// A check.
    Check,
}

impl Write {
    /// Its kind.
    pub fn kind(&self) -> WriteKind {
        match self {
            Write::Create {
                with_stat: false, ..
            } => WriteKind::Create,
            Write::Create {
                with_stat: true, ..
            } => WriteKind::Create2,
            Write::Delete { .. } => WriteKind::Delete,
            Write::SetData { .. } => WriteKind::SetData,
            Write::SetAcl { .. } => WriteKind::SetAcl,
            Write::Check { .. } => WriteKind::Check,
        }
    }
}
