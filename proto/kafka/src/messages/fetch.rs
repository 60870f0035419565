//! Fetch (1): records, for consumers and followers alike. Versions before 4 cannot carry record batches of format 2
//! and are not served.

use crate::schema::schema;
use crate::{ByteString, Records, Uuid};

schema! {
    request FetchRequest => FetchResponse, key Fetch, versions 4..=17, flexible 12..;

    /// Asks for records from offsets on.
    struct FetchRequest {
        /// The cluster that the asker believes to talk to, if it knows one.
        cluster_id: Option<ByteString> [12.., tag 0, ignorable],
        /// The follower's broker id; -1 for a consumer. Later versions: `replica_state`.
        replica_id: i32 [0..=14] = -1,
        /// Who asks, if a follower does (KIP-903).
        replica_state: ReplicaState [15.., tag 1],
        /// How long to wait for `min_bytes`, in milliseconds.
        max_wait_ms: i32,
        /// Answer as soon as there are so many bytes.
        min_bytes: i32,
        /// Bytes to answer in all; the first batch of the first partition that has one may exceed it (KIP-74).
        max_bytes: i32 [3.., ignorable] = i32::MAX,
        /// 0 read uncommitted: up to the high watermark; 1 read committed: up to the last stable offset.
        isolation_level: i8 [4.., ignorable],
        /// The fetch session (KIP-227); 0 asks for a new one.
        session_id: i32 [7.., ignorable],
        /// The request's number within its session; -1 is outside of any, 0 opens one.
        session_epoch: i32 [7.., ignorable] = -1,
        /// What to fetch; within a session, only what changed.
        topics: Vec<FetchTopic>,
        /// What to drop from the session.
        forgotten_topics_data: Vec<ForgottenTopic> [7..],
        /// The consumer's rack, so that it may be sent to a near replica (KIP-392).
        rack_id: ByteString [11.., ignorable],
    }

    /// A follower's identity.
    struct ReplicaState {
        /// Its broker id; -1 for a consumer.
        replica_id: i32 [15..] = -1,
        /// Its broker epoch; -1 if unknown.
        replica_epoch: i64 [15..] = -1,
    }

    /// The partitions of one topic.
    struct FetchTopic {
        /// The topic, by name.
        topic: ByteString [0..=12, ignorable],
        /// The topic, by id.
        topic_id: Uuid [13.., ignorable],
        /// Its partitions.
        partitions: Vec<FetchPartition>,
    }

    /// One partition.
    struct FetchPartition {
        /// The partition's index.
        partition: i32,
        /// The leader epoch that the asker believes to be current; -1 is not checked (KIP-320).
        current_leader_epoch: i32 [9.., ignorable] = -1,
        /// The first offset wanted.
        fetch_offset: i64,
        /// The epoch of the record before that offset, to find divergence (KIP-595); -1 is not checked.
        last_fetched_epoch: i32 [12..] = -1,
        /// The follower's log start offset; -1 from consumers.
        log_start_offset: i64 [5.., ignorable] = -1,
        /// Bytes to answer for this partition; its first batch may exceed it.
        partition_max_bytes: i32,
        /// The follower's log directory.
        replica_directory_id: Uuid [17.., tag 0, ignorable],
    }

    /// Partitions to drop from the session.
    struct ForgottenTopic {
        /// The topic, by name.
        topic: ByteString [7..=12, ignorable],
        /// The topic, by id.
        topic_id: Uuid [13.., ignorable],
        /// Partition indexes.
        partitions: Vec<i32> [7..],
    }
}

schema! {
    response FetchResponse, versions 4..=17, flexible 12..;

    /// Records, by partition.
    struct FetchResponse {
        /// How long the request was held back by a quota, in milliseconds.
        throttle_time_ms: i32 [1..],
        /// The error of the request as a whole, or 0.
        error_code: i16 [7..],
        /// The fetch session; 0 if there is none.
        session_id: i32 [7..],
        /// One entry for each topic; within a session, only what changed.
        responses: Vec<FetchableTopicResponse>,
        /// Where the leaders are that partitions name as current (KIP-951).
        node_endpoints: Vec<NodeEndpoint> [16.., tag 0],
    }

    /// The partitions of one topic.
    struct FetchableTopicResponse {
        /// The topic, by name.
        topic: ByteString [0..=12],
        /// The topic, by id.
        topic_id: Uuid [13..],
        /// Its partitions.
        partitions: Vec<PartitionData>,
    }

    /// One partition.
    struct PartitionData {
        /// The partition's index.
        partition_index: i32,
        /// The error, or 0.
        error_code: i16,
        /// The high watermark.
        high_watermark: i64,
        /// The last stable offset: all transactions before it are decided; -1 if unknown.
        last_stable_offset: i64 [4..] = -1,
        /// The first offset of the log; -1 if unknown.
        log_start_offset: i64 [5..] = -1,
        /// Where the asker's log parts from the leader's; no records come with it (KIP-595).
        diverging_epoch: EpochEndOffset [12.., tag 0],
        /// Who leads now, with the errors that say that it is not us.
        current_leader: LeaderIdAndEpoch [12.., tag 1],
        /// A snapshot to fetch instead (KRaft only).
        snapshot_id: SnapshotId [12.., tag 2],
        /// The aborted transactions among the records; null if the asker reads uncommitted.
        aborted_transactions: Option<Vec<AbortedTransaction>> [4..],
        /// The replica that the consumer should rather ask (KIP-392); -1 is no advice.
        preferred_read_replica: i32 [11..] = -1,
        /// The record batches.
        records: Records,
    }

    /// The end of the largest epoch that the leader has up to the one asked for.
    struct EpochEndOffset {
        /// The epoch; -1 is none.
        epoch: i32 [12..] = -1,
        /// Its end offset; -1 is none.
        end_offset: i64 [12..] = -1,
    }

    /// The current leader.
    struct LeaderIdAndEpoch {
        /// Its broker id; -1 if unknown.
        leader_id: i32 [12..] = -1,
        /// Its epoch; -1 if unknown.
        leader_epoch: i32 [12..] = -1,
    }

    /// A snapshot, named by where it ends.
    struct SnapshotId {
        /// The first offset that it does not hold.
        end_offset: i64 = -1,
        /// The epoch there.
        epoch: i32 = -1,
    }

    /// A transaction that was aborted.
    struct AbortedTransaction {
        /// Whose it was.
        producer_id: i64 [4..],
        /// Its first offset.
        first_offset: i64 [4..],
    }

    /// Where to reach a broker.
    struct NodeEndpoint {
        /// The broker's id.
        node_id: i32 [16..],
        /// Its host name.
        host: ByteString [16..],
        /// Its port.
        port: i32 [16..],
        /// Its rack.
        rack: Option<ByteString> [16..],
    }
}
