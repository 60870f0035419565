//! Versions that the oracle (see `src/oracle.rs`) no longer has, against bytes written out by hand from the schemas.

use bytes::Bytes;
use kafka_wire::create_topics::*;
use kafka_wire::delete_topics::*;
use kafka_wire::describe_configs::*;
use kafka_wire::list_offsets::*;
use kafka_wire::offset_for_leader_epoch::*;
use kafka_wire::produce::*;
use kafka_wire::{ByteString, Message, Reader, Records, Writer};

/// `message` is written as `bytes`, and read from them.
fn same<M: Message + PartialEq + std::fmt::Debug>(version: i16, message: M, bytes: &[&[u8]]) {
    let bytes = bytes.concat();
    let mut w = Writer::new();
    message.encode(&mut w, version);
    assert_eq!(w.finish_contiguous().unwrap(), bytes);
    let mut r = Reader::new(Bytes::from(bytes));
    assert_eq!(M::decode(&mut r, version).unwrap(), message);
    assert_eq!(r.remaining(), 0);
}

fn text(text: &'static str) -> ByteString {
    ByteString::from_static(text)
}

const ONE: &[u8] = &[0, 0, 0, 1];
const T: &[u8] = &[0, 1, b't'];
const NULL_STRING: &[u8] = &[0xff, 0xff];

#[test]
fn produce_0_to_2() {
    let request = ProduceRequest {
        acks: -1,
        timeout_ms: 1500,
        topic_data: vec![TopicProduceData {
            name: text("t"),
            partition_data: vec![PartitionProduceData {
                index: 3,
                records: Records::Inline(Bytes::from_static(b"abc")),
            }],
        }],
        ..Default::default()
    };
    for version in 0..=2 {
        let acks_and_timeout: &[u8] = &[0xff, 0xff, 0, 0, 0x05, 0xdc];
        same(
            version,
            request.clone(),
            &[
                acks_and_timeout,
                ONE,
                T,
                ONE,
                &[0, 0, 0, 3],
                &[0, 0, 0, 3],
                b"abc",
            ],
        );
    }

    let response = |log_append_time_ms, throttle_time_ms| ProduceResponse {
        responses: vec![TopicProduceResponse {
            name: text("t"),
            partition_responses: vec![PartitionProduceResponse {
                index: 3,
                error_code: 6,
                base_offset: 9,
                log_append_time_ms,
                ..Default::default()
            }],
        }],
        throttle_time_ms,
        ..Default::default()
    };
    let error_and_offset: &[u8] = &[0, 0, 0, 3, 0, 6, 0, 0, 0, 0, 0, 0, 0, 9];
    let throttle: &[u8] = &[0, 0, 0, 50];
    let append_time: &[u8] = &[0, 0, 0, 0, 0, 0, 0, 77];
    same(0, response(-1, 0), &[ONE, T, ONE, error_and_offset]);
    same(
        1,
        response(-1, 50),
        &[ONE, T, ONE, error_and_offset, throttle],
    );
    same(
        2,
        response(77, 50),
        &[ONE, T, ONE, error_and_offset, append_time, throttle],
    );
}

#[test]
fn list_offsets_0() {
    let request = ListOffsetsRequest {
        replica_id: -1,
        topics: vec![ListOffsetsTopic {
            name: text("t"),
            partitions: vec![ListOffsetsPartition {
                partition_index: 2,
                timestamp: -2,
                max_num_offsets: 10,
                ..Default::default()
            }],
        }],
        ..Default::default()
    };
    let earliest: &[u8] = &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe];
    same(
        0,
        request,
        &[
            &[0xff; 4],
            ONE,
            T,
            ONE,
            &[0, 0, 0, 2],
            earliest,
            &[0, 0, 0, 10],
        ],
    );

    let response = ListOffsetsResponse {
        topics: vec![ListOffsetsTopicResponse {
            name: text("t"),
            partitions: vec![ListOffsetsPartitionResponse {
                partition_index: 2,
                error_code: 1,
                old_style_offsets: vec![5, 0],
                ..Default::default()
            }],
        }],
        ..Default::default()
    };
    let offsets: &[u8] = &[0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0];
    same(0, response, &[ONE, T, ONE, &[0, 0, 0, 2], &[0, 1], offsets]);
}

#[test]
fn offset_for_leader_epoch_0_and_1() {
    let request = OffsetForLeaderEpochRequest {
        topics: vec![OffsetForLeaderTopic {
            topic: text("t"),
            partitions: vec![OffsetForLeaderPartition {
                partition: 1,
                leader_epoch: 8,
                ..Default::default()
            }],
        }],
        ..Default::default()
    };
    for version in 0..=1 {
        same(
            version,
            request.clone(),
            &[ONE, T, ONE, &[0, 0, 0, 1], &[0, 0, 0, 8]],
        );
    }

    let response = |leader_epoch| OffsetForLeaderEpochResponse {
        topics: vec![OffsetForLeaderTopicResult {
            topic: text("t"),
            partitions: vec![EpochEndOffset {
                error_code: 0,
                partition: 1,
                leader_epoch,
                end_offset: 4,
            }],
        }],
        ..Default::default()
    };
    let end_offset: &[u8] = &[0, 0, 0, 0, 0, 0, 0, 4];
    same(
        0,
        response(-1),
        &[ONE, T, ONE, &[0, 0], &[0, 0, 0, 1], end_offset],
    );
    same(
        1,
        response(7),
        &[
            ONE,
            T,
            ONE,
            &[0, 0],
            &[0, 0, 0, 1],
            &[0, 0, 0, 7],
            end_offset,
        ],
    );
}

#[test]
fn create_topics_0_and_1() {
    let request = |validate_only| CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: text("t"),
            num_partitions: -1,
            replication_factor: -1,
            assignments: vec![CreatableReplicaAssignment {
                partition_index: 0,
                broker_ids: vec![5],
            }],
            configs: vec![CreatableTopicConfig {
                name: text("k"),
                value: None,
            }],
        }],
        timeout_ms: 256,
        validate_only,
    };
    let assignment: &[&[u8]] = &[ONE, &[0, 0, 0, 0], ONE, &[0, 0, 0, 5]];
    let config: &[&[u8]] = &[ONE, &[0, 1, b'k'], NULL_STRING];
    let topic: &[&[u8]] = &[
        ONE,
        T,
        &[0xff; 4],
        &[0xff; 2],
        &assignment.concat(),
        &config.concat(),
    ];
    same(0, request(false), &[&topic.concat(), &[0, 0, 1, 0]]);
    same(1, request(true), &[&topic.concat(), &[0, 0, 1, 0], &[1]]);

    let response = |error_message| CreateTopicsResponse {
        topics: vec![CreatableTopicResult {
            name: text("t"),
            error_code: 36,
            error_message,
            ..Default::default()
        }],
        ..Default::default()
    };
    same(0, response(None), &[ONE, T, &[0, 36]]);
    same(1, response(None), &[ONE, T, &[0, 36], NULL_STRING]);
    same(
        1,
        response(Some(text("no"))),
        &[ONE, T, &[0, 36], &[0, 2, b'n', b'o']],
    );
}

#[test]
fn delete_topics_0() {
    let request = DeleteTopicsRequest {
        topic_names: vec![text("t")],
        timeout_ms: 256,
        ..Default::default()
    };
    same(0, request, &[ONE, T, &[0, 0, 1, 0]]);
    let response = DeleteTopicsResponse {
        responses: vec![DeletableTopicResult {
            name: Some(text("t")),
            error_code: 3,
            ..Default::default()
        }],
        ..Default::default()
    };
    same(0, response, &[ONE, T, &[0, 3]]);
}

#[test]
fn describe_configs_0() {
    let request = |configuration_keys| DescribeConfigsRequest {
        resources: vec![DescribeConfigsResource {
            resource_type: 2,
            resource_name: text("t"),
            configuration_keys,
        }],
        ..Default::default()
    };
    same(0, request(None), &[ONE, &[2], T, &[0xff; 4]]);
    same(
        0,
        request(Some(vec![text("k")])),
        &[ONE, &[2], T, ONE, &[0, 1, b'k']],
    );

    let response = DescribeConfigsResponse {
        throttle_time_ms: 1,
        results: vec![DescribeConfigsResult {
            error_code: 0,
            error_message: None,
            resource_type: 2,
            resource_name: text("t"),
            configs: vec![DescribeConfigsResourceResult {
                name: text("k"),
                value: Some(text("v")),
                read_only: false,
                is_default: true,
                is_sensitive: false,
                ..Default::default()
            }],
        }],
    };
    let config: &[u8] = &[0, 1, b'k', 0, 1, b'v', 0, 1, 0];
    same(
        0,
        response,
        &[ONE, ONE, &[0, 0], NULL_STRING, &[2], T, ONE, config],
    );
}
