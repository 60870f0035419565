//! Produce (0): appends record batches.

use crate::schema::schema;
use crate::{ByteString, Records};

schema! {
    request ProduceRequest => ProduceResponse, key Produce, versions 0..=11, flexible 9..;

    /// Asks for batches to be appended.
    struct ProduceRequest {
        /// The transactional id; null outside of transactions.
        transactional_id: Option<ByteString> [3..],
        /// When to answer: 0 never, 1 once the leader has the records, -1 once all in-sync replicas have them.
        acks: i16,
        /// How long the broker may wait for the replicas, in milliseconds.
        timeout_ms: i32,
        /// The batches, by topic.
        topic_data: Vec<TopicProduceData>,
    }

    /// The partitions of one topic.
    struct TopicProduceData {
        /// The topic.
        name: ByteString,
        /// Its partitions.
        partition_data: Vec<PartitionProduceData>,
    }

    /// One partition.
    struct PartitionProduceData {
        /// The partition's index.
        index: i32,
        /// The record batches.
        records: Records,
    }
}

schema! {
    response ProduceResponse, versions 0..=11, flexible 9..;

    /// The outcome, by partition.
    struct ProduceResponse {
        /// One entry for each topic.
        responses: Vec<TopicProduceResponse>,
        /// How long the request was held back by a quota, in milliseconds.
        throttle_time_ms: i32 [1..],
        /// Where the leaders are that partitions name as current (KIP-951).
        node_endpoints: Vec<NodeEndpoint> [10.., tag 0],
    }

    /// The partitions of one topic.
    struct TopicProduceResponse {
        /// The topic.
        name: ByteString,
        /// Its partitions.
        partition_responses: Vec<PartitionProduceResponse>,
    }

    /// One partition.
    struct PartitionProduceResponse {
        /// The partition's index.
        index: i32,
        /// The error, or 0.
        error_code: i16,
        /// The first record's offset; -1 with an error.
        base_offset: i64,
        /// When the broker appended the records, if the topic's timestamps say that; else -1.
        log_append_time_ms: i64 [2..] = -1,
        /// The first offset of the log; -1 if unknown.
        log_start_offset: i64 [5..] = -1,
        /// The records for which the batch was refused (KIP-467).
        record_errors: Vec<BatchIndexAndErrorMessage> [8..],
        /// What went wrong, in words.
        error_message: Option<ByteString> [8..],
        /// Who leads now, with the errors that say that it is not us.
        current_leader: LeaderIdAndEpoch [10.., tag 0],
    }

    /// A record for which its batch was refused.
    struct BatchIndexAndErrorMessage {
        /// The record's index in its batch.
        batch_index: i32 [8..],
        /// What is wrong with it, in words.
        batch_index_error_message: Option<ByteString> [8..],
    }

    /// The current leader.
    struct LeaderIdAndEpoch {
        /// Its broker id; -1 if unknown.
        leader_id: i32 [10..] = -1,
        /// Its epoch; -1 if unknown.
        leader_epoch: i32 [10..] = -1,
    }

    /// Where to reach a broker.
    struct NodeEndpoint {
        /// The broker's id.
        node_id: i32 [10..],
        /// Its host name.
        host: ByteString [10..],
        /// Its port.
        port: i32 [10..],
        /// Its rack.
        rack: Option<ByteString> [10..],
    }
}
