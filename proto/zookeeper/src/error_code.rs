//! The `err` field of a reply.

macro_rules! error_codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal,)+) => {
        /// ZooKeeper's error codes.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(i32)]
        pub enum ErrorCode { $($(#[$doc])* $name = $code,)+ }

        impl ErrorCode {
            /// Every code, from [`ErrorCode::Ok`] downwards.
            pub const ALL: &[ErrorCode] = &[$(ErrorCode::$name,)+];
        }

        impl TryFrom<i32> for ErrorCode {
            type Error = i32;

            /// Gives an unknown code back.
            fn try_from(code: i32) -> Result<ErrorCode, i32> {
                match code {
                    $($code => Ok(ErrorCode::$name),)+
                    unknown => Err(unknown),
                }
            }
        }
    };
}

error_codes! {
    /// No error.
    Ok = 0,
    /// The server failed in a way that it has no code for.
    SystemError = -1,
    /// An operation of a failed multi that stands behind the one at fault.
    RuntimeInconsistency = -2,
    /// The server found its data in contradiction with itself.
    DataInconsistency = -3,
    /// The connection was lost; clients tell themselves so.
    ConnectionLoss = -4,
    /// The request's bytes are no record.
    MarshallingError = -5,
    /// The server does not know the op code, or does not serve it as it is set up.
    Unimplemented = -6,
    /// The operation took too long; clients tell themselves so.
    OperationTimeout = -7,
    /// An argument that can never be right, a path for example.
    BadArguments = -8,
    /// The session to be closed is not known; between servers only.
    UnknownSession = -12,
    /// No majority of the new ensemble is connected and in step.
    NewConfigNoQuorum = -13,
    /// Another change of the ensemble is on its way.
    ReconfigInProgress = -14,
    /// The lower bound of the codes that blame the request.
    ApiError = -100,
    /// The znode, or the parent of one to create, does not exist.
    NoNode = -101,
    /// The znode's ACL does not permit it.
    NoAuth = -102,
    /// The znode, or the ensemble's configuration, has another version than the one asked for.
    BadVersion = -103,
    /// An ephemeral znode has no children.
    NoChildrenForEphemerals = -108,
    /// The znode to create exists.
    NodeExists = -110,
    /// The znode to delete has children.
    NotEmpty = -111,
    /// The session has ended.
    SessionExpired = -112,
    /// A callback that is none; clients tell themselves so.
    InvalidCallback = -113,
    /// An ACL that is empty or malformed.
    InvalidAcl = -114,
    /// The credentials, or their scheme, were refused.
    AuthFailed = -115,
    /// The session goes on at another server.
    SessionMoved = -118,
    /// A write to a server that only reads for now.
    NotReadOnly = -119,
    /// A local session owns no ephemeral znodes.
    EphemeralOnLocalSession = -120,
    /// The watch to check or to remove is not there.
    NoWatcher = -121,
    /// The request was not finished in its time.
    RequestTimeout = -122,
    /// This server takes no reconfig.
    ReconfigDisabled = -123,
    /// The server takes no session without SASL authentication.
    SessionClosedRequireSaslAuth = -124,
    /// The write would exceed a quota.
    QuotaExceeded = -125,
    /// The server has too much to do; nothing was done.
    Throttled = -127,
}

impl ErrorCode {
    /// The number on the wire.
    pub fn code(self) -> i32 {
        self as i32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_there_and_back() {
        for &error in ErrorCode::ALL {
            assert_eq!(ErrorCode::try_from(error.code()), Ok(error));
        }
        assert_eq!(ErrorCode::try_from(-104), Err(-104));
    }
}
