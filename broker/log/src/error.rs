//! What can go wrong, one type for each operation.

use std::path::PathBuf;

use crate::file_system::StorageError;
use crate::offline::OfflineDirectory;
use crate::producer::ProducerError;

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

/// Why records were not appended. None of them is in the log afterwards as far as any reader can tell.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The bytes are not whole record batches with a right checksum (CORRUPT_MESSAGE).
    #[error("corrupt record batch: {0}")]
    Corrupt(String),
    /// A batch says something that no client may say (INVALID_RECORD).
    #[error("invalid record batch: {0}")]
    InvalidRecord(String),
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
