//! `kafka-configs`: shows and changes the configurations of topics and brokers.

mod selection;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::future::Future;
use std::pin::Pin;
use std::process::ExitCode;

use kafka_wire::ByteString;
use kafka_wire::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult,
};
use kafka_wire::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};

use crate::client::{ClientConfig, Cluster, ClusterError};
use crate::options::{OptionSpec, Options, Tool, UsageError, flag, value};
use crate::terminal::{print, print_line};
use selection::{Entity, Selection, configs_to_add, selection};

/// The tool.
pub(crate) const TOOL: Tool = Tool {
    name: "configs",
    about: "This tool helps to manipulate and describe entity config for a topic or broker",
    options: OPTIONS,
    run,
};

const OPTIONS: &[OptionSpec] = &[
    value(
        "bootstrap-server",
        "server to connect to",
        "REQUIRED: the brokers to ask first: host:port, separated by commas.",
    ),
    value("command-config", "file", "A property file for the client."),
    flag("alter", "Change the configurations of the entity."),
    flag("describe", "Show the configurations of the entity."),
    flag(
        "all",
        "With --describe: all configurations, not only those that were changed at run time.",
    ),
    value(
        "entity-type",
        "type",
        "The type of the entity: topics or brokers.",
    ),
    value(
        "entity-name",
        "name",
        "The name of the topic, or the id of the broker.",
    ),
    flag("entity-default", "The default of all brokers."),
    value(
        "topic",
        "name",
        "The topic; short for --entity-type topics --entity-name.",
    ),
    value(
        "broker",
        "id",
        "The broker; short for --entity-type brokers --entity-name.",
    ),
    flag(
        "broker-defaults",
        "The default of all brokers; short for --entity-type brokers --entity-default.",
    ),
    value(
        "add-config",
        "k1=v1,k2=[v1,v2]",
        "Configurations to set. Brackets keep values with commas together.",
    ),
    value(
        "add-config-file",
        "file",
        "A property file of configurations to set.",
    ),
    value("delete-config", "k1,k2", "Configurations to remove."),
    flag("force", "Taken for compatibility; nothing is asked here."),
];

/// The operations on a key, as they are called on the wire (KIP-339).
const SET: i8 = 0;
const DELETE: i8 = 1;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
enum ConfigsError {
    /// Said as it is.
    #[error("{0}")]
    Invalid(String),
    /// The cluster said no, or nothing; said with the command's arguments.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
}

fn run(options: Options) -> Pin<Box<dyn Future<Output = ExitCode>>> {
    Box::pin(async move {
        if ["alter", "describe"]
            .iter()
            .filter(|action| options.has(action))
            .count()
            != 1
        {
            let message = "Command must include exactly one action: --describe, --alter";
            return options.usage(&UsageError(message.to_owned()));
        }
        if let Err(error) = options.exclude("describe", &["add-config", "delete-config"]) {
            return options.usage(&error);
        }
        let Err(error) = execute(&options).await else {
            return ExitCode::SUCCESS;
        };
        match &error {
            ConfigsError::Invalid(_) => eprintln!("{error}"),
            ConfigsError::Cluster(_) => {
                let arguments: Vec<String> = std::env::args().collect();
                let first = arguments
                    .iter()
                    .position(|argument| argument.starts_with("--"))
                    .unwrap_or(1);
                let arguments = arguments.get(first..).unwrap_or_default().join(" ");
                eprintln!("Error while executing config command with args '{arguments}'\n{error}");
            }
        }
        ExitCode::FAILURE
    })
}

async fn execute(options: &Options) -> Result<(), ConfigsError> {
    let invalid = |error: UsageError| ConfigsError::Invalid(error.0);
    let selection = selection(options).map_err(ConfigsError::Invalid)?;
    let Some(servers) = options.value("bootstrap-server").map_err(invalid)? else {
        return Err(ConfigsError::Invalid(
            "--bootstrap-server must be specified".to_owned(),
        ));
    };
    let properties = options.properties("command-config").map_err(invalid)?;
    let config = ClientConfig::new(servers, "adminclient-1", &properties).map_err(invalid)?;
    let mut cluster = Cluster::new(config);
    if options.has("describe") {
        return describe(&mut cluster, selection, options.has("all")).await;
    }
    let Selection::One(entity) = selection else {
        return Err(ConfigsError::Invalid(
            "An entity name must be specified for every entity type".to_owned(),
        ));
    };
    let added = configs_to_add(options).map_err(ConfigsError::Invalid)?;
    let deleted: Vec<String> = options
        .values("delete-config")
        .into_iter()
        .flat_map(|keys| keys.split(','))
        .map(|key| key.trim().to_owned())
        .collect();
    alter(&mut cluster, &entity, added, deleted).await
}

async fn describe(
    cluster: &mut Cluster,
    selection: Selection,
    all: bool,
) -> Result<(), ConfigsError> {
    let entities = match selection {
        Selection::One(entity) => vec![entity],
        Selection::AllTopics => {
            let metadata = cluster.metadata(None, false).await?;
            let mut names: Vec<String> = metadata
                .topics
                .iter()
                .filter_map(|topic| topic.name.as_ref().map(ToString::to_string))
                .collect();
            names.sort();
            names.into_iter().map(Entity::Topic).collect()
        }
        Selection::AllBrokers => {
            cluster.metadata(Some(&[]), false).await?;
            cluster
                .broker_ids()
                .map(Entity::Broker)
                .chain([Entity::BrokerDefault])
                .collect()
        }
    };
    for entity in &entities {
        let configs = configs_of(cluster, entity, all).await?;
        print(&described(entity, &configs, all));
    }
    Ok(())
}

/// The configurations of an entity, by name: all, or those that were set for it at run time.
async fn configs_of(
    cluster: &mut Cluster,
    entity: &Entity,
    all: bool,
) -> Result<Vec<DescribeConfigsResourceResult>, ConfigsError> {
    let (resource_type, resource_name) = entity.resource();
    let resource = DescribeConfigsResource {
        resource_type,
        resource_name: ByteString::from(resource_name),
        configuration_keys: None,
    };
    let request = DescribeConfigsRequest {
        resources: vec![resource],
        include_synonyms: true,
        include_documentation: false,
    };
    let response = match entity {
        Entity::Broker(id) => {
            cluster.metadata(Some(&[]), false).await?;
            cluster.broker(*id, &request).await?
        }
        Entity::Topic(_) | Entity::BrokerDefault => cluster.any(&request).await?,
    };
    let mut configs = Vec::new();
    for result in response.results {
        if result.error_code != 0 {
            return Err(
                ClusterError::refused(result.error_code, result.error_message.as_ref()).into(),
            );
        }
        configs.extend(result.configs);
    }
    configs.retain(|config| all || config.config_source == entity.dynamic_source());
    configs.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(configs)
}

fn described(entity: &Entity, configs: &[DescribeConfigsResourceResult], all: bool) -> String {
    let mut lines = entity.title(all);
    lines.push('\n');
    let shown = |value: &Option<ByteString>| value.as_deref().unwrap_or("null").to_owned();
    for config in configs {
        let synonyms: Vec<String> = config
            .synonyms
            .iter()
            .map(|synonym| {
                format!(
                    "{}:{}={}",
                    source_name(synonym.source),
                    synonym.name,
                    shown(&synonym.value)
                )
            })
            .collect();
        let value = shown(&config.value);
        let _ = writeln!(
            lines,
            "  {}={value} sensitive={} synonyms={{{}}}",
            config.name,
            config.is_sensitive,
            synonyms.join(", ")
        );
    }
    lines
}

fn source_name(source: i8) -> &'static str {
    match source {
        1 => "DYNAMIC_TOPIC_CONFIG",
        2 => "DYNAMIC_BROKER_CONFIG",
        3 => "DYNAMIC_DEFAULT_BROKER_CONFIG",
        4 => "STATIC_BROKER_CONFIG",
        5 => "DEFAULT_CONFIG",
        6 => "DYNAMIC_BROKER_LOGGER_CONFIG",
        _ => "UNKNOWN",
    }
}

async fn alter(
    cluster: &mut Cluster,
    entity: &Entity,
    added: BTreeMap<String, String>,
    deleted: Vec<String>,
) -> Result<(), ConfigsError> {
    let present = configs_of(cluster, entity, false).await?;
    let missing: Vec<&str> = deleted
        .iter()
        .map(String::as_str)
        .filter(|key| !present.iter().any(|config| config.name == *key))
        .collect();
    if !missing.is_empty() {
        return Err(ConfigsError::Invalid(format!(
            "Invalid config(s): {}",
            missing.join(",")
        )));
    }
    let change = |name: String, config_operation: i8, value: Option<String>| AlterableConfig {
        name: ByteString::from(name),
        config_operation,
        value: value.map(ByteString::from),
    };
    let configs = added
        .into_iter()
        .map(|(key, value)| change(key, SET, Some(value)))
        .chain(deleted.into_iter().map(|key| change(key, DELETE, None)))
        .collect();
    let (resource_type, resource_name) = entity.resource();
    let resource = AlterConfigsResource {
        resource_type,
        resource_name: ByteString::from(resource_name),
        configs,
    };
    let request = IncrementalAlterConfigsRequest {
        resources: vec![resource],
        validate_only: false,
    };
    let response = match entity {
        Entity::Broker(id) => cluster.broker(*id, &request).await?,
        // Setting or removing a key twice does no harm, so whoever answers may be asked again.
        Entity::Topic(_) | Entity::BrokerDefault => cluster.any(&request).await?,
    };
    for result in &response.responses {
        if result.error_code != 0 {
            return Err(
                ClusterError::refused(result.error_code, result.error_message.as_ref()).into(),
            );
        }
    }
    print_line(&entity.completed());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_wire::describe_configs::DescribeConfigsSynonym;

    #[test]
    fn configurations_are_shown_in_kafkas_lines() {
        let synonym =
            |name: &'static str, value: &'static str, source: i8| DescribeConfigsSynonym {
                name: ByteString::from_static(name),
                value: Some(ByteString::from_static(value)),
                source,
            };
        let configs = [
            DescribeConfigsResourceResult {
                name: ByteString::from_static("segment.bytes"),
                value: Some(ByteString::from_static("10240")),
                synonyms: vec![
                    synonym("segment.bytes", "10240", 1),
                    synonym("log.segment.bytes", "1073741824", 4),
                    synonym("log.segment.bytes", "1073741824", 5),
                ],
                ..Default::default()
            },
            DescribeConfigsResourceResult {
                name: ByteString::from_static("sasl.jaas.config"),
                is_sensitive: true,
                ..Default::default()
            },
        ];
        assert_eq!(
            described(&Entity::Topic("t".to_owned()), &configs, true),
            "All configs for topic t are:\n  segment.bytes=10240 sensitive=false \
             synonyms={DYNAMIC_TOPIC_CONFIG:segment.bytes=10240, STATIC_BROKER_CONFIG:log.segment.bytes=1073741824, \
             DEFAULT_CONFIG:log.segment.bytes=1073741824}\n  sasl.jaas.config=null sensitive=true synonyms={}\n"
        );
        assert_eq!(
            described(&Entity::BrokerDefault, &[], false),
            "Default configs for brokers in the cluster are:\n"
        );
    }
}
