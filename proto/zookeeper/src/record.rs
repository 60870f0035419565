//! The records that several messages share.

use bytestring::ByteString;

use crate::error_code::ErrorCode;
use crate::jute::{DecodeError, Reader, Writer};

/// Transaction ids that mean something of their own.
pub mod xid {
    /// A watch event.
    pub const EVENT: i32 = -1;
    /// A ping and its reply.
    pub const PING: i32 = -2;
    /// An auth request and its reply.
    pub const AUTH: i32 = -4;
    /// A setWatches request and its reply.
    pub const SET_WATCHES: i32 = -8;
}

/// What stands before every request but the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestHeader {
    /// The client's number for the request, given back in the reply.
    pub xid: i32,
    /// The op code as sent, known or not.
    pub op_code: i32,
}

impl RequestHeader {
    /// Reads the header.
    pub fn decode(r: &mut Reader) -> Result<RequestHeader, DecodeError> {
        Ok(RequestHeader {
            xid: r.i32()?,
            op_code: r.i32()?,
        })
    }

    /// Writes the header.
    pub fn encode(&self, w: &mut Writer) {
        w.i32(self.xid);
        w.i32(self.op_code);
    }
}

/// What stands before every reply and event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplyHeader {
    /// The request's xid, or [`xid::EVENT`].
    pub xid: i32,
    /// The state that the reply shows: the zxid of the last transaction applied, or of the change an event tells of.
    pub zxid: i64,
    /// [`ErrorCode::Ok`] if a response follows.
    pub error: ErrorCode,
}

impl ReplyHeader {
    /// Reads the header.
    pub fn decode(r: &mut Reader) -> Result<ReplyHeader, DecodeError> {
        Ok(ReplyHeader {
            xid: r.i32()?,
            zxid: r.i64()?,
            error: error_code(r)?,
        })
    }

    /// Writes the header.
    pub fn encode(&self, w: &mut Writer) {
        w.i32(self.xid);
        w.i64(self.zxid);
        w.i32(self.error.code());
    }
}

pub(crate) fn error_code(r: &mut Reader) -> Result<ErrorCode, DecodeError> {
    ErrorCode::try_from(r.i32()?).map_err(DecodeError::Unknown)
}

/// What a znode is, beside its data and its children's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stat {
    /// The transaction that created it.
    pub czxid: i64,
    /// The transaction that last changed its data.
    pub mzxid: i64,
    /// When it was created, in milliseconds since 1970.
    pub ctime: i64,
    /// When its data was last changed, in milliseconds since 1970.
    pub mtime: i64,
    /// Changes of its data.
    pub version: i32,
    /// Changes of its set of children.
    pub cversion: i32,
    /// Changes of its ACL.
    pub aversion: i32,
    /// The session that it lives in, 0 if it is persistent.
    pub ephemeral_owner: i64,
    /// Length of its data, in bytes.
    pub data_length: i32,
    /// Count of its children.
    pub num_children: i32,
    /// The transaction that last changed its set of children.
    pub pzxid: i64,
}

impl Stat {
    /// Reads the record.
    pub fn decode(r: &mut Reader) -> Result<Stat, DecodeError> {
        Ok(Stat {
            czxid: r.i64()?,
            mzxid: r.i64()?,
            ctime: r.i64()?,
            mtime: r.i64()?,
            version: r.i32()?,
            cversion: r.i32()?,
            aversion: r.i32()?,
            ephemeral_owner: r.i64()?,
            data_length: r.i32()?,
            num_children: r.i32()?,
            pzxid: r.i64()?,
        })
    }

    /// Writes the record.
    pub fn encode(&self, w: &mut Writer) {
        w.i64(self.czxid);
        w.i64(self.mzxid);
        w.i64(self.ctime);
        w.i64(self.mtime);
        w.i32(self.version);
        w.i32(self.cversion);
        w.i32(self.aversion);
        w.i64(self.ephemeral_owner);
        w.i32(self.data_length);
        w.i32(self.num_children);
        w.i64(self.pzxid);
    }
}

/// One entry of an access control list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acl {
    /// Bits of permissions: 1 read, 2 write, 4 create, 8 delete, 16 admin.
    pub perms: i32,
    /// The scheme of the id: `world`, `ip`, `digest`, …
    pub scheme: ByteString,
    /// Whom it permits.
    pub id: ByteString,
}

impl Acl {
    /// The fewest bytes that an entry takes.
    pub const MIN_LEN: usize = 12;

    /// Reads the record.
    pub fn decode(r: &mut Reader) -> Result<Acl, DecodeError> {
        Ok(Acl {
            perms: r.i32()?,
            scheme: r.string()?,
            id: r.string()?,
        })
    }

    /// Writes the record.
    pub fn encode(&self, w: &mut Writer) {
        w.i32(self.perms);
        w.string(&self.scheme);
        w.string(&self.id);
    }
}

/// An entry of whoAmI's answer: one of the connection's identities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientInfo {
    /// The scheme that it was shown by.
    pub scheme: ByteString,
    /// Who, without any secret.
    pub user: ByteString,
}

impl ClientInfo {
    /// The fewest bytes that an entry takes.
    pub const MIN_LEN: usize = 8;

    /// Reads the record.
    pub fn decode(r: &mut Reader) -> Result<ClientInfo, DecodeError> {
        Ok(ClientInfo {
            scheme: r.string()?,
            user: r.string()?,
        })
    }

    /// Writes the record.
    pub fn encode(&self, w: &mut Writer) {
        w.string(&self.scheme);
        w.string(&self.user);
    }
}

/// An enum whose variants are numbers on the wire.
macro_rules! numbered {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $number:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(i32)]
        pub enum $name { $($(#[$variant_doc])* $variant = $number,)+ }

        impl $name {
            /// Reads the number.
            pub fn decode(r: &mut Reader) -> Result<$name, DecodeError> {
                match r.i32()? {
                    $($number => Ok($name::$variant),)+
                    unknown => Err(DecodeError::Unknown(unknown)),
                }
            }

            /// Writes the number.
            pub fn encode(self, w: &mut Writer) {
                w.i32(self as i32);
            }
        }
    };
}

numbered! {
    /// What a watch that addWatch leaves tells of.
    AddWatchMode {
        /// The znode and its set of children.
        Persistent = 0,
        /// The znode and all below it, but for sets of children.
        PersistentRecursive = 1,
    }
}

numbered! {
    /// Which watches to check or to remove.
    WatcherType {
        /// Of the children, left by getChildren.
        Children = 1,
        /// Of the data, left by getData and exists.
        Data = 2,
        /// All of them.
        Any = 3,
        /// Persistent ones.
        Persistent = 4,
        /// Persistent recursive ones.
        PersistentRecursive = 5,
    }
}

numbered! {
    /// What happened to a watched znode.
    WatchEventType {
        /// Nothing: the state of the session has changed. Clients tell themselves so.
        None = -1,
        /// It came to be.
        NodeCreated = 1,
        /// It is gone.
        NodeDeleted = 2,
        /// Its data was set.
        NodeDataChanged = 3,
        /// A child came or went.
        NodeChildrenChanged = 4,
        /// The watch of its data was removed. Clients tell themselves so.
        DataWatchRemoved = 5,
        /// The watch of its children was removed. Clients tell themselves so.
        ChildWatchRemoved = 6,
        /// The persistent watch was removed. Clients tell themselves so.
        PersistentWatchRemoved = 7,
    }
}

/// The body of an event; `S` is `&str` where one is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatcherEvent<S = ByteString> {
    /// What happened.
    pub event_type: WatchEventType,
    /// Where.
    pub path: S,
}

/// The keeper state `SyncConnected`, in which every event of a znode is sent.
const SYNC_CONNECTED: i32 = 3;

impl WatcherEvent {
    /// Reads the record; the state in it is always `SyncConnected` and not kept.
    pub fn decode(r: &mut Reader) -> Result<WatcherEvent, DecodeError> {
        let event_type = WatchEventType::decode(r)?;
        r.i32()?;
        let path = r.string()?;
        Ok(WatcherEvent { event_type, path })
    }
}

impl<S: AsRef<str>> WatcherEvent<S> {
    /// Writes the record.
    pub fn encode(&self, w: &mut Writer) {
        self.event_type.encode(w);
        w.i32(SYNC_CONNECTED);
        w.string(self.path.as_ref());
    }
}
