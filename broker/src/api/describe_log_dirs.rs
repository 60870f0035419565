//! DescribeLogDirs (35): this broker's log directories, and what lies in them (KIP-113).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use kafka_wire::describe_log_dirs::{
    DescribableLogDirTopic, DescribeLogDirsPartition, DescribeLogDirsRequest,
    DescribeLogDirsResponse, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use kafka_wire::{ByteString, ErrorCode, TopicPartition};
use log::{DirectoryDescription, LogDescription, OfflineDirectory};

use super::RequestContext;
use crate::replication::ReplicaManager;

/// Of a log that the controller has not spoken of nobody knows the high watermark.
const UNKNOWN_LAG: i64 = -1;

pub(crate) async fn handle(
    ctx: &RequestContext,
    request: DescribeLogDirsRequest,
) -> DescribeLogDirsResponse {
    let replicas = ctx.services.replicas.clone();
    // Each log is locked for a moment, and the volumes are asked for their size.
    let described = tokio::task::spawn_blocking(move || describe(&replicas, request.topics)).await;
    let results = described.unwrap_or_else(|error| {
        tracing::error!(%error, "a description of the log directories has failed");
        Vec::new()
    });
    DescribeLogDirsResponse {
        results,
        ..DescribeLogDirsResponse::default()
    }
}

fn describe(
    replicas: &ReplicaManager,
    asked: Option<Vec<DescribableLogDirTopic>>,
) -> Vec<DescribeLogDirsResult> {
    let asked: Option<HashSet<(ByteString, i32)>> = asked.map(|topics| {
        let topics = topics.into_iter();
        let partitions = topics.flat_map(|topic| {
            let name = topic.topic;
            let partitions = topic.partitions.into_iter();
            partitions.map(move |index| (name.clone(), index))
        });
        partitions.collect()
    });
    let (directories, offline) = replicas.describe_log_dirs();
    let present = directories.iter().flat_map(|directory| &directory.logs);
    let ends: HashMap<TopicPartition, i64> = present
        .filter(|log| !log.is_future)
        .map(|log| (log.partition.clone(), log.log_end_offset))
        .collect();
    let lag = |log: &LogDescription| {
        if log.is_future {
            let end = ends.get(&log.partition);
            return end.map_or(UNKNOWN_LAG, |end| end - log.log_end_offset);
        }
        let TopicPartition { topic, partition } = &log.partition;
        let replica = replicas.replica(topic, *partition);
        replica.map_or(UNKNOWN_LAG, |replica| {
            (replica.high_watermark() - log.log_end_offset).max(0)
        })
    };
    let is_asked = |log: &&LogDescription| {
        let TopicPartition { topic, partition } = &log.partition;
        asked
            .as_ref()
            .is_none_or(|asked| asked.contains(&(topic.clone(), *partition)))
    };
    let online = directories.iter().map(|directory| {
        let mut topics: BTreeMap<ByteString, Vec<_>> = BTreeMap::new();
        for log in directory.logs.iter().filter(is_asked) {
            let of_topic = topics.entry(log.partition.topic.clone()).or_default();
            of_topic.push(DescribeLogDirsPartition {
                partition_index: log.partition.partition,
                partition_size: bytes(log.size),
                offset_lag: lag(log),
                is_future_key: log.is_future,
            });
        }
        online(directory, topics)
    });
    online.chain(offline.iter().map(failed)).collect()
}

fn online(
    directory: &DirectoryDescription,
    topics: BTreeMap<ByteString, Vec<DescribeLogDirsPartition>>,
) -> DescribeLogDirsResult {
    let topics = topics
        .into_iter()
        .map(|(name, partitions)| DescribeLogDirsTopic { name, partitions });
    let result = DescribeLogDirsResult {
        log_dir: path(&directory.path),
        topics: topics.collect(),
        ..DescribeLogDirsResult::default()
    };
    match directory.space {
        Some(space) => DescribeLogDirsResult {
            total_bytes: bytes(space.total_bytes),
            usable_bytes: bytes(space.usable_bytes),
            ..result
        },
        None => result,
    }
}

fn failed(directory: &OfflineDirectory) -> DescribeLogDirsResult {
    DescribeLogDirsResult {
        error_code: ErrorCode::KafkaStorageError as i16,
        log_dir: path(&directory.path),
        ..DescribeLogDirsResult::default()
    }
}

fn path(path: &Path) -> ByteString {
    ByteString::from(path.display().to_string())
}

fn bytes(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
