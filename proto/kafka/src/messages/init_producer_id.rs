//! InitProducerId (22): the id and epoch of an idempotent or transactional producer.

use crate::ByteString;
use crate::schema::schema;

schema! {
    request InitProducerIdRequest => InitProducerIdResponse, key InitProducerId, versions 0..=5, flexible 2..;

    /// Asks for a producer id.
    struct InitProducerIdRequest {
        /// The transactional id; null for a producer that is only idempotent.
        transactional_id: Option<ByteString>,
        /// After so long without a word the coordinator aborts the transaction, in milliseconds.
        transaction_timeout_ms: i32,
        /// The id that the producer has, if it asks for a new epoch after an error (KIP-360); else -1.
        producer_id: i64 [3..] = -1,
        /// The epoch that the producer has; else -1.
        producer_epoch: i16 [3..] = -1,
    }
}

schema! {
    response InitProducerIdResponse, versions 0..=5, flexible 2..;

    /// A producer id and its epoch.
    struct InitProducerIdResponse {
        /// How long the request was held back by a quota, in milliseconds.
        throttle_time_ms: i32,
        /// The error, or 0.
        error_code: i16,
        /// The producer id; -1 with an error.
        producer_id: i64 = -1,
        /// The producer's epoch.
        producer_epoch: i16,
    }
}
