//! OffsetForLeaderEpoch (23): where a leader epoch ends in the leader's log (KIP-101, KIP-279, KIP-320).

use crate::ByteString;
use crate::schema::schema;

schema! {
    request OffsetForLeaderEpochRequest => OffsetForLeaderEpochResponse,
    key OffsetForLeaderEpoch, versions 0..=4, flexible 4..;

    /// Asks where epochs end.
    struct OffsetForLeaderEpochRequest {
        /// The follower's broker id; -1 for a consumer; -2 for debugging.
        replica_id: i32 [3.., ignorable] = -2,
        /// What to look up.
        topics: Vec<OffsetForLeaderTopic>,
    }

    /// The partitions of one topic.
    struct OffsetForLeaderTopic {
        /// The topic.
        topic: ByteString,
        /// Its partitions.
        partitions: Vec<OffsetForLeaderPartition>,
    }

    /// One partition.
    struct OffsetForLeaderPartition {
        /// The partition's index.
        partition: i32,
        /// The leader epoch that the asker believes to be current; -1 is not checked.
        current_leader_epoch: i32 [2.., ignorable] = -1,
        /// The epoch to look up.
        leader_epoch: i32,
    }
}

schema! {
    response OffsetForLeaderEpochResponse, versions 0..=4, flexible 4..;

    /// Where epochs end, by partition.
    struct OffsetForLeaderEpochResponse {
        /// How long the request was held back by a quota, in milliseconds.
        throttle_time_ms: i32 [2..],
        /// One entry for each topic.
        topics: Vec<OffsetForLeaderTopicResult>,
    }

    /// The partitions of one topic.
    struct OffsetForLeaderTopicResult {
        /// The topic.
        topic: ByteString,
        /// Its partitions.
        partitions: Vec<EpochEndOffset>,
    }

    /// One partition.
    struct EpochEndOffset {
        /// The error, or 0.
        error_code: i16,
        /// The partition's index.
        partition: i32,
        /// The largest epoch that the leader has up to the one asked for; -1 if none.
        leader_epoch: i32 [1..] = -1,
        /// The first offset after that epoch; -1 if unknown.
        end_offset: i64 = -1,
    }
}
