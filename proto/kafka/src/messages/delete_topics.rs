//! DeleteTopics (20).

use crate::schema::schema;
use crate::{ByteString, Uuid};

schema! {
    request DeleteTopicsRequest => DeleteTopicsResponse, key DeleteTopics, versions 0..=6, flexible 4..;

    /// Asks for topics to be deleted.
    struct DeleteTopicsRequest {
        /// The topics, by name or id.
        topics: Vec<DeleteTopicState> [6..],
        /// The topics by name, up to version 5.
        topic_names: Vec<ByteString> [0..=5, ignorable],
        /// How long the broker may wait for the topics to be gone, in milliseconds.
        timeout_ms: i32,
    }

    /// One topic: either its name or its id.
    struct DeleteTopicState {
        /// The name; null to go by the id.
        name: Option<ByteString> [6..],
        /// The id; zero to go by the name.
        topic_id: Uuid [6..],
    }
}

schema! {
    response DeleteTopicsResponse, versions 0..=6, flexible 4..;

    /// The outcome, by topic.
    struct DeleteTopicsResponse {
        /// How long the request was held back by a quota, in milliseconds.
        throttle_time_ms: i32 [1..],
        /// One result for each topic.
        responses: Vec<DeletableTopicResult>,
    }

    /// The outcome for one topic.
    struct DeletableTopicResult {
        /// The name; null if it was asked for by an id that is unknown or not to be told.
        name: Option<ByteString> [0.., nullable 6..],
        /// The id.
        topic_id: Uuid [6..],
        /// The error, or 0.
        error_code: i16,
        /// What went wrong, in words.
        error_message: Option<ByteString> [5..],
    }
}
