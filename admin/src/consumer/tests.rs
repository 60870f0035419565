//! The consumer against brokers that fall silent and hand their leadership over.

use std::sync::{Arc, Mutex};

use kafka_wire::ApiKey;
use kafka_wire::compression::Compression;
use kafka_wire::fetch::{FetchRequest, FetchableTopicResponse, PartitionData};
use kafka_wire::list_offsets::{
    ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsTopicResponse,
};
use kafka_wire::record_batch::RecordBatchBuilder;

use super::*;
use crate::client::fake_broker::{Call, FakeBroker, Reply, cluster, metadata};

fn config(max_messages: u64) -> ConsumerConfig {
    ConsumerConfig {
        topics: Topics::Named("t".to_owned()),
        partition: None,
        start: Start::Earliest,
        reset: Start::Earliest,
        max_messages: Some(max_messages),
        timeout: Some(Duration::from_secs(10)),
        read_committed: false,
        metadata_max_age: Duration::from_secs(300),
    }
}

/// Answers for the partitions that this broker leads: each begins at offset 5 and holds `p<partition>-5` to
/// `p<partition>-8`, two records to a batch and a batch to an answer.
fn lead(call: &mut Call, code: ErrorCode) -> Reply {
    match call.key {
        ApiKey::ListOffsets => {
            let request: ListOffsetsRequest = call.decode();
            let topics = request
                .topics
                .into_iter()
                .map(|topic| ListOffsetsTopicResponse {
                    name: topic.name,
                    partitions: topic
                        .partitions
                        .into_iter()
                        .map(|partition| ListOffsetsPartitionResponse {
                            partition_index: partition.partition_index,
                            offset: if partition.timestamp == -2 { 5 } else { 9 },
                            ..Default::default()
                        })
                        .collect(),
                });
            call.answer(&ListOffsetsResponse {
                topics: topics.collect(),
                ..Default::default()
            })
        }
        ApiKey::Fetch => {
            let request: FetchRequest = call.decode();
            let responses = request
                .topics
                .into_iter()
                .map(|topic| FetchableTopicResponse {
                    topic: topic.topic,
                    partitions: topic
                        .partitions
                        .into_iter()
                        .map(|wanted| PartitionData {
                            partition_index: wanted.partition,
                            error_code: code.code(),
                            records: Records::Inline(batch(wanted.partition, wanted.fetch_offset)),
                            ..Default::default()
                        })
                        .collect(),
                    ..Default::default()
                });
            call.answer(&FetchResponse {
                responses: responses.collect(),
                ..Default::default()
            })
        }
        _ => Reply::Close,
    }
}

fn batch(partition: i32, offset: i64) -> bytes::Bytes {
    let base_offset = match offset {
        5 | 6 => 5,
        7 | 8 => 7,
        _ => return bytes::Bytes::new(),
    };
    let mut builder = RecordBatchBuilder::new(Compression::Zstd).base_offset(base_offset);
    for offset in base_offset..base_offset + 2 {
        builder
            .append(
                1,
                None,
                Some(format!("p{partition}-{offset}").as_bytes()),
                &[],
            )
            .unwrap();
    }
    builder.build().unwrap()
}

async fn consume(ports: &[i32], config: ConsumerConfig) -> (Vec<String>, Ended) {
    let mut consumer = Consumer::new(cluster(ports), config);
    let mut seen = Vec::new();
    let show = |message: &Message<'_>| {
        seen.push(String::from_utf8_lossy(message.record.value.unwrap_or_default()).into_owned());
        ControlFlow::Continue(())
    };
    let read = consumer.run(show, || ControlFlow::Continue(()));
    let ended = tokio::time::timeout(Duration::from_secs(20), read)
        .await
        .expect("an end in time")
        .unwrap();
    assert_eq!(consumer.messages(), seen.len() as u64);
    seen.sort();
    (seen, ended)
}

const ALL: [&str; 8] = [
    "p0-5", "p0-6", "p0-7", "p0-8", "p1-5", "p1-6", "p1-7", "p1-8",
];

#[tokio::test]
async fn all_partitions_are_read_from_all_leaders() {
    let (first, first_port) = FakeBroker::listen().await;
    let (second, second_port) = FakeBroker::listen().await;
    let known = metadata(&[(1, first_port), (2, second_port)], 1, &[1, 2]);
    let _first = FakeBroker::serve(first, move |call| match call.key {
        ApiKey::Metadata => call.answer(&known),
        _ => lead(call, ErrorCode::None),
    });
    let _second = FakeBroker::serve(second, |call| lead(call, ErrorCode::None));
    assert_eq!(
        consume(&[first_port], config(8)).await,
        (ALL.map(str::to_owned).to_vec(), Ended::Enough)
    );
}

#[tokio::test]
async fn a_new_leader_is_followed_without_a_gap() {
    let (first, first_port) = FakeBroker::listen().await;
    let (second, second_port) = FakeBroker::listen().await;
    let brokers = [(1, first_port), (2, second_port)];
    let fetches = Arc::new(Mutex::new(0));
    let _first = FakeBroker::serve(first, move |call| {
        let mut fetches = fetches.lock().unwrap();
        match call.key {
            ApiKey::Metadata if *fetches < 2 => call.answer(&metadata(&brokers, 1, &[1, 1])),
            ApiKey::Metadata => call.answer(&metadata(&brokers, 1, &[2, 2])),
            ApiKey::Fetch => {
                *fetches += 1;
                lead(
                    call,
                    if *fetches < 2 {
                        ErrorCode::None
                    } else {
                        ErrorCode::NotLeaderOrFollower
                    },
                )
            }
            _ => lead(call, ErrorCode::None),
        }
    });
    let _second = FakeBroker::serve(second, |call| lead(call, ErrorCode::None));
    assert_eq!(
        consume(&[first_port], config(8)).await,
        (ALL.map(str::to_owned).to_vec(), Ended::Enough)
    );
}

#[tokio::test]
async fn a_silent_leader_does_not_hold_the_others_up() {
    let (listener, port) = FakeBroker::listen().await;
    let (_silent, silent_port) = FakeBroker::listen().await;
    let known = metadata(&[(1, port), (2, silent_port)], 1, &[1, 2]);
    let _broker = FakeBroker::serve(listener, move |call| match call.key {
        ApiKey::Metadata => call.answer(&known),
        _ => lead(call, ErrorCode::None),
    });
    let config = ConsumerConfig {
        timeout: Some(Duration::from_millis(500)),
        ..config(8)
    };
    let (seen, ended) = consume(&[port], config).await;
    assert_eq!(
        (seen, ended),
        (
            ALL[..4].iter().map(ToString::to_string).collect(),
            Ended::Timeout
        )
    );
}

#[tokio::test]
async fn one_partition_from_one_offset() {
    let (listener, port) = FakeBroker::listen().await;
    let known = metadata(&[(1, port)], 1, &[1, 1]);
    let _broker = FakeBroker::serve(listener, move |call| match call.key {
        ApiKey::Metadata => call.answer(&known),
        _ => lead(call, ErrorCode::None),
    });
    let config = ConsumerConfig {
        partition: Some(1),
        start: Start::Offset(6),
        ..config(2)
    };
    assert_eq!(consume(&[port], config).await.0, ["p1-6", "p1-7"]);
}

#[tokio::test]
async fn an_offset_that_is_gone_is_reset() {
    let (listener, port) = FakeBroker::listen().await;
    let known = metadata(&[(1, port)], 1, &[1]);
    let mut refused = false;
    let _broker = FakeBroker::serve(listener, move |call| match call.key {
        ApiKey::Metadata => call.answer(&known),
        ApiKey::Fetch if !refused => {
            refused = true;
            lead(call, ErrorCode::OffsetOutOfRange)
        }
        _ => lead(call, ErrorCode::None),
    });
    let config = ConsumerConfig {
        start: Start::Offset(1),
        ..config(4)
    };
    assert_eq!(consume(&[port], config).await.0, ALL[..4]);
}

#[tokio::test]
async fn a_dead_leader_is_asked_with_rests_until_the_metadata_names_another() {
    let (first, first_port) = FakeBroker::listen().await;
    let (dead, dead_port) = FakeBroker::listen().await;
    drop(dead);
    let asked = Arc::new(Mutex::new(0));
    let count = asked.clone();
    let begun = Instant::now();
    let brokers = [(1, first_port), (2, dead_port)];
    let _first = FakeBroker::serve(first, move |call| match call.key {
        ApiKey::Metadata => {
            *count.lock().unwrap() += 1;
            let leader = if begun.elapsed() < Duration::from_millis(200) {
                2
            } else {
                1
            };
            call.answer(&metadata(&brokers, 1, &[leader]))
        }
        _ => lead(call, ErrorCode::None),
    });
    assert_eq!(consume(&[first_port], config(4)).await.0, ALL[..4]);
    assert!(
        *asked.lock().unwrap() < 15,
        "{} looks at the metadata",
        asked.lock().unwrap()
    );
}
