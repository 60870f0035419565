//! The Kafka protocol: frames, headers, messages, record batches; pure and bounded.
//!
//! **What flows through.** A server takes one frame (without its size) as [`bytes::Bytes`], reads a [`RequestHeader`]
//! and then the request itself from one [`Reader`]; strings, bytes and [`Records`] come out as slices of the frame.
//! It answers with [`encode_response`], whose pieces leave gaps for the [`Records::Deferred`] that it sends from
//! files. A client writes [`encode_request`] and reads [`decode_response`]. What is inside of `Records` is
//! [`record_batch`]'s, how that is compressed [`compression`]'s, and what clients before Kafka 0.11 send instead
//! [`message_set`]'s.
//!
//! **How messages are made.** One file per API, [`produce`] to [`describe_cluster`], holds its two messages as schemas
//! that read like Kafka's own; a macro (`schema.rs`) makes the structs, their defaults, and both directions for all
//! versions that Kafka 3.9 serves (Fetch from 4). [`ApiKey`] knows the keys and headers of all other APIs, too, and
//! [`ErrorCode`] all errors.
//!
//! **What must never be here.** A socket, a file, a clock, a task: this crate only turns bytes into values and back.
//! An allocation by a number from a frame that the frame's own size does not bear out: decoding takes at most 16
//! bytes for each byte of the frame, and 16 KiB. A panic on bytes from outside. A copy of records.
//!
//! The crate `kafka-protocol` is the oracle of the tests, and of nothing else.

mod api_key;
pub mod compression;
mod error_code;
mod frame;
mod header;
pub mod message_set;
mod messages;
mod reader;
pub mod record_batch;
mod records;
mod schema;
mod topic;
mod uuid;
mod varint;
mod wire;
mod writer;

pub use bytestring::ByteString;

pub use api_key::{ApiKey, UnknownApiKey};
pub use error_code::ErrorCode;
pub use frame::{decode_response, encode_request, encode_response};
pub use header::{RequestHeader, ResponseHeader};
pub use messages::*;
pub use reader::{DecodeError, Reader};
pub use records::Records;
pub use schema::{Message, Request};
pub use topic::{MAX_TOPIC_NAME_LENGTH, TopicNameError, TopicPartition, valid_topic_name};
pub use uuid::{ParseUuidError, Uuid};
pub use writer::{EncodeError, Writer};

#[cfg(test)]
mod oracle;
#[cfg(test)]
mod sample;
