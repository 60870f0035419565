//! What DescribeConfigs and IncrementalAlterConfigs are about.

use broker_core::config::BrokerScope;
use broker_core::metadata::MetadataImage;
use broker_core::znode::ConfigEntity;
use kafka_wire::{ErrorCode, valid_topic_name};

use crate::config_store::ConfigStoreError;

/// The wire's code for topics.
const TOPIC: i8 = 2;
/// The wire's code for brokers.
const BROKER: i8 = 4;

/// Why a resource's configuration is neither told nor changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(super) struct ResourceError {
    pub(super) code: ErrorCode,
    pub(super) message: String,
}

impl ResourceError {
    pub(super) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

impl From<ConfigStoreError> for ResourceError {
    fn from(error: ConfigStoreError) -> Self {
        let code = match error {
            // The session is being replaced: the same request may succeed in a moment.
            ConfigStoreError::NoSession(_) => ErrorCode::RequestTimedOut,
            ConfigStoreError::Refused { .. } | ConfigStoreError::Decode(_) => {
                ErrorCode::UnknownServerError
            }
        };
        Self::new(code, error.to_string())
    }
}

/// Whose configuration a client names. Topics must exist; of brokers, each knows itself and the default.
pub(super) fn entity(
    resource_type: i8,
    name: &str,
    broker_id: i32,
    image: &MetadataImage,
) -> Result<ConfigEntity, ResourceError> {
    match resource_type {
        TOPIC => {
            valid_topic_name(name).map_err(|error| {
                ResourceError::new(ErrorCode::InvalidTopicException, error.to_string())
            })?;
            match image.topic(name) {
                Some(_) => Ok(ConfigEntity::Topic(name.to_owned())),
                None => {
                    let message = format!("The topic '{name}' does not exist.");
                    Err(ResourceError::new(
                        ErrorCode::UnknownTopicOrPartition,
                        message,
                    ))
                }
            }
        }
        BROKER if name.is_empty() => Ok(ConfigEntity::DefaultBroker),
        BROKER => match name.parse() {
            Ok(id) if id == broker_id => Ok(ConfigEntity::Broker(id)),
            Ok(id) => {
                let message = format!(
                    "Unexpected broker id, expected {broker_id} or empty string, but received {id}"
                );
                Err(ResourceError::new(ErrorCode::InvalidRequest, message))
            }
            Err(_) => {
                let message = format!("Broker id must be an integer, but it is: {name}");
                Err(ResourceError::new(ErrorCode::InvalidRequest, message))
            }
        },
        other => {
            let message = format!("Resource type {other} has no configurations here.");
            Err(ResourceError::new(ErrorCode::InvalidRequest, message))
        }
    }
}

/// Whom an entity's dynamic configuration is for; None for topics.
pub(super) fn broker_scope(entity: &ConfigEntity) -> Option<BrokerScope> {
    match entity {
        ConfigEntity::Topic(_) => None,
        ConfigEntity::Broker(_) => Some(BrokerScope::Broker),
        ConfigEntity::DefaultBroker => Some(BrokerScope::Default),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_are_topics_that_exist_this_broker_and_the_default() {
        let image = MetadataImage::new("cluster".into());
        let code = |resource_type, name| {
            entity(resource_type, name, 1, &image).map_err(|error| error.code)
        };
        assert_eq!(
            code(TOPIC, "ghost"),
            Err(ErrorCode::UnknownTopicOrPartition)
        );
        assert_eq!(code(TOPIC, "../etc"), Err(ErrorCode::InvalidTopicException));
        assert_eq!(code(BROKER, ""), Ok(ConfigEntity::DefaultBroker));
        assert_eq!(code(BROKER, "1"), Ok(ConfigEntity::Broker(1)));
        assert_eq!(code(BROKER, "2"), Err(ErrorCode::InvalidRequest));
        assert_eq!(code(BROKER, "x"), Err(ErrorCode::InvalidRequest));
        assert_eq!(code(8, "1"), Err(ErrorCode::InvalidRequest));
    }
}
