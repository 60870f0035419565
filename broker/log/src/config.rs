//! What a topic's configuration means to its log.

use kafka_wire::compression::Compression;
pub use kafka_wire::record_batch::TimestampType;

/// How a topic's batches are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopicCompression {
    /// As the producer chose.
    Producer,
    /// All with the same codec.
    Codec {
        /// The codec.
        codec: Compression,
        /// Its level, `None` for its own.
        level: Option<i32>,
    },
}

/// The keys of a topic's configuration that the storage engine obeys, with Kafka's names and defaults.
#[derive(Debug, Clone, PartialEq)]
pub struct LogConfig {
    /// `segment.bytes`: a segment grows no larger than this.
    pub segment_bytes: u32,
    /// `segment.ms`: a segment that is older is rolled at the next append.
    pub segment_ms: i64,
    /// `segment.jitter.ms`: at most so much is taken off `segment_ms`, anew for each segment, so that the partitions of a
    /// topic do not all roll at once.
    pub segment_jitter_ms: i64,
    /// `segment.index.bytes`: the size that each index of the active segment is preallocated to.
    pub segment_index_bytes: u32,
    /// `preallocate`: the file of a new segment is made as long as `segment_bytes`, and cut when the segment is closed.
    pub preallocate: bool,
    /// `index.interval.bytes`: an index gets an entry when more than this was appended since the last one.
    pub index_interval_bytes: u32,
    /// `max.message.bytes`: the largest record batch that a client may append.
    pub max_message_bytes: u32,
    /// `message.timestamp.type`: whose clock stamps the records.
    pub message_timestamp_type: TimestampType,
    /// `cleanup.policy` holds `delete`: `retention_ms` and `retention_bytes` are obeyed.
    pub delete: bool,
    /// `retention.ms`: a segment whose youngest record is older goes. Below zero: never on its account.
    pub retention_ms: i64,
    /// `retention.bytes`: the oldest segments go without which the log is still as large as this. Below zero: never on its
    /// account.
    pub retention_bytes: i64,
    /// `message.timestamp.before.max.ms`: a record may be stamped at most so much before the broker's time, where producers
    /// stamp.
    pub message_timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`: likewise after it.
    pub message_timestamp_after_max_ms: i64,
    /// `compression.type` and the codecs' levels.
    pub compression: TopicCompression,
    /// `cleanup.policy` holds `compact`: of each key the last record is kept. Offsets may be missing in the middle of such a
    /// log, and of one that was compacted once, here or at its leader, which is noted in `cleaner-offset-checkpoint`. In any
    /// other log a missing offset is taken for damage.
    pub compact: bool,
    /// `min.cleanable.dirty.ratio`: a log is compacted when more than this part of it is dirty, from 0 to 1.
    pub min_cleanable_dirty_ratio: f64,
    /// `min.compaction.lag.ms`: a record is not compacted away before this long.
    pub min_compaction_lag_ms: i64,
    /// `max.compaction.lag.ms`: a log is compacted, however clean it is, when something in it waits for this long.
    pub max_compaction_lag_ms: i64,
    /// `delete.retention.ms`: how long a tombstone stays after its log was first compacted.
    pub delete_retention_ms: i64,
    /// `flush.messages`: so many records are appended at most before the log is synced. `u64::MAX`: never on their account.
    pub flush_messages: u64,
    /// `flush.ms`: a record is synced after at most this long. `u64::MAX`: never on its account.
    pub flush_ms: u64,
    /// `file.delete.delay.ms`: how long a deleted file is kept for those who still read it.
    pub file_delete_delay_ms: i64,
    /// `producer.id.expiration.ms`: a producer that wrote nothing for this long is forgotten.
    pub producer_id_expiration_ms: i64,
}

impl LogConfig {
    /// The age at which a segment is rolled. What waits for `max.compaction.lag.ms` must not be in the active segment, which
    /// is not compacted (KIP-354).
    pub(crate) fn roll_ms(&self) -> i64 {
        match self.compact {
            true => self.segment_ms.min(self.max_compaction_lag_ms),
            false => self.segment_ms,
        }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            segment_bytes: 1 << 30,
            segment_ms: 7 * 24 * 60 * 60 * 1000,
            segment_jitter_ms: 0,
            segment_index_bytes: 10 * 1024 * 1024,
            preallocate: false,
            index_interval_bytes: 4096,
            max_message_bytes: 1_048_588,
            message_timestamp_type: TimestampType::CreateTime,
            message_timestamp_before_max_ms: i64::MAX,
            message_timestamp_after_max_ms: i64::MAX,
            compression: TopicCompression::Producer,
            delete: true,
            retention_ms: 7 * 24 * 60 * 60 * 1000,
            retention_bytes: -1,
            compact: false,
            min_cleanable_dirty_ratio: 0.5,
            min_compaction_lag_ms: 0,
            max_compaction_lag_ms: i64::MAX,
            delete_retention_ms: 86_400_000,
            flush_messages: u64::MAX,
            flush_ms: u64::MAX,
            file_delete_delay_ms: 60_000,
            producer_id_expiration_ms: 86_400_000,
        }
    }
}
