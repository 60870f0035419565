//! Log directories that fail under a broker.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kafka_wire::alter_replica_log_dirs::{
    AlterReplicaLogDir, AlterReplicaLogDirTopic, AlterReplicaLogDirsRequest,
};
use kafka_wire::describe_log_dirs::{
    DescribableLogDirTopic, DescribeLogDirsPartition, DescribeLogDirsRequest, DescribeLogDirsResult,
};
use kafka_wire::list_offsets::LATEST_TIMESTAMP;
use kafka_wire::{ByteString, ErrorCode};

use crate::client::{Client, TOPIC, batch, list_offsets, values};
use crate::cluster::Cluster;
use crate::replication::log_end_offset;

/// Each batch begins a segment, and so needs the directory.
const SMALL_SEGMENTS: (&str, &str) = ("log.segment.bytes", "100");

async fn produce(client: &mut Client) -> ErrorCode {
    let answer = client.produce(-1, batch(&["x"])).await;
    ErrorCode::from_code(answer.error_code)
}

async fn end_offset(client: &mut Client) -> ErrorCode {
    let partition = client.list_offsets(&list_offsets(LATEST_TIMESTAMP)).await;
    ErrorCode::from_code(partition.error_code)
}

async fn fetch(client: &mut Client) -> ErrorCode {
    ErrorCode::from_code(client.fetch(0).await.error_code)
}

/// Takes the partition's directory away. Where it was, and where it is.
fn hide(directory: &Path) -> [PathBuf; 2] {
    let paths = [directory.join("t-0"), directory.join("hidden")];
    std::fs::rename(&paths[0], &paths[1]).unwrap();
    paths
}

/// The log directory that holds the partition.
fn holder(cluster: &Cluster, id: i32) -> PathBuf {
    let mut directories = cluster.log_directories(id).into_iter();
    directories
        .find(|directory| directory.join("t-0").is_dir())
        .unwrap()
}

async fn wait_for_offline(cluster: &Cluster, id: i32, count: usize) {
    let mut offline = cluster.brokers[&id].manager.offline_log_dirs();
    let wait = offline.wait_for(|offline| *offline == count);
    tokio::time::timeout(Duration::from_secs(20), wait)
        .await
        .expect("in time")
        .unwrap();
}

#[tokio::test]
async fn without_a_log_directory_the_broker_halts() {
    let cluster = Cluster::start(1, &[SMALL_SEGMENTS]).await;
    let mut client = cluster.client(1).await;
    assert_eq!(produce(&mut client).await, ErrorCode::None);
    let directory = cluster.log_directory(1);
    hide(&directory);
    assert_eq!(produce(&mut client).await, ErrorCode::KafkaStorageError);
    let failure = cluster.brokers[&1].manager.log_failure();
    let failure = tokio::time::timeout(Duration::from_secs(20), failure).await;
    let text = failure.unwrap().to_string();
    let expected = format!(
        "no log directory is left: {} is offline: ",
        directory.display()
    );
    assert!(text.starts_with(&expected), "{text}");
    assert!(!text.contains('\n'), "{text}");
}

#[tokio::test]
async fn a_partition_in_a_failed_directory_is_offline_until_the_broker_starts_anew() {
    let mut cluster = Cluster::start_with_log_dirs(2, 1, &[SMALL_SEGMENTS]).await;
    let mut client = cluster.client(1).await;
    assert_eq!(produce(&mut client).await, ErrorCode::None);
    let [shown, hidden] = hide(&holder(&cluster, 1));
    assert_eq!(produce(&mut client).await, ErrorCode::KafkaStorageError);
    wait_for_offline(&cluster, 1, 1).await;
    // The disk works again. Nobody asks it.
    std::fs::rename(hidden, shown).unwrap();
    assert_eq!(produce(&mut client).await, ErrorCode::KafkaStorageError);
    assert_eq!(fetch(&mut client).await, ErrorCode::KafkaStorageError);
    assert_eq!(end_offset(&mut client).await, ErrorCode::KafkaStorageError);
    // The controller hears it whatever it says, and the replica is not made anew elsewhere.
    let live_brokers = cluster.live_brokers();
    let told = cluster.leader_and_isr(1, live_brokers.clone()).await;
    assert_eq!(told, ErrorCode::KafkaStorageError);
    cluster.controller.state.lock().unwrap().leader_epoch += 1;
    let told = cluster.leader_and_isr(1, live_brokers.clone()).await;
    assert_eq!(told, ErrorCode::KafkaStorageError);
    let deleted = cluster.stop_replica(1, -2, true).await;
    assert_eq!(deleted, ErrorCode::KafkaStorageError);
    let told = cluster.leader_and_isr(1, live_brokers).await;
    assert_eq!(told, ErrorCode::KafkaStorageError);
    assert_eq!(produce(&mut client).await, ErrorCode::KafkaStorageError);
    holder(&cluster, 1);

    cluster.stop_broker(1).await;
    cluster.start_broker(1).await;
    cluster.announce().await;
    let mut client = cluster.client(1).await;
    assert_eq!(produce(&mut client).await, ErrorCode::None);
    assert_eq!(values(&client.fetch(0).await), ["x"]);
}

#[tokio::test]
async fn who_waits_for_a_replica_whose_directory_fails_hears_of_it() {
    let properties = [SMALL_SEGMENTS, ("replica.lag.time.max.ms", "60000")];
    let mut cluster = Cluster::start_with_log_dirs(2, 2, &properties).await;
    let mut client = cluster.client(1).await;
    assert_eq!(produce(&mut client).await, ErrorCode::None);
    // The follower does not answer, so that the leader waits for it.
    cluster.stop_broker(2).await;
    let waiting = {
        let mut client = cluster.client(1).await;
        tokio::spawn(async move { produce(&mut client).await })
    };
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while log_end_offset(&mut client).await < 2 {
        assert!(
            tokio::time::Instant::now() < deadline,
            "nothing is appended"
        );
    }
    hide(&holder(&cluster, 1));
    assert_eq!(produce(&mut client).await, ErrorCode::KafkaStorageError);
    let answer = tokio::time::timeout(Duration::from_secs(20), waiting).await;
    assert_eq!(answer.unwrap().unwrap(), ErrorCode::KafkaStorageError);
}

#[tokio::test]
async fn a_follower_whose_directory_fails_fetches_no_more() {
    let properties = [SMALL_SEGMENTS, ("replica.lag.time.max.ms", "1000")];
    let cluster = Cluster::start_with_log_dirs(2, 2, &properties).await;
    let mut client = cluster.client(1).await;
    assert_eq!(produce(&mut client).await, ErrorCode::None);
    hide(&holder(&cluster, 2));
    // It leaves the ISR, for it takes in nothing any more.
    assert_eq!(produce(&mut client).await, ErrorCode::None);
    wait_for_offline(&cluster, 2, 1).await;
    cluster.wait_for_isr(&[1]).await;
    let told = cluster.leader_and_isr(2, cluster.live_brokers()).await;
    assert_eq!(told, ErrorCode::KafkaStorageError);
}

#[tokio::test]
async fn a_leader_that_could_open_no_file_takes_records_once_it_can() {
    let cluster = Cluster::start(1, &[SMALL_SEGMENTS]).await;
    let mut client = cluster.client(1).await;
    assert_eq!(produce(&mut client).await, ErrorCode::None);
    cluster.fs.run_out_in(cluster.log_directory(1));
    for _ in 0..2 {
        assert_eq!(produce(&mut client).await, ErrorCode::KafkaStorageError);
    }
    assert_eq!(end_offset(&mut client).await, ErrorCode::None);
    cluster.fs.recover();
    assert_eq!(client.produce(-1, batch(&["y"])).await.base_offset, 1);
    assert_eq!(values(&client.fetch(1).await), ["y"]);
    cluster.controller.state.lock().unwrap().leader_epoch += 1;
    let told = cluster.leader_and_isr(1, cluster.live_brokers()).await;
    assert_eq!(told, ErrorCode::None);
    assert_eq!(produce(&mut client).await, ErrorCode::None);
}

#[tokio::test]
async fn a_follower_that_could_open_no_file_catches_up_once_it_can() {
    let properties = [SMALL_SEGMENTS, ("replica.lag.time.max.ms", "1000")];
    let cluster = Cluster::start(2, &properties).await;
    let mut client = cluster.client(1).await;
    assert_eq!(produce(&mut client).await, ErrorCode::None);
    cluster.fs.run_out_in(cluster.log_directory(2));
    // Acknowledged once the follower has left the ISR.
    assert_eq!(produce(&mut client).await, ErrorCode::None);
    cluster.wait_for_isr(&[1]).await;
    cluster.fs.recover();
    cluster.wait_for_isr(&[1, 2]).await;
    assert_eq!(produce(&mut client).await, ErrorCode::None);
}

#[tokio::test]
async fn a_replica_that_may_lie_in_an_offline_directory_is_not_made_anew_and_a_new_one_is() {
    let mut cluster = Cluster::start_with_log_dirs(2, 1, &[]).await;
    let mut client = cluster.client(1).await;
    assert_eq!(produce(&mut client).await, ErrorCode::None);
    cluster.stop_broker(1).await;
    // A file where the directory was.
    let directory = holder(&cluster, 1);
    let aside = directory.with_extension("aside");
    std::fs::rename(&directory, &aside).unwrap();
    std::fs::write(&directory, "").unwrap();
    cluster.start_broker(1).await;
    cluster.announce().await;
    let live_brokers = cluster.live_brokers();
    let told = cluster.leader_and_isr(1, live_brokers.clone()).await;
    assert_eq!(told, ErrorCode::KafkaStorageError);
    let mut client = cluster.client(1).await;
    assert_eq!(produce(&mut client).await, ErrorCode::KafkaStorageError);
    assert_eq!(fetch(&mut client).await, ErrorCode::KafkaStorageError);
    assert_eq!(end_offset(&mut client).await, ErrorCode::KafkaStorageError);
    // Nobody knows whether it is there to be deleted.
    let deleted = cluster.stop_replica(1, -2, true).await;
    assert_eq!(deleted, ErrorCode::KafkaStorageError);
    cluster.controller.state.lock().unwrap().is_new = true;
    let told = cluster.leader_and_isr(1, live_brokers).await;
    assert_eq!(told, ErrorCode::None);
    assert_eq!(produce(&mut client).await, ErrorCode::None);
    holder(&cluster, 1);
}

async fn alter(client: &mut Client, path: &Path, topic: &str, partition: i32) -> ErrorCode {
    let topic = AlterReplicaLogDirTopic {
        name: ByteString::from(topic),
        partitions: vec![partition],
    };
    let directory = AlterReplicaLogDir {
        path: ByteString::from(path.to_str().unwrap()),
        topics: vec![topic],
    };
    let request = AlterReplicaLogDirsRequest {
        dirs: vec![directory],
    };
    let answer = client.ask(2, &request).await;
    ErrorCode::from_code(answer.results[0].partitions[0].error_code)
}

async fn describe(client: &mut Client, topics: Option<&[&str]>) -> Vec<DescribeLogDirsResult> {
    let topic = |name: &&str| DescribableLogDirTopic {
        topic: ByteString::from(*name),
        partitions: vec![0],
    };
    let request = DescribeLogDirsRequest {
        topics: topics.map(|topics| topics.iter().map(topic).collect()),
    };
    let answer = client.ask(4, &request).await;
    assert_eq!(answer.error_code, 0);
    answer.results
}

/// The one log in a directory, if there is one.
fn only(result: &DescribeLogDirsResult) -> Option<&DescribeLogDirsPartition> {
    let [topic] = &result.topics[..] else {
        return None;
    };
    assert_eq!((&*topic.name, topic.partitions.len()), (TOPIC, 1));
    topic.partitions.first()
}

#[tokio::test]
async fn a_replica_moves_to_another_directory_while_it_serves() {
    let cluster = Cluster::start_with_log_dirs(2, 1, &[SMALL_SEGMENTS]).await;
    let mut client = cluster.client(1).await;
    for _ in 0..20 {
        assert_eq!(produce(&mut client).await, ErrorCode::None);
    }
    let from = holder(&cluster, 1);
    let mut others = cluster.log_directories(1).into_iter();
    let to = others.find(|directory| *directory != from).unwrap();
    assert_eq!(alter(&mut client, &to, TOPIC, 0).await, ErrorCode::None);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while holder(&cluster, 1) != to {
        assert!(tokio::time::Instant::now() < deadline, "it does not move");
        assert_eq!(produce(&mut client).await, ErrorCode::None);
    }
    assert_eq!(produce(&mut client).await, ErrorCode::None);
    let described = describe(&mut client, None).await;
    for result in &described {
        assert_eq!(result.error_code, 0);
        assert!(result.total_bytes > 0 && result.usable_bytes >= 0);
        let is_there = *result.log_dir == *to.to_str().unwrap();
        assert_eq!(only(result).is_some(), is_there);
        if let Some(log) = only(result) {
            assert!(log.partition_size >= 21 * 69 && !log.is_future_key);
            assert_eq!(log.offset_lag, 0);
        }
    }
    let end = log_end_offset(&mut client).await;
    for offset in 0..end {
        assert_eq!(values(&client.fetch(offset).await)[0], "x");
    }
}

#[tokio::test]
async fn a_move_is_throttled_shown_and_ended_by_a_move_back() {
    let throttle = ("replica.alter.log.dirs.io.max.bytes.per.second", "1");
    let cluster = Cluster::start_with_log_dirs(2, 1, &[SMALL_SEGMENTS, throttle]).await;
    let mut client = cluster.client(1).await;
    for _ in 0..20 {
        assert_eq!(produce(&mut client).await, ErrorCode::None);
    }
    let from = holder(&cluster, 1);
    let mut others = cluster.log_directories(1).into_iter();
    let to = others.find(|directory| *directory != from).unwrap();
    assert_eq!(alter(&mut client, &to, TOPIC, 0).await, ErrorCode::None);
    let described = describe(&mut client, Some(&[TOPIC])).await;
    let futures: Vec<_> = described.iter().filter_map(only).collect();
    assert_eq!(futures.len(), 2);
    let future = futures.iter().find(|log| log.is_future_key).unwrap();
    assert!(
        future.offset_lag > 0 && future.offset_lag <= 20,
        "{future:?}"
    );
    assert_eq!(
        describe(&mut client, Some(&["other"]))
            .await
            .iter()
            .find_map(only),
        None
    );
    assert_eq!(alter(&mut client, &from, TOPIC, 0).await, ErrorCode::None);
    let described = describe(&mut client, None).await;
    let logs: Vec<_> = described.iter().filter_map(only).collect();
    assert_eq!(logs.len(), 1);
    assert!(!logs[0].is_future_key);
    assert_eq!(holder(&cluster, 1), from);
}

#[tokio::test]
async fn what_cannot_move_is_refused_with_kafkas_errors() {
    let cluster = Cluster::start_with_log_dirs(2, 1, &[SMALL_SEGMENTS]).await;
    let mut client = cluster.client(1).await;
    assert_eq!(produce(&mut client).await, ErrorCode::None);
    let from = holder(&cluster, 1);
    let mut others = cluster.log_directories(1).into_iter();
    let to = others.find(|directory| *directory != from).unwrap();
    for elsewhere in [from.join(".."), from.join("t-0"), PathBuf::from("/")] {
        let refused = alter(&mut client, &elsewhere, TOPIC, 0).await;
        assert_eq!(refused, ErrorCode::LogDirNotFound);
    }
    let unknown = alter(&mut client, &to, "other", 0).await;
    assert_eq!(unknown, ErrorCode::UnknownTopicOrPartition);
    for name in ["../t", "", "."] {
        let refused = alter(&mut client, &to, name, 0).await;
        assert_eq!(refused, ErrorCode::InvalidTopicException);
    }
    hide(&from);
    assert_eq!(produce(&mut client).await, ErrorCode::KafkaStorageError);
    for directory in [&from, &to] {
        let refused = alter(&mut client, directory, TOPIC, 0).await;
        assert_eq!(refused, ErrorCode::KafkaStorageError);
    }
    let described = describe(&mut client, None).await;
    let offline = described
        .iter()
        .find(|result| *result.log_dir == *from.to_str().unwrap());
    assert_eq!(
        ErrorCode::from_code(offline.unwrap().error_code),
        ErrorCode::KafkaStorageError
    );
}
