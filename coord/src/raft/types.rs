//! What openraft is told of this house: whose numbers, which entries, which snapshots.

use coord_core::{NodeId, ServerSpec};

use super::payload::Payload;
use super::runtime::CoordRuntime;
use super::snapshot::SnapshotFile;

/// See the module.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct TypeConfig;

impl openraft::RaftTypeConfig for TypeConfig {
    type D = Payload;
    type R = ();
    type NodeId = NodeId;
    type Node = ServerSpec;
    type Entry = Entry;
    type SnapshotData = SnapshotFile;
    type AsyncRuntime = CoordRuntime;
    type Responder = openraft::impls::OneshotResponder<TypeConfig>;
}

/// An entry of the log: where it is, and what it says.
pub type Entry = openraft::Entry<TypeConfig>;
/// An entry's place, and the term of the leader that put it there.
pub type LogId = openraft::LogId<NodeId>;
/// Who may lead in a term, and whether a majority has agreed.
pub type Vote = openraft::Vote<NodeId>;
/// Who votes and who only follows, as the log says it.
pub type Membership = openraft::Membership<NodeId, ServerSpec>;
/// A membership and the entry that it came with.
pub(super) type StoredMembership = openraft::StoredMembership<NodeId, ServerSpec>;
/// What a snapshot holds: up to which entry, and the membership there.
pub(super) type SnapshotMeta = openraft::SnapshotMeta<NodeId, ServerSpec>;
/// openraft's errors of the storage: each of them ends it.
pub(super) type StorageError = openraft::StorageError<NodeId>;

/// The place of entry `index`, put there in `term`.
pub(super) fn log_id(term: u64, index: u64) -> LogId {
    // With one leader per term its node is no part of the identity.
    LogId::new(
        openraft::CommittedLeaderId::new(term, NodeId::default()),
        index,
    )
}
