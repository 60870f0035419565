//! Metadata (3): brokers, topics, and who leads which partition.

use crate::schema::schema;
use crate::{ByteString, Uuid};

schema! {
    request MetadataRequest => MetadataResponse, key Metadata, versions 0..=12, flexible 9..;

    /// Asks for topics.
    struct MetadataRequest {
        /// The topics; null asks for all. In version 0, which has no null, an empty list asks for all; later it asks
        /// for none.
        topics: Option<Vec<MetadataRequestTopic>> [0.., nullable 1..],
        /// Whether the broker may create topics that are missing.
        allow_auto_topic_creation: bool [4..] = true,
        /// Whether to tell which operations the client may do on the cluster.
        include_cluster_authorized_operations: bool [8..=10],
        /// Whether to tell which operations the client may do on each topic.
        include_topic_authorized_operations: bool [8..],
    }

    /// One topic.
    struct MetadataRequestTopic {
        /// The topic's id; zero to go by the name.
        topic_id: Uuid [10.., ignorable],
        /// The topic's name; null to go by the id.
        name: Option<ByteString> [0.., nullable 10..],
    }
}

schema! {
    response MetadataResponse, versions 0..=12, flexible 9..;

    /// Brokers and topics.
    struct MetadataResponse {
        /// How long the request was held back by a quota, in milliseconds.
        throttle_time_ms: i32 [3..],
        /// The brokers that are alive.
        brokers: Vec<MetadataResponseBroker>,
        /// The cluster's id.
        cluster_id: Option<ByteString> [2..],
        /// The controller's broker id; -1 if there is none.
        controller_id: i32 [1..] = -1,
        /// One entry for each topic.
        topics: Vec<MetadataResponseTopic>,
        /// What the client may do on the cluster, as a set of bits; `i32::MIN` if not asked for.
        cluster_authorized_operations: i32 [8..=10] = i32::MIN,
    }

    /// One broker.
    struct MetadataResponseBroker {
        /// The broker's id.
        node_id: i32,
        /// Its host name, on the listener that was asked.
        host: ByteString,
        /// Its port.
        port: i32,
        /// Its rack.
        rack: Option<ByteString> [1..],
    }

    /// One topic.
    struct MetadataResponseTopic {
        /// The error, or 0.
        error_code: i16,
        /// The topic's name; null if it was asked for by an id that is unknown.
        name: Option<ByteString> [0.., nullable 12..],
        /// The topic's id; zero if it was asked for by a name that is unknown.
        topic_id: Uuid [10..],
        /// Whether it is the brokers' own.
        is_internal: bool [1..],
        /// Its partitions.
        partitions: Vec<MetadataResponsePartition>,
        /// What the client may do on the topic, as a set of bits; `i32::MIN` if not asked for.
        topic_authorized_operations: i32 [8..] = i32::MIN,
    }

    /// One partition.
    struct MetadataResponsePartition {
        /// The error, or 0.
        error_code: i16,
        /// The partition's index.
        partition_index: i32,
        /// The leader's broker id; -1 if there is none.
        leader_id: i32,
        /// The leader's epoch; -1 if unknown.
        leader_epoch: i32 [7..] = -1,
        /// All replicas, the preferred leader first.
        replica_nodes: Vec<i32>,
        /// The replicas in sync.
        isr_nodes: Vec<i32>,
        /// The replicas whose broker or log directory is gone.
        offline_replicas: Vec<i32> [5..],
    }
}
