//! The files of a log as they lie, for tools that look at them: whatever they hold is told, nothing is mended, and a broker
//! may be at work on them meanwhile.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use kafka_wire::TopicPartition;

use crate::checkpoint;
use crate::file_names::{
    self, CLEANER_OFFSET_CHECKPOINT, HIGH_WATERMARK_CHECKPOINT, LEADER_EPOCH_CHECKPOINT, LOG,
    LOG_START_OFFSET_CHECKPOINT, OFFSET_INDEX, PRODUCER_SNAPSHOT, RECOVERY_POINT_CHECKPOINT,
    TIME_INDEX, TRANSACTION_INDEX,
};
use crate::file_system::{Found, StdFileSystem};
use crate::index::{OffsetPosition, TimestampOffset, offset_entries, time_entries};
use crate::leader_epoch_cache::EpochEntry;
use crate::producer::snapshot;
use crate::transaction_index::{self, AbortedTransaction};

/// Larger than any file that is read whole.
const MAX_BYTES: u64 = 256 << 20;

/// Why a file cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// It cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It does not hold what its name says.
    #[error("{} holds {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What it holds instead.
        reason: String,
    },
}

/// What a file of a log directory is, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// `.log`: record batches. The base offset of the segment.
    Log(i64),
    /// `.index`, likewise.
    OffsetIndex(i64),
    /// `.timeindex`, likewise.
    TimeIndex(i64),
    /// `.txnindex`, likewise.
    TransactionIndex(i64),
    /// `.snapshot`: the producers as they were at that offset.
    ProducerSnapshot(i64),
    /// One of the checkpoints of a log directory: an offset for each partition.
    OffsetCheckpoint,
    /// A partition's `leader-epoch-checkpoint`.
    LeaderEpochCheckpoint,
}

impl FileKind {
    /// The kind of the file of that name, whatever marks follow it (`.deleted`, `.swap`, …); `None` for any other.
    pub fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        match name {
            RECOVERY_POINT_CHECKPOINT
            | LOG_START_OFFSET_CHECKPOINT
            | HIGH_WATERMARK_CHECKPOINT
            | CLEANER_OFFSET_CHECKPOINT => return Some(Self::OffsetCheckpoint),
            LEADER_EPOCH_CHECKPOINT => return Some(Self::LeaderEpochCheckpoint),
            _ => {}
        }
        let (offset, extension) = file_names::parse_segment_file(name)?;
        Some(match extension.split('.').next()? {
            LOG => Self::Log(offset),
            OFFSET_INDEX => Self::OffsetIndex(offset),
            TIME_INDEX => Self::TimeIndex(offset),
            TRANSACTION_INDEX => Self::TransactionIndex(offset),
            PRODUCER_SNAPSHOT => Self::ProducerSnapshot(offset),
            _ => return None,
        })
    }
}

/// One producer of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerSnapshotEntry {
    /// Its id.
    pub producer_id: i64,
    /// Its epoch.
    pub producer_epoch: i16,
    /// The epoch of the transaction coordinator that wrote its last marker; -1 if there is none.
    pub coordinator_epoch: i32,
    /// Where its open transaction began, if it has one.
    pub current_transaction_first_offset: Option<i64>,
    /// When it wrote last, in milliseconds since 1970.
    pub last_timestamp: i64,
    /// The last batch, if it is known.
    pub last_batch: Option<ProducerBatch>,
}

/// The last batch of a producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerBatch {
    /// The sequence number of its first record.
    pub first_sequence: i32,
    /// That of its last record.
    pub last_sequence: i32,
    /// The offset of its last record.
    pub last_offset: i64,
    /// The offset of its last record relative to its first.
    pub offset_delta: i32,
}

fn unreadable(path: &Path) -> impl Fn(io::Error) -> InspectError + '_ {
    |source| InspectError::Unreadable {
        path: path.to_owned(),
        source,
    }
}

fn damaged(path: &Path, reason: impl Into<String>) -> InspectError {
    InspectError::Damaged {
        path: path.to_owned(),
        reason: reason.into(),
    }
}

fn read_whole(path: &Path) -> Result<Vec<u8>, InspectError> {
    let file = File::open(path).map_err(unreadable(path))?;
    let mut content = Vec::new();
    file.take(MAX_BYTES + 1)
        .read_to_end(&mut content)
        .map_err(unreadable(path))?;
    if content.len() as u64 > MAX_BYTES {
        return Err(damaged(path, format!("more than {MAX_BYTES} bytes")));
    }
    Ok(content)
}

/// The entries of the offset index of the segment at `base_offset`. The one of an active segment is preallocated: entries
/// of zeros follow the true ones.
pub fn offset_index(path: &Path, base_offset: i64) -> Result<Vec<OffsetPosition>, InspectError> {
    Ok(offset_entries(base_offset, &read_whole(path)?).collect())
}

/// The entries of the time index of the segment at `base_offset`; see [`offset_index`].
pub fn time_index(path: &Path, base_offset: i64) -> Result<Vec<TimestampOffset>, InspectError> {
    Ok(time_entries(base_offset, &read_whole(path)?).collect())
}

/// The transactions of a transaction index.
pub fn transaction_index(path: &Path) -> Result<Vec<AbortedTransaction>, InspectError> {
    transaction_index::entries(&read_whole(path)?)
        .ok_or_else(|| damaged(path, "something that is no entry of a transaction index"))
}

/// The producers of a snapshot, in the order in which they stand there.
pub fn producer_snapshot(path: &Path) -> Result<Vec<ProducerSnapshotEntry>, InspectError> {
    let entries = snapshot::entries(&read_whole(path)?)
        .ok_or_else(|| damaged(path, "no snapshot of producers, or a damaged one"))?;
    Ok(entries
        .into_iter()
        .map(|(producer_id, entry)| ProducerSnapshotEntry {
            producer_id,
            producer_epoch: entry.epoch,
            coordinator_epoch: entry.coordinator_epoch,
            current_transaction_first_offset: entry.current_transaction_first_offset,
            last_timestamp: entry.last_timestamp,
            last_batch: entry.batches.back().map(|batch| ProducerBatch {
                first_sequence: batch.first_sequence(),
                last_sequence: batch.last_sequence,
                last_offset: batch.last_offset,
                offset_delta: batch.offset_delta,
            }),
        })
        .collect())
}

/// The offsets of a checkpoint of a log directory.
pub fn offset_checkpoint(path: &Path) -> Result<Vec<(TopicPartition, i64)>, InspectError> {
    let found = checkpoint::read_offsets(&StdFileSystem, path);
    Ok(intact(path, found)?.into_iter().collect())
}

/// The epochs of a partition's `leader-epoch-checkpoint`.
pub fn leader_epoch_checkpoint(path: &Path) -> Result<Vec<EpochEntry>, InspectError> {
    let found = checkpoint::read_epochs(&StdFileSystem, path);
    Ok(intact(path, found)?
        .into_iter()
        .map(|(epoch, start_offset)| EpochEntry {
            epoch,
            start_offset,
        })
        .collect())
}

fn intact<T>(
    path: &Path,
    found: Result<Found<T>, crate::file_system::StorageError>,
) -> Result<T, InspectError> {
    match found {
        Ok(Found::Intact(content)) => Ok(content),
        Ok(Found::Missing) => Err(unreadable(path)(io::ErrorKind::NotFound.into())),
        Ok(Found::Rubbish(reason)) => Err(damaged(path, reason)),
        Err(error) => Err(unreadable(path)(io::Error::other(error))),
    }
}

/// A `.log` file, read batch by batch.
#[derive(Debug)]
pub struct LogFileReader {
    path: PathBuf,
    file: File,
    size: u64,
}

impl LogFileReader {
    /// Opens a `.log` file to read what it holds by now.
    pub fn open(path: &Path) -> Result<Self, InspectError> {
        let file = File::open(path).map_err(unreadable(path))?;
        let size = file.metadata().map_err(unreadable(path))?.len();
        Ok(Self {
            path: path.to_owned(),
            file,
            size,
        })
    }

    /// The file's length, in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Bytes from `position` on: as many as `buffer` takes, fewer at the end of the file.
    pub fn read(
        &self,
        position: u64,
        buffer: &mut Vec<u8>,
        bytes: usize,
    ) -> Result<(), InspectError> {
        let left = self.size.saturating_sub(position);
        buffer.resize(left.min(bytes as u64) as usize, 0);
        self.file
            .read_exact_at(buffer, position)
            .map_err(unreadable(&self.path))
    }
}
