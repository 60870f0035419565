//! What a member asks of the leader for its clients, what it is answered, and the bytes of both.
//!
//! The requests of one member reach the leader through streams that may break. Each request names the first one of its
//! [epoch](Forward::Request::epoch), so the leader notices by itself when one before it was lost, and takes nothing of
//! that epoch any more: a session's later write never happens without its earlier one.
//!
//! A write that was decided is answered by its transaction, where that is applied; only the other answers are sent.

use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;

use crate::acl::Identity;
use crate::codec::{self, CodecError, Decoder};
use crate::error::OpError;
use crate::origin::RequestId;
use crate::reconfig::Reconfig;
use crate::request::{CreateMode, NodeType, Write};
use crate::session::PASSWORD_LEN;
use crate::zxid::{SessionId, Zxid};

/// From a member to the leader.
#[derive(Debug, Clone, PartialEq)]
pub enum Forward {
    /// A client's request.
    Request {
        /// The first request that this member forwarded since its stream to the leader last broke or led elsewhere.
        epoch: RequestId,
        /// The member's number for it: one above that of the request before, unless it is the first of its epoch.
        request: RequestId,
        /// The client's session; none if it asks for a new one.
        session: SessionId,
        /// The [claim](crate::session::Session::claim) to it that the client's connection has; none yet if it asks for
        /// the session.
        claim: Zxid,
        /// Whom the client has shown to be.
        identities: Arc<[Identity]>,
        /// What it asks for.
        ask: Ask,
    },
    /// Sessions that were heard from since the last such message.
    Touch(Vec<Touch>),
}

/// What only the leader can decide.
#[derive(Debug, Clone, PartialEq)]
pub enum Ask {
    /// A new session.
    CreateSession {
        /// What will resume it.
        password: [u8; PASSWORD_LEN],
        /// How long it is to live without being heard from, in milliseconds.
        timeout_ms: u32,
    },
    /// The asker's session, from another connection than before.
    ResumeSession {
        /// The password shown.
        password: [u8; PASSWORD_LEN],
        /// How long it is to live without being heard from, in milliseconds.
        timeout_ms: u32,
    },
    /// The end of the asker's session.
    CloseSession,
    /// One write.
    Write(Write),
    /// Several writes, all or none.
    Multi(Vec<Write>),
    /// A change of the ensemble's members.
    Reconfig(Reconfig),
    /// To be told what is to be applied before the asker has seen all that was committed until now.
    Sync,
}

/// A sign of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Touch {
    /// Whose.
    pub session: SessionId,
    /// The [claim](crate::session::Session::claim) to it that the connection has that it came on.
    pub claim: Zxid,
}

/// From the leader to a member.
#[derive(Debug, Clone, PartialEq)]
pub enum ForwardAnswer {
    /// A request is settled without a transaction.
    Settled {
        /// Which.
        request: RequestId,
        /// The client may be told once this is applied.
        after: Zxid,
        /// How.
        outcome: Outcome,
    },
    /// A request of the epoch was lost, so what came behind it was not taken.
    Lost {
        /// The epoch's first request.
        epoch: RequestId,
    },
}

/// How a request is settled without a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The session to resume is gone, or has another password.
    Expired,
    /// It is refused.
    Refused(OpError),
    /// A multi is refused.
    MultiRefused {
        /// The place of the operation at fault.
        at: u32,
        /// Why it was refused.
        error: OpError,
    },
    /// A sync: all that was committed when it came is applied.
    Synced,
    /// What comes of it is unknown here: the client has to find out through another connection.
    Unknown,
}

const REQUEST: u8 = 1;
const TOUCH: u8 = 2;

const CREATE_SESSION: u8 = 1;
const RESUME_SESSION: u8 = 2;
const CLOSE_SESSION: u8 = 3;
const WRITE: u8 = 4;
const MULTI: u8 = 5;
const SYNC: u8 = 6;
const RECONFIG: u8 = 7;

const CREATE: u8 = 1;
const DELETE: u8 = 2;
const SET_DATA: u8 = 3;
const SET_ACL: u8 = 4;
const CHECK: u8 = 5;

const PERSISTENT: u8 = 1;
const EPHEMERAL: u8 = 2;
const CONTAINER: u8 = 3;
const TTL: u8 = 4;

const SETTLED: u8 = 1;
const LOST: u8 = 2;

const EXPIRED: u8 = 1;
const REFUSED: u8 = 2;
const MULTI_REFUSED: u8 = 3;
const SYNCED: u8 = 4;
const UNKNOWN: u8 = 5;

impl Forward {
    /// Appends its bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Forward::Request {
                epoch,
                request,
                session,
                claim,
                identities,
                ask,
            } => {
                out.push(REQUEST);
                codec::put_u64(out, epoch.0);
                codec::put_u64(out, request.0);
                codec::put_i64(out, session.0);
                codec::put_i64(out, claim.0);
                codec::put_count(out, identities.len());
                for identity in &**identities {
                    codec::put_bytes(out, identity.scheme.as_bytes());
                    codec::put_bytes(out, identity.id.as_bytes());
                }
                encode_ask(ask, out);
            }
            Forward::Touch(touches) => {
                out.push(TOUCH);
                codec::put_count(out, touches.len());
                for touch in touches {
                    codec::put_i64(out, touch.session.0);
                    codec::put_i64(out, touch.claim.0);
                }
            }
        }
    }

    /// Reads what [`Forward::encode`] wrote; takes no more memory than a few times the bytes given.
    pub fn decode(bytes: Bytes) -> Result<Forward, CodecError> {
        let mut d = Decoder::new(bytes);
        let forward = match d.u8()? {
            REQUEST => Forward::Request {
                epoch: RequestId(d.u64()?),
                request: RequestId(d.u64()?),
                session: SessionId(d.i64()?),
                claim: Zxid(d.i64()?),
                identities: decode_identities(&mut d)?,
                ask: decode_ask(&mut d)?,
            },
            TOUCH => {
                let count = d.count()?;
                let touch = |d: &mut Decoder| {
                    Ok(Touch {
                        session: SessionId(d.i64()?),
                        claim: Zxid(d.i64()?),
                    })
                };
                let touches = (0..count).map(|_| touch(&mut d));
                Forward::Touch(touches.collect::<Result<_, CodecError>>()?)
            }
            tag => return Err(CodecError::UnknownTag(tag)),
        };
        d.end()?;
        Ok(forward)
    }
}

fn decode_identities(d: &mut Decoder) -> Result<Arc<[Identity]>, CodecError> {
    let count = d.count()?;
    let identity = |d: &mut Decoder| {
        Ok(Identity {
            scheme: d.string()?,
            id: d.string()?,
        })
    };
    (0..count).map(|_| identity(d)).collect()
}

fn encode_ask(ask: &Ask, out: &mut Vec<u8>) {
    match ask {
        Ask::CreateSession {
            password,
            timeout_ms,
        } => {
            out.push(CREATE_SESSION);
            out.extend(password);
            out.extend(timeout_ms.to_le_bytes());
        }
        Ask::ResumeSession {
            password,
            timeout_ms,
        } => {
            out.push(RESUME_SESSION);
            out.extend(password);
            out.extend(timeout_ms.to_le_bytes());
        }
        Ask::CloseSession => out.push(CLOSE_SESSION),
        Ask::Write(write) => {
            out.push(WRITE);
            encode_write(write, out);
        }
        Ask::Multi(writes) => {
            out.push(MULTI);
            codec::put_count(out, writes.len());
            for write in writes {
                encode_write(write, out);
            }
        }
        Ask::Sync => out.push(SYNC),
        Ask::Reconfig(reconfig) => {
            out.push(RECONFIG);
            for text in [&reconfig.joining, &reconfig.leaving, &reconfig.new_members] {
                codec::put_data(out, text.as_ref().map(ByteString::as_bytes));
            }
            codec::put_i64(out, reconfig.config_version);
        }
    }
}

fn decode_ask(d: &mut Decoder) -> Result<Ask, CodecError> {
    Ok(match d.u8()? {
        CREATE_SESSION => Ask::CreateSession {
            password: d.array()?,
            timeout_ms: d.u32()?,
        },
        RESUME_SESSION => Ask::ResumeSession {
            password: d.array()?,
            timeout_ms: d.u32()?,
        },
        CLOSE_SESSION => Ask::CloseSession,
        WRITE => Ask::Write(decode_write(d)?),
        MULTI => {
            let count = d.count()?;
            let writes = (0..count).map(|_| decode_write(d));
            Ask::Multi(writes.collect::<Result<_, _>>()?)
        }
        SYNC => Ask::Sync,
        RECONFIG => Ask::Reconfig(Reconfig {
            joining: decode_text(d)?,
            leaving: decode_text(d)?,
            new_members: decode_text(d)?,
            config_version: d.i64()?,
        }),
        tag => return Err(CodecError::UnknownTag(tag)),
    })
}

fn decode_text(d: &mut Decoder) -> Result<Option<ByteString>, CodecError> {
    let text = codec::data(d)?.map(ByteString::try_from);
    text.transpose().map_err(|_| CodecError::NotUtf8)
}

fn encode_write(write: &Write, out: &mut Vec<u8>) {
    let (tag, path): (u8, &ByteString) = match write {
        Write::Create { path, .. } => (CREATE, path),
        Write::Delete { path, .. } => (DELETE, path),
        Write::SetData { path, .. } => (SET_DATA, path),
        Write::SetAcl { path, .. } => (SET_ACL, path),
        Write::Check { path, .. } => (CHECK, path),
    };
    out.push(tag);
    codec::put_bytes(out, path.as_bytes());
    match write {
        Write::Create {
            data,
            acl,
            mode,
            with_stat,
            ..
        } => {
            codec::put_data(out, data.as_ref());
            codec::put_acl(out, acl);
            encode_node_type(mode.node_type, out);
            out.extend([mode.sequential, *with_stat].map(u8::from));
        }
        Write::SetData { data, version, .. } => {
            codec::put_data(out, data.as_ref());
            codec::put_i32(out, *version);
        }
        Write::SetAcl { acl, version, .. } => {
            codec::put_acl(out, acl);
            codec::put_i32(out, *version);
        }
        Write::Delete { version, .. } | Write::Check { version, .. } => {
            codec::put_i32(out, *version);
        }
    }
}

fn decode_write(d: &mut Decoder) -> Result<Write, CodecError> {
    let tag = d.u8()?;
    let path = d.string()?;
    Ok(match tag {
        CREATE => Write::Create {
            path,
            data: codec::data(d)?,
            acl: codec::acl(d)?.to_vec(),
            mode: CreateMode {
                node_type: decode_node_type(d)?,
                sequential: d.bool()?,
            },
            with_stat: d.bool()?,
        },
        DELETE => Write::Delete {
            path,
            version: d.i32()?,
        },
        SET_DATA => Write::SetData {
            path,
            data: codec::data(d)?,
            version: d.i32()?,
        },
        SET_ACL => Write::SetAcl {
            path,
            acl: codec::acl(d)?.to_vec(),
            version: d.i32()?,
        },
        CHECK => Write::Check {
            path,
            version: d.i32()?,
        },
        tag => return Err(CodecError::UnknownTag(tag)),
    })
}

fn encode_node_type(node_type: NodeType, out: &mut Vec<u8>) {
    match node_type {
        NodeType::Persistent => out.push(PERSISTENT),
        NodeType::Ephemeral => out.push(EPHEMERAL),
        NodeType::Container => out.push(CONTAINER),
        NodeType::Ttl { ttl_ms } => {
            out.push(TTL);
            codec::put_i64(out, ttl_ms);
        }
    }
}

fn decode_node_type(d: &mut Decoder) -> Result<NodeType, CodecError> {
    Ok(match d.u8()? {
        PERSISTENT => NodeType::Persistent,
        EPHEMERAL => NodeType::Ephemeral,
        CONTAINER => NodeType::Container,
        TTL => NodeType::Ttl { ttl_ms: d.i64()? },
        tag => return Err(CodecError::UnknownTag(tag)),
    })
}

impl ForwardAnswer {
    /// Appends its bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            ForwardAnswer::Settled {
                request,
                after,
                outcome,
            } => {
                out.push(SETTLED);
                codec::put_u64(out, request.0);
                codec::put_i64(out, after.0);
                match outcome {
                    Outcome::Expired => out.push(EXPIRED),
                    Outcome::Refused(error) => out.extend([REFUSED, error_tag(error)]),
                    Outcome::MultiRefused { at, error } => {
                        out.push(MULTI_REFUSED);
                        out.extend(at.to_le_bytes());
                        out.push(error_tag(error));
                    }
                    Outcome::Synced => out.push(SYNCED),
                    Outcome::Unknown => out.push(UNKNOWN),
                }
            }
            ForwardAnswer::Lost { epoch } => {
                out.push(LOST);
                codec::put_u64(out, epoch.0);
            }
        }
    }

    /// Reads what [`ForwardAnswer::encode`] wrote.
    pub fn decode(bytes: Bytes) -> Result<ForwardAnswer, CodecError> {
        let mut d = Decoder::new(bytes);
        let answer = match d.u8()? {
            SETTLED => ForwardAnswer::Settled {
                request: RequestId(d.u64()?),
                after: Zxid(d.i64()?),
                outcome: match d.u8()? {
                    EXPIRED => Outcome::Expired,
                    REFUSED => Outcome::Refused(error(d.u8()?)?),
                    MULTI_REFUSED => Outcome::MultiRefused {
                        at: d.u32()?,
                        error: error(d.u8()?)?,
                    },
                    SYNCED => Outcome::Synced,
                    UNKNOWN => Outcome::Unknown,
                    tag => return Err(CodecError::UnknownTag(tag)),
                },
            },
            LOST => ForwardAnswer::Lost {
                epoch: RequestId(d.u64()?),
            },
            tag => return Err(CodecError::UnknownTag(tag)),
        };
        d.end()?;
        Ok(answer)
    }
}

fn error_tag(error: OpError) -> u8 {
    match error {
        OpError::NoNode => 1,
        OpError::NoAuth => 2,
        OpError::BadVersion => 3,
        OpError::NoChildrenForEphemerals => 4,
        OpError::NodeExists => 5,
        OpError::NotEmpty => 6,
        OpError::SessionExpired => 7,
        OpError::SessionMoved => 8,
        OpError::NotReadOnly => 9,
        OpError::InvalidAcl => 10,
        OpError::BadArguments => 11,
        OpError::Unimplemented => 12,
        OpError::Marshalling => 13,
        OpError::AuthFailed => 14,
        OpError::RuntimeInconsistency => 15,
        OpError::SaslRequired => 16,
        OpError::NoWatcher => 17,
        OpError::QuotaExceeded => 18,
        OpError::ReconfigDisabled => 19,
        OpError::ReconfigInProgress => 20,
        OpError::NewConfigNoQuorum => 21,
    }
}

/// All of them, for reading.
const ERRORS: [OpError; 21] = [
    OpError::NoNode,
    OpError::NoAuth,
    OpError::BadVersion,
    OpError::NoChildrenForEphemerals,
    OpError::NodeExists,
    OpError::NotEmpty,
    OpError::SessionExpired,
    OpError::SessionMoved,
    OpError::NotReadOnly,
    OpError::InvalidAcl,
    OpError::BadArguments,
    OpError::Unimplemented,
    OpError::Marshalling,
    OpError::AuthFailed,
    OpError::RuntimeInconsistency,
    OpError::SaslRequired,
    OpError::NoWatcher,
    OpError::QuotaExceeded,
    OpError::ReconfigDisabled,
    OpError::ReconfigInProgress,
    OpError::NewConfigNoQuorum,
];

fn error(tag: u8) -> Result<OpError, CodecError> {
    let error = ERRORS.into_iter().find(|&error| error_tag(error) == tag);
    error.ok_or(CodecError::UnknownTag(tag))
}
