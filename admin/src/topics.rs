//! `kafka-topics`: creates, lists, describes, extends and deletes topics.

mod describe;
mod usage;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::process::ExitCode;

use kafka_wire::create_partitions::{
    CreatePartitionsAssignment, CreatePartitionsRequest, CreatePartitionsTopic,
};
use kafka_wire::create_topics::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use kafka_wire::delete_topics::DeleteTopicsRequest;
use kafka_wire::metadata::{MetadataResponse, MetadataResponseTopic};
use kafka_wire::{ByteString, ErrorCode};
use regex::Regex;

use crate::client::{ClientConfig, Cluster, ClusterError};
use crate::options::{Options, Tool, UsageError};
use crate::terminal::{Level, log, print_line};
use usage::{ACTIONS, OPTIONS, check};

/// The tool.
pub(crate) const TOOL: Tool = Tool {
    name: "topics",
    about: "This tool helps to create, delete, describe, or change a topic.",
    options: OPTIONS,
    run,
};

/// How long the controller may take to do what it was asked, in milliseconds.
const CONTROLLER_TIMEOUT_MS: i32 = 30_000;

/// Why a command failed; what stands behind `Error while executing topic command : `.
#[derive(Debug, thiserror::Error)]
enum TopicError {
    /// The cluster said no, or nothing.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The command asks for what can not be.
    #[error("{0}")]
    Invalid(String),
}

fn run(options: Options) -> Pin<Box<dyn Future<Output = ExitCode>>> {
    Box::pin(async move {
        let command = match check(&options).and_then(|()| config(&options)) {
            Ok(config) => Command {
                options: &options,
                cluster: Cluster::new(config),
            },
            Err(error) => return options.usage(&error),
        };
        match command.run().await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                print_line(&format!("Error while executing topic command : {error}"));
                log(
                    Level::Error,
                    &error.to_string(),
                    "org.apache.kafka.tools.TopicCommand",
                );
                ExitCode::FAILURE
            }
        }
    })
}

fn config(options: &Options) -> Result<ClientConfig, UsageError> {
    let servers = options.value("bootstrap-server")?.unwrap_or_default();
    ClientConfig::new(
        servers,
        "adminclient-1",
        &options.properties("command-config")?,
    )
}

struct Command<'a> {
    options: &'a Options,
    cluster: Cluster,
}

impl Command<'_> {
    async fn run(mut self) -> Result<(), TopicError> {
        match ACTIONS.into_iter().find(|action| self.options.has(action)) {
            Some("create") => self.create().await,
            Some("alter") => self.alter().await,
            Some("delete") => self.delete().await,
            Some("describe") => self.describe().await,
            _ => self.list().await,
        }
    }

    async fn create(&mut self) -> Result<(), TopicError> {
        let name = self.topic()?.unwrap_or_default().to_owned();
        let topic = CreatableTopic {
            name: ByteString::from(name.as_str()),
            num_partitions: self.partitions()?.unwrap_or(-1),
            replication_factor: self.replication_factor()?.unwrap_or(-1),
            assignments: assignments(&self.assignment()?),
            configs: self.configs()?,
        };
        if name.contains(['.', '_']) {
            print_line(
                "WARNING: Due to limitations in metric names, topics with a period ('.') or underscore ('_') could \
                 collide. To avoid issues it is best to use either, but not both.",
            );
        }
        let topic = match topic.assignments.is_empty() {
            true => topic,
            false => CreatableTopic {
                num_partitions: -1,
                replication_factor: -1,
                ..topic
            },
        };
        let request = CreateTopicsRequest {
            topics: vec![topic],
            timeout_ms: CONTROLLER_TIMEOUT_MS,
            validate_only: false,
        };
        let response = self
            .cluster
            .controller(&request, |response| {
                response.topics.first().map(|topic| topic.error_code)
            })
            .await?;
        for result in &response.topics {
            let exists = result.error_code == ErrorCode::TopicAlreadyExists.code();
            if exists && self.options.has("if-not-exists") {
                return Ok(());
            }
            refusal(result.error_code, result.error_message.as_ref())?;
        }
        print_line(&format!("Created topic {name}."));
        Ok(())
    }

    async fn list(&mut self) -> Result<(), TopicError> {
        let metadata = self.cluster.metadata(None, false).await?;
        let topics = self.selected(&metadata)?;
        let names: Vec<&str> = topics
            .iter()
            .filter_map(|topic| topic.name.as_deref())
            .collect();
        print_line(&names.join("\n"));
        Ok(())
    }

    async fn alter(&mut self) -> Result<(), TopicError> {
        let count = self.partitions()?.unwrap_or_default();
        let assignment = self.assignment()?;
        let metadata = self.cluster.metadata(None, false).await?;
        let selected = self.selected_existing(&metadata)?;
        if selected.is_empty() {
            return Ok(());
        }
        let topics = selected
            .iter()
            .map(|topic| CreatePartitionsTopic {
                name: topic.name.clone().unwrap_or_default(),
                count,
                assignments: (!assignment.is_empty()).then(|| {
                    let new = assignment.iter().skip(topic.partitions.len());
                    new.map(|brokers| CreatePartitionsAssignment {
                        broker_ids: brokers.clone(),
                    })
                    .collect()
                }),
            })
            .collect();
        let request = CreatePartitionsRequest {
            topics,
            timeout_ms: CONTROLLER_TIMEOUT_MS,
            validate_only: false,
        };
        let response = self
            .cluster
            .controller(&request, |response| {
                response.results.first().map(|result| result.error_code)
            })
            .await?;
        response
            .results
            .iter()
            .try_for_each(|result| refusal(result.error_code, result.error_message.as_ref()))
    }

    async fn delete(&mut self) -> Result<(), TopicError> {
        let metadata = self.cluster.metadata(None, false).await?;
        let topic_names: Vec<ByteString> = self
            .selected_existing(&metadata)?
            .iter()
            .filter_map(|topic| topic.name.clone())
            .collect();
        if topic_names.is_empty() {
            return Ok(());
        }
        let request = DeleteTopicsRequest {
            topic_names,
            timeout_ms: CONTROLLER_TIMEOUT_MS,
            ..Default::default()
        };
        let response = self
            .cluster
            .controller(&request, |response| {
                response.responses.first().map(|result| result.error_code)
            })
            .await?;
        response
            .responses
            .iter()
            .try_for_each(|result| refusal(result.error_code, result.error_message.as_ref()))
    }

    fn topic(&self) -> Result<Option<&str>, TopicError> {
        self.options
            .value("topic")
            .map_err(|error| TopicError::Invalid(error.0))
    }

    fn partitions(&self) -> Result<Option<i32>, TopicError> {
        match self
            .options
            .number("partitions")
            .map_err(|error| TopicError::Invalid(error.0))?
        {
            Some(..=0) => Err(TopicError::Invalid(
                "The partitions must be greater than 0".to_owned(),
            )),
            count => Ok(count),
        }
    }

    fn replication_factor(&self) -> Result<Option<i16>, TopicError> {
        let factor: Option<i32> = self
            .options
            .number("replication-factor")
            .map_err(|error| TopicError::Invalid(error.0))?;
        let in_range = |factor: i32| i16::try_from(factor).ok().filter(|factor| *factor > 0);
        match factor.map(in_range) {
            None => Ok(None),
            Some(Some(factor)) => Ok(Some(factor)),
            Some(None) => Err(TopicError::Invalid(
                "The replication factor must be between 1 and 32767 inclusive".to_owned(),
            )),
        }
    }

    fn configs(&self) -> Result<Vec<CreatableTopicConfig>, TopicError> {
        let mut configs = BTreeMap::new();
        for text in self.options.values("config") {
            let (key, value) = text.split_once('=').ok_or_else(|| {
                let message = "requirement failed: Invalid topic config: all configs to be added must be in the format \"key=val\".";
                TopicError::Invalid(message.to_owned())
            })?;
            configs.insert(key.trim(), value.trim());
        }
        let config = |(name, value): (&str, &str)| CreatableTopicConfig {
            name: ByteString::from(name),
            value: Some(ByteString::from(value)),
        };
        Ok(configs.into_iter().map(config).collect())
    }

    fn assignment(&self) -> Result<Vec<Vec<i32>>, TopicError> {
        match self
            .options
            .value("replica-assignment")
            .map_err(|error| TopicError::Invalid(error.0))?
        {
            Some(text) if !text.is_empty() => {
                parse_replica_assignment(text).map_err(TopicError::Invalid)
            }
            _ => Ok(Vec::new()),
        }
    }

    /// The topics that the options name, sorted; all if they name none.
    fn selected<'m>(
        &self,
        metadata: &'m MetadataResponse,
    ) -> Result<Vec<&'m MetadataResponseTopic>, TopicError> {
        let pattern = self
            .topic()?
            .map(topic_pattern)
            .transpose()
            .map_err(TopicError::Invalid)?;
        let exclude_internal = self.options.has("exclude-internal");
        let is_selected = |topic: &&MetadataResponseTopic| {
            let name = topic.name.as_deref().unwrap_or_default();
            pattern
                .as_ref()
                .is_none_or(|pattern| pattern.is_match(name))
                && !(exclude_internal && topic.is_internal)
        };
        let mut topics: Vec<&MetadataResponseTopic> =
            metadata.topics.iter().filter(is_selected).collect();
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(topics)
    }

    /// The same, but at least one must exist, unless `--if-exists` says otherwise.
    fn selected_existing<'m>(
        &self,
        metadata: &'m MetadataResponse,
    ) -> Result<Vec<&'m MetadataResponseTopic>, TopicError> {
        let topics = self.selected(metadata)?;
        match self.topic()? {
            Some(name)
                if topics.is_empty() && !name.is_empty() && !self.options.has("if-exists") =>
            {
                Err(TopicError::Invalid(format!(
                    "Topic '{name}' does not exist as expected"
                )))
            }
            _ => Ok(topics),
        }
    }
}

/// An error code in a response, as an error.
fn refusal(code: i16, message: Option<&ByteString>) -> Result<(), TopicError> {
    match code {
        0 => Ok(()),
        code => Err(ClusterError::refused(code, message).into()),
    }
}

/// The regular expression that Kafka's tools make of a topic's name: commas separate alternatives, and it must match
/// the whole name.
fn topic_pattern(text: &str) -> Result<Regex, String> {
    let text = text.trim().replace(',', "|").replace(' ', "");
    let text = text.trim_matches(['"', '\'']);
    Regex::new(&format!("^(?:{text})$")).map_err(|_| format!("{text} is an invalid regex."))
}

/// Reads `1:2,2:3`: the brokers of each partition, as many for each, none twice.
fn parse_replica_assignment(text: &str) -> Result<Vec<Vec<i32>>, String> {
    let mut assignment: Vec<Vec<i32>> = Vec::new();
    for (partition, list) in text.split(',').enumerate() {
        let mut brokers: Vec<i32> = Vec::new();
        for id in list.split(':').map(str::trim) {
            let id = id.parse().map_err(|_| {
                format!(
                    "Invalid broker id '{id}' in the replica assignment of partition {partition}"
                )
            })?;
            if brokers.contains(&id) {
                return Err(format!(
                    "Partition replica lists may not contain duplicate entries: {id}"
                ));
            }
            brokers.push(id);
        }
        if assignment
            .first()
            .is_some_and(|first| first.len() != brokers.len())
        {
            let brokers: Vec<String> = brokers.iter().map(ToString::to_string).collect();
            return Err(format!(
                "Partition {partition} has different replication factor: [{}]",
                brokers.join(", ")
            ));
        }
        assignment.push(brokers);
    }
    Ok(assignment)
}

fn assignments(assignment: &[Vec<i32>]) -> Vec<CreatableReplicaAssignment> {
    (0..)
        .zip(assignment)
        .map(|(partition_index, brokers)| CreatableReplicaAssignment {
            partition_index,
            broker_ids: brokers.clone(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_whole_names() {
        let matches = |pattern: &str, name: &str| topic_pattern(pattern).unwrap().is_match(name);
        assert!(matches("a", "a") && !matches("a", "ab"));
        assert!(matches("a,b", "b") && matches("a.*", "abc") && matches("\"a\"", "a"));
        assert_eq!(topic_pattern("(").unwrap_err(), "( is an invalid regex.");
    }

    #[test]
    fn assignments_are_lists_of_equal_length() {
        assert_eq!(
            parse_replica_assignment("0:1,1:2").unwrap(),
            [[0, 1], [1, 2]]
        );
        assert!(
            parse_replica_assignment("0:0")
                .unwrap_err()
                .contains("duplicate entries: 0")
        );
        assert_eq!(
            parse_replica_assignment("0:1,1").unwrap_err(),
            "Partition 1 has different replication factor: [1]"
        );
        assert!(parse_replica_assignment("0:x").is_err());
    }
}
