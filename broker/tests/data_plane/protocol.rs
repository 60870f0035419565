//! What a client may ask of one broker, and what it is told.

use std::time::{Duration, Instant};

use kafka_wire::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use kafka_wire::fetch::FetchRequest;
use kafka_wire::metadata::MetadataRequest;
use kafka_wire::offset_for_leader_epoch::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_wire::produce::ProduceRequest;
use kafka_wire::{ApiKey, ByteString, ErrorCode, Message, Reader};

use crate::client::{
    Client, TOPIC, batch, bytes, fetch, headers, idempotent_batch, list_offsets, produce, values,
};
use crate::cluster::Cluster;

async fn one() -> (Cluster, Client) {
    let cluster = Cluster::start(1, &[]).await;
    let client = cluster.client(1).await;
    (cluster, client)
}

async fn list_offset(client: &mut Client, timestamp: i64) -> (i16, i64) {
    let partition = client.list_offsets(&list_offsets(timestamp)).await;
    (partition.error_code, partition.offset)
}

#[tokio::test]
async fn records_come_back_as_they_were_sent_with_offset_and_epoch_patched_in() {
    let (_cluster, mut client) = one().await;
    let sent = batch(&["a", "b"]);
    for (acks, offset) in [(1, 0), (-1, 2)] {
        let produced = client.produce(acks, sent.clone()).await;
        assert_eq!((produced.error_code, produced.base_offset), (0, offset));
    }
    let data = client.fetch(0).await;
    assert_eq!(
        (data.error_code, data.high_watermark, data.log_start_offset),
        (0, 4, 0)
    );
    assert_eq!(values(&data), ["a", "b", "a", "b"]);
    let offsets: Vec<i64> = headers(&data)
        .iter()
        .map(|header| header.base_offset)
        .collect();
    assert_eq!(offsets, [0, 2]);
    assert_eq!(
        bytes(&data)[21..sent.len()],
        sent[21..],
        "all behind the checksum is untouched"
    );
}

#[tokio::test]
async fn acks_0_is_not_answered_and_an_error_ends_the_connection() {
    let (_cluster, mut client) = one().await;
    client.send(9, &produce(0, batch(&["a"]))).await;
    let produced = client.produce(1, batch(&["b"])).await;
    assert_eq!(
        produced.base_offset, 1,
        "the first answer is to the second request"
    );
    let mut other = produce(0, batch(&["c"]));
    other.topic_data[0].partition_data[0].index = 5;
    client.send(9, &other).await;
    assert!(client.frame().await.is_none());
}

#[tokio::test]
async fn what_cannot_be_appended_is_told() {
    let (_cluster, mut client) = one().await;
    let error = async |client: &mut Client, request: ProduceRequest| {
        let response = client.ask(9, &request).await;
        ErrorCode::from_code(response.responses[0].partition_responses[0].error_code)
    };
    assert_eq!(
        error(&mut client, produce(2, batch(&["a"]))).await,
        ErrorCode::InvalidRequiredAcks
    );
    let mut torn = batch(&["a"]).to_vec();
    *torn.last_mut().unwrap() ^= 1;
    assert_eq!(
        error(&mut client, produce(1, torn.into())).await,
        ErrorCode::CorruptMessage
    );
    let mut unknown = produce(1, batch(&["a"]));
    unknown.topic_data[0].name = ByteString::from_static("u");
    assert_eq!(
        error(&mut client, unknown.clone()).await,
        ErrorCode::UnknownTopicOrPartition
    );
    unknown.topic_data[0].name = ByteString::from_static("../u");
    assert_eq!(
        error(&mut client, unknown).await,
        ErrorCode::InvalidTopicException
    );
    assert_eq!(client.fetch(0).await.high_watermark, 0);
}

#[tokio::test]
async fn a_retried_batch_has_the_offset_that_it_had() {
    let (_cluster, mut client) = one().await;
    for (sequence, offset) in [(0, 0), (1, 1), (0, 0), (1, 1)] {
        let produced = client
            .produce(-1, idempotent_batch(9, sequence, &["a"]))
            .await;
        assert_eq!((produced.error_code, produced.base_offset), (0, offset));
    }
    let produced = client.produce(-1, idempotent_batch(9, 7, &["a"])).await;
    assert_eq!(
        ErrorCode::from_code(produced.error_code),
        ErrorCode::OutOfOrderSequenceNumber
    );
    assert_eq!(client.fetch(0).await.high_watermark, 2);
}

#[tokio::test]
async fn a_fetch_waits_for_records_and_is_woken_by_them() {
    let (cluster, mut client) = one().await;
    let mut request = fetch(0);
    request.max_wait_ms = 20_000;
    client.send(11, &request).await;
    let begun = Instant::now();
    cluster.client(1).await.produce(1, batch(&["a"])).await;
    let (_, response) = client.receive::<FetchRequest>(11).await;
    assert_eq!(values(&response.responses[0].partitions[0]), ["a"]);
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn a_waiting_fetch_is_overtaken_by_the_next_request() {
    let (_cluster, mut client) = one().await;
    let mut request = fetch(0);
    request.max_wait_ms = 20_000;
    client.send(11, &request).await;
    let begun = Instant::now();
    client.send(9, &MetadataRequest::default()).await;
    let (first, response) = client.receive::<FetchRequest>(11).await;
    assert!(bytes(&response.responses[0].partitions[0]).is_empty());
    let (second, _) = client.receive::<MetadataRequest>(9).await;
    assert_eq!((first, second), (1, 2));
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn the_first_batch_comes_though_it_is_larger_than_the_limit() {
    let (_cluster, mut client) = one().await;
    let large = "x".repeat(5000);
    client.produce(1, batch(&[&large])).await;
    client.produce(1, batch(&["b"])).await;
    let mut request = fetch(0);
    request.max_bytes = 10;
    let response = client.ask(11, &request).await;
    assert_eq!(values(&response.responses[0].partitions[0]), [large]);
}

#[tokio::test]
async fn an_offset_outside_of_the_log_is_out_of_range() {
    let (_cluster, mut client) = one().await;
    assert_eq!(
        ErrorCode::from_code(client.fetch(1).await.error_code),
        ErrorCode::OffsetOutOfRange
    );
    assert_eq!(client.fetch(0).await.error_code, 0);
}

#[tokio::test]
async fn a_session_tells_only_news() {
    let (cluster, mut client) = one().await;
    client.produce(1, batch(&["a"])).await;
    let mut request = fetch(0);
    request.session_epoch = 0;
    let response = client.ask(11, &request).await;
    let session_id = response.session_id;
    assert_ne!(session_id, 0);
    assert_eq!(values(&response.responses[0].partitions[0]), ["a"]);
    let mut next = fetch(1);
    (next.session_id, next.session_epoch) = (session_id, 1);
    assert!(client.ask(11, &next).await.responses.is_empty());
    cluster.client(1).await.produce(1, batch(&["b"])).await;
    (next.session_epoch, next.topics) = (2, Vec::new());
    let response = client.ask(11, &next).await;
    assert_eq!(values(&response.responses[0].partitions[0]), ["b"]);
    next.session_epoch = 9;
    let response = client.ask(11, &next).await;
    assert_eq!(
        ErrorCode::from_code(response.error_code),
        ErrorCode::InvalidFetchSessionEpoch
    );
}

#[tokio::test]
async fn offsets_are_found_by_end_by_time_and_by_epoch() {
    let (_cluster, mut client) = one().await;
    client.produce(1, batch(&["a", "b", "c"])).await;
    assert_eq!(list_offset(&mut client, -1).await, (0, 3));
    assert_eq!(list_offset(&mut client, -2).await, (0, 0));
    assert_eq!(list_offset(&mut client, -3).await, (0, 2));
    assert_eq!(list_offset(&mut client, 1001).await, (0, 1));
    assert_eq!(list_offset(&mut client, 5000).await, (0, -1));
    // Version 7 knows the largest timestamp, but not yet where what is local begins.
    let unsupported = ErrorCode::UnsupportedVersion as i16;
    for timestamp in [-4, -5, -6] {
        assert_eq!(list_offset(&mut client, timestamp).await, (unsupported, -1));
    }
    let partition = OffsetForLeaderPartition {
        leader_epoch: 0,
        current_leader_epoch: 0,
        partition: 0,
    };
    let topic = OffsetForLeaderTopic {
        topic: ByteString::from_static(TOPIC),
        partitions: vec![partition],
    };
    let mut request = OffsetForLeaderEpochRequest {
        topics: vec![topic],
        ..OffsetForLeaderEpochRequest::default()
    };
    let response = client.ask(4, &request).await;
    let end = &response.topics[0].partitions[0];
    assert_eq!(
        (end.error_code, end.leader_epoch, end.end_offset),
        (0, 0, 3)
    );
    request.topics[0].partitions[0].current_leader_epoch = 1;
    let response = client.ask(4, &request).await;
    let error = ErrorCode::from_code(response.topics[0].partitions[0].error_code);
    assert_eq!(error, ErrorCode::UnknownLeaderEpoch);
}

#[tokio::test]
async fn metadata_names_brokers_and_topics_in_every_version() {
    let (cluster, mut client) = one().await;
    for version in MetadataRequest::VERSIONS {
        let topics = (version == 0).then(Vec::new);
        let response = client
            .ask(
                version,
                &MetadataRequest {
                    topics,
                    ..MetadataRequest::default()
                },
            )
            .await;
        assert_eq!(
            response.brokers[0].port,
            i32::from(cluster.brokers[&1].port)
        );
        assert_eq!(response.topics[0].name.as_deref(), Some(TOPIC));
        assert_eq!(response.topics[0].partitions[0].leader_id, 1);
    }
    let none = MetadataRequest {
        topics: Some(Vec::new()),
        ..MetadataRequest::default()
    };
    assert!(client.ask(12, &none).await.topics.is_empty());
}

#[tokio::test]
async fn a_version_of_api_versions_that_is_yet_to_come_is_answered_in_the_oldest() {
    let (_cluster, mut client) = one().await;
    client
        .send_raw(&[0, 0, 0, 12, 0, 18, 0, 99, 0, 0, 0, 5, 1, 2, 3, 4])
        .await;
    let mut reader = Reader::new(client.frame().await.unwrap());
    assert_eq!(reader.read_i32(), Ok(5));
    let response = ApiVersionsResponse::decode(&mut reader, 0).unwrap();
    assert_eq!(
        ErrorCode::from_code(response.error_code),
        ErrorCode::UnsupportedVersion
    );
    let keys: Vec<_> = response
        .api_keys
        .iter()
        .map(|key| (key.api_key, key.min_version, key.max_version))
        .collect();
    assert_eq!(keys, [(18, 0, 4)]);
    let named = ApiVersionsRequest {
        client_software_name: ByteString::from_static("test"),
        client_software_version: ByteString::from_static("1"),
    };
    let response = client.ask(3, &named).await;
    assert_eq!(response.error_code, 0);
    let keys: Vec<i16> = response.api_keys.iter().map(|key| key.api_key).collect();
    for key in [ApiKey::Produce, ApiKey::Fetch, ApiKey::DeleteRecords] {
        assert!(keys.contains(&key.code()), "{} in {keys:?}", key.name());
    }
}

#[tokio::test]
async fn hostile_frames_end_their_connection_and_no_other() {
    let (cluster, mut other) = one().await;
    let frames: [&[u8]; 7] = [
        &[0, 0, 0, 0],
        &[255, 255, 255, 255],
        &[127, 255, 255, 255, 0],
        &[0, 0, 0, 2, 0, 0],
        // An API that nobody knows, and a version that nobody has.
        &[0, 0, 0, 10, 99, 0, 0, 0, 0, 0, 0, 1, 255, 255],
        &[0, 0, 0, 10, 0, 3, 0, 99, 0, 0, 0, 1, 255, 255],
        // A Metadata request of two billion topics.
        &[
            0, 0, 0, 14, 0, 3, 0, 1, 0, 0, 0, 1, 255, 255, 127, 255, 255, 255,
        ],
    ];
    for frame in frames {
        let mut client = cluster.client(1).await;
        client.send_raw(frame).await;
        assert!(client.frame().await.is_none(), "{frame:?}");
    }
    assert_eq!(other.fetch(0).await.error_code, 0);
}

#[tokio::test]
async fn answers_that_a_client_is_slow_to_take_come_whole_and_in_order() {
    let (_cluster, mut client) = one().await;
    let large = "x".repeat(900_000);
    for _ in 0..4 {
        client.produce(1, batch(&[&large])).await;
    }
    // More than any socket buffers: most of it is written while the client reads.
    for round in 0..12 {
        let request = FetchRequest {
            max_bytes: 1,
            ..fetch(round % 4)
        };
        client.send(11, &request).await;
    }
    for round in 0..12 {
        let (correlation_id, response) = client.receive::<FetchRequest>(11).await;
        let data = &response.responses[0].partitions[0];
        assert_eq!(i64::from(correlation_id), 4 + round + 1);
        assert_eq!(
            headers(data).first().map(|header| header.base_offset),
            Some(round % 4)
        );
        assert_eq!(values(data).first(), Some(&large));
    }
}

#[tokio::test]
async fn connections_are_bounded_in_number_and_in_idleness() {
    let properties = [
        ("max.connections.per.ip", "1"),
        ("connections.max.idle.ms", "200"),
    ];
    let cluster = Cluster::start(1, &properties).await;
    let mut first = cluster.client(1).await;
    assert_eq!(first.fetch(0).await.error_code, 0);
    assert!(
        cluster.client(1).await.frame().await.is_none(),
        "one too many"
    );
    assert!(first.frame().await.is_none(), "idle for too long");
    let mut second = cluster.client(1).await;
    assert_eq!(second.fetch(0).await.error_code, 0, "there is room again");
    let mut request = fetch(0);
    request.max_wait_ms = 600;
    second.send(11, &request).await;
    assert!(
        second.frame().await.is_some(),
        "who waits for an answer is not idle"
    );
}

#[tokio::test]
async fn large_frames_share_a_bound_and_wait_for_each_other() {
    let properties = [
        ("socket.request.max.bytes", "100000"),
        ("queued.max.request.bytes", "100000"),
    ];
    let cluster = Cluster::start(1, &properties).await;
    let mut hoarder = cluster.client(1).await;
    // A frame that has begun to arrive holds its share until its connection ends.
    hoarder.send_raw(&90_000_u32.to_be_bytes()).await;
    hoarder.send_raw(&[0; 10_000]).await;
    let mut small = cluster.client(1).await;
    assert_eq!(
        small.produce(1, batch(&["a"])).await.error_code,
        0,
        "small frames need none of it"
    );
    let mut large = cluster.client(1).await;
    large
        .send(9, &produce(1, batch(&[&"x".repeat(50_000)])))
        .await;
    let waits = tokio::time::timeout(Duration::from_millis(100), large.frame()).await;
    assert!(waits.is_err());
    drop(hoarder);
    let (_, response) = large.receive::<ProduceRequest>(9).await;
    assert_eq!(response.responses[0].partition_responses[0].base_offset, 1);
}

#[tokio::test]
async fn large_frames_that_are_only_announced_hold_up_nobody() {
    let properties = [
        ("socket.request.max.bytes", "2000000"),
        ("queued.max.request.bytes", "2000000"),
    ];
    let cluster = Cluster::start(1, &properties).await;
    let mut announcers = Vec::new();
    for _ in 0..10 {
        let mut announcer = cluster.client(1).await;
        announcer.send_raw(&1_900_000_u32.to_be_bytes()).await;
        announcer.send_raw(&[0; 100]).await;
        announcers.push(announcer);
    }
    // Behind the announcements, for the broker has heard them when it has accepted this one.
    let mut client = cluster.client(1).await;
    assert_eq!(client.fetch(0).await.error_code, 0);
    let large = batch(&[&"x".repeat(1_000_000)]);
    let produced = tokio::time::timeout(Duration::from_secs(10), client.produce(1, large)).await;
    let produced = produced.expect("it does not wait");
    assert_eq!((produced.error_code, produced.base_offset), (0, 0));
}

#[tokio::test]
async fn http_tells_life_readiness_and_numbers() {
    let (cluster, mut client) = one().await;
    client.produce(1, batch(&["a"])).await;
    assert_eq!(cluster.http(1, "/livez").await, (200, "ok\n".to_owned()));
    assert_eq!(cluster.http(1, "/readyz").await.0, 200);
    let (status, metrics) = cluster.http(1, "/metrics").await;
    assert_eq!(status, 200);
    for line in [
        "kafka_broker_leaders 1",
        "kafka_broker_under_replicated_partitions 0",
    ] {
        assert!(
            metrics.lines().any(|other| other == line),
            "{line} is not in {metrics}"
        );
    }
    assert!(
        metrics.contains("kafka_broker_records_in_bytes_total 69"),
        "{metrics}"
    );
}
