//! The producer against brokers that refuse, fall silent and hand their leadership over.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use kafka_wire::ApiKey;
use kafka_wire::init_producer_id::InitProducerIdResponse;
use kafka_wire::metadata::MetadataResponse;
use kafka_wire::produce::{PartitionProduceResponse, TopicProduceResponse};
use kafka_wire::record_batch::batches;

use super::*;
use crate::client::fake_broker::{Call, FakeBroker, Reply, cluster, metadata};

/// What a broker has in a partition, and which sequence it expects next.
#[derive(Default)]
struct Log {
    values: Vec<String>,
    next_sequence: i32,
    requests: usize,
}

fn config() -> ProducerConfig {
    ProducerConfig {
        acks: -1,
        batch_size: 16_384,
        linger: Duration::from_millis(1),
        compression: Compression::None,
        request_timeout: Duration::from_millis(100),
        retries: None,
        delivery_timeout: Duration::from_secs(20),
        buffer_memory: 1 << 20,
        max_request_size: 1 << 20,
        metadata_max_age: Duration::from_secs(300),
        max_block: Duration::from_secs(5),
        sync: false,
    }
}

fn record(line: u64, value: &str) -> ProducerRecord {
    let value = Some(Bytes::copy_from_slice(value.as_bytes()));
    ProducerRecord {
        line,
        timestamp: 1,
        key: None,
        value,
        headers: Vec::new(),
    }
}

/// Answers the requests around producing, and leaves the rest to the test.
fn answer(call: &mut Call, metadata: &MetadataResponse) -> Option<Reply> {
    match call.key {
        ApiKey::Metadata => Some(call.answer(metadata)),
        ApiKey::InitProducerId => Some(call.answer(&InitProducerIdResponse {
            producer_id: 4,
            producer_epoch: 0,
            ..Default::default()
        })),
        _ => None,
    }
}

/// The one batch of a request for partition 0.
fn batch_of(call: &mut Call) -> Bytes {
    let request: ProduceRequest = call.decode();
    let mut partitions = request
        .topic_data
        .into_iter()
        .flat_map(|topic| topic.partition_data);
    match (
        partitions.next().map(|partition| partition.records),
        partitions.next(),
    ) {
        (Some(Records::Inline(bytes)), None) => bytes,
        other => panic!("one batch was expected, not {other:?}"),
    }
}

fn verdict(call: &Call, code: ErrorCode) -> Reply {
    let answer = PartitionProduceResponse {
        index: 0,
        error_code: code.code(),
        ..Default::default()
    };
    let topic = TopicProduceResponse {
        name: ByteString::from_static("t"),
        partition_responses: vec![answer],
    };
    call.answer(&ProduceResponse {
        responses: vec![topic],
        ..Default::default()
    })
}

/// Appends a batch as a broker does: in sequence, and not twice.
fn append(log: &mut Log, bytes: &[u8]) -> ErrorCode {
    log.requests += 1;
    let batch = batches(bytes)
        .next()
        .expect("a batch")
        .expect("a sound batch");
    batch.verify_crc().expect("a sound batch");
    if batch.header.base_sequence < log.next_sequence {
        return ErrorCode::DuplicateSequenceNumber;
    }
    if batch.header.base_sequence > log.next_sequence {
        return ErrorCode::OutOfOrderSequenceNumber;
    }
    let records = batch.records(1 << 20).expect("sound records");
    for record in &records {
        let value = record
            .expect("a sound record")
            .value
            .unwrap_or_default()
            .to_vec();
        log.values.push(String::from_utf8(value).expect("text"));
    }
    log.next_sequence += batch.header.record_count;
    ErrorCode::None
}

async fn produce(
    ports: &[i32],
    config: ProducerConfig,
    values: &[String],
) -> Result<u64, ProduceError> {
    let (sender, receiver) = mpsc::channel(values.len().max(1));
    for (line, value) in (1..).zip(values) {
        sender
            .send(record(line, value))
            .await
            .expect("room for all");
    }
    drop(sender);
    let producer = Producer::new(cluster(ports), "t", config);
    tokio::time::timeout(Duration::from_secs(20), producer.run(receiver))
        .await
        .expect("an end in time")
}

fn numbered(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("line {number}")).collect()
}

#[tokio::test]
async fn batches_that_are_refused_as_too_large_arrive_in_pieces() {
    let (listener, port) = FakeBroker::listen().await;
    let log = Arc::new(Mutex::new(Log::default()));
    let shared = log.clone();
    let _broker = FakeBroker::serve(listener, move |call| {
        if let Some(reply) = answer(call, &metadata(&[(1, port)], 1, &[1])) {
            return reply;
        }
        let bytes = batch_of(call);
        match bytes.len() {
            ..=300 => verdict(call, append(&mut shared.lock().unwrap(), &bytes)),
            _ => verdict(call, ErrorCode::RecordListTooLarge),
        }
    });
    let mut values = numbered(500);
    values.insert(250, "x".repeat(400));
    assert_eq!(
        produce(&[port], config(), &values).await.unwrap(),
        1,
        "one line is too large by itself"
    );
    assert_eq!(log.lock().unwrap().values, numbered(500));
}

#[tokio::test]
async fn a_lost_answer_does_not_append_twice() {
    let (listener, port) = FakeBroker::listen().await;
    let log = Arc::new(Mutex::new(Log::default()));
    let shared = log.clone();
    let _broker = FakeBroker::serve(listener, move |call| {
        if let Some(reply) = answer(call, &metadata(&[(1, port)], 1, &[1])) {
            return reply;
        }
        let bytes = batch_of(call);
        let mut log = shared.lock().unwrap();
        let code = append(&mut log, &bytes);
        match log.requests {
            1 => Reply::Close,
            2 => Reply::Silence,
            _ => verdict(call, code),
        }
    });
    assert_eq!(produce(&[port], config(), &numbered(20)).await.unwrap(), 0);
    let log = log.lock().unwrap();
    assert_eq!(log.values, numbered(20));
    assert!(log.requests >= 3);
}

#[tokio::test]
async fn a_new_leader_is_found() {
    let (first, first_port) = FakeBroker::listen().await;
    let (second, second_port) = FakeBroker::listen().await;
    let brokers = [(1, first_port), (2, second_port)];
    let leader = Arc::new(Mutex::new(1));
    let moved = leader.clone();
    let _first = FakeBroker::serve(first, move |call| {
        let mut leader = moved.lock().unwrap();
        if let Some(reply) = answer(call, &metadata(&brokers, 1, &[*leader])) {
            return reply;
        }
        *leader = 2;
        verdict(call, ErrorCode::NotLeaderOrFollower)
    });
    let log = Arc::new(Mutex::new(Log::default()));
    let shared = log.clone();
    let _second = FakeBroker::serve(second, move |call| {
        if let Some(reply) = answer(call, &metadata(&brokers, 1, &[2])) {
            return reply;
        }
        let bytes = batch_of(call);
        verdict(call, append(&mut shared.lock().unwrap(), &bytes))
    });
    assert_eq!(
        produce(&[first_port], config(), &numbered(50))
            .await
            .unwrap(),
        0
    );
    assert_eq!(log.lock().unwrap().values, numbered(50));
}

#[tokio::test]
async fn what_is_not_acknowledged_in_time_is_said() {
    let (listener, port) = FakeBroker::listen().await;
    let _broker = FakeBroker::serve(listener, move |call| {
        answer(call, &metadata(&[(1, port)], 1, &[1])).unwrap_or(Reply::Close)
    });
    let config = ProducerConfig {
        retries: Some(2),
        ..config()
    };
    let error = produce(&[port], config, &numbered(3)).await.unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("3 records were not acknowledged, from line 1 on: partition 0: "),
        "{error}"
    );
}

#[tokio::test]
async fn records_that_no_leader_takes_are_each_said() {
    let (listener, port) = FakeBroker::listen().await;
    let _broker = FakeBroker::serve(listener, move |call| {
        answer(call, &metadata(&[(1, port)], 1, &[-1])).unwrap_or(Reply::Close)
    });
    let config = ProducerConfig {
        delivery_timeout: Duration::from_millis(50),
        ..config()
    };
    assert_eq!(produce(&[port], config, &numbered(3)).await.unwrap(), 3);
}

#[tokio::test]
async fn a_topic_that_does_not_come_up_is_said() {
    let (listener, port) = FakeBroker::listen().await;
    let _broker = FakeBroker::serve(listener, move |call| {
        let mut response = metadata(&[(1, port)], 1, &[]);
        response.topics[0].error_code = ErrorCode::LeaderNotAvailable.code();
        call.answer(&response)
    });
    let config = ProducerConfig {
        max_block: Duration::from_millis(50),
        ..config()
    };
    let error = produce(&[port], config, &numbered(1))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("Topic t not present in metadata after "),
        "{error}"
    );
    assert!(error.ends_with(": LEADER_NOT_AVAILABLE"), "{error}");
}
