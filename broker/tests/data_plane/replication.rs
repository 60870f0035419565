//! Several brokers: what is acknowledged is held by all that are in sync, whoever ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Buf;
use kafka_wire::fetch::{FetchResponse, FetchableTopicResponse, PartitionData};
use kafka_wire::list_offsets::{LATEST_TIMESTAMP, ListOffsetsRequest};
use kafka_wire::metadata::MetadataRequest;
use kafka_wire::produce::ProduceRequest;
use kafka_wire::{ApiKey, ErrorCode, Message, Uuid, encode_response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::client::{Client, TOPIC, batch, list_offsets, produce, values};
use crate::cluster::{Cluster, eventually};

/// Followers that are behind leave the ISR soon.
const SHORT_LAG: (&str, &str) = ("replica.lag.time.max.ms", "1000");

/// The log end offset, which only followers are told.
pub(crate) async fn log_end_offset(client: &mut Client) -> i64 {
    let request = ListOffsetsRequest {
        replica_id: 9,
        ..list_offsets(LATEST_TIMESTAMP)
    };
    client.list_offsets(&request).await.offset
}

/// All that is committed. One answer does not reach beyond a segment.
async fn read_all(client: &mut Client) -> Vec<String> {
    let mut all = Vec::new();
    loop {
        let data = client.fetch(all.len() as i64).await;
        all.extend(values(&data));
        if all.len() as i64 >= data.high_watermark {
            return all;
        }
    }
}

fn high_watermark(cluster: &Cluster, id: i32) -> i64 {
    let replica = cluster.brokers[&id].manager.replica(TOPIC, 0).unwrap();
    replica.high_watermark()
}

#[tokio::test]
async fn what_is_acknowledged_survives_its_leader() {
    let mut cluster = Cluster::start(3, &[]).await;
    let mut client = cluster.client(1).await;
    for value in ["a", "b", "c"] {
        assert_eq!(client.produce(-1, batch(&[value])).await.error_code, 0);
    }
    cluster.stop_broker(1).await;
    cluster.elect(2, &[2, 3]).await;
    let mut client = cluster.client(2).await;
    assert_eq!(client.produce(-1, batch(&["d"])).await.base_offset, 3);
    assert_eq!(values(&client.fetch(0).await), ["a", "b", "c", "d"]);
    let refused = cluster.client(3).await.produce(-1, batch(&["e"])).await;
    assert_eq!(
        ErrorCode::from_code(refused.error_code),
        ErrorCode::NotLeaderOrFollower
    );
}

#[tokio::test]
async fn a_broker_that_comes_back_catches_up_and_joins_the_isr() {
    let mut cluster = Cluster::start(3, &[]).await;
    cluster.client(1).await.produce(-1, batch(&["a"])).await;
    cluster.stop_broker(3).await;
    cluster.elect(1, &[1, 2]).await;
    cluster.client(1).await.produce(-1, batch(&["b"])).await;
    cluster.start_broker(3).await;
    cluster.announce().await;
    cluster.wait_for_isr(&[1, 2, 3]).await;
    cluster.elect(3, &[1, 2, 3]).await;
    assert_eq!(
        cluster
            .client(3)
            .await
            .produce(-1, batch(&["c"]))
            .await
            .base_offset,
        2
    );
    assert_eq!(
        values(&cluster.client(3).await.fetch(0).await),
        ["a", "b", "c"]
    );
}

#[tokio::test]
async fn a_follower_that_stops_leaves_the_isr_and_who_waits_is_answered() {
    let mut cluster = Cluster::start(2, &[SHORT_LAG]).await;
    let mut client = cluster.client(1).await;
    client.produce(-1, batch(&["a"])).await;
    cluster.stop_broker(2).await;
    assert_eq!(client.produce(-1, batch(&["b"])).await.error_code, 0);
    assert_eq!(cluster.isr(), [1]);
}

#[tokio::test]
async fn a_waiting_produce_does_not_hold_up_the_next_append() {
    let mut cluster = Cluster::start(2, &[]).await;
    cluster.stop_broker(2).await;
    let mut client = cluster.client(1).await;
    for value in ["a", "b", "c"] {
        let mut request = produce(-1, batch(&[value]));
        request.timeout_ms = 300;
        client.send(9, &request).await;
    }
    let mut other = cluster.client(1).await;
    while log_end_offset(&mut other).await < 3 {}
    for correlation_id in 1..=3 {
        let (found, response) = client.receive::<ProduceRequest>(9).await;
        assert_eq!(found, correlation_id);
        let error = ErrorCode::from_code(response.responses[0].partition_responses[0].error_code);
        assert_eq!(error, ErrorCode::RequestTimedOut);
    }
    assert!(
        values(&other.fetch(0).await).is_empty(),
        "nobody reads what is not committed"
    );
}

#[tokio::test]
async fn too_few_in_sync_replicas_refuse_acks_all() {
    let mut cluster = Cluster::start(2, &[("min.insync.replicas", "2")]).await;
    cluster.stop_broker(2).await;
    cluster.elect(1, &[1]).await;
    let mut client = cluster.client(1).await;
    let refused = client.produce(-1, batch(&["a"])).await;
    assert_eq!(
        ErrorCode::from_code(refused.error_code),
        ErrorCode::NotEnoughReplicas
    );
    assert_eq!(
        refused.error_message.as_deref(),
        Some(
            "The size of the current ISR Set(1) is insufficient to satisfy the min.isr requirement of 2 \
             for partition t-0"
        )
    );
    assert_eq!(
        client.produce(1, batch(&["b"])).await.base_offset,
        0,
        "nothing was appended"
    );
}

#[tokio::test]
async fn who_waits_for_acks_hears_of_the_lost_leadership() {
    let mut cluster = Cluster::start(2, &[]).await;
    cluster.stop_broker(2).await;
    let mut client = cluster.client(1).await;
    client.send(9, &produce(-1, batch(&["a"]))).await;
    let mut other = cluster.client(1).await;
    while log_end_offset(&mut other).await < 1 {}
    cluster.elect(2, &[2]).await;
    let (_, response) = client.receive::<ProduceRequest>(9).await;
    let error = ErrorCode::from_code(response.responses[0].partition_responses[0].error_code);
    assert_eq!(error, ErrorCode::NotLeaderOrFollower);
}

#[tokio::test]
async fn kip_101_an_old_leader_drops_what_nobody_else_has() {
    let mut cluster = Cluster::start(2, &[]).await;
    cluster.client(1).await.produce(-1, batch(&["a"])).await;
    // Broker 2 is cut off, and 1 appends what is never committed.
    cluster.stop_broker(2).await;
    cluster.client(1).await.produce(1, batch(&["lost"])).await;
    cluster.stop_broker(1).await;
    cluster.start_broker(2).await;
    cluster.elect(2, &[2]).await;
    cluster
        .client(2)
        .await
        .produce(-1, batch(&["b", "c"]))
        .await;
    cluster.start_broker(1).await;
    cluster.announce().await;
    cluster.wait_for_isr(&[1, 2]).await;
    cluster.elect(1, &[1, 2]).await;
    let mut client = cluster.client(1).await;
    client.produce(-1, batch(&["d"])).await;
    assert_eq!(read_all(&mut client).await, ["a", "b", "c", "d"]);
}

#[tokio::test]
async fn an_epoch_in_which_nothing_was_written_parts_no_logs() {
    let mut cluster = Cluster::start(2, &[]).await;
    cluster.client(1).await.produce(-1, batch(&["a"])).await;
    cluster.stop_broker(2).await;
    // Broker 1 notes an epoch that begins where its log ends, and broker 2 never hears of it.
    cluster.elect(1, &[1]).await;
    cluster.start_broker(2).await;
    cluster.elect(2, &[2]).await;
    cluster.wait_for_isr(&[1, 2]).await;
}

#[tokio::test]
async fn bug_kafka_9491_a_follower_below_the_leaders_log_starts_anew_where_that_starts() {
    let mut cluster = Cluster::start(2, &[("log.segment.bytes", "100")]).await;
    cluster.client(1).await.produce(-1, batch(&["a"])).await;
    cluster.stop_broker(2).await;
    cluster.elect(1, &[1]).await;
    for value in ["b", "c", "d"] {
        cluster.client(1).await.produce(-1, batch(&[value])).await;
    }
    cluster.stop_broker(1).await;
    // As retention would, while the follower was away.
    let log = cluster.log_directory(1).join("t-0");
    for base_offset in 0..2 {
        for suffix in ["log", "index", "timeindex"] {
            std::fs::remove_file(log.join(format!("{base_offset:020}.{suffix}"))).unwrap();
        }
    }
    cluster.start_broker(1).await;
    cluster.elect(1, &[1]).await;
    cluster.start_broker(2).await;
    cluster.announce().await;
    cluster.wait_for_isr(&[1, 2]).await;
    cluster.elect(2, &[1, 2]).await;
    let mut client = cluster.client(2).await;
    let data = client.fetch(1).await;
    assert_eq!(
        ErrorCode::from_code(data.error_code),
        ErrorCode::OffsetOutOfRange
    );
    let data = client.fetch(2).await;
    assert_eq!(
        (data.log_start_offset, &values(&data)[..]),
        (2, &["c".to_owned()][..])
    );
}

/// A leader that is at hand for one request after the other, and answers as a test wants.
struct FakeLeader {
    listener: TcpListener,
    socket: TcpStream,
}

impl FakeLeader {
    /// The next request's key, version and correlation id.
    async fn request(&mut self) -> (i16, i16, i32) {
        let size = self.socket.read_u32().await.unwrap();
        let mut frame = vec![0; size as usize];
        self.socket.read_exact(&mut frame).await.unwrap();
        let mut frame = &frame[..];
        (frame.get_i16(), frame.get_i16(), frame.get_i32())
    }

    async fn answer<M: Message>(&mut self, to: (i16, i16, i32), response: &M) {
        for chunk in encode_response(1, to.2, to.1, response).unwrap() {
            self.socket.write_all(&chunk).await.unwrap();
        }
    }

    async fn break_off(&mut self) {
        self.socket.shutdown().await.unwrap();
        self.socket = self.listener.accept().await.unwrap().0;
    }
}

#[tokio::test]
async fn a_broken_connection_loses_no_partition_whose_bounds_were_asked_for() {
    let mut cluster = Cluster::start(2, &[]).await;
    cluster.stop_broker(1).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut live_leaders = cluster.live_brokers();
    live_leaders[0].id = 1;
    live_leaders[0].endpoints[0].port = i32::from(listener.local_addr().unwrap().port());
    cluster.stop_broker(2).await;
    cluster.start_broker(2).await;
    cluster.leader_and_isr(2, live_leaders).await;
    let socket = listener.accept().await.unwrap().0;
    let mut leader = FakeLeader { listener, socket };
    let fetch = leader.request().await;
    assert_eq!(fetch.0, ApiKey::Fetch as i16);
    let partition = PartitionData {
        error_code: ErrorCode::OffsetOutOfRange as i16,
        ..PartitionData::default()
    };
    let topic = FetchableTopicResponse {
        topic_id: Uuid::from_bytes([7; 16]),
        partitions: vec![partition],
        ..FetchableTopicResponse::default()
    };
    let response = FetchResponse {
        responses: vec![topic],
        ..FetchResponse::default()
    };
    leader.answer(fetch, &response).await;
    assert_eq!(leader.request().await.0, ApiKey::ListOffsets as i16);
    leader.break_off().await;
    let asked_again = tokio::time::timeout(Duration::from_secs(10), leader.request()).await;
    assert_eq!(asked_again.unwrap().0, ApiKey::ListOffsets as i16);
}

#[tokio::test]
async fn unclean_a_follower_with_more_records_gives_them_up() {
    let mut cluster = Cluster::start(2, &[]).await;
    cluster.client(1).await.produce(-1, batch(&["a"])).await;
    cluster.stop_broker(2).await;
    cluster.elect(1, &[1]).await;
    cluster
        .client(1)
        .await
        .produce(-1, batch(&["b", "c"]))
        .await;
    cluster.start_broker(2).await;
    cluster.elect(2, &[2]).await;
    cluster.wait_for_isr(&[1, 2]).await;
    cluster.client(2).await.produce(-1, batch(&["d"])).await;
    cluster.elect(1, &[1, 2]).await;
    let mut client = cluster.client(1).await;
    client.produce(-1, batch(&["e"])).await;
    assert_eq!(read_all(&mut client).await, ["a", "d", "e"]);
}

#[tokio::test]
async fn a_follower_learns_the_high_watermark() {
    let cluster = Cluster::start(2, &[]).await;
    cluster
        .client(1)
        .await
        .produce(-1, batch(&["a", "b"]))
        .await;
    eventually("the follower's high watermark", || {
        high_watermark(&cluster, 2) == 2
    })
    .await;
}

#[tokio::test]
async fn bug_kafka_8813_a_configuration_that_changes_while_a_replica_is_made_is_in_force() {
    let mut cluster = Cluster::start(2, &[]).await;
    cluster.stop_broker(2).await;
    cluster.elect(1, &[1]).await;
    cluster.stop_broker(1).await;
    // The change is in coord once the replica is being made.
    let reads = AtomicUsize::new(0);
    cluster.topic_overrides = Arc::new(move |_| {
        if reads.fetch_add(1, Ordering::Relaxed) == 0 {
            return Arc::default();
        }
        let changed = [("min.insync.replicas", "2"), ("segment.bytes", "100")];
        Arc::new(
            changed
                .map(|(key, value)| (key.into(), value.into()))
                .into(),
        )
    });
    cluster.start_broker(1).await;
    cluster.announce().await;
    let mut client = cluster.client(1).await;
    let refused = client.produce(-1, batch(&["a"])).await;
    assert_eq!(
        ErrorCode::from_code(refused.error_code),
        ErrorCode::NotEnoughReplicas
    );
    for value in ["b", "c"] {
        assert_eq!(client.produce(1, batch(&[value])).await.error_code, 0);
    }
    let second_segment = format!("{:020}.log", 1);
    let log = cluster.log_directory(1).join("t-0");
    assert!(log.join(second_segment).exists());
}

#[tokio::test]
async fn a_follower_finds_its_leader_before_it_knows_the_cluster() {
    let mut cluster = Cluster::start(2, &[]).await;
    cluster.stop_broker(2).await;
    cluster.elect(1, &[1]).await;
    cluster.client(1).await.produce(-1, batch(&["a"])).await;
    cluster.start_broker(2).await;
    cluster.leader_and_isr(2, cluster.live_brokers()).await;
    eventually("the follower's high watermark", || {
        high_watermark(&cluster, 2) == 1
    })
    .await;
}

#[tokio::test]
async fn kip_516_the_log_of_a_deleted_topic_is_not_taken_for_the_new_one() {
    let mut cluster = Cluster::start(1, &[]).await;
    cluster.client(1).await.produce(-1, batch(&["old"])).await;
    cluster.stop_broker(1).await;
    *cluster.controller.topic_id.lock().unwrap() = [8; 16];
    cluster.start_broker(1).await;
    cluster.announce().await;
    let mut client = cluster.client(1).await;
    assert_eq!(client.produce(-1, batch(&["new"])).await.base_offset, 0);
    assert_eq!(values(&client.fetch(0).await), ["new"]);
}

#[tokio::test]
async fn kip_516_a_replica_of_a_deleted_topic_gives_way_to_one_of_the_new() {
    let cluster = Cluster::start(1, &[]).await;
    let mut client = cluster.client(1).await;
    client.produce(-1, batch(&["old"])).await;
    *cluster.controller.topic_id.lock().unwrap() = [8; 16];
    cluster.announce().await;
    assert_eq!(client.produce(-1, batch(&["new"])).await.base_offset, 0);
    assert_eq!(values(&client.fetch(0).await), ["new"]);
}

#[tokio::test]
async fn stray_logs_are_set_aside_and_not_removed() {
    let mut cluster = Cluster::start(1, &[]).await;
    cluster.client(1).await.produce(-1, batch(&["a"])).await;
    cluster.stop_broker(1).await;
    let from = cluster.log_directory(1).join("t-0");
    std::fs::rename(&from, cluster.log_directory(1).join("gone-3")).unwrap();
    // The controller cannot tell of this one, and says so.
    let kept = cluster.log_directory(1).join("kept-0");
    std::fs::create_dir(&kept).unwrap();
    cluster.start_broker(1).await;
    cluster.announce().await;
    let names = std::fs::read_dir(cluster.log_directory(1)).unwrap();
    let names: Vec<String> = names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(
        names
            .iter()
            .any(|name| name.starts_with("gone-3.") && name.ends_with("-stray")),
        "{names:?}"
    );
    assert!(!names.contains(&"gone-3".to_owned()));
    assert!(names.contains(&"kept-0".to_owned()), "{names:?}");
}

#[tokio::test]
async fn bug_kafka_9539_a_late_stop_replica_deletes_nothing() {
    let cluster = Cluster::start(1, &[]).await;
    cluster.elect(1, &[1]).await;
    assert_eq!(
        cluster.stop_replica(1, 0, true).await,
        ErrorCode::FencedLeaderEpoch
    );
    assert_eq!(
        cluster
            .client(1)
            .await
            .produce(-1, batch(&["a"]))
            .await
            .error_code,
        0
    );
    assert_eq!(cluster.stop_replica(1, -2, true).await, ErrorCode::None);
    assert!(cluster.brokers[&1].manager.replica(TOPIC, 0).is_none());
    assert!(!cluster.log_directory(1).join("t-0").exists());
}

#[tokio::test]
async fn a_dead_leader_is_told_as_none() {
    let mut cluster = Cluster::start(2, &[]).await;
    cluster.stop_broker(1).await;
    cluster.announce().await;
    let response = cluster
        .client(2)
        .await
        .ask(9, &MetadataRequest::default())
        .await;
    let partition = &response.topics[0].partitions[0];
    assert_eq!(
        (
            ErrorCode::from_code(partition.error_code),
            partition.leader_id
        ),
        (ErrorCode::LeaderNotAvailable, -1)
    );
}
