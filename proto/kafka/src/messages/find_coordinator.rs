//! FindCoordinator (10): which broker coordinates a group or a transaction?

use crate::ByteString;
use crate::schema::schema;

schema! {
    request FindCoordinatorRequest => FindCoordinatorResponse, key FindCoordinator, versions 0..=6, flexible 3..;

    /// Asks for coordinators.
    struct FindCoordinatorRequest {
        /// The group or transactional id, up to version 3.
        key: ByteString [0..=3],
        /// 0 consumer group, 1 transaction.
        key_type: i8 [1..],
        /// The group or transactional ids, from version 4 (KIP-699).
        coordinator_keys: Vec<ByteString> [4..],
    }
}

schema! {
    response FindCoordinatorResponse, versions 0..=6, flexible 3..;

    /// The coordinators. Up to version 3 there is one, told by the fields before `coordinators`.
    struct FindCoordinatorResponse {
        /// How long the request was held back by a quota, in milliseconds.
        throttle_time_ms: i32 [1..],
        /// The error, or 0.
        error_code: i16 [0..=3],
        /// What went wrong, in words.
        error_message: Option<ByteString> [1..=3],
        /// The coordinator's broker id.
        node_id: i32 [0..=3],
        /// Its host name.
        host: ByteString [0..=3],
        /// Its port.
        port: i32 [0..=3],
        /// One result for each key.
        coordinators: Vec<Coordinator> [4..],
    }

    /// The coordinator of one key.
    struct Coordinator {
        /// The group or transactional id.
        key: ByteString [4..],
        /// The coordinator's broker id.
        node_id: i32 [4..],
        /// Its host name.
        host: ByteString [4..],
        /// Its port.
        port: i32 [4..],
        /// The error, or 0.
        error_code: i16 [4..],
        /// What went wrong, in words.
        error_message: Option<ByteString> [4..],
    }
}
