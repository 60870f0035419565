//! Metadata (3): brokers, topics, and who leads which partition.

use broker_core::metadata::{MetadataImage, PartitionMetadata, TopicMetadata};
use kafka_wire::create_topics::{CreatableTopic, CreateTopicsRequest};
use kafka_wire::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseBroker,
    MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_wire::{ByteString, ErrorCode, Uuid, valid_topic_name};

use super::{RequestContext, client_endpoint};

/// In the first version an empty list means all topics; later it means none.
const EMPTY_IS_ALL: i16 = 0;
/// How the controller is asked to create topics, with the broker's defaults for partitions and replicas.
const CREATE_TOPICS_VERSION: i16 = 7;
const CREATE_TOPICS_TIMEOUT_MS: i32 = 30_000;
/// The broker's default.
const DEFAULT: i32 = -1;
/// Topics that brokers keep for themselves.
pub(super) const INTERNAL_TOPICS: [&str; 2] = ["__consumer_offsets", "__transaction_state"];

pub(crate) async fn handle(ctx: &RequestContext, request: MetadataRequest) -> MetadataResponse {
    let mut image = ctx.services.image();
    let asked = request
        .topics
        .filter(|topics| !(topics.is_empty() && ctx.api_version == EMPTY_IS_ALL));
    let topics = match asked {
        None => image.topics().map(|topic| known(&image, topic)).collect(),
        Some(asked) => {
            let missing = missing_topics(&image, &asked);
            let may_create =
                request.allow_auto_topic_creation && ctx.services.config.auto_create_topics_enable;
            let mut created = Vec::new();
            if may_create && !missing.is_empty() {
                created = create(ctx, missing).await;
                image = ctx.services.image();
            }
            asked
                .into_iter()
                .map(|topic| find(&image, topic, &created))
                .collect()
        }
    };
    let brokers = image.brokers().values().filter_map(|broker| {
        let (host, port) = client_endpoint(broker)?;
        Some(MetadataResponseBroker {
            node_id: broker.id,
            host,
            port,
            rack: broker.rack.clone(),
        })
    });
    MetadataResponse {
        brokers: brokers.collect(),
        cluster_id: Some(image.cluster_id().clone()),
        controller_id: image.controller_id().unwrap_or(-1),
        topics,
        ..MetadataResponse::default()
    }
}

fn missing_topics(image: &MetadataImage, asked: &[MetadataRequestTopic]) -> Vec<ByteString> {
    let names = asked
        .iter()
        .filter(|topic| topic.topic_id.is_zero())
        .filter_map(|topic| topic.name.as_ref());
    let missing =
        names.filter(|name| image.topic(name).is_none() && valid_topic_name(name).is_ok());
    missing.cloned().collect()
}

/// Asks the controller to create topics, and tells what became of each.
async fn create(ctx: &RequestContext, names: Vec<ByteString>) -> Vec<(ByteString, ErrorCode)> {
    let topic = |name: &ByteString| CreatableTopic {
        name: name.clone(),
        num_partitions: DEFAULT,
        replication_factor: DEFAULT as i16,
        ..CreatableTopic::default()
    };
    let request = CreateTopicsRequest {
        topics: names.iter().map(topic).collect(),
        timeout_ms: CREATE_TOPICS_TIMEOUT_MS,
        ..CreateTopicsRequest::default()
    };
    let context = RequestContext {
        api_version: CREATE_TOPICS_VERSION,
        ..ctx.clone()
    };
    let response = context.forward(&request, |_| Default::default()).await;
    let outcome = |name: &ByteString| {
        let result = response.topics.iter().find(|result| result.name == *name);
        let error = result.map_or(ErrorCode::LeaderNotAvailable, |result| {
            ErrorCode::from_code(result.error_code)
        });
        match error {
            // It is there, or will be: its leader is to be asked for again.
            ErrorCode::None
            | ErrorCode::TopicAlreadyExists
            | ErrorCode::RequestTimedOut
            | ErrorCode::NotController => ErrorCode::LeaderNotAvailable,
            error => error,
        }
    };
    names
        .iter()
        .map(|name| (name.clone(), outcome(name)))
        .collect()
}

fn find(
    image: &MetadataImage,
    asked: MetadataRequestTopic,
    created: &[(ByteString, ErrorCode)],
) -> MetadataResponseTopic {
    if !asked.topic_id.is_zero() {
        return match image.topic_by_id(asked.topic_id) {
            Some(topic) => known(image, topic),
            None => unknown(None, asked.topic_id, ErrorCode::UnknownTopicId),
        };
    }
    let name = asked.name.unwrap_or_default();
    if let Some(topic) = image.topic(&name) {
        return known(image, topic);
    }
    let error = if valid_topic_name(&name).is_err() {
        ErrorCode::InvalidTopicException
    } else {
        let created = created.iter().find(|(created, _)| *created == name);
        created.map_or(ErrorCode::UnknownTopicOrPartition, |(_, error)| *error)
    };
    unknown(Some(name), Uuid::ZERO, error)
}

fn unknown(name: Option<ByteString>, topic_id: Uuid, error: ErrorCode) -> MetadataResponseTopic {
    let is_internal = name
        .as_deref()
        .is_some_and(|name| INTERNAL_TOPICS.contains(&name));
    MetadataResponseTopic {
        error_code: error as i16,
        name,
        topic_id,
        is_internal,
        ..MetadataResponseTopic::default()
    }
}

fn known(image: &MetadataImage, topic: &TopicMetadata) -> MetadataResponseTopic {
    let partitions = topic
        .partitions
        .iter()
        .map(|(&index, state)| partition(image, index, state));
    MetadataResponseTopic {
        name: Some(topic.name.clone()),
        topic_id: topic.topic_id,
        is_internal: INTERNAL_TOPICS.contains(&&*topic.name),
        partitions: partitions.collect(),
        ..MetadataResponseTopic::default()
    }
}

/// A leader that is dead, or none, is LEADER_NOT_AVAILABLE; replicas and ISR are told all the same.
fn partition(
    image: &MetadataImage,
    partition_index: i32,
    state: &PartitionMetadata,
) -> MetadataResponsePartition {
    let alive = |id: &i32| image.brokers().contains_key(id);
    let leader = state.leader.filter(alive);
    let offline = |id: &&i32| !alive(id) || state.offline_replicas.contains(id);
    MetadataResponsePartition {
        error_code: if leader.is_some() {
            ErrorCode::None
        } else {
            ErrorCode::LeaderNotAvailable
        } as i16,
        partition_index,
        leader_id: leader.unwrap_or(-1),
        leader_epoch: state.leader_epoch,
        replica_nodes: state.replicas.clone(),
        isr_nodes: state.isr.clone(),
        offline_replicas: state.replicas.iter().filter(offline).copied().collect(),
    }
}

#[cfg(test)]
mod tests {
    use broker_core::metadata::{Broker, MetadataUpdate, TopicUpdate};

    use super::*;

    fn image(leader: Option<i32>) -> MetadataImage {
        let state = PartitionMetadata {
            leader,
            leader_epoch: 4,
            partition_epoch: 0,
            replicas: vec![1, 2, 3],
            isr: vec![3],
            offline_replicas: vec![],
        };
        let broker = |id| Broker {
            id,
            epoch: 0,
            endpoints: vec![],
            rack: None,
        };
        MetadataImage::new(ByteString::from_static("c")).updated(MetadataUpdate {
            full: true,
            controller_id: 1,
            brokers: vec![broker(1), broker(2)],
            topics: vec![TopicUpdate {
                name: ByteString::from_static("t"),
                topic_id: Uuid::from_bytes([7; 16]),
                partitions: vec![(0, Some(state))],
            }],
        })
    }

    fn ask(name: &'static str) -> MetadataRequestTopic {
        MetadataRequestTopic {
            name: Some(ByteString::from_static(name)),
            ..MetadataRequestTopic::default()
        }
    }

    #[test]
    fn a_leader_that_is_dead_or_none_is_not_available_but_the_isr_is_told() {
        for leader in [Some(3), None] {
            let topic = find(&image(leader), ask("t"), &[]);
            let partition = &topic.partitions[0];
            assert_eq!((partition.error_code, partition.leader_id), (5, -1));
            assert_eq!(
                (&partition.isr_nodes[..], &partition.offline_replicas[..]),
                (&[3][..], &[3][..])
            );
        }
        let partition = &find(&image(Some(2)), ask("t"), &[]).partitions[0];
        assert_eq!(
            (
                partition.error_code,
                partition.leader_id,
                partition.leader_epoch
            ),
            (0, 2, 4)
        );
    }

    #[test]
    fn what_is_unknown_is_told_by_name_or_by_id() {
        let error = |asked| find(&image(None), asked, &[]).error_code;
        assert_eq!(error(ask("u")), ErrorCode::UnknownTopicOrPartition as i16);
        assert_eq!(error(ask("a/b")), ErrorCode::InvalidTopicException as i16);
        let by_id = |byte| MetadataRequestTopic {
            topic_id: Uuid::from_bytes([byte; 16]),
            name: None,
        };
        assert_eq!(error(by_id(9)), ErrorCode::UnknownTopicId as i16);
        assert_eq!(error(by_id(7)), 0);
    }
}
