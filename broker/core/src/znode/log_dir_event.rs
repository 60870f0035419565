//! `/log_dir_event_notification`: brokers that lost a log directory say so to the controller, which removes what it has read.

use serde::Deserialize;
use serde_json::json;

use super::{DecodeError, from_json, to_json};

/// Where a node for each such event stands.
pub const LOG_DIR_EVENTS: &str = "/log_dir_event_notification";
/// What the path of each begins with; coord appends a number.
pub const LOG_DIR_EVENT_PREFIX: &str = "/log_dir_event_notification/log_dir_event_";

/// The kind of event "a log directory failed", the only one that there is.
const FAILURE: i32 = 1;

/// The path of an event by its name.
pub fn log_dir_event_path(name: &str) -> String {
    format!("{LOG_DIR_EVENTS}/{name}")
}

/// A log directory of a broker failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct LogDirEvent {
    /// Whose.
    #[serde(rename = "broker")]
    pub broker_id: i32,
}

impl LogDirEvent {
    /// Writes the node's value.
    pub fn encode(self) -> Vec<u8> {
        to_json(&json!({ "version": 1, "broker": self.broker_id, "event": FAILURE }))
    }

    /// Reads the value of the node at `path`.
    pub fn decode(path: &str, data: &[u8]) -> Result<Self, DecodeError> {
        from_json(path, data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_written_as_apache_kafka_reads_it_and_read_back() {
        let event = LogDirEvent { broker_id: 7 };
        let value: serde_json::Value = serde_json::from_slice(&event.encode()).unwrap();
        assert_eq!(value, json!({ "version": 1, "broker": 7, "event": 1 }));
        assert_eq!(LogDirEvent::decode("/x", &event.encode()), Ok(event));
        for rubbish in ["", "{}", r#"{"broker":"x"}"#, "[]"] {
            assert!(
                LogDirEvent::decode("/x", rubbish.as_bytes()).is_err(),
                "{rubbish}"
            );
        }
    }
}
