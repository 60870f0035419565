//! The `err` field of a reply.

/// ZooKeeper's error codes, as far as a server sends them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum ErrorCode {
    /// No error.
    Ok = 0,
    /// An operation of a failed multi that stands behind the one at fault.
    RuntimeInconsistency = -2,
    /// The request's bytes are no record.
    MarshallingError = -5,
    /// The server does not know the op code.
    Unimplemented = -6,
    /// An argument that can never be right, a path for example.
    BadArguments = -8,
    /// The znode, or the parent of one to create, does not exist.
    NoNode = -101,
    /// The znode's ACL does not permit it.
    NoAuth = -102,
    /// The znode has another version than the one asked for.
    BadVersion = -103,
    /// An ephemeral znode has no children.
    NoChildrenForEphemerals = -108,
    /// The znode to create exists.
    NodeExists = -110,
    /// The znode to delete has children.
    NotEmpty = -111,
    /// The session has ended.
    SessionExpired = -112,
    /// An ACL that is empty or malformed.
    InvalidAcl = -114,
    /// The credentials, or their scheme, were refused.
    AuthFailed = -115,
}

impl ErrorCode {
    /// The number on the wire.
    pub fn code(self) -> i32 {
        self as i32
    }
}
