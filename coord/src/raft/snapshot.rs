//! Snapshots on disk.

use std::path::PathBuf;

/// A snapshot on this member's disk, whole and durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotFile {
    pub(super) path: PathBuf,
}
