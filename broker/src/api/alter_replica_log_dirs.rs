//! AlterReplicaLogDirs (34): replicas move to other log directories of this broker (KIP-113).
//!
//! The answer says that they will; DescribeLogDirs shows when they have. The directory that is named for a replica that is
//! not here yet is remembered, and the answer is REPLICA_NOT_AVAILABLE.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use kafka_wire::alter_replica_log_dirs::{
    AlterReplicaLogDirPartitionResult, AlterReplicaLogDirTopicResult, AlterReplicaLogDirsRequest,
    AlterReplicaLogDirsResponse,
};
use kafka_wire::{ByteString, ErrorCode, TopicPartition};

use super::{RequestContext, owned};
use crate::replication::ReplicaManager;

pub(crate) async fn handle(
    ctx: &RequestContext,
    request: AlterReplicaLogDirsRequest,
) -> AlterReplicaLogDirsResponse {
    let replicas = ctx.services.replicas.clone();
    // Directories are made here.
    let altered = tokio::task::spawn_blocking(move || alter(&replicas, request)).await;
    altered.unwrap_or_else(|error| {
        tracing::error!(%error, "a request for other log directories has failed");
        AlterReplicaLogDirsResponse::default()
    })
}

fn alter(
    replicas: &Arc<ReplicaManager>,
    request: AlterReplicaLogDirsRequest,
) -> AlterReplicaLogDirsResponse {
    let mut results: BTreeMap<ByteString, Vec<_>> = BTreeMap::new();
    for directory in &request.dirs {
        for topic in &directory.topics {
            for index in &topic.partitions {
                let partition = TopicPartition::new(owned(&topic.name), *index);
                let altered = replicas.alter_log_dir(&partition, Path::new(&*directory.path));
                let of_topic = results.entry(partition.topic).or_default();
                of_topic.push(AlterReplicaLogDirPartitionResult {
                    partition_index: *index,
                    error_code: altered.err().unwrap_or(ErrorCode::None) as i16,
                });
            }
        }
    }
    let results =
        results
            .into_iter()
            .map(|(topic_name, partitions)| AlterReplicaLogDirTopicResult {
                topic_name,
                partitions,
            });
    AlterReplicaLogDirsResponse {
        results: results.collect(),
        ..AlterReplicaLogDirsResponse::default()
    }
}
