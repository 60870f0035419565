//! CreateTopics (19).

use crate::schema::schema;
use crate::{ByteString, Uuid};

schema! {
    request CreateTopicsRequest => CreateTopicsResponse, key CreateTopics, versions 0..=7, flexible 5..;

    /// Asks for new topics.
    struct CreateTopicsRequest {
        /// The topics to create.
        topics: Vec<CreatableTopic>,
        /// How long the broker may wait for the topics to be there, in milliseconds.
        timeout_ms: i32 = 60_000,
        /// Check only, create nothing.
        validate_only: bool [1..],
    }

    /// One topic to create.
    struct CreatableTopic {
        /// The topic's name.
        name: ByteString,
        /// Its partitions; -1 with manual assignments, or (from version 4) for the broker's default.
        num_partitions: i32,
        /// Replicas of each partition; -1 as above.
        replication_factor: i16,
        /// The replicas of every partition; empty leaves the choice to the controller.
        assignments: Vec<CreatableReplicaAssignment>,
        /// Configurations that differ from the broker's defaults.
        configs: Vec<CreatableTopicConfig>,
    }

    /// The replicas of one partition.
    struct CreatableReplicaAssignment {
        /// The partition's index.
        partition_index: i32,
        /// Broker ids, the preferred leader first.
        broker_ids: Vec<i32>,
    }

    /// One configuration of a topic.
    struct CreatableTopicConfig {
        /// The key.
        name: ByteString,
        /// The value.
        value: Option<ByteString>,
    }
}

schema! {
    response CreateTopicsResponse, versions 0..=7, flexible 5..;

    /// The outcome, by topic.
    struct CreateTopicsResponse {
        /// How long the request was held back by a quota, in milliseconds.
        throttle_time_ms: i32 [2..],
        /// One result for each topic.
        topics: Vec<CreatableTopicResult>,
    }

    /// The outcome for one topic.
    struct CreatableTopicResult {
        /// The topic's name.
        name: ByteString,
        /// The new topic's id.
        topic_id: Uuid [7..],
        /// The error, or 0.
        error_code: i16,
        /// What went wrong, in words.
        error_message: Option<ByteString> [1..],
        /// Why the configurations are not told, if they are not.
        topic_config_error_code: i16 [5.., tag 0],
        /// The topic's partitions; -1 if not told.
        num_partitions: i32 [5..] = -1,
        /// Replicas of each partition; -1 if not told.
        replication_factor: i16 [5..] = -1,
        /// The topic's configurations; null if not told.
        configs: Option<Vec<CreatableTopicConfigs>> [5..],
    }

    /// One configuration of the new topic.
    struct CreatableTopicConfigs {
        /// The key.
        name: ByteString [5..],
        /// The value; null if it is sensitive.
        value: Option<ByteString> [5..],
        /// Whether it cannot be changed.
        read_only: bool [5..],
        /// Where the value comes from; -1 is unknown.
        config_source: i8 [5..] = -1,
        /// Whether the value is kept secret.
        is_sensitive: bool [5..],
    }
}
