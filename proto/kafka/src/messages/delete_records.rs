//! DeleteRecords (21): nothing below an offset is to be read any more (KIP-107).

use crate::ByteString;
use crate::schema::schema;

schema! {
    request DeleteRecordsRequest => DeleteRecordsResponse, key DeleteRecords, versions 0..=2, flexible 2..;

    /// Asks for the records at the front of partitions to go.
    struct DeleteRecordsRequest {
        /// From what.
        topics: Vec<DeleteRecordsTopic>,
        /// How long the broker may wait for the replicas, in milliseconds.
        timeout_ms: i32,
    }

    /// The partitions of one topic.
    struct DeleteRecordsTopic {
        /// The topic.
        name: ByteString,
        /// Its partitions.
        partitions: Vec<DeleteRecordsPartition>,
    }

    /// One partition.
    struct DeleteRecordsPartition {
        /// The partition's index.
        partition_index: i32,
        /// The first offset to keep; -1 for the high watermark.
        offset: i64,
    }
}

schema! {
    response DeleteRecordsResponse, versions 0..=2, flexible 2..;

    /// What became of it, by partition.
    struct DeleteRecordsResponse {
        /// How long the request was held back by a quota, in milliseconds.
        throttle_time_ms: i32,
        /// One entry for each topic.
        topics: Vec<DeleteRecordsTopicResult>,
    }

    /// The partitions of one topic.
    struct DeleteRecordsTopicResult {
        /// The topic.
        name: ByteString,
        /// Its partitions.
        partitions: Vec<DeleteRecordsPartitionResult>,
    }

    /// One partition.
    struct DeleteRecordsPartitionResult {
        /// The partition's index.
        partition_index: i32,
        /// The least log start offset of its live replicas; -1 where there is an error.
        low_watermark: i64,
        /// The error, or 0.
        error_code: i16,
    }
}
