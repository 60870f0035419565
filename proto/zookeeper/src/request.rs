//! The requests.

use bytes::Bytes;
use bytestring::ByteString;

use crate::jute::{DecodeError, Reader, Writer};
use crate::op_code::OpCode;
use crate::record::Acl;

/// Arguments of create and create2.
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

/// One operation of a multi.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the op codes of the same names are documented")]
pub enum MultiOp {
    Create(CreateRequest),
    Create2(CreateRequest),
    Delete(PathVersion),
    SetData(SetDataRequest),
    Check(PathVersion),
}

/// A request as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the op codes of the same names are documented")]
pub enum Request {
    Create(CreateRequest),
    Create2(CreateRequest),
    Delete(PathVersion),
    Exists(PathWatch),
    GetData(PathWatch),
    SetData(SetDataRequest),
    GetAcl(ByteString),
    SetAcl(SetAclRequest),
    GetChildren(PathWatch),
    GetChildren2(PathWatch),
    Sync(ByteString),
    Ping,
    Check(PathVersion),
    Multi(Vec<MultiOp>),
    Auth {
        scheme: ByteString,
        credentials: Bytes,
    },
    SetWatches(SetWatches),
    CloseSession,
}

impl Request {
    /// Reads the arguments of `op`. Bytes behind them are ignored, as ZooKeeper does.
    pub fn decode(op: OpCode, r: &mut Reader) -> Result<Request, DecodeError> {
        Ok(match op {
            OpCode::Create => Request::Create(create(r)?),
            OpCode::Create2 => Request::Create2(create(r)?),
            OpCode::Delete => Request::Delete(path_version(r)?),
            OpCode::Exists => Request::Exists(path_watch(r)?),
            OpCode::GetData => Request::GetData(path_watch(r)?),
            OpCode::SetData => Request::SetData(set_data(r)?),
            OpCode::GetAcl => Request::GetAcl(r.string()?),
            OpCode::SetAcl => Request::SetAcl(SetAclRequest {
                path: r.string()?,
                acl: acl(r)?,
                version: r.i32()?,
            }),
            OpCode::GetChildren => Request::GetChildren(path_watch(r)?),
            OpCode::GetChildren2 => Request::GetChildren2(path_watch(r)?),
            OpCode::Sync => Request::Sync(r.string()?),
            OpCode::Ping => Request::Ping,
            OpCode::Check => Request::Check(path_version(r)?),
            OpCode::Multi => Request::Multi(multi(r)?),
            OpCode::Auth => {
                r.i32()?;
                Request::Auth {
                    scheme: r.string()?,
                    credentials: r.buffer()?.unwrap_or_default(),
                }
            }
            OpCode::SetWatches => Request::SetWatches(SetWatches {
                relative_zxid: r.i64()?,
                data: r.strings()?,
                exist: r.strings()?,
                child: r.strings()?,
            }),
            OpCode::CloseSession => Request::CloseSession,
        })
    }

    /// The op code of the request.
    pub fn op_code(&self) -> OpCode {
        match self {
            Request::Create(_) => OpCode::Create,
            Request::Create2(_) => OpCode::Create2,
            Request::Delete(_) => OpCode::Delete,
            Request::Exists(_) => OpCode::Exists,
            Request::GetData(_) => OpCode::GetData,
            Request::SetData(_) => OpCode::SetData,
            Request::GetAcl(_) => OpCode::GetAcl,
            Request::SetAcl(_) => OpCode::SetAcl,
            Request::GetChildren(_) => OpCode::GetChildren,
            Request::GetChildren2(_) => OpCode::GetChildren2,
            Request::Sync(_) => OpCode::Sync,
            Request::Ping => OpCode::Ping,
            Request::Check(_) => OpCode::Check,
            Request::Multi(_) => OpCode::Multi,
            Request::Auth { .. } => OpCode::Auth,
            Request::SetWatches(_) => OpCode::SetWatches,
            Request::CloseSession => OpCode::CloseSession,
        }
    }

    /// Writes the arguments, without a header.
    pub fn encode(&self, w: &mut Writer) {
        match self {
            Request::Create(request) | Request::Create2(request) => write_create(w, request),
            Request::Delete(request) | Request::Check(request) => write_path_version(w, request),
            Request::Exists(request)
            | Request::GetData(request)
            | Request::GetChildren(request)
            | Request::GetChildren2(request) => {
                w.string(&request.path);
                w.bool(request.watch);
            }
            Request::SetData(request) => write_set_data(w, request),
            Request::GetAcl(path) | Request::Sync(path) => w.string(path),
            Request::SetAcl(request) => {
                w.string(&request.path);
                w.vec(request.acl.iter(), |w, acl| acl.encode(w));
                w.i32(request.version);
            }
            Request::Ping | Request::CloseSession => {}
            Request::Multi(ops) => {
                for op in ops {
                    write_multi_op(w, op);
                }
                write_multi_header(w, -1, true, -1);
            }
            Request::Auth {
                scheme,
                credentials,
            } => {
                w.i32(0);
                w.string(scheme);
                w.buffer(Some(credentials));
            }
            Request::SetWatches(request) => {
                w.i64(request.relative_zxid);
                for paths in [&request.data, &request.exist, &request.child] {
                    w.vec(paths.iter(), |w, path| w.string(path));
                }
            }
        }
    }
}

fn acl(r: &mut Reader) -> Result<Vec<Acl>, DecodeError> {
    r.vec(Acl::MIN_LEN, Acl::decode)
}

fn create(r: &mut Reader) -> Result<CreateRequest, DecodeError> {
    Ok(CreateRequest {
        path: r.string()?,
        data: r.buffer()?,
        acl: acl(r)?,
        flags: r.i32()?,
    })
}

fn path_version(r: &mut Reader) -> Result<PathVersion, DecodeError> {
    Ok(PathVersion {
        path: r.string()?,
        version: r.i32()?,
    })
}

fn path_watch(r: &mut Reader) -> Result<PathWatch, DecodeError> {
    Ok(PathWatch {
        path: r.string()?,
        watch: r.bool()?,
    })
}

fn set_data(r: &mut Reader) -> Result<SetDataRequest, DecodeError> {
    Ok(SetDataRequest {
        path: r.string()?,
        data: r.buffer()?,
        version: r.i32()?,
    })
}

/// Operations until the header that says done. Each takes at least its nine header bytes, so the frame bounds them.
fn multi(r: &mut Reader) -> Result<Vec<MultiOp>, DecodeError> {
    let mut ops = Vec::new();
    loop {
        let (code, done, _error) = (r.i32()?, r.bool()?, r.i32()?);
        if done {
            return Ok(ops);
        }
        ops.push(match OpCode::try_from(code) {
            Ok(OpCode::Create) => MultiOp::Create(create(r)?),
            Ok(OpCode::Create2) => MultiOp::Create2(create(r)?),
            Ok(OpCode::Delete) => MultiOp::Delete(path_version(r)?),
            Ok(OpCode::SetData) => MultiOp::SetData(set_data(r)?),
            Ok(OpCode::Check) => MultiOp::Check(path_version(r)?),
            _ => return Err(DecodeError::NotInMulti(code)),
        });
    }
}

pub(crate) fn write_multi_header(w: &mut Writer, code: i32, done: bool, error: i32) {
    w.i32(code);
    w.bool(done);
    w.i32(error);
}

fn write_multi_op(w: &mut Writer, op: &MultiOp) {
    let code = match op {
        MultiOp::Create(_) => OpCode::Create,
        MultiOp::Create2(_) => OpCode::Create2,
        MultiOp::Delete(_) => OpCode::Delete,
        MultiOp::SetData(_) => OpCode::SetData,
        MultiOp::Check(_) => OpCode::Check,
    };
    write_multi_header(w, code.code(), false, -1);
    match op {
        MultiOp::Create(request) | MultiOp::Create2(request) => write_create(w, request),
        MultiOp::Delete(request) | MultiOp::Check(request) => write_path_version(w, request),
        MultiOp::SetData(request) => write_set_data(w, request),
    }
}

fn write_create(w: &mut Writer, request: &CreateRequest) {
    w.string(&request.path);
    w.buffer(request.data.as_deref());
    w.vec(request.acl.iter(), |w, acl| acl.encode(w));
    w.i32(request.flags);
}

fn write_path_version(w: &mut Writer, request: &PathVersion) {
    w.string(&request.path);
    w.i32(request.version);
}

fn write_set_data(w: &mut Writer, request: &SetDataRequest) {
    w.string(&request.path);
    w.buffer(request.data.as_deref());
    w.i32(request.version);
}
