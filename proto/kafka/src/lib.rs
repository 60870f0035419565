//! The Kafka protocol: frames, headers, messages, record batches; pure and bounded.

mod api_key;
pub mod compression;
mod error_code;
mod frame;
mod header;
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
