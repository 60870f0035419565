//! Transactions: writes decided beforehand, and their bytes.

use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;

use crate::acl::{Acl, AclList};
use crate::codec::{self, CodecError, Decoder};
use crate::ephemeral_type::EphemeralType;
use crate::origin::{Origin, RequestId};
use crate::session::PASSWORD_LEN;
use crate::zxid::{NodeId, SessionId, Zxid};

/// The most bytes that the payload of a transaction may have: as much as an entry of the log may take on its way to the
/// other members. Whoever decides refuses what would be longer, for the log would stop at it.
pub const MAX_LEN: usize = 64 * 1024 * 1024;

/// Bytes of a transaction beside its effects, at most.
const HEADER_LEN: usize = 64;

/// Bytes of an effect beside its path, data and ACL, at most.
const EFFECT_LEN: usize = 22;

/// Bytes of an entry of an ACL beside its scheme and id.
const ENTRY_LEN: usize = 12;

/// A decided write. Applying it never fails for a reason that a client could cause.
#[derive(Debug, Clone, PartialEq)]
pub struct Txn {
    /// The session that asked for it.
    pub session: SessionId,
    /// When it was decided, in milliseconds since 1970: the ctime or mtime that it leaves.
    pub time_ms: i64,
    /// The request that it answers; none if the leader decided it by itself.
    pub origin: Option<Origin>,
    /// What it does.
    pub change: Change,
}

/// What a transaction does.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// Opens the session that it is asked for by.
    CreateSession {
        /// What resumes it.
        password: [u8; PASSWORD_LEN],
        /// How long it lives without being heard from, in milliseconds.
        timeout_ms: u32,
    },
    /// Gives the session to the connection that it is asked for by, and to no other any more.
    ResumeSession {
        /// How long it lives from now on without being heard from, in milliseconds.
        timeout_ms: u32,
    },
    /// Ends the session, and with it every ephemeral that it owns by then: on all members the same, however many.
    CloseSession,
    /// A single write, or all those of a multi.
    Effects(Vec<Effect>),
}

/// One write to one znode, with nothing left to decide.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Creates the znode.
    Create {
        /// Where, sequence number included.
        path: ByteString,
        /// Its data.
        data: Option<Bytes>,
        /// Its ACL, normalized.
        acl: Arc<AclList>,
        /// What it lives in or by.
        ephemeral_type: EphemeralType,
    },
    /// Deletes the znode.
    Delete {
        /// Which.
        path: ByteString,
    },
    /// Sets the znode's data.
    SetData {
        /// Whose.
        path: ByteString,
        /// The new data.
        data: Option<Bytes>,
        /// The new version.
        version: i32,
    },
    /// Sets the znode's ACL.
    SetAcl {
        /// Whose.
        path: ByteString,
        /// The new ACL, normalized.
        acl: Arc<AclList>,
        /// The new ACL version.
        version: i32,
    },
    /// A check that held: changes nothing, and keeps its place among the results of a multi.
    Check,
}

/// The lengths of the effects of a transaction that is being decided.
#[derive(Debug, Default)]
pub(crate) struct Length(usize);

impl Length {
    /// Adds that of one more; whether the transaction stays within [`MAX_LEN`].
    pub(crate) fn add(&mut self, effect: &Effect) -> bool {
        let entry_len =
            |entry: &Acl| ENTRY_LEN + entry.identity.scheme.len() + entry.identity.id.len();
        let (path, data, acl): (_, _, &[Acl]) = match effect {
            Effect::Create {
                path, data, acl, ..
            } => (path.len(), data.as_ref(), acl),
            Effect::SetData { path, data, .. } => (path.len(), data.as_ref(), &[]),
            Effect::SetAcl { path, acl, .. } => (path.len(), None, acl),
            Effect::Delete { path } => (path.len(), None, &[]),
            Effect::Check => (0, None, &[]),
        };
        let acl_len: usize = acl.iter().map(entry_len).sum();
        self.0 += EFFECT_LEN + path + data.map_or(0, Bytes::len) + acl_len;
        self.0 + HEADER_LEN <= MAX_LEN
    }
}

const CREATE_SESSION: u8 = 1;
/// A closeSession with the list of its ephemerals, as former versions wrote it.
const CLOSE_SESSION_OF: u8 = 2;
const EFFECTS: u8 = 3;
const CLOSE_SESSION: u8 = 4;
const RESUME_SESSION: u8 = 5;

const CREATE: u8 = 1;
const DELETE: u8 = 2;
const SET_DATA: u8 = 3;
const SET_ACL: u8 = 4;
const CHECK: u8 = 5;

/// Writes the payload of a log entry: the zxid and the transaction.
pub fn encode(zxid: Zxid, txn: &Txn, out: &mut Vec<u8>) {
    codec::put_i64(out, zxid.0);
    codec::put_i64(out, txn.session.0);
    codec::put_i64(out, txn.time_ms);
    out.push(txn.origin.is_some().into());
    if let Some(origin) = txn.origin {
        out.extend(origin.node.0.to_le_bytes());
        out.extend(origin.request.0.to_le_bytes());
    }
    match &txn.change {
        Change::CreateSession {
            password,
            timeout_ms,
        } => {
            out.push(CREATE_SESSION);
            out.extend(password);
            out.extend(timeout_ms.to_le_bytes());
        }
        Change::ResumeSession { timeout_ms } => {
            out.push(RESUME_SESSION);
            out.extend(timeout_ms.to_le_bytes());
        }
        Change::CloseSession => out.push(CLOSE_SESSION),
        Change::Effects(effects) => {
            out.push(EFFECTS);
            codec::put_count(out, effects.len());
            for effect in effects {
                encode_effect(effect, out);
            }
        }
    }
}

fn encode_effect(effect: &Effect, out: &mut Vec<u8>) {
    match effect {
        Effect::Create {
            path,
            data,
            acl,
            ephemeral_type,
        } => {
            out.push(CREATE);
            codec::put_bytes(out, path.as_bytes());
            codec::put_data(out, data.as_ref());
            codec::put_acl(out, acl);
            codec::put_i64(out, ephemeral_type.owner());
        }
        Effect::Delete { path } => {
            out.push(DELETE);
            codec::put_bytes(out, path.as_bytes());
        }
        Effect::SetData {
            path,
            data,
            version,
        } => {
            out.push(SET_DATA);
            codec::put_bytes(out, path.as_bytes());
            codec::put_data(out, data.as_ref());
            codec::put_i32(out, *version);
        }
        Effect::SetAcl { path, acl, version } => {
            out.push(SET_ACL);
            codec::put_bytes(out, path.as_bytes());
            codec::put_acl(out, acl);
            codec::put_i32(out, *version);
        }
        Effect::Check => out.push(CHECK),
    }
}

/// Reads what [`encode`] wrote.
pub fn decode(payload: Bytes) -> Result<(Zxid, Txn), CodecError> {
    let mut d = Decoder::new(payload);
    let zxid = Zxid(d.i64()?);
    let session = SessionId(d.i64()?);
    let time_ms = d.i64()?;
    let origin = match d.u8()? {
        0 => None,
        1 => Some(Origin {
            node: NodeId(d.u64()?),
            request: RequestId(d.u64()?),
        }),
        tag => return Err(CodecError::UnknownTag(tag)),
    };
    let change = match d.u8()? {
        CREATE_SESSION => Change::CreateSession {
            password: d.array()?,
            timeout_ms: d.u32()?,
        },
        CLOSE_SESSION_OF => {
            // They are what the session owns by then.
            for _ in 0..d.count()? {
                d.string()?;
            }
            Change::CloseSession
        }
        CLOSE_SESSION => Change::CloseSession,
        RESUME_SESSION => Change::ResumeSession {
            timeout_ms: d.u32()?,
        },
        EFFECTS => {
            let count = d.count()?;
            Change::Effects(
                (0..count)
                    .map(|_| decode_effect(&mut d))
                    .collect::<Result<_, _>>()?,
            )
        }
        tag => return Err(CodecError::UnknownTag(tag)),
    };
    d.end()?;
    Ok((
        zxid,
        Txn {
            session,
            time_ms,
            origin,
            change,
        },
    ))
}

fn decode_effect(d: &mut Decoder) -> Result<Effect, CodecError> {
    Ok(match d.u8()? {
        CREATE => Effect::Create {
            path: d.string()?,
            data: codec::data(d)?,
            acl: codec::acl(d)?,
            ephemeral_type: EphemeralType::of(d.i64()?),
        },
        DELETE => Effect::Delete { path: d.string()? },
        SET_DATA => Effect::SetData {
            path: d.string()?,
            data: codec::data(d)?,
            version: d.i32()?,
        },
        SET_ACL => Effect::SetAcl {
            path: d.string()?,
            acl: codec::acl(d)?,
            version: d.i32()?,
        },
        CHECK => Effect::Check,
        tag => return Err(CodecError::UnknownTag(tag)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acl;

    #[test]
    fn a_session_that_a_former_version_closed_with_the_list_of_its_ephemerals_is_closed() {
        let txn = Txn {
            session: SessionId(1),
            time_ms: 2,
            origin: None,
            change: Change::CloseSession,
        };
        let mut bytes = Vec::new();
        encode(Zxid(3), &txn, &mut bytes);
        assert_eq!(
            decode(bytes.clone().into()).unwrap(),
            (Zxid(3), txn.clone())
        );
        for paths in [&[][..], &["/a", "/b/c"]] {
            let mut former = bytes.clone();
            former.pop();
            former.push(2);
            codec::put_count(&mut former, paths.len());
            for path in paths {
                codec::put_bytes(&mut former, path.as_bytes());
            }
            let decoded = decode(former.clone().into());
            assert_eq!(decoded.unwrap(), (Zxid(3), txn.clone()));
            former.push(0);
            assert_eq!(decode(former.into()), Err(CodecError::Trailing(1)));
        }
    }

    #[test]
    fn a_transaction_is_never_longer_than_it_was_counted() {
        let acl = acl::open();
        let data = Some(Bytes::from_static(b"data"));
        let path = ByteString::from_static("/path");
        let create = Effect::Create {
            path: path.clone(),
            data: data.clone(),
            acl: acl.clone(),
            ephemeral_type: EphemeralType::Void,
        };
        let set_acl = Effect::SetAcl {
            path: path.clone(),
            acl,
            version: 1,
        };
        let set_data = Effect::SetData {
            path: path.clone(),
            data,
            version: 1,
        };
        for effect in [
            create,
            set_acl,
            set_data,
            Effect::Delete { path },
            Effect::Check,
        ] {
            let mut length = Length::default();
            let effects = vec![effect; 9];
            assert!(effects.iter().all(|effect| length.add(effect)));
            let txn = Txn {
                session: SessionId(1),
                time_ms: 1,
                origin: Some(Origin {
                    node: NodeId(1),
                    request: RequestId(1),
                }),
                change: Change::Effects(effects),
            };
            let mut bytes = Vec::new();
            encode(Zxid(1), &txn, &mut bytes);
            let counted = HEADER_LEN + length.0;
            assert!(bytes.len() <= counted, "{} {counted} {txn:?}", bytes.len());
        }
    }
}
