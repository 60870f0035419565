//! Old records go, by themselves or because a client wants it, and no replica brings them back.

use std::path::Path;

use kafka_wire::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use kafka_wire::list_offsets::EARLIEST_TIMESTAMP;
use kafka_wire::{ByteString, ErrorCode};

use crate::client::{Client, TOPIC, batch, list_offsets, values};
use crate::cluster::{Cluster, eventually};

/// Retention is looked at all the time, and segments are as small as they may be.
const EAGER: [(&str, &str); 3] = [
    ("log.initial.task.delay.ms", "1"),
    ("log.retention.check.interval.ms", "1"),
    ("log.segment.bytes", "70"),
];

async fn delete_records(
    client: &mut Client,
    topic: &'static str,
    offset: i64,
    timeout_ms: i32,
) -> (i64, ErrorCode) {
    let partition = DeleteRecordsPartition {
        partition_index: 0,
        offset,
    };
    let topic = DeleteRecordsTopic {
        name: ByteString::from_static(topic),
        partitions: vec![partition],
    };
    let request = DeleteRecordsRequest {
        topics: vec![topic],
        timeout_ms,
    };
    let response = client.ask(2, &request).await;
    let partition = &response.topics[0].partitions[0];
    (
        partition.low_watermark,
        ErrorCode::from_code(partition.error_code),
    )
}

async fn earliest(client: &mut Client) -> i64 {
    let partition = client.list_offsets(&list_offsets(EARLIEST_TIMESTAMP)).await;
    partition.offset
}

fn logs(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory.join("t-0")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut logs: Vec<String> = names.filter(|name| name.ends_with(".log")).collect();
    logs.sort();
    logs
}

fn log_start_offset(cluster: &Cluster, id: i32) -> i64 {
    let replica = cluster.brokers[&id].manager.replica(TOPIC, 0).unwrap();
    replica.log_start_offset()
}

#[tokio::test]
async fn old_segments_go_on_every_replica() {
    let cluster = Cluster::start(2, &EAGER).await;
    let mut client = cluster.client(1).await;
    // Of 1970, so that all of it has outlived retention.ms at once.
    for value in ["a", "b", "c"] {
        assert_eq!(client.produce(-1, batch(&[value])).await.error_code, 0);
    }
    eventually("the deletion", || {
        (1..=2).all(|id| logs(&cluster.log_directory(id)) == ["00000000000000000003.log"])
    })
    .await;
    assert_eq!(earliest(&mut client).await, 3);
    let gone = client.fetch(0).await;
    assert_eq!(
        ErrorCode::from_code(gone.error_code),
        ErrorCode::OffsetOutOfRange
    );
    assert_eq!(client.produce(-1, batch(&["d"])).await.base_offset, 3);
}

#[tokio::test]
async fn records_deleted_by_a_client_are_gone_from_all_replicas_when_it_is_answered() {
    let properties = [EAGER[0], EAGER[1], EAGER[2], ("log.retention.ms", "-1")];
    let cluster = Cluster::start(3, &properties).await;
    let mut client = cluster.client(1).await;
    for value in ["a", "b", "c", "d"] {
        assert_eq!(client.produce(-1, batch(&[value])).await.error_code, 0);
    }
    assert_eq!(
        delete_records(&mut client, TOPIC, 2, 10_000).await,
        (2, ErrorCode::None)
    );
    assert_eq!(
        (1..=3)
            .map(|id| log_start_offset(&cluster, id))
            .collect::<Vec<_>>(),
        [2; 3]
    );
    assert_eq!(values(&client.fetch(2).await), ["c"]);
    assert_eq!(
        delete_records(&mut client, TOPIC, 1, 10_000).await,
        (2, ErrorCode::None),
        "what is gone stays gone"
    );
    eventually("the deletion of segments", || {
        (1..=3).all(|id| logs(&cluster.log_directory(id)).len() == 2)
    })
    .await;
    cluster.elect(2, &[1, 2, 3]).await;
    let mut client = cluster.client(2).await;
    assert_eq!(earliest(&mut client).await, 2);
    assert_eq!(
        delete_records(&mut client, TOPIC, -1, 10_000).await,
        (4, ErrorCode::None),
        "-1 is the high watermark"
    );
    assert_eq!(earliest(&mut client).await, 4);
}

#[tokio::test]
async fn what_cannot_be_deleted_is_refused() {
    let mut cluster = Cluster::start(2, &[]).await;
    let mut client = cluster.client(1).await;
    assert_eq!(client.produce(-1, batch(&["a"])).await.error_code, 0);
    let refused = |error| (-1, error);
    for (offset, error) in [
        (2, ErrorCode::OffsetOutOfRange),
        (-2, ErrorCode::OffsetOutOfRange),
    ] {
        assert_eq!(
            delete_records(&mut client, TOPIC, offset, 10_000).await,
            refused(error)
        );
    }
    for (topic, error) in [
        ("other", ErrorCode::UnknownTopicOrPartition),
        ("__consumer_offsets", ErrorCode::InvalidTopicException),
    ] {
        assert_eq!(
            delete_records(&mut client, topic, 0, 10_000).await,
            refused(error)
        );
    }
    let mut follower = cluster.client(2).await;
    assert_eq!(
        delete_records(&mut follower, TOPIC, 0, 10_000).await,
        refused(ErrorCode::NotLeaderOrFollower)
    );
    // The follower is alive as far as anybody knows, and does not move.
    cluster.stop_broker(2).await;
    assert_eq!(
        delete_records(&mut client, TOPIC, 1, 50).await,
        refused(ErrorCode::RequestTimedOut)
    );
    assert_eq!(
        earliest(&mut client).await,
        1,
        "the leader has moved all the same"
    );
    cluster.configure_topic(&[("cleanup.policy", "compact")]);
    assert_eq!(
        delete_records(&mut client, TOPIC, 1, 10_000).await,
        refused(ErrorCode::PolicyViolation)
    );
}

#[tokio::test]
async fn who_waits_for_a_deletion_hears_of_the_new_leader() {
    let mut cluster = Cluster::start(2, &[]).await;
    let mut client = cluster.client(1).await;
    assert_eq!(client.produce(-1, batch(&["a"])).await.error_code, 0);
    cluster.stop_broker(2).await;
    let (answer, ()) = tokio::join!(delete_records(&mut client, TOPIC, 1, 20_000), async {
        eventually("the leader's part", || log_start_offset(&cluster, 1) == 1).await;
        // Broker 2 is not known to be gone, or nobody would wait for it.
        {
            let mut state = cluster.controller.state.lock().unwrap();
            (state.leader, state.leader_epoch) = (2, state.leader_epoch + 1);
        }
        cluster.leader_and_isr(1, cluster.live_brokers()).await;
    });
    assert_eq!(answer, (-1, ErrorCode::NotLeaderOrFollower));
}

/// A follower that was away while all it holds was deleted begins anew where the leader begins, not at 0.
#[tokio::test]
async fn bug_kafka_9491_and_2143_a_follower_below_the_leaders_start_begins_there() {
    let mut cluster = Cluster::start(2, &EAGER).await;
    let mut client = cluster.client(1).await;
    assert_eq!(client.produce(-1, batch(&["a"])).await.error_code, 0);
    cluster.stop_broker(2).await;
    cluster.elect(1, &[1]).await;
    for value in ["b", "c", "d"] {
        assert_eq!(client.produce(-1, batch(&[value])).await.error_code, 0);
    }
    eventually("the deletion", || log_start_offset(&cluster, 1) == 4).await;
    cluster.configure_topic(&[("retention.ms", "-1")]);
    cluster.start_broker(2).await;
    cluster.announce().await;
    cluster.wait_for_isr(&[1, 2]).await;
    assert_eq!(log_start_offset(&cluster, 2), 4);
    assert_eq!(
        logs(&cluster.log_directory(2)),
        ["00000000000000000004.log"]
    );
    assert_eq!(client.produce(-1, batch(&["e"])).await.base_offset, 4);
}

/// The leader's log starts within a batch, which its new follower is sent as a whole.
#[tokio::test]
async fn bug_kafka_6975_a_follower_begins_where_records_were_deleted_within_a_batch() {
    let mut cluster = Cluster::start(2, &[]).await;
    cluster.stop_broker(2).await;
    cluster.elect(1, &[1]).await;
    let mut client = cluster.client(1).await;
    assert_eq!(
        client.produce(-1, batch(&["a", "b", "c"])).await.error_code,
        0
    );
    assert_eq!(
        delete_records(&mut client, TOPIC, 1, 10_000).await,
        (1, ErrorCode::None)
    );
    cluster.start_broker(2).await;
    cluster.announce().await;
    cluster.wait_for_isr(&[1, 2]).await;
    assert_eq!(log_start_offset(&cluster, 2), 1);
    assert_eq!(client.produce(-1, batch(&["d"])).await.base_offset, 3);
    cluster.elect(2, &[1, 2]).await;
    let mut client = cluster.client(2).await;
    assert_eq!(earliest(&mut client).await, 1);
    assert_eq!(values(&client.fetch(1).await)[..3], ["a", "b", "c"]);
}

#[tokio::test]
async fn a_topics_configuration_takes_effect_without_a_restart() {
    let properties = [EAGER[0], EAGER[1], ("log.retention.ms", "-1")];
    let cluster = Cluster::start(1, &properties).await;
    let mut client = cluster.client(1).await;
    let append = async |client: &mut Client, value: &str| {
        ErrorCode::from_code(client.produce(1, batch(&[value])).await.error_code)
    };
    for value in ["a", "b"] {
        assert_eq!(append(&mut client, value).await, ErrorCode::None);
    }
    let directory = cluster.log_directory(1);
    assert_eq!(logs(&directory).len(), 1);
    cluster.configure_topic(&[("segment.bytes", "70"), ("max.message.bytes", "70")]);
    assert_eq!(append(&mut client, "c").await, ErrorCode::None);
    assert_eq!(logs(&directory).len(), 2);
    assert_eq!(
        append(&mut client, &"x".repeat(100)).await,
        ErrorCode::MessageTooLarge
    );
    cluster.configure_topic(&[("retention.ms", "0")]);
    eventually("the deletion", || {
        logs(&directory) == ["00000000000000000003.log"]
    })
    .await;
    assert_eq!(append(&mut client, &"x".repeat(100)).await, ErrorCode::None);
}

#[tokio::test]
async fn a_brokers_dynamic_configuration_takes_effect_where_a_topic_has_none_of_its_own() {
    let properties = [EAGER[0], EAGER[1], ("log.retention.ms", "-1")];
    let cluster = Cluster::start(1, &properties).await;
    let mut client = cluster.client(1).await;
    let append = async |client: &mut Client| {
        ErrorCode::from_code(client.produce(1, batch(&["a"])).await.error_code)
    };
    assert_eq!(append(&mut client).await, ErrorCode::None);
    cluster.configure_brokers(&[("message.max.bytes", "60")]);
    assert_eq!(append(&mut client).await, ErrorCode::MessageTooLarge);
    cluster.configure_topic(&[("max.message.bytes", "70")]);
    assert_eq!(append(&mut client).await, ErrorCode::None);
    cluster.configure_brokers(&[("log.retention.ms", "0"), ("log.segment.bytes", "70")]);
    eventually("the deletion", || log_start_offset(&cluster, 1) == 2).await;
    // What is taken back holds no longer.
    cluster.configure_brokers(&[]);
    assert_eq!(append(&mut client).await, ErrorCode::None);
    assert_eq!(append(&mut client).await, ErrorCode::None);
    assert_eq!(logs(&cluster.log_directory(1)).len(), 1);
}
