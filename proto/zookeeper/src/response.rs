//! The responses: borrowed from wherever the server keeps what it answers, or owned where a client reads them.

use bytes::Bytes;
use bytestring::ByteString;

use crate::error_code::ErrorCode;
use crate::jute::{DecodeError, Reader, Writer};
use crate::multi::{multi_header, write_multi_header};
use crate::op_code::OpCode;
use crate::record::{Acl, ClientInfo, Stat, error_code};

/// The body behind a reply's header. A server writes one of `&str` and `&[u8]`, a client reads one that owns slices of
/// its frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Response<S = ByteString, B = Bytes> {
    /// delete, check, setWatches, closeSession, ping, auth and the like: the header says it all.
    Empty,
    /// create, sync.
    Path(S),
    /// create2, createContainer, createTTL.
    PathStat(S, Stat),
    /// exists, setData, setACL.
    Stat(Stat),
    /// getData, reconfig.
    Data(Option<B>, Stat),
    /// getChildren, getEphemerals.
    Paths(Vec<S>),
    /// getChildren2.
    Children2(Vec<S>, Stat),
    /// getACL.
    Acl(Vec<Acl>, Stat),
    /// getAllChildrenNumber.
    Count(i32),
    /// whoAmI.
    Identities(Vec<ClientInfo>),
    /// sasl: the server's token.
    Token(Option<B>),
    /// addWatch: the error code once more.
    Error(ErrorCode),
    /// multi and multiRead: the outcome of each operation.
    Multi(Vec<MultiResult<S, B>>),
}

/// The outcome of one operation of a multi or multiRead: its op code and answer, or why it was refused.
pub type MultiResult<S = ByteString, B = Bytes> = Result<(OpCode, Response<S, B>), ErrorCode>;

/// The op code that stands for a failed operation in a multi's results.
const ERROR: i32 = -1;

impl<S: AsRef<str>, B: AsRef<[u8]>> Response<S, B> {
    /// Writes the body.
    pub fn encode(&self, w: &mut Writer) {
        match self {
            Response::Empty => {}
            Response::Path(path) => w.string(path.as_ref()),
            Response::PathStat(path, stat) => {
                w.string(path.as_ref());
                stat.encode(w);
            }
            Response::Stat(stat) => stat.encode(w),
            Response::Data(data, stat) => {
                w.buffer(data.as_ref().map(AsRef::as_ref));
                stat.encode(w);
            }
            Response::Paths(paths) => w.strings(paths),
            Response::Children2(names, stat) => {
                w.strings(names);
                stat.encode(w);
            }
            Response::Acl(acl, stat) => {
                w.vec(acl.iter(), |w, acl| acl.encode(w));
                stat.encode(w);
            }
            Response::Count(count) => w.i32(*count),
            Response::Identities(infos) => w.vec(infos.iter(), |w, info| info.encode(w)),
            Response::Token(token) => w.buffer(token.as_ref().map(AsRef::as_ref)),
            Response::Error(error) => w.i32(error.code()),
            Response::Multi(results) => {
                for result in results {
                    match result {
                        Ok((op, response)) => {
                            write_multi_header(w, op.code(), false, 0);
                            response.encode(w);
                        }
                        Err(error) => {
                            write_multi_header(w, ERROR, false, error.code());
                            w.i32(error.code());
                        }
                    }
                }
                write_multi_header(w, ERROR, true, -1);
            }
        }
    }
}

impl Response {
    /// Reads the body of the answer to `op`, where its header has no error.
    pub fn decode(op: OpCode, r: &mut Reader) -> Result<Response, DecodeError> {
        Ok(match op {
            OpCode::Multi | OpCode::MultiRead => Response::Multi(results(r)?),
            op => single(op, r)?,
        })
    }
}

/// The body of an answer that is no multi's.
fn single(op: OpCode, r: &mut Reader) -> Result<Response, DecodeError> {
    Ok(match op {
        OpCode::Create | OpCode::Sync => Response::Path(r.string()?),
        OpCode::Create2 | OpCode::CreateContainer | OpCode::CreateTtl => {
            Response::PathStat(r.string()?, Stat::decode(r)?)
        }
        OpCode::Exists | OpCode::SetData | OpCode::SetAcl => Response::Stat(Stat::decode(r)?),
        OpCode::GetData | OpCode::Reconfig => Response::Data(r.buffer()?, Stat::decode(r)?),
        OpCode::GetChildren | OpCode::GetEphemerals => Response::Paths(r.strings()?),
        OpCode::GetChildren2 => Response::Children2(r.strings()?, Stat::decode(r)?),
        OpCode::GetAcl => Response::Acl(r.vec(Acl::MIN_LEN, Acl::decode)?, Stat::decode(r)?),
        OpCode::GetAllChildrenNumber => Response::Count(r.i32()?),
        OpCode::WhoAmI => Response::Identities(r.vec(ClientInfo::MIN_LEN, ClientInfo::decode)?),
        OpCode::Sasl => Response::Token(r.buffer()?),
        OpCode::AddWatch => Response::Error(error_code(r)?),
        OpCode::Delete
        | OpCode::Check
        | OpCode::Ping
        | OpCode::Auth
        | OpCode::SetWatches
        | OpCode::SetWatches2
        | OpCode::CheckWatches
        | OpCode::RemoveWatches
        | OpCode::CloseSession
        | OpCode::Multi
        | OpCode::MultiRead => Response::Empty,
    })
}

/// Outcomes until the header that says done. Each takes at least its nine header bytes, so the frame bounds them.
fn results(r: &mut Reader) -> Result<Vec<MultiResult>, DecodeError> {
    let mut results = Vec::new();
    while let Some(code) = multi_header(r)? {
        results.push(match (code, OpCode::try_from(code)) {
            (ERROR, _) => Err(error_code(r)?),
            (_, Ok(OpCode::Multi | OpCode::MultiRead) | Err(_)) => {
                return Err(DecodeError::NotInMulti(code));
            }
            (_, Ok(op)) => Ok((op, single(op, r)?)),
        });
    }
    Ok(results)
}
