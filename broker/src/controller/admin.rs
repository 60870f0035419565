//! Admin requests of clients, which any broker accepts and the controller answers.
//!
//! Each is answered when every live broker knows the outcome, so that a client that asks any of
//! them next sees it; or with REQUEST_TIMED_OUT when its own time is up, while the work goes on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use broker_core::config::{BrokerConfig, Properties, describe_topic, validate_topic_overrides};
use broker_core::controller::{
    AdminError, CreatedTopic, Event, MorePartitions, NewTopic, Reply, TopicRef,
};
use bytes::Bytes;
use kafka_wire::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopicResult,
};
use kafka_wire::create_topics::{
    CreatableTopic, CreatableTopicConfigs, CreatableTopicResult, CreateTopicsRequest,
    CreateTopicsResponse,
};
use kafka_wire::delete_topics::{DeletableTopicResult, DeleteTopicsRequest, DeleteTopicsResponse};
use kafka_wire::{ApiKey, ByteString, ErrorCode, Message, Reader, Request, Writer};
use proto::control::{ForwardRequest, ForwardResponse};

use super::convert::wire_code;
use super::{ControllerHandle, NotController};
use crate::config_store::ConfigStore;

/// Answers forwarded requests.
pub(crate) struct Admin {
    handle: Arc<ControllerHandle>,
    configs: Arc<ConfigStore>,
}

impl Admin {
    pub(crate) fn new(handle: Arc<ControllerHandle>, configs: Arc<ConfigStore>) -> Self {
        Self { handle, configs }
    }

    /// Decodes, carries out and answers one request.
    pub(crate) async fn forward(&self, request: ForwardRequest) -> ForwardResponse {
        let refused = |code| ForwardResponse {
            error_code: wire_code(code),
            body: Vec::new(),
        };
        let key = i16::try_from(request.api_key)
            .ok()
            .and_then(|key| ApiKey::try_from(key).ok());
        let (Some(key), Ok(version)) = (key, i16::try_from(request.api_version)) else {
            return refused(ErrorCode::UnsupportedVersion);
        };
        let body = Bytes::from(request.body);
        let answer = match key {
            ApiKey::CreateTopics => {
                answer(body, version, |request| self.create_topics(request)).await
            }
            ApiKey::DeleteTopics => {
                answer(body, version, |request| self.delete_topics(request)).await
            }
            ApiKey::CreatePartitions => {
                answer(body, version, |request| self.create_partitions(request)).await
            }
            _ => Err(ErrorCode::UnsupportedVersion),
        };
        match answer {
            Ok(body) => ForwardResponse {
                error_code: 0,
                body: body.to_vec(),
            },
            Err(code) => refused(code),
        }
    }

    async fn create_topics(
        &self,
        request: CreateTopicsRequest,
    ) -> Result<CreateTopicsResponse, NotController> {
        let CreateTopicsRequest {
            topics,
            timeout_ms,
            validate_only,
        } = request;
        let config = self.configs.broker_config();
        let mut results: Vec<CreatableTopicResult> = Vec::with_capacity(topics.len());
        let mut wanted = Vec::new();
        let mut count: BTreeMap<ByteString, usize> = BTreeMap::new();
        topics
            .iter()
            .for_each(|topic| *count.entry(topic.name.clone()).or_default() += 1);
        for topic in topics {
            let name = topic.name.clone();
            let checked = match count.get(&name) {
                Some(1) => new_topic(&config, topic),
                // All of them are answered once, as one.
                _ if results.iter().any(|result| result.name == name) => continue,
                _ => Err(admin_error(
                    ErrorCode::InvalidRequest,
                    "Found multiple entries for this topic.",
                )),
            };
            results.push(match checked {
                Ok(topic) => {
                    wanted.push(topic);
                    created_result(name, &Err(timed_out()), None)
                }
                Err(error) => created_result(name, &Err(error), None),
            });
        }
        if wanted.is_empty() {
            return Ok(CreateTopicsResponse {
                topics: results,
                ..CreateTopicsResponse::default()
            });
        }
        let overrides: BTreeMap<_, _> = wanted
            .iter()
            .map(|topic| (topic.name.clone(), topic.configs.clone()))
            .collect();
        let event = move |request| Event::CreateTopics {
            request,
            topics: wanted,
            validate_only,
        };
        if let Some(Reply::TopicsCreated(created)) = self.ask(timeout_ms, event).await? {
            for (name, outcome) in created {
                let configs = overrides
                    .get(&name)
                    .map(|overrides| described(&config, overrides));
                let result = created_result(name, &outcome, configs);
                results
                    .iter_mut()
                    .filter(|of| of.name == result.name)
                    .for_each(|of| *of = result.clone());
            }
        }
        Ok(CreateTopicsResponse {
            topics: results,
            ..CreateTopicsResponse::default()
        })
    }

    async fn create_partitions(
        &self,
        request: CreatePartitionsRequest,
    ) -> Result<CreatePartitionsResponse, NotController> {
        let CreatePartitionsRequest {
            topics,
            timeout_ms,
            validate_only,
        } = request;
        let names: Vec<_> = topics.iter().map(|topic| topic.name.clone()).collect();
        let topics = topics
            .into_iter()
            .map(|topic| MorePartitions {
                name: topic.name,
                count: topic.count,
                assignments: topic.assignments.map(|assignments| {
                    assignments
                        .into_iter()
                        .map(|replicas| replicas.broker_ids)
                        .collect()
                }),
            })
            .collect();
        let event = move |request| Event::CreatePartitions {
            request,
            topics,
            validate_only,
        };
        let outcomes = match self.ask(timeout_ms, event).await? {
            Some(Reply::PartitionsCreated(outcomes)) => outcomes,
            _ => names
                .into_iter()
                .map(|name| (name, Err(timed_out())))
                .collect(),
        };
        let result =
            |(name, outcome): (ByteString, Result<(), AdminError>)| CreatePartitionsTopicResult {
                name,
                error_code: code_of(&outcome),
                error_message: message_of(&outcome),
            };
        Ok(CreatePartitionsResponse {
            results: outcomes.into_iter().map(result).collect(),
            ..CreatePartitionsResponse::default()
        })
    }

    async fn delete_topics(
        &self,
        request: DeleteTopicsRequest,
    ) -> Result<DeleteTopicsResponse, NotController> {
        let DeleteTopicsRequest {
            topics,
            topic_names,
            timeout_ms,
        } = request;
        let by_state = topics.into_iter().map(|topic| match topic.name {
            Some(name) => TopicRef::Name(name),
            None => TopicRef::Id(topic.topic_id),
        });
        let topics: Vec<_> = by_state
            .chain(topic_names.into_iter().map(TopicRef::Name))
            .collect();
        let asked = topics.clone();
        let event = move |request| Event::DeleteTopics { request, topics };
        let outcomes = match self.ask(timeout_ms, event).await? {
            Some(Reply::TopicsDeleted(outcomes)) => outcomes,
            _ => asked
                .into_iter()
                .map(|topic| (topic, Err(timed_out())))
                .collect(),
        };
        let result = |(topic, outcome)| {
            let (error_code, error_message) = (code_of(&outcome), message_of(&outcome));
            let mut result = DeletableTopicResult {
                error_code,
                error_message,
                ..DeletableTopicResult::default()
            };
            match (outcome, topic) {
                (Ok((name, id)), _) => (result.name, result.topic_id) = (Some(name), id),
                (Err(_), TopicRef::Name(name)) => result.name = Some(name),
                (Err(_), TopicRef::Id(id)) => result.topic_id = id,
            }
            result
        };
        Ok(DeleteTopicsResponse {
            responses: outcomes.into_iter().map(result).collect(),
            ..DeleteTopicsResponse::default()
        })
    }

    /// The controller's reply, or None when the client's time is up.
    async fn ask(
        &self,
        timeout_ms: i32,
        event: impl FnOnce(broker_core::controller::RequestId) -> Event + Send + 'static,
    ) -> Result<Option<Reply>, NotController> {
        let timeout = Duration::from_millis(u64::try_from(timeout_ms).unwrap_or_default());
        match tokio::time::timeout(timeout, self.handle.ask(event)).await {
            Ok(reply) => reply.map(Some),
            Err(_) => Ok(None),
        }
    }
}

/// Decodes a request, has it answered, and encodes the response in the same version.
async fn answer<R: Request, F>(
    body: Bytes,
    version: i16,
    handle: impl FnOnce(R) -> F,
) -> Result<Bytes, ErrorCode>
where
    F: Future<Output = Result<R::Response, NotController>>,
{
    if !R::VERSIONS.contains(&version) {
        return Err(ErrorCode::UnsupportedVersion);
    }
    let request =
        R::decode(&mut Reader::new(body), version).map_err(|_| ErrorCode::InvalidRequest)?;
    let response = handle(request)
        .await
        .map_err(|NotController| ErrorCode::NotController)?;
    let mut writer = Writer::new();
    response.encode(&mut writer, version);
    writer.finish_contiguous().map_err(|error| {
        tracing::error!("a response cannot be encoded: {error}");
        ErrorCode::UnknownServerError
    })
}

/// Checks what only the configuration can tell.
fn new_topic(config: &BrokerConfig, topic: CreatableTopic) -> Result<NewTopic, AdminError> {
    let CreatableTopic {
        name,
        num_partitions,
        replication_factor,
        assignments,
        configs,
        ..
    } = topic;
    let mut overrides = Properties::new();
    for entry in configs {
        match entry.value {
            Some(value) => drop(overrides.insert(entry.name.to_string(), value.to_string())),
            None => {
                let message = format!("Null value not supported for topic configs: {}", entry.name);
                return Err(admin_error(ErrorCode::InvalidConfig, message));
            }
        }
    }
    validate_topic_overrides(config, &overrides)
        .map_err(|error| admin_error(ErrorCode::InvalidConfig, error.to_string()))?;
    let count = assignments.len();
    let assignments: BTreeMap<_, _> = assignments
        .into_iter()
        .map(|assignment| (assignment.partition_index, assignment.broker_ids))
        .collect();
    if assignments.len() != count {
        return Err(admin_error(
            ErrorCode::InvalidReplicaAssignment,
            "A partition is assigned more than once.",
        ));
    }
    Ok(NewTopic {
        name,
        num_partitions,
        replication_factor,
        assignments,
        configs: overrides,
    })
}

fn created_result(
    name: ByteString,
    outcome: &Result<CreatedTopic, AdminError>,
    configs: Option<Vec<CreatableTopicConfigs>>,
) -> CreatableTopicResult {
    let result = CreatableTopicResult {
        name,
        error_code: code_of(outcome),
        error_message: message_of(outcome),
        ..CreatableTopicResult::default()
    };
    match outcome {
        Ok(created) => CreatableTopicResult {
            topic_id: created.id,
            num_partitions: created.num_partitions,
            replication_factor: created.replication_factor,
            configs: Some(configs.unwrap_or_default()),
            ..result
        },
        Err(_) => result,
    }
}

fn described(config: &BrokerConfig, overrides: &Properties) -> Vec<CreatableTopicConfigs> {
    let entry = |entry: broker_core::config::ConfigEntry| CreatableTopicConfigs {
        name: entry.name.into(),
        value: entry.value.map(Into::into),
        read_only: entry.read_only,
        config_source: entry.source.code(),
        is_sensitive: entry.sensitive,
    };
    // The overrides were found valid before the topic was created.
    describe_topic(config, overrides)
        .unwrap_or_default()
        .into_iter()
        .map(entry)
        .collect()
}

fn admin_error(code: ErrorCode, message: impl Into<String>) -> AdminError {
    AdminError {
        code,
        message: message.into(),
    }
}

fn timed_out() -> AdminError {
    admin_error(
        ErrorCode::RequestTimedOut,
        "The request timed out; what it asked for may still be done.",
    )
}

fn code_of<T>(outcome: &Result<T, AdminError>) -> i16 {
    outcome
        .as_ref()
        .map_or_else(|error| error.code as i16, |_| 0)
}

fn message_of<T>(outcome: &Result<T, AdminError>) -> Option<ByteString> {
    outcome
        .as_ref()
        .err()
        .map(|error| error.message.as_str().into())
}
