//! Why an operation is refused.

/// The refusals that a client sees, each with ZooKeeper's code of the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum OpError {
    /// The znode, or the parent of one to create, does not exist.
    #[error("no such node")]
    NoNode,
    /// The znode's ACL does not permit it to this connection.
    #[error("not authorized")]
    NoAuth,
    /// The znode has another version than the one asked for.
    #[error("another version")]
    BadVersion,
    /// The parent is ephemeral.
    #[error("ephemeral nodes have no children")]
    NoChildrenForEphemerals,
    /// The znode to create exists.
    #[error("the node exists")]
    NodeExists,
    /// The znode to delete has children.
    #[error("the node has children")]
    NotEmpty,
    /// The session has ended or is about to.
    #[error("the session has expired")]
    SessionExpired,
    /// The session is held by another connection by now.
    #[error("the session has moved to another connection")]
    SessionMoved,
    /// A write to a server that is cut off from the others, and serves reads.
    #[error("the server is read-only")]
    NotReadOnly,
    /// The ACL is empty or malformed.
    #[error("invalid ACL")]
    InvalidAcl,
    /// A path, a flag or a length that can never be right.
    #[error("bad arguments")]
    BadArguments,
    /// The operation is not known here, or not served as the server is set up.
    #[error("unimplemented")]
    Unimplemented,
    /// The request's bytes are no record.
    #[error("malformed request")]
    Marshalling,
    /// The credentials or their scheme were refused.
    #[error("authentication failed")]
    AuthFailed,
    /// The server takes no session without SASL authentication.
    #[error("SASL authentication is required")]
    SaslRequired,
    /// In a failed multi: the operation stands behind the one at fault.
    #[error("another operation of the multi failed")]
    RuntimeInconsistency,
    /// The watch to check or to remove is not there.
    #[error("no such watch")]
    NoWatcher,
    /// The write would exceed a quota.
    #[error("a quota would be exceeded")]
    QuotaExceeded,
    /// This server takes no reconfig.
    #[error("reconfig is disabled")]
    ReconfigDisabled,
    /// Another change of the ensemble is on its way.
    #[error("another reconfig is in progress")]
    ReconfigInProgress,
    /// No majority of the new ensemble is connected and in step.
    #[error("no quorum of the new configuration is in step")]
    NewConfigNoQuorum,
}
