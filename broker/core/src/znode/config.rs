//! The nodes of dynamic configuration: `/config/<type>/<name>` and the notifications below
//! `/config/changes`.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde_json::json;

use super::{DecodeError, from_json, to_json};

/// The parent of the notifications.
pub const CONFIG_CHANGES: &str = "/config/changes";
/// What a notification's path begins with; coord appends ten digits.
pub const CONFIG_CHANGE_PREFIX: &str = "/config/changes/config_change_";
/// The name of the entity whose configs hold for all entities of a type that have none themselves.
pub const DEFAULT_ENTITY: &str = "<default>";

/// Whose configuration it is. Displayed as in a notification: `topics/foo`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConfigEntity {
    /// A topic.
    Topic(String),
    /// A broker.
    Broker(i32),
    /// All brokers that do not say otherwise.
    DefaultBroker,
}

impl ConfigEntity {
    /// `/config/<type>/<name>`.
    pub fn path(&self) -> String {
        format!("/config/{self}")
    }

    /// Reads what [`Display`](fmt::Display) writes; None for the types that brokers do not follow yet.
    pub fn parse(entity_path: &str) -> Option<Self> {
        match entity_path.split_once('/')? {
            ("topics", name) => Some(Self::Topic(name.to_owned())),
            ("brokers", DEFAULT_ENTITY) => Some(Self::DefaultBroker),
            ("brokers", id) => id.parse().ok().map(Self::Broker),
            _ => None,
        }
    }
}

impl fmt::Display for ConfigEntity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Topic(name) => write!(f, "topics/{name}"),
            Self::Broker(id) => write!(f, "brokers/{id}"),
            Self::DefaultBroker => write!(f, "brokers/{DEFAULT_ENTITY}"),
        }
    }
}

/// The value of `/config/<type>/<name>`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct EntityConfig {
    /// Overrides, by key.
    #[serde(default)]
    pub config: BTreeMap<String, String>,
}

impl EntityConfig {
    /// Its JSON, version 1.
    pub fn encode(&self) -> Vec<u8> {
        to_json(&json!({ "version": 1, "config": self.config }))
    }

    /// Reads its JSON; an empty node is no overrides.
    pub fn decode(entity: &ConfigEntity, data: &[u8]) -> Result<Self, DecodeError> {
        if data.is_empty() {
            return Ok(Self::default());
        }
        from_json(&entity.path(), data)
    }
}

/// The value of `/config/changes/config_change_N`: whose configuration changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigChange {
    /// As [`ConfigEntity`] displays itself.
    pub entity_path: String,
}

#[derive(Deserialize)]
struct RawChange {
    entity_path: Option<String>,
    entity_type: Option<String>,
    entity_name: Option<String>,
}

impl ConfigChange {
    /// Its JSON, version 2.
    pub fn encode(&self) -> Vec<u8> {
        to_json(&json!({ "version": 2, "entity_path": self.entity_path }))
    }

    /// Reads versions 1 and 2.
    pub fn decode(path: &str, data: &[u8]) -> Result<Self, DecodeError> {
        let raw: RawChange = from_json(path, data)?;
        match (raw.entity_path, raw.entity_type, raw.entity_name) {
            (Some(entity_path), _, _) => Ok(Self { entity_path }),
            (None, Some(kind), Some(name)) => Ok(Self {
                entity_path: format!("{kind}/{name}"),
            }),
            _ => Err(DecodeError::new(path, "no entity is named")),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn config_round_trips(config in prop::collection::btree_map("[a-z.]{1,20}", ".{0,20}", 0..6)) {
            let node = EntityConfig { config };
            prop_assert_eq!(EntityConfig::decode(&ConfigEntity::DefaultBroker, &node.encode()), Ok(node));
        }

        #[test]
        fn entities_round_trip(topic in "[a-zA-Z0-9._-]{1,30}", broker in 0i32..) {
            for entity in [ConfigEntity::Topic(topic), ConfigEntity::Broker(broker), ConfigEntity::DefaultBroker] {
                prop_assert_eq!(ConfigEntity::parse(&entity.to_string()), Some(entity));
            }
        }

        #[test]
        fn changes_round_trip(entity_path in "[a-z]{1,8}/[a-zA-Z0-9._-]{1,30}") {
            let node = ConfigChange { entity_path };
            prop_assert_eq!(ConfigChange::decode("/c", &node.encode()), Ok(node));
        }

        #[test]
        fn any_bytes_are_an_error_not_a_panic(data: Vec<u8>) {
            let _ = EntityConfig::decode(&ConfigEntity::Broker(1), &data);
            let _ = ConfigChange::decode("/c", &data);
        }
    }

    #[test]
    fn a_notification_of_version_1_is_read() {
        let change = ConfigChange::decode(
            "/c",
            br#"{"version":1,"entity_type":"topics","entity_name":"t"}"#,
        );
        assert_eq!(
            change,
            Ok(ConfigChange {
                entity_path: "topics/t".to_owned()
            })
        );
    }
}
