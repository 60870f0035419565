//! CreatePartitions (37): extends topics.

use crate::ByteString;
use crate::schema::schema;

schema! {
    request CreatePartitionsRequest => CreatePartitionsResponse, key CreatePartitions, versions 0..=3, flexible 2..;

    /// Asks for more partitions.
    struct CreatePartitionsRequest {
        /// The topics to extend.
        topics: Vec<CreatePartitionsTopic>,
        /// How long the broker may wait for the partitions to be there, in milliseconds.
        timeout_ms: i32,
        /// Check only, change nothing.
        validate_only: bool,
    }

    /// One topic to extend.
    struct CreatePartitionsTopic {
        /// The topic.
        name: ByteString,
        /// How many partitions it shall have in all.
        count: i32,
        /// The replicas of each new partition; null leaves the choice to the controller.
        assignments: Option<Vec<CreatePartitionsAssignment>>,
    }

    /// The replicas of one new partition.
    struct CreatePartitionsAssignment {
        /// Broker ids, the preferred leader first.
        broker_ids: Vec<i32>,
    }
}

schema! {
    response CreatePartitionsResponse, versions 0..=3, flexible 2..;

    /// The outcome, by topic.
    struct CreatePartitionsResponse {
        /// How long the request was held back by a quota, in milliseconds.
        throttle_time_ms: i32,
        /// One result for each topic.
        results: Vec<CreatePartitionsTopicResult>,
    }

    /// The outcome for one topic.
    struct CreatePartitionsTopicResult {
        /// The topic.
        name: ByteString,
        /// The error, or 0.
        error_code: i16,
        /// What went wrong, in words.
        error_message: Option<ByteString>,
    }
}
