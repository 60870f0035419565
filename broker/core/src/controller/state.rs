//! The states of partitions and replicas, and which may follow which.

/// Where a partition stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PartitionState {
    /// It was never created, or is deleted.
    NonExistent,
    /// It has replicas, but never had a leader.
    New,
    /// It has a leader.
    Online,
    /// Its leader is gone.
    Offline,
}

impl PartitionState {
    /// The states that this one may follow.
    pub const fn valid_previous(self) -> &'static [Self] {
        match self {
            Self::New => &[Self::NonExistent],
            Self::Online | Self::Offline => &[Self::New, Self::Online, Self::Offline],
            Self::NonExistent => &[Self::Offline],
        }
    }
}

/// Where a replica stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReplicaState {
    /// Just assigned.
    New,
    /// Its broker is alive.
    Online,
    /// Its broker is not alive.
    Offline,
    /// Its broker was told to delete it.
    DeletionStarted,
    /// Its broker deleted it.
    DeletionSuccessful,
    /// It is to be deleted, but its broker is not alive or failed to.
    DeletionIneligible,
    /// It is forgotten.
    NonExistent,
}

impl ReplicaState {
    /// The states that this one may follow.
    pub const fn valid_previous(self) -> &'static [Self] {
        match self {
            Self::New => &[Self::NonExistent],
            Self::Online | Self::Offline => &[
                Self::New,
                Self::Online,
                Self::Offline,
                Self::DeletionIneligible,
            ],
            Self::DeletionStarted => &[Self::Offline],
            Self::DeletionSuccessful => &[Self::DeletionStarted],
            Self::DeletionIneligible => &[Self::Offline, Self::DeletionStarted],
            Self::NonExistent => &[Self::DeletionSuccessful],
        }
    }
}
