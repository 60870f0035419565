//! ApiVersions (18): what does this broker speak? The first request on most connections.

use crate::ByteString;
use crate::schema::schema;

schema! {
    request ApiVersionsRequest => ApiVersionsResponse, key ApiVersions, versions 0..=4, flexible 3..;

    /// Asks for the keys and versions that the broker serves.
    struct ApiVersionsRequest {
        /// Which client library this is (KIP-511).
        client_software_name: ByteString [3.., ignorable],
        /// The library's version.
        client_software_version: ByteString [3.., ignorable],
    }
}

schema! {
    response ApiVersionsResponse, versions 0..=4, flexible 3..;

    /// What the broker serves. To a request of a version that it does not know, it answers in version 0 with
    /// UNSUPPORTED_VERSION and its own range for this API alone.
    struct ApiVersionsResponse {
        /// The error of the request, or 0.
        error_code: i16,
        /// A range of versions per API.
        api_keys: Vec<ApiVersion>,
        /// How long the request was held back by a quota, in milliseconds.
        throttle_time_ms: i32 [1..],
        /// Features that the broker can have enabled (KIP-584). Up to version 3 none may start at version 0
        /// (KAFKA-17011).
        supported_features: Vec<SupportedFeatureKey> [3.., tag 0],
        /// The epoch of the finalized features; -1 if there are none.
        finalized_features_epoch: i64 [3.., tag 1] = -1,
        /// Features enabled in the whole cluster.
        finalized_features: Vec<FinalizedFeatureKey> [3.., tag 2],
        /// Whether a KRaft controller is set up to migrate from ZooKeeper.
        zk_migration_ready: bool [3.., tag 3],
    }

    /// The versions of one API.
    struct ApiVersion {
        /// The API's number.
        api_key: i16,
        /// The lowest version served.
        min_version: i16,
        /// The highest version served.
        max_version: i16,
    }

    /// A feature that the broker supports.
    struct SupportedFeatureKey {
        /// The feature's name.
        name: ByteString [3..],
        /// The lowest level supported.
        min_version: i16 [3..],
        /// The highest level supported.
        max_version: i16 [3..],
    }

    /// A feature that is enabled in the cluster.
    struct FinalizedFeatureKey {
        /// The feature's name.
        name: ByteString [3..],
        /// The highest level enabled.
        max_version_level: i16 [3..],
        /// The lowest level enabled.
        min_version_level: i16 [3..],
    }
}
