//! Who asked for a transaction.

use crate::zxid::NodeId;

/// A member's number for something that it asks of the leader. The numbers of a process begin at random and grow by one,
/// so that they never match those of a former process of the same member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

impl RequestId {
    /// The one behind it.
    pub fn next(self) -> RequestId {
        RequestId(self.0.wrapping_add(1))
    }
}

/// The request that a transaction was decided for. The member that it names answers it when it applies the transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The member whose client asked.
    pub node: NodeId,
    /// That member's number for it.
    pub request: RequestId,
}
