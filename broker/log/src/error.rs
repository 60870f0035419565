//! What can go wrong, one type for each operation.

use std::fmt;
use std::path::PathBuf;

use crate::file_system::StorageError;
use crate::offline::{OfflineDirectory, too_many_open_files};
use crate::producer::ProducerError;

/// A segment that Kafka before 0.11 wrote, or one that was told to write as those do. Nothing of it is ever changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} holds messages of format {magic} at byte {position}, and only format 2 is served: copy the topic to a new one with an Apache Kafka 3 broker, or delete it",
    path.display()
)]
pub struct UnsupportedFormat {
    /// The segment file.
    pub path: PathBuf,
    /// Where the first such message begins, of those that were to be read.
    pub position: u64,
    /// The format's number, 0 or 1.
    pub magic: i8,
}

/// Why a change to a log, or a look into it, failed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The disk would not.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The log holds bytes that are no record batch. Starting the broker without a clean shutdown file cuts them off.
    #[error("{} holds no record batch at byte {position}: {cause}", path.display())]
    Damaged {
        /// The segment file.
        path: PathBuf,
        /// Where the batch should be.
        position: u64,
        /// What is wrong with it.
        cause: String,
    },
    /// A segment is in a format that is not served.
    #[error(transparent)]
    UnsupportedFormat(#[from] UnsupportedFormat),
    /// The log's directory has failed.
    #[error(transparent)]
    Offline(#[from] OfflineDirectory),
    /// An earlier write failed, or the log is closed: it takes no more.
    #[error("the log takes no more writes: {reason}")]
    Fenced {
        /// The earlier failure.
        reason: String,
    },
}

impl LogError {
    /// Whether no more files could be opened, which is not for the disk.
    pub(crate) fn is_for_open_files(&self) -> bool {
        matches!(self, Self::Storage(error) if too_many_open_files(&error.source))
    }

    /// Whether it is for what the log's files hold, and not for the disk that they lie on.
    pub(crate) fn is_of_the_content(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::UnsupportedFormat(_))
    }
}

/// Why records were not appended. None of them is in the log afterwards as far as any reader can tell.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The bytes are not whole record batches with a right checksum (CORRUPT_MESSAGE).
    #[error("corrupt record batch: {0}")]
    Corrupt(String),
    /// A batch says something that no client may say (INVALID_RECORD).
    #[error("invalid record batch: {0}")]
    InvalidRecord(String),
    /// The batch is as it should be, but the topic does not take some of its records (INVALID_RECORD, or INVALID_TIMESTAMP
    /// if it is for their timestamps).
    #[error("{0}")]
    RefusedRecords(RefusedRecords),
    /// A batch's kind of timestamp is not the topic's (INVALID_TIMESTAMP).
    #[error(
        "a record batch stamped by the broker, to a topic whose records are stamped by their producers"
    )]
    InvalidTimestamp,
    /// A message set of format 0 or 1 (UNSUPPORTED_FOR_MESSAGE_FORMAT).
    #[error(
        "message format {magic} is not supported, only 2 is: send with a client of Kafka 0.11 or later"
    )]
    UnsupportedForMessageFormat {
        /// The format's number.
        magic: i8,
    },
    /// A batch is larger than `max.message.bytes` (MESSAGE_TOO_LARGE).
    #[error("a record batch of {size} bytes, where max.message.bytes is {max}")]
    MessageTooLarge {
        /// The batch, in bytes.
        size: usize,
        /// The limit, in bytes.
        max: u32,
    },
    /// The batch is within `max.message.bytes`, but larger than `segment.bytes` (RECORD_LIST_TOO_LARGE).
    #[error("a record batch of {size} bytes, where segment.bytes is {max}")]
    RecordListTooLarge {
        /// The batch, in bytes.
        size: usize,
        /// The limit, in bytes.
        max: u32,
    },
    /// Not what can come next from the producer.
    #[error(transparent)]
    Producer(#[from] ProducerError),
    /// What a follower fetched does not continue its log.
    #[error("a record batch at offset {found}, where the log ends at {log_end_offset}")]
    UnexpectedOffset {
        /// The offset of the batch.
        found: i64,
        /// The offset that comes next.
        log_end_offset: i64,
    },
    /// The log itself failed (KAFKA_STORAGE_ERROR).
    #[error(transparent)]
    Log(#[from] LogError),
}

impl From<StorageError> for AppendError {
    fn from(error: StorageError) -> Self {
        Self::Log(error.into())
    }
}

/// A record that a topic does not take (KIP-467).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedRecord {
    /// Its index in its batch.
    pub batch_index: i32,
    /// Why, in words.
    pub message: String,
}

/// The records of a batch that a topic does not take.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RefusedRecords {
    /// A timestamp is among the reasons.
    pub by_timestamp: bool,
    /// How many there are.
    pub count: usize,
    /// The first of them.
    pub told: Vec<RefusedRecord>,
}

impl fmt::Display for RefusedRecords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.by_timestamp {
            return f.write_str("One or more records have been rejected due to invalid timestamp");
        }
        let count = self.count;
        write!(
            f,
            "One or more records have been rejected due to {count} record errors in total, and only showing the first three errors at most: "
        )?;
        let shown = self.told.iter().take(3).map(|record| {
            let RefusedRecord {
                batch_index,
                message,
            } = record;
            format!("RecordError(batchIndex={batch_index}, message='{message}')")
        });
        write!(f, "[{}]", shown.collect::<Vec<_>>().join(", "))
    }
}

/// Why records cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The log does not reach there (OFFSET_OUT_OF_RANGE).
    #[error(
        "offset {offset} is not in the log, which reaches from {log_start_offset} to {log_end_offset}"
    )]
    OffsetOutOfRange {
        /// The offset that was asked for.
        offset: i64,
        /// The first offset of the log.
        log_start_offset: i64,
        /// One after its last offset.
        log_end_offset: i64,
    },
    /// The log itself failed (KAFKA_STORAGE_ERROR).
    #[error(transparent)]
    Log(#[from] LogError),
}
