//! The requests.

use bytes::Bytes;
use bytestring::ByteString;

use crate::jute::{DecodeError, Reader, Writer};
use crate::multi::{MultiOp, MultiReadOp};
use crate::op_code::OpCode;
use crate::record::{Acl, AddWatchMode, WatcherType};

/// Arguments of create, create2 and createContainer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateRequest {
    /// The znode to create; a sequential one gets ten digits behind it.
    pub path: ByteString,
    /// Its data.
    pub data: Option<Bytes>,
    /// Its ACL.
    pub acl: Vec<Acl>,
    /// The create mode: 0 persistent, 1 ephemeral, 2 persistent sequential, 3 ephemeral sequential, 4 container,
    /// 5 and 6 with a time to live.
    pub flags: i32,
}

/// Arguments of createTTL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateTtlRequest {
    /// As for create, the flags 5 or 6.
    pub create: CreateRequest,
    /// How long the znode lives without a change while it has no children, in milliseconds.
    pub ttl_ms: i64,
}

/// Arguments of delete and check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathVersion {
    /// The znode.
    pub path: ByteString,
    /// The version that it must have; −1 for any.
    pub version: i32,
}

/// Arguments of the reads that may leave a watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathWatch {
    /// The znode.
    pub path: ByteString,
    /// Whether to watch it.
    pub watch: bool,
}

/// Arguments of setData.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetDataRequest {
    /// The znode.
    pub path: ByteString,
    /// Its new data.
    pub data: Option<Bytes>,
    /// The version that it must have; −1 for any.
    pub version: i32,
}

/// Arguments of setACL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAclRequest {
    /// The znode.
    pub path: ByteString,
    /// Its new ACL.
    pub acl: Vec<Acl>,
    /// The ACL version that it must have; −1 for any.
    pub version: i32,
}

/// Arguments of reconfig. Either the new members as a whole, or who joins and who leaves.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReconfigRequest {
    /// `server.N=…` of each that joins or changes, between commas.
    pub joining: Option<ByteString>,
    /// The number of each that leaves, between commas.
    pub leaving: Option<ByteString>,
    /// `server.N=…` of every member, between commas or newlines.
    pub new_members: Option<ByteString>,
    /// The version that the configuration must have; −1 for any.
    pub config_version: i64,
}

/// Arguments of setWatches.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SetWatches {
    /// The newest zxid that the client has seen: what changed later is told at once.
    pub relative_zxid: i64,
    /// Znodes whose data was watched.
    pub data: Vec<ByteString>,
    /// Absent znodes that were watched for their creation.
    pub exist: Vec<ByteString>,
    /// Znodes whose children were watched.
    pub child: Vec<ByteString>,
}

/// Arguments of setWatches2.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SetWatches2 {
    /// The one-shot watches.
    pub one_shot: SetWatches,
    /// Znodes under a persistent watch.
    pub persistent: Vec<ByteString>,
    /// Znodes under a persistent recursive watch.
    pub persistent_recursive: Vec<ByteString>,
}

/// A request as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the op codes of the same names are documented")]
pub enum Request {
    Create(CreateRequest),
    Create2(CreateRequest),
    CreateContainer(CreateRequest),
    CreateTtl(CreateTtlRequest),
    Delete(PathVersion),
    Exists(PathWatch),
    GetData(PathWatch),
    SetData(SetDataRequest),
    GetAcl(ByteString),
    SetAcl(SetAclRequest),
    GetChildren(PathWatch),
    GetChildren2(PathWatch),
    GetAllChildrenNumber(ByteString),
    GetEphemerals {
        prefix: ByteString,
    },
    Sync(ByteString),
    Ping,
    Check(PathVersion),
    Multi(Vec<MultiOp>),
    MultiRead(Vec<MultiReadOp>),
    Reconfig(ReconfigRequest),
    Auth {
        scheme: ByteString,
        credentials: Option<Bytes>,
    },
    Sasl(Option<Bytes>),
    WhoAmI,
    SetWatches(SetWatches),
    SetWatches2(SetWatches2),
    AddWatch {
        path: ByteString,
        mode: AddWatchMode,
    },
    CheckWatches {
        path: ByteString,
        watcher_type: WatcherType,
    },
    RemoveWatches {
        path: ByteString,
        watcher_type: WatcherType,
    },
    CloseSession,
}

impl Request {
    /// Reads the arguments of `op`. Bytes behind them are ignored, as ZooKeeper does.
    pub fn decode(op: OpCode, r: &mut Reader) -> Result<Request, DecodeError> {
        Ok(match op {
            OpCode::Create => Request::Create(CreateRequest::decode(r)?),
            OpCode::Create2 => Request::Create2(CreateRequest::decode(r)?),
            OpCode::CreateContainer => Request::CreateContainer(CreateRequest::decode(r)?),
            OpCode::CreateTtl => Request::CreateTtl(CreateTtlRequest::decode(r)?),
            OpCode::Delete => Request::Delete(PathVersion::decode(r)?),
            OpCode::Exists => Request::Exists(PathWatch::decode(r)?),
            OpCode::GetData => Request::GetData(PathWatch::decode(r)?),
            OpCode::SetData => Request::SetData(SetDataRequest::decode(r)?),
            OpCode::GetAcl => Request::GetAcl(r.path()?),
            OpCode::SetAcl => Request::SetAcl(SetAclRequest {
                path: r.path()?,
                acl: acl(r)?,
                version: r.i32()?,
            }),
            OpCode::GetChildren => Request::GetChildren(PathWatch::decode(r)?),
            OpCode::GetChildren2 => Request::GetChildren2(PathWatch::decode(r)?),
            OpCode::GetAllChildrenNumber => Request::GetAllChildrenNumber(r.path()?),
            OpCode::GetEphemerals => Request::GetEphemerals {
                prefix: r.string()?,
            },
            OpCode::Sync => Request::Sync(r.string()?),
            OpCode::Ping => Request::Ping,
            OpCode::Check => Request::Check(PathVersion::decode(r)?),
            OpCode::Multi => Request::Multi(MultiOp::decode_all(r)?),
            OpCode::MultiRead => Request::MultiRead(MultiReadOp::decode_all(r)?),
            OpCode::Reconfig => Request::Reconfig(ReconfigRequest {
                joining: r.nullable_string()?,
                leaving: r.nullable_string()?,
                new_members: r.nullable_string()?,
                config_version: r.i64()?,
            }),
            OpCode::Auth => {
                r.i32()?;
                Request::Auth {
                    scheme: r.string()?,
                    credentials: r.buffer()?,
                }
            }
            OpCode::Sasl => Request::Sasl(r.buffer()?),
            OpCode::WhoAmI => Request::WhoAmI,
            OpCode::SetWatches => Request::SetWatches(SetWatches::decode(r)?),
            OpCode::SetWatches2 => Request::SetWatches2(SetWatches2 {
                one_shot: SetWatches::decode(r)?,
                persistent: r.strings()?,
                persistent_recursive: r.strings()?,
            }),
            OpCode::AddWatch => Request::AddWatch {
                path: r.string()?,
                mode: AddWatchMode::decode(r)?,
            },
            OpCode::CheckWatches => Request::CheckWatches {
                path: r.string()?,
                watcher_type: WatcherType::decode(r)?,
            },
            OpCode::RemoveWatches => Request::RemoveWatches {
                path: r.string()?,
                watcher_type: WatcherType::decode(r)?,
            },
            OpCode::CloseSession => Request::CloseSession,
        })
    }

    /// The op code of the request.
    pub fn op_code(&self) -> OpCode {
        match self {
            Request::Create(_) => OpCode::Create,
            Request::Create2(_) => OpCode::Create2,
            Request::CreateContainer(_) => OpCode::CreateContainer,
            Request::CreateTtl(_) => OpCode::CreateTtl,
            Request::Delete(_) => OpCode::Delete,
            Request::Exists(_) => OpCode::Exists,
            Request::GetData(_) => OpCode::GetData,
            Request::SetData(_) => OpCode::SetData,
            Request::GetAcl(_) => OpCode::GetAcl,
            Request::SetAcl(_) => OpCode::SetAcl,
            Request::GetChildren(_) => OpCode::GetChildren,
            Request::GetChildren2(_) => OpCode::GetChildren2,
            Request::GetAllChildrenNumber(_) => OpCode::GetAllChildrenNumber,
            Request::GetEphemerals { .. } => OpCode::GetEphemerals,
            Request::Sync(_) => OpCode::Sync,
            Request::Ping => OpCode::Ping,
            Request::Check(_) => OpCode::Check,
            Request::Multi(_) => OpCode::Multi,
            Request::MultiRead(_) => OpCode::MultiRead,
            Request::Reconfig(_) => OpCode::Reconfig,
            Request::Auth { .. } => OpCode::Auth,
            Request::Sasl(_) => OpCode::Sasl,
            Request::WhoAmI => OpCode::WhoAmI,
            Request::SetWatches(_) => OpCode::SetWatches,
            Request::SetWatches2(_) => OpCode::SetWatches2,
            Request::AddWatch { .. } => OpCode::AddWatch,
            Request::CheckWatches { .. } => OpCode::CheckWatches,
            Request::RemoveWatches { .. } => OpCode::RemoveWatches,
            Request::CloseSession => OpCode::CloseSession,
        }
    }

    /// Writes the arguments, without a header.
    pub fn encode(&self, w: &mut Writer) {
        match self {
            Request::Create(request)
            | Request::Create2(request)
            | Request::CreateContainer(request) => request.encode(w),
            Request::CreateTtl(request) => request.encode(w),
            Request::Delete(request) | Request::Check(request) => request.encode(w),
            Request::Exists(request)
            | Request::GetData(request)
            | Request::GetChildren(request)
            | Request::GetChildren2(request) => {
                w.string(&request.path);
                w.bool(request.watch);
            }
            Request::SetData(request) => request.encode(w),
            Request::GetAcl(path)
            | Request::GetAllChildrenNumber(path)
            | Request::GetEphemerals { prefix: path }
            | Request::Sync(path) => w.string(path),
            Request::SetAcl(request) => {
                w.string(&request.path);
                w.vec(request.acl.iter(), |w, acl| acl.encode(w));
                w.i32(request.version);
            }
            Request::Ping | Request::WhoAmI | Request::CloseSession => {}
            Request::Multi(ops) => MultiOp::encode_all(ops, w),
            Request::MultiRead(ops) => MultiReadOp::encode_all(ops, w),
            Request::Reconfig(request) => {
                w.nullable_string(request.joining.as_deref());
                w.nullable_string(request.leaving.as_deref());
                w.nullable_string(request.new_members.as_deref());
                w.i64(request.config_version);
            }
            Request::Auth {
                scheme,
                credentials,
            } => {
                w.i32(0);
                w.string(scheme);
                w.buffer(credentials.as_deref());
            }
            Request::Sasl(token) => w.buffer(token.as_deref()),
            Request::SetWatches(request) => request.encode(w),
            Request::SetWatches2(request) => {
                request.one_shot.encode(w);
                w.strings(&request.persistent);
                w.strings(&request.persistent_recursive);
            }
            Request::AddWatch { path, mode } => {
                w.string(path);
                mode.encode(w);
            }
            Request::CheckWatches { path, watcher_type }
            | Request::RemoveWatches { path, watcher_type } => {
                w.string(path);
                watcher_type.encode(w);
            }
        }
    }
}

fn acl(r: &mut Reader) -> Result<Vec<Acl>, DecodeError> {
    r.vec(Acl::MIN_LEN, Acl::decode)
}

impl CreateRequest {
    pub(crate) fn decode(r: &mut Reader) -> Result<CreateRequest, DecodeError> {
        Ok(CreateRequest {
            path: r.path()?,
            data: r.buffer()?,
            acl: acl(r)?,
            flags: r.i32()?,
        })
    }

    pub(crate) fn encode(&self, w: &mut Writer) {
        w.string(&self.path);
        w.buffer(self.data.as_deref());
        w.vec(self.acl.iter(), |w, acl| acl.encode(w));
        w.i32(self.flags);
    }
}

impl CreateTtlRequest {
    pub(crate) fn decode(r: &mut Reader) -> Result<CreateTtlRequest, DecodeError> {
        Ok(CreateTtlRequest {
            create: CreateRequest::decode(r)?,
            ttl_ms: r.i64()?,
        })
    }

    pub(crate) fn encode(&self, w: &mut Writer) {
        self.create.encode(w);
        w.i64(self.ttl_ms);
    }
}

impl PathVersion {
    pub(crate) fn decode(r: &mut Reader) -> Result<PathVersion, DecodeError> {
        Ok(PathVersion {
            path: r.path()?,
            version: r.i32()?,
        })
    }

    pub(crate) fn encode(&self, w: &mut Writer) {
        w.string(&self.path);
        w.i32(self.version);
    }
}

impl PathWatch {
    pub(crate) fn decode(r: &mut Reader) -> Result<PathWatch, DecodeError> {
        Ok(PathWatch {
            path: r.path()?,
            watch: r.bool()?,
        })
    }
}

impl SetDataRequest {
    pub(crate) fn decode(r: &mut Reader) -> Result<SetDataRequest, DecodeError> {
        Ok(SetDataRequest {
            path: r.path()?,
            data: r.buffer()?,
            version: r.i32()?,
        })
    }

    pub(crate) fn encode(&self, w: &mut Writer) {
        w.string(&self.path);
        w.buffer(self.data.as_deref());
        w.i32(self.version);
    }
}

impl SetWatches {
    fn decode(r: &mut Reader) -> Result<SetWatches, DecodeError> {
        Ok(SetWatches {
            relative_zxid: r.i64()?,
            data: r.strings()?,
            exist: r.strings()?,
            child: r.strings()?,
        })
    }

    fn encode(&self, w: &mut Writer) {
        w.i64(self.relative_zxid);
        w.strings(&self.data);
        w.strings(&self.exist);
        w.strings(&self.child);
    }
}
