//! What makes a znode go by itself, and how `ephemeralOwner` says so.

use crate::zxid::SessionId;

/// What a znode lives in or by. On disk it is one number, as ZooKeeper keeps it:
///
/// ```text
/// 0                     it stays until it is deleted
/// 0x8000000000000000    a container
/// 0xff0000tttttttttt    with a time to live, in milliseconds
/// any other             the session that it lives in
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EphemeralType {
    /// Nothing: it stays until it is deleted.
    #[default]
    Void,
    /// A session: it goes with it.
    Normal(SessionId),
    /// Its children: it goes some time after the last one.
    Container,
    /// Changes of its data: it goes once there was none for this many milliseconds, unless it has children.
    Ttl(i64),
}

/// The longest time to live, in milliseconds: some 34 years.
pub const MAX_TTL_MS: i64 = 0xff_ffff_ffff;

const CONTAINER: i64 = i64::MIN;
const EXTENDED: i64 = 0xff << 56;

impl EphemeralType {
    /// What `ephemeralOwner` says.
    pub fn of(owner: i64) -> EphemeralType {
        match owner {
            0 => EphemeralType::Void,
            CONTAINER => EphemeralType::Container,
            owner if owner & !MAX_TTL_MS == EXTENDED => EphemeralType::Ttl(owner & MAX_TTL_MS),
            owner => EphemeralType::Normal(SessionId(owner)),
        }
    }

    /// The `ephemeralOwner` that says so.
    pub fn owner(self) -> i64 {
        match self {
            EphemeralType::Void => 0,
            EphemeralType::Normal(session) => session.0,
            EphemeralType::Container => CONTAINER,
            EphemeralType::Ttl(ttl_ms) => EXTENDED | ttl_ms,
        }
    }

    /// The session that the znode lives in.
    pub fn session(self) -> Option<SessionId> {
        match self {
            EphemeralType::Normal(session) => Some(session),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_zookeepers() {
        for (ephemeral_type, owner) in [
            (EphemeralType::Void, 0),
            (EphemeralType::Container, 0x8000_0000_0000_0000_u64 as i64),
            (EphemeralType::Ttl(1), 0xff00_0000_0000_0001_u64 as i64),
            (
                EphemeralType::Ttl(MAX_TTL_MS),
                0xff00_00ff_ffff_ffff_u64 as i64,
            ),
            (EphemeralType::Normal(SessionId(0x0100_1234)), 0x0100_1234),
        ] {
            assert_eq!(ephemeral_type.owner(), owner);
            assert_eq!(EphemeralType::of(owner), ephemeral_type);
        }
    }
}
