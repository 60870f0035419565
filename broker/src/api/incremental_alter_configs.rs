//! IncrementalAlterConfigs (44): sets, deletes, appends to and subtracts from single keys (KIP-339).
//!
//! Any broker changes coord's node and writes the notification. Of two who change the same key the
//! last wins; those of different keys both hold.

use std::collections::BTreeSet;

use broker_core::config::{
    BrokerConfig, ConfigError, Properties, ValueType, broker_key, topic_key,
    validate_broker_overrides, validate_topic_overrides,
};
use broker_core::metadata::MetadataImage;
use broker_core::znode::ConfigEntity;
use kafka_wire::ErrorCode;
use kafka_wire::incremental_alter_configs::{
    AlterConfigsResource, AlterConfigsResourceResponse, AlterableConfig,
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};

use super::RequestContext;
use super::config_resource::{ResourceError, broker_scope, entity};
use crate::config_store::ConfigStore;

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

/// Changes each resource by itself: one that is refused does not keep others from being changed.
pub(crate) async fn handle(
    context: &RequestContext,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let IncrementalAlterConfigsRequest {
        resources,
        validate_only,
    } = request;
    let mut responses = Vec::with_capacity(resources.len());
    for resource in resources {
        let altered = alter(
            &context.services.configs,
            &context.services.image(),
            &resource,
            validate_only,
        )
        .await;
        let (error_code, error_message) = match altered {
            Ok(()) => (0, None),
            Err(error) => (error.code as i16, Some(error.message.into())),
        };
        let AlterConfigsResource {
            resource_type,
            resource_name,
            ..
        } = resource;
        responses.push(AlterConfigsResourceResponse {
            error_code,
            error_message,
            resource_type,
            resource_name,
        });
    }
    IncrementalAlterConfigsResponse {
        responses,
        ..IncrementalAlterConfigsResponse::default()
    }
}

async fn alter(
    configs: &ConfigStore,
    image: &MetadataImage,
    resource: &AlterConfigsResource,
    validate_only: bool,
) -> Result<(), ResourceError> {
    let entity = entity(
        resource.resource_type,
        &resource.resource_name,
        configs.broker_id(),
        image,
    )?;
    let broker = configs.broker_config();
    let change = |present| changed(&broker, &entity, present, &resource.configs);
    if validate_only {
        return change(configs.read(&entity).await?.config).map(drop);
    }
    configs.alter(&entity, change).await
}

/// The overrides after the changes, found valid as a whole.
fn changed(
    broker: &BrokerConfig,
    entity: &ConfigEntity,
    mut overrides: Properties,
    changes: &[AlterableConfig],
) -> Result<Properties, ResourceError> {
    let refused = |message: String| ResourceError::new(ErrorCode::InvalidRequest, message);
    let mut names = BTreeSet::new();
    for change in changes {
        let name: &str = &change.name;
        if !names.insert(name) {
            return Err(refused(format!(
                "Error due to duplicate config keys : {name}"
            )));
        }
        let value = match (change.config_operation, &change.value) {
            (DELETE, _) => {
                overrides.remove(name);
                continue;
            }
            (SET | APPEND | SUBTRACT, None) => {
                return Err(refused(format!("Null value not supported for : {name}")));
            }
            (SET, Some(value)) => value.to_string(),
            (operation @ (APPEND | SUBTRACT), Some(value)) => {
                let present = present_list(broker, entity, &overrides, name).ok_or_else(|| {
                    let word = if operation == APPEND {
                        "append"
                    } else {
                        "subtract"
                    };
                    refused(format!(
                        "Config value {word} is not allowed for config key: {name}"
                    ))
                })?;
                combine(&present, value, operation == APPEND)
            }
            (other, _) => {
                return Err(refused(format!(
                    "Unknown operation {other} for config key: {name}"
                )));
            }
        };
        overrides.insert(name.to_owned(), value);
    }
    let invalid =
        |error: ConfigError| ResourceError::new(ErrorCode::InvalidConfig, error.to_string());
    match broker_scope(entity) {
        None => validate_topic_overrides(broker, &overrides).map_err(invalid)?,
        Some(scope) => {
            validate_broker_overrides(broker, scope, names, &overrides).map_err(invalid)?
        }
    }
    Ok(overrides)
}

/// What a list holds now, by override or by default; None where the key is no list.
fn present_list(
    broker: &BrokerConfig,
    entity: &ConfigEntity,
    overrides: &Properties,
    name: &str,
) -> Option<String> {
    let (value_type, inherited) = match entity {
        ConfigEntity::Topic(_) => {
            let key = topic_key(name)?;
            let of_broker = key
                .synonyms
                .iter()
                .find_map(|synonym| broker.layers.value(synonym.name));
            (key.key.value_type, of_broker.or(key.key.default))
        }
        ConfigEntity::Broker(_) | ConfigEntity::DefaultBroker => {
            (broker_key(name)?.value_type, broker.layers.value(name))
        }
    };
    let value = overrides
        .get(name)
        .map(String::as_str)
        .or(inherited)
        .unwrap_or_default();
    (value_type == ValueType::List).then(|| value.to_owned())
}

fn combine(present: &str, change: &str, is_append: bool) -> String {
    let items = |text: &str| -> Vec<String> {
        text.split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
            .map(str::to_owned)
            .collect()
    };
    let (mut list, change) = (items(present), items(change));
    if is_append {
        for item in change {
            if !list.contains(&item) {
                list.push(item);
            }
        }
    } else {
        list.retain(|item| !change.contains(item));
    }
    list.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broker() -> BrokerConfig {
        let properties = [("zookeeper.connect".to_owned(), "localhost:2181".to_owned())];
        BrokerConfig::from_properties(&properties.into()).unwrap().0
    }

    fn change(name: &str, config_operation: i8, value: Option<&str>) -> AlterableConfig {
        AlterableConfig {
            name: name.into(),
            config_operation,
            value: value.map(Into::into),
        }
    }

    fn apply(present: &[(&str, &str)], changes: &[AlterableConfig]) -> Result<Properties, String> {
        let present = present
            .iter()
            .map(|(key, value)| (key.to_string(), value.to_string()))
            .collect();
        changed(
            &broker(),
            &ConfigEntity::Topic("t".to_owned()),
            present,
            changes,
        )
        .map_err(|error| error.message)
    }

    #[test]
    fn keys_are_set_deleted_and_lists_changed() {
        let present = [("segment.bytes", "10240"), ("retention.ms", "1000")];
        let changes = [
            change("segment.bytes", DELETE, None),
            change("unclean.leader.election.enable", SET, Some("true")),
            change("cleanup.policy", APPEND, Some("compact")),
        ];
        let expected = [
            ("cleanup.policy", "delete,compact"),
            ("retention.ms", "1000"),
            ("unclean.leader.election.enable", "true"),
        ];
        let expected: Properties = expected
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into();
        assert_eq!(apply(&present, &changes).unwrap(), expected);
        let both = [("cleanup.policy", "delete,compact")];
        let less = apply(&both, &[change("cleanup.policy", SUBTRACT, Some("delete"))]).unwrap();
        assert_eq!(less["cleanup.policy"], "compact");
    }

    #[test]
    fn what_was_changed_already_may_be_changed_again() {
        let present = [("cleanup.policy", "delete"), ("retention.ms", "1000")];
        let changes = [
            change("retention.ms", DELETE, None),
            change("segment.bytes", SET, Some("10240")),
            change("cleanup.policy", APPEND, Some("compact")),
        ];
        let once = apply(&present, &changes).unwrap();
        let texts: Vec<_> = once.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(apply(&texts, &changes).unwrap(), once);
    }

    #[test]
    fn what_cannot_be_is_refused_and_named() {
        let refused = |changes: &[AlterableConfig]| apply(&[], changes).unwrap_err();
        assert_eq!(
            refused(&[change("x.y", SET, Some("1"))]),
            "Unknown topic config name: x.y"
        );
        assert_eq!(
            refused(&[change("retention.ms", APPEND, Some("1"))]),
            "Config value append is not allowed for config key: retention.ms"
        );
        assert!(refused(&[change("retention.ms", SET, None)]).contains("retention.ms"));
        assert!(refused(&[change("retention.ms", SET, Some("x"))]).contains("retention.ms"));
        assert!(refused(&[change("retention.ms", 9, Some("1"))]).contains("operation 9"));
        let twice = [
            change("retention.ms", SET, Some("1")),
            change("retention.ms", DELETE, None),
        ];
        assert!(refused(&twice).contains("duplicate"));
    }
}
