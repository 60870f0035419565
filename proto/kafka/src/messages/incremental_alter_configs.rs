//! IncrementalAlterConfigs (44): changes single keys (KIP-339).

use crate::ByteString;
use crate::schema::schema;

schema! {
    request IncrementalAlterConfigsRequest => IncrementalAlterConfigsResponse,
    key IncrementalAlterConfigs, versions 0..=1, flexible 1..;

    /// Asks for configurations to be changed.
    struct IncrementalAlterConfigsRequest {
        /// The changes, by resource.
        resources: Vec<AlterConfigsResource>,
        /// Check only, change nothing.
        validate_only: bool,
    }

    /// The changes of one resource.
    struct AlterConfigsResource {
        /// Its kind: 2 topic, 4 broker, 8 broker logger, 16 client metrics.
        resource_type: i8,
        /// Its name: a topic, a broker's id, or empty for all brokers' defaults.
        resource_name: ByteString,
        /// The changes.
        configs: Vec<AlterableConfig>,
    }

    /// One change.
    struct AlterableConfig {
        /// The key.
        name: ByteString,
        /// 0 set, 1 delete, 2 append to a list, 3 subtract from a list.
        config_operation: i8,
        /// The value to set, append or subtract.
        value: Option<ByteString>,
    }
}

schema! {
    response IncrementalAlterConfigsResponse, versions 0..=1, flexible 1..;

    /// The outcome, by resource.
    struct IncrementalAlterConfigsResponse {
        /// How long the request was held back by a quota, in milliseconds.
        throttle_time_ms: i32,
        /// One result for each resource.
        responses: Vec<AlterConfigsResourceResponse>,
    }

    /// The outcome for one resource.
    struct AlterConfigsResourceResponse {
        /// The error, or 0.
        error_code: i16,
        /// What went wrong, in words.
        error_message: Option<ByteString>,
        /// The resource's kind.
        resource_type: i8,
        /// The resource's name.
        resource_name: ByteString,
    }
}
