//! ListOffsets (2): the offset at a timestamp, or at an end of the log.

use crate::ByteString;
use crate::schema::schema;

/// Asks for the end: the high watermark, or a follower's view of it, the log end offset.
pub const LATEST_TIMESTAMP: i64 = -1;
/// Asks for the log start offset.
pub const EARLIEST_TIMESTAMP: i64 = -2;
/// Asks for the record with the largest timestamp (KIP-734).
pub const MAX_TIMESTAMP: i64 = -3;
/// Asks for the start of what is on this broker's disk: all of it (KIP-405).
pub const EARLIEST_LOCAL_TIMESTAMP: i64 = -4;
/// Asks for the end of what is in a tiered store, of which there is none (KIP-1005).
pub const LATEST_TIERED_TIMESTAMP: i64 = -5;

schema! {
    request ListOffsetsRequest => ListOffsetsResponse, key ListOffsets, versions 0..=9, flexible 6..;

    /// Asks for offsets.
    struct ListOffsetsRequest {
        /// The follower's broker id; -1 for a consumer.
        replica_id: i32 = -1,
        /// 0 read uncommitted: the latest offset is the high watermark; 1 read committed: the last stable offset.
        isolation_level: i8 [2..],
        /// What to look up.
        topics: Vec<ListOffsetsTopic>,
    }

    /// The partitions of one topic.
    struct ListOffsetsTopic {
        /// The topic.
        name: ByteString,
        /// Its partitions.
        partitions: Vec<ListOffsetsPartition>,
    }

    /// One partition.
    struct ListOffsetsPartition {
        /// The partition's index.
        partition_index: i32,
        /// The leader epoch that the asker believes to be current; -1 is not checked.
        current_leader_epoch: i32 [4.., ignorable] = -1,
        /// Milliseconds since 1970, or -1 latest, -2 earliest, -3 (from version 7) of the largest timestamp,
        /// -4 (from 8) earliest on this disk, -5 (from 9) latest in tiered storage.
        timestamp: i64,
        /// How many offsets to answer, in the old style.
        max_num_offsets: i32 [0] = 1,
    }
}

schema! {
    response ListOffsetsResponse, versions 0..=9, flexible 6..;

    /// The offsets, by partition.
    struct ListOffsetsResponse {
        /// How long the request was held back by a quota, in milliseconds.
        throttle_time_ms: i32 [2..],
        /// One entry for each topic.
        topics: Vec<ListOffsetsTopicResponse>,
    }

    /// The partitions of one topic.
    struct ListOffsetsTopicResponse {
        /// The topic.
        name: ByteString,
        /// Its partitions.
        partitions: Vec<ListOffsetsPartitionResponse>,
    }

    /// One partition.
    struct ListOffsetsPartitionResponse {
        /// The partition's index.
        partition_index: i32,
        /// The error, or 0.
        error_code: i16,
        /// The old style's answer: base offsets of segments older than the timestamp, latest first.
        old_style_offsets: Vec<i64> [0],
        /// The timestamp found; -1 if none, or if an end of the log was asked for.
        timestamp: i64 [1..] = -1,
        /// The offset found; -1 if none.
        offset: i64 [1..] = -1,
        /// The leader epoch at that offset; -1 if unknown.
        leader_epoch: i32 [4..] = -1,
    }
}
