//! DescribeConfigs (32).

use crate::ByteString;
use crate::schema::schema;

schema! {
    request DescribeConfigsRequest => DescribeConfigsResponse, key DescribeConfigs, versions 0..=4, flexible 4..;

    /// Asks for configurations.
    struct DescribeConfigsRequest {
        /// The topics, brokers and so on whose configurations are asked for.
        resources: Vec<DescribeConfigsResource>,
        /// Whether to tell where else each value could come from.
        include_synonyms: bool [1..],
        /// Whether to tell what each key means.
        include_documentation: bool [3..],
    }

    /// One resource.
    struct DescribeConfigsResource {
        /// Its kind: 2 topic, 4 broker, 8 broker logger, 16 client metrics.
        resource_type: i8,
        /// Its name: a topic, a broker's id, or empty for all brokers' defaults.
        resource_name: ByteString,
        /// The keys to tell; null tells all.
        configuration_keys: Option<Vec<ByteString>>,
    }
}

schema! {
    response DescribeConfigsResponse, versions 0..=4, flexible 4..;

    /// The configurations, by resource.
    struct DescribeConfigsResponse {
        /// How long the request was held back by a quota, in milliseconds.
        throttle_time_ms: i32,
        /// One result for each resource.
        results: Vec<DescribeConfigsResult>,
    }

    /// The configurations of one resource.
    struct DescribeConfigsResult {
        /// The error, or 0.
        error_code: i16,
        /// What went wrong, in words.
        error_message: Option<ByteString>,
        /// The resource's kind.
        resource_type: i8,
        /// The resource's name.
        resource_name: ByteString,
        /// Its configurations.
        configs: Vec<DescribeConfigsResourceResult>,
    }

    /// One configuration.
    struct DescribeConfigsResourceResult {
        /// The key.
        name: ByteString,
        /// The value; null if it is sensitive.
        value: Option<ByteString>,
        /// Whether it cannot be changed.
        read_only: bool,
        /// Whether nobody set it. Later versions tell the source instead.
        is_default: bool [0],
        /// Where the value comes from: 1 topic, 2 this broker, 3 all brokers, 4 the broker's file, 5 default,
        /// 6 broker logger, 7 client metrics; -1 unknown.
        config_source: i8 [1..] = -1,
        /// Whether the value is kept secret.
        is_sensitive: bool,
        /// All values that the key could take, the first one wins.
        synonyms: Vec<DescribeConfigsSynonym> [1..],
        /// The value's type: 1 boolean, 2 string, 3 int, 4 short, 5 long, 6 double, 7 list, 8 class, 9 password;
        /// 0 unknown.
        config_type: i8 [3..],
        /// What the key means.
        documentation: Option<ByteString> [3..],
    }

    /// A key whose value stands in where a more specific one is not set.
    struct DescribeConfigsSynonym {
        /// The key.
        name: ByteString [1..],
        /// Its value; null if it is sensitive.
        value: Option<ByteString> [1..],
        /// Where the value comes from, as in [`DescribeConfigsResourceResult::config_source`].
        source: i8 [1..],
    }
}
