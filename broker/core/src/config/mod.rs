//! Configuration: what every key of a broker and of a topic is called, what it may hold and what it means here.
//!
//! Four layers lie over each other, and the uppermost that has a value wins: dynamic for one broker, dynamic for all
//! brokers, the broker's own file, the default. Topics add their overrides on top. [`definitions`] is the one table of
//! keys; [`BrokerConfig`] and [`TopicConfig`] are the typed results; [`describe_broker`] and [`describe_topic`] say
//! where each value came from; [`validate_topic_overrides`] and [`validate_broker_overrides`] judge a change before it
//! is stored. Nothing here reads a file or a clock.

mod broker;
pub mod definitions;
mod describe;
mod error;
#[cfg(test)]
mod fixtures;
mod key;
mod listener;
mod topic;
mod typed;
mod validate;
mod value;

pub use broker::{BrokerConfig, Layers, Properties};
pub use describe::{
    ConfigEntry, ConfigSource, ConfigSynonym, describe_broker, describe_broker_default,
    describe_topic,
};
pub use error::{ConfigError, Warning};
pub use key::{
    Allowed, Importance, Key, Synonym, TopicKey, Unit, Update, ValueType, broker_key, topic_key,
};
pub use listener::{CONTROL, Listener, PLAINTEXT};
pub use topic::{CleanupPolicy, CompressionType, TimestampType, TopicConfig};
pub use validate::{BrokerScope, validate_broker_overrides, validate_topic_overrides};
pub use value::Value;
