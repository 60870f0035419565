//! What can be wrong with a configuration.

use std::fmt;

/// A configuration that can not be used. The message is one line: the key, the value, what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A value that its key does not take.
    #[error("Invalid value {value} for configuration {key}: must be {allowed}")]
    InvalidValue {
        /// The key.
        key: String,
        /// The value as it was given; `[hidden]` for passwords.
        value: String,
        /// What is allowed, in words.
        allowed: String,
    },
    /// A key that has no default and was not given.
    #[error("Missing required configuration \"{key}\", which has no default value.")]
    Missing {
        /// The key.
        key: &'static str,
    },
    /// Two values that contradict each other.
    #[error(
        "Configurations {key}={value} and {other_key}={other_value} contradict each other: {rule}"
    )]
    Conflict {
        /// The first key.
        key: &'static str,
        /// Its value.
        value: String,
        /// The second key.
        other_key: &'static str,
        /// Its value.
        other_value: String,
        /// What must hold between them.
        rule: &'static str,
    },
    /// A topic's configuration that does not exist.
    #[error("Unknown topic config name: {key}")]
    UnknownTopicKey {
        /// The key.
        key: String,
    },
    /// Keys that only a broker's file may hold.
    #[error("Cannot update these configs dynamically: Set({})", .keys.join(", "))]
    ReadOnly {
        /// The keys, sorted.
        keys: Vec<String>,
    },
    /// Keys that make sense for one broker only, given for all brokers.
    #[error("Cannot update these configs at default cluster level, broker id must be specified: Set({})", .keys.join(", "))]
    PerBrokerOnly {
        /// The keys, sorted.
        keys: Vec<String>,
    },
    /// A pool of threads that would change by more than a factor of two at once (KIP-226).
    #[error(
        "Dynamic thread count update validation failed: {key}={value} must be from {low} to {high}, half to twice the current {current}"
    )]
    ThreadCount {
        /// The key.
        key: String,
        /// The value asked for.
        value: i32,
        /// The value in force.
        current: i32,
        /// The smallest that is allowed now.
        low: i32,
        /// The largest that is allowed now.
        high: i32,
    },
}

/// Something in a configuration that does no harm but that its owner should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Warning {
    /// A key that nothing reads.
    UnknownKey(String),
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Warning::UnknownKey(key) => {
                write!(f, "Configuration {key} is not known and has no effect")
            }
        }
    }
}
