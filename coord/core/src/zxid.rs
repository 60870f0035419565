//! The numbers that everything is named by.

use std::fmt;

/// A transaction's number: the term in the high 32 bits, a counter in the low ones. Grows without exception.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Zxid(pub i64);

impl Zxid {
    /// The largest term, for a zxid is never negative.
    pub const MAX_TERM: u32 = i32::MAX as u32;

    /// The zxid before the first of `term`.
    pub fn start_of(term: u32) -> Zxid {
        Zxid(i64::from(term) << 32)
    }

    /// The term that it was given out in.
    pub fn term(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// The next one. Where the counter is used up, the first of the next term: zxids never wrap (ZOOKEEPER-1277).
    pub fn next(self) -> Zxid {
        let next = Zxid(self.0.saturating_add(1));
        if next.0 & 0xffff_ffff == 0 {
            Zxid(next.0 + 1)
        } else {
            next
        }
    }
}

impl fmt::Display for Zxid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// A session's number; 0 is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SessionId(pub i64);

impl SessionId {
    /// No session: the owner of a persistent znode.
    pub const NONE: SessionId = SessionId(0);

    /// Whether it is a session at all.
    pub fn is_some(self) -> bool {
        self != SessionId::NONE
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// A member's number in the ensemble: the N of `server.N`, and what its `myid` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct NodeId(pub u64);

impl From<u64> for NodeId {
    fn from(number: u64) -> NodeId {
        NodeId(number)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bug_zookeeper_1277_the_counter_never_wraps_into_the_same_term() {
        let last = Zxid(Zxid::start_of(4).0 | 0xffff_ffff);
        assert_eq!(last.next(), Zxid(Zxid::start_of(5).0 | 1));
        assert!(last.next() > last);
        assert_eq!(Zxid::start_of(3).next(), Zxid((3 << 32) | 1));
    }
}
