//! The `type` field of a request.

macro_rules! op_codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal,)+) => {
        /// The operations that are decoded here.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(i32)]
        pub enum OpCode { $($(#[$doc])* $name = $code,)+ }

        impl OpCode {
            /// Every operation.
            pub const ALL: &[OpCode] = &[$(OpCode::$name,)+];
        }

        impl TryFrom<i32> for OpCode {
            type Error = i32;

            /// Gives an unknown code back.
            fn try_from(code: i32) -> Result<OpCode, i32> {
                match code {
                    $($code => Ok(OpCode::$name),)+
                    unknown => Err(unknown),
                }
            }
        }
    };
}

op_codes! {
    /// Creates a znode; answers its path.
    Create = 1,
    /// Deletes a znode.
    Delete = 2,
    /// Answers a znode's stat.
    Exists = 3,
    /// Answers a znode's data and stat.
    GetData = 4,
    /// Replaces a znode's data.
    SetData = 5,
    /// Answers a znode's ACL and stat.
    GetAcl = 6,
    /// Replaces a znode's ACL.
    SetAcl = 7,
    /// Answers the names of a znode's children.
    GetChildren = 8,
    /// Answers once this server has applied what was committed before.
    Sync = 9,
    /// Keeps the session alive.
    Ping = 11,
    /// As `GetChildren`, with the stat.
    GetChildren2 = 12,
    /// Checks a znode's version; within a multi as a rule.
    Check = 13,
    /// Several writes, all or none.
    Multi = 14,
    /// As `Create`, answers the stat too.
    Create2 = 15,
    /// Changes the ensemble's members; answers the new configuration.
    Reconfig = 16,
    /// Answers whether a watch is there.
    CheckWatches = 17,
    /// Takes a watch away.
    RemoveWatches = 18,
    /// Creates a container; answers its path and stat.
    CreateContainer = 19,
    /// Creates a znode with a time to live; answers its path and stat.
    CreateTtl = 21,
    /// Several reads in one request.
    MultiRead = 22,
    /// Adds an identity to the connection.
    Auth = 100,
    /// Sets the watches of a former connection again.
    SetWatches = 101,
    /// A step of a SASL authentication.
    Sasl = 102,
    /// Answers the session's ephemeral znodes.
    GetEphemerals = 103,
    /// Answers how many znodes there are below one.
    GetAllChildrenNumber = 104,
    /// As `SetWatches`, persistent watches too.
    SetWatches2 = 105,
    /// Leaves a persistent watch.
    AddWatch = 106,
    /// Answers the connection's identities.
    WhoAmI = 107,
    /// Ends the session.
    CloseSession = -11,
}

impl OpCode {
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
        for &op in OpCode::ALL {
            assert_eq!(OpCode::try_from(op.code()), Ok(op));
        }
        assert_eq!(OpCode::try_from(14), Ok(OpCode::Multi));
        assert_eq!(OpCode::try_from(999), Err(999));
    }
}
