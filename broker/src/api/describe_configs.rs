//! DescribeConfigs (32): every key of a topic or a broker, with where its value comes from.

use broker_core::config::{
    ConfigEntry, ConfigSource, describe_broker, describe_broker_default, describe_topic,
};
use broker_core::metadata::MetadataImage;
use broker_core::znode::ConfigEntity;
use kafka_wire::ErrorCode;
use kafka_wire::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult,
    DescribeConfigsResponse, DescribeConfigsResult, DescribeConfigsSynonym,
};

use super::RequestContext;
use super::config_resource::{ResourceError, entity};
use crate::config_store::ConfigStore;

/// Answers from what coord holds now, not from what this broker last heard.
pub(crate) async fn handle(
    context: &RequestContext,
    request: DescribeConfigsRequest,
) -> DescribeConfigsResponse {
    let DescribeConfigsRequest {
        resources,
        include_synonyms,
        include_documentation,
    } = request;
    let mut results = Vec::with_capacity(resources.len());
    for resource in resources {
        let described = describe(
            &context.services.configs,
            &context.services.image(),
            &resource,
        )
        .await;
        results.push(result(
            resource,
            described,
            include_synonyms,
            include_documentation,
        ));
    }
    DescribeConfigsResponse {
        results,
        ..DescribeConfigsResponse::default()
    }
}

async fn describe(
    configs: &ConfigStore,
    image: &MetadataImage,
    resource: &DescribeConfigsResource,
) -> Result<Vec<ConfigEntry>, ResourceError> {
    let entity = entity(
        resource.resource_type,
        &resource.resource_name,
        configs.broker_id(),
        image,
    )?;
    let dynamic = configs.read(&entity).await?.config;
    let broker = configs.broker_config();
    let invalid = |error: broker_core::config::ConfigError| {
        ResourceError::new(ErrorCode::InvalidConfig, error.to_string())
    };
    match entity {
        ConfigEntity::Topic(_) => describe_topic(&broker, &dynamic).map_err(invalid),
        ConfigEntity::Broker(_) => {
            let broker = broker
                .with_dynamic(&broker.layers.dynamic_default, &dynamic)
                .map_err(invalid)?;
            Ok(describe_broker(&broker))
        }
        ConfigEntity::DefaultBroker => {
            let broker = broker
                .with_dynamic(&dynamic, &broker.layers.dynamic_broker)
                .map_err(invalid)?;
            Ok(describe_broker_default(&broker))
        }
    }
}

fn result(
    resource: DescribeConfigsResource,
    described: Result<Vec<ConfigEntry>, ResourceError>,
    include_synonyms: bool,
    include_documentation: bool,
) -> DescribeConfigsResult {
    let DescribeConfigsResource {
        resource_type,
        resource_name,
        configuration_keys,
        ..
    } = resource;
    let result = DescribeConfigsResult {
        resource_type,
        resource_name,
        ..DescribeConfigsResult::default()
    };
    match described {
        Err(error) => DescribeConfigsResult {
            error_code: error.code as i16,
            error_message: Some(error.message.into()),
            ..result
        },
        Ok(entries) => {
            let is_wanted = |entry: &ConfigEntry| {
                configuration_keys
                    .as_ref()
                    .is_none_or(|keys| keys.iter().any(|key| **key == *entry.name))
            };
            let configs = entries
                .into_iter()
                .filter(is_wanted)
                .map(|entry| config(entry, include_synonyms, include_documentation))
                .collect();
            DescribeConfigsResult { configs, ..result }
        }
    }
}

fn config(
    entry: ConfigEntry,
    include_synonyms: bool,
    include_documentation: bool,
) -> DescribeConfigsResourceResult {
    let synonyms = if include_synonyms {
        entry.synonyms
    } else {
        Vec::new()
    };
    DescribeConfigsResourceResult {
        name: entry.name.into(),
        value: entry.value.map(Into::into),
        read_only: entry.read_only,
        is_default: entry.source == ConfigSource::Default,
        config_source: entry.source.code(),
        is_sensitive: entry.sensitive,
        synonyms: synonyms
            .into_iter()
            .map(|synonym| DescribeConfigsSynonym {
                name: synonym.name.into(),
                value: synonym.value.map(Into::into),
                source: synonym.source.code(),
            })
            .collect(),
        config_type: entry.value_type.map_or(0, |value_type| value_type.code()),
        documentation: entry.doc.filter(|_| include_documentation).map(Into::into),
    }
}
