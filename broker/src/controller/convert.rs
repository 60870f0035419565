//! The core's words in the control plane's, and back.

use broker_core::controller::{
    AlterItem, AlteredPartition, LeaderAndIsr, LiveBroker, PartitionUpdate, StopReplica,
    UpdateMetadata,
};
use kafka_wire::{ErrorCode, TopicPartition, Uuid};
use proto::control;

pub(super) fn stamp(
    controller_id: i32,
    controller_epoch: i32,
    broker_epoch: i64,
) -> Option<control::ControllerStamp> {
    Some(control::ControllerStamp {
        controller_id,
        controller_epoch,
        broker_epoch,
    })
}

pub(super) fn leader_and_isr(
    stamp: Option<control::ControllerStamp>,
    request: &LeaderAndIsr,
) -> control::LeaderAndIsrRequest {
    control::LeaderAndIsrRequest {
        stamp,
        topics: topics(&request.partitions),
        live_leaders: request.live_leaders.iter().map(live_broker).collect(),
        full: request.full,
        kept_topics: request
            .kept_topics
            .iter()
            .map(ToString::to_string)
            .collect(),
    }
}

pub(super) fn update_metadata(
    stamp: Option<control::ControllerStamp>,
    request: &UpdateMetadata,
) -> control::UpdateMetadataRequest {
    control::UpdateMetadataRequest {
        stamp,
        topics: topics(&request.partitions),
        live_brokers: request.live_brokers.iter().map(live_broker).collect(),
        full: request.full,
    }
}

pub(super) fn stop_replica(
    stamp: Option<control::ControllerStamp>,
    stops: &[StopReplica],
) -> control::StopReplicaRequest {
    let partition = |stop: &StopReplica| control::StopReplicaPartition {
        topic: stop.tp.topic.to_string(),
        partition: stop.tp.partition,
        leader_epoch: stop.leader_epoch,
        delete: stop.delete,
    };
    control::StopReplicaRequest {
        stamp,
        partitions: stops.iter().map(partition).collect(),
    }
}

/// Partitions of one topic that follow each other share its name and id.
fn topics(partitions: &[PartitionUpdate]) -> Vec<control::TopicState> {
    let mut topics: Vec<control::TopicState> = Vec::new();
    for chunk in partitions.chunk_by(|a, b| a.tp.topic == b.tp.topic && a.topic_id == b.topic_id) {
        let Some(first) = chunk.first() else { continue };
        topics.push(control::TopicState {
            topic: first.tp.topic.to_string(),
            topic_id: first.topic_id.as_bytes().to_vec(),
            partitions: chunk.iter().map(partition_state).collect(),
        });
    }
    topics
}

fn partition_state(update: &PartitionUpdate) -> control::PartitionState {
    control::PartitionState {
        partition: update.tp.partition,
        controller_epoch: update.node.controller_epoch,
        leader: update.node.leader,
        leader_epoch: update.node.leader_epoch,
        isr: update.node.isr.clone(),
        partition_epoch: update.partition_epoch,
        replicas: update.replicas.replicas.clone(),
        adding_replicas: update.replicas.adding_replicas.clone(),
        removing_replicas: update.replicas.removing_replicas.clone(),
        is_new: update.is_new,
        leader_recovery_state: i32::from(update.node.recovering),
        offline_replicas: update.offline_replicas.clone(),
    }
}

fn live_broker(broker: &LiveBroker) -> control::LiveBroker {
    let endpoint = |endpoint: &broker_core::znode::BrokerEndpoint| control::Endpoint {
        listener: endpoint.listener.clone(),
        security_protocol: endpoint.security_protocol.clone(),
        host: endpoint.host.clone(),
        port: i32::from(endpoint.port),
    };
    control::LiveBroker {
        id: broker.id,
        epoch: broker.epoch,
        endpoints: broker.registration.endpoints.iter().map(endpoint).collect(),
        rack: broker.registration.rack.clone(),
    }
}

/// What a leader asks for; None where its topic id is no id.
pub(super) fn alter_item(item: control::AlterPartitionItem) -> Option<AlterItem> {
    let topic_id = match item.topic_id.as_slice() {
        [] => Uuid::ZERO,
        bytes => Uuid::from_bytes(bytes.try_into().ok()?),
    };
    Some(AlterItem {
        tp: TopicPartition::new(item.topic, item.partition),
        topic_id,
        leader_epoch: item.leader_epoch,
        partition_epoch: item.partition_epoch,
        new_isr: item.new_isr,
        recovering: item.leader_recovery_state == 1,
    })
}

pub(super) fn alter_result(
    tp: TopicPartition,
    result: Result<AlteredPartition, ErrorCode>,
) -> control::AlterPartitionResult {
    let refused = |code: ErrorCode| control::AlterPartitionResult {
        topic: tp.topic.to_string(),
        partition: tp.partition,
        error_code: wire_code(code),
        ..control::AlterPartitionResult::default()
    };
    match result {
        Err(code) => refused(code),
        Ok(altered) => control::AlterPartitionResult {
            leader: altered.node.leader,
            leader_epoch: altered.node.leader_epoch,
            isr: altered.node.isr,
            partition_epoch: altered.partition_epoch,
            leader_recovery_state: i32::from(altered.node.recovering),
            ..refused(ErrorCode::None)
        },
    }
}

pub(super) fn wire_code(code: ErrorCode) -> i32 {
    i32::from(code as i16)
}
