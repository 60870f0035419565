//! What the brokers keep in coord: one type per path, with the path and the JSON in one place.
//!
//! Paths and JSON are Apache Kafka's, so that a tree written by either is read by the other: what
//! is written is the newest version that Kafka 3.9 writes, what is read may be any older one, and
//! fields of a newer one are passed over. A value that cannot be read is a [`DecodeError`] that
//! names the path; nothing here panics on it.

mod broker;
mod config;
mod log_dir_event;
mod producer_id;
mod topic;

pub use broker::{
    BROKER_IDS, BrokerEndpoint, BrokerRegistration, CLUSTER_ID, CONTROLLER, CONTROLLER_EPOCH,
    ClusterId, ControllerEpoch, ControllerRegistration, SEQUENCE_ID, broker_id_path,
};
pub use config::{
    CONFIG_CHANGE_PREFIX, CONFIG_CHANGES, ConfigChange, ConfigEntity, DEFAULT_ENTITY, EntityConfig,
};
pub use log_dir_event::{LOG_DIR_EVENT_PREFIX, LOG_DIR_EVENTS, LogDirEvent, log_dir_event_path};
pub use producer_id::{PRODUCER_ID_BLOCK, ProducerIdBlock, ProducerIdsExhausted};
pub use topic::{
    DELETE_TOPICS, PartitionReplicas, PartitionStateNode, TOPICS, TopicNode, delete_topic_path,
    partition_path, partition_state_path, partitions_path, topic_path,
};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

/// Persistent nodes that every broker creates at its start where they are missing, parents first.
pub const PERSISTENT_PATHS: [&str; 18] = [
    "/consumers",
    "/brokers",
    BROKER_IDS,
    TOPICS,
    SEQUENCE_ID,
    "/config",
    CONFIG_CHANGES,
    "/config/topics",
    "/config/clients",
    "/config/users",
    "/config/brokers",
    "/config/ips",
    "/admin",
    DELETE_TOPICS,
    "/isr_change_notification",
    PRODUCER_ID_BLOCK,
    LOG_DIR_EVENTS,
    "/cluster",
];

/// A znode whose value cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("coord's node {path} holds a value that cannot be read: {cause}")]
pub struct DecodeError {
    /// The znode.
    pub path: String,
    /// What is wrong with its value.
    pub cause: String,
}

impl DecodeError {
    fn new(path: &str, cause: impl ToString) -> Self {
        Self {
            path: path.to_owned(),
            cause: cause.to_string(),
        }
    }
}

fn from_json<T: DeserializeOwned>(path: &str, data: &[u8]) -> Result<T, DecodeError> {
    serde_json::from_slice(data).map_err(|error| DecodeError::new(path, error))
}

fn to_json(value: &serde_json::Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

/// Kafka writes some numbers as text (`"timestamp":"17"`); both are read.
fn number_or_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Number(i64),
        Text(String),
    }
    match Either::deserialize(deserializer)? {
        Either::Number(number) => Ok(number),
        Either::Text(text) => text.parse().map_err(serde::de::Error::custom),
    }
}
