//! What producers are told of records that the topic, or the version of their request, does not allow, and what becomes
//! of records in the formats before 2.

use bytes::Bytes;
use kafka_wire::compression::Compression;
use kafka_wire::produce::PartitionProduceResponse;
use kafka_wire::record_batch::{RecordBatchBuilder, batches};
use kafka_wire::{ByteString, ErrorCode};

use crate::client::{Client, batch, bytes, fetch, fill, produce};
use crate::cluster::Cluster;

async fn send(client: &mut Client, version: i16, records: Bytes) -> PartitionProduceResponse {
    let mut response = client.ask(version, &produce(-1, records)).await;
    response.responses.remove(0).partition_responses.remove(0)
}

async fn error(client: &mut Client, version: i16, records: Bytes) -> ErrorCode {
    ErrorCode::from_code(send(client, version, records).await.error_code)
}

/// The records that were refused, by their index in the batch.
fn refused(response: &PartitionProduceResponse) -> Vec<(i32, &str)> {
    let told = response.record_errors.iter().map(|refused| {
        let message = refused.batch_index_error_message.as_ref();
        (refused.batch_index, message.map_or("", |message| message))
    });
    told.collect()
}

/// Records with these keys and timestamps.
fn records(all: &[(Option<&str>, i64)]) -> Bytes {
    let mut builder = RecordBatchBuilder::new(Compression::None);
    for (key, timestamp) in all {
        builder
            .append(*timestamp, key.map(str::as_bytes), Some(b"v"), &[])
            .unwrap();
    }
    builder.build().unwrap()
}

/// KIP-467.
#[tokio::test]
async fn each_record_that_is_refused_is_named() {
    let cluster = Cluster::start(1, &[]).await;
    let mut client = cluster.client(1).await;
    let sent = records(&[
        (Some("k"), 1000),
        (None, 1000),
        (Some("k"), i64::MAX),
        (None, 1000),
    ]);

    cluster.configure_topic(&[("cleanup.policy", "compact")]);
    let keyless = records(&[(None, 1000), (Some("k"), 1000), (None, 1000)]);
    let answer = send(&mut client, 9, keyless).await;
    assert_eq!(answer.error_code, ErrorCode::InvalidRecord as i16);
    let why = "Compacted topic cannot accept message without key in topic partition t-0.";
    assert_eq!(refused(&answer), [(0, why), (2, why)]);

    let late = ("message.timestamp.after.max.ms", "3600000");
    cluster.configure_topic(&[late]);
    let answer = send(&mut client, 9, sent.clone()).await;
    assert_eq!(answer.error_code, ErrorCode::InvalidTimestamp as i16);
    let [(2, why)] = refused(&answer)[..] else {
        panic!("{answer:?}")
    };
    let begin = format!(
        "Timestamp {} of message with offset 2 is out of range. The timestamp should be within [",
        i64::MAX
    );
    assert!(why.starts_with(&begin), "{why}");

    cluster.configure_topic(&[late, ("message.timestamp.before.max.ms", "1000")]);
    let answer = send(&mut client, 9, sent).await;
    assert_eq!(answer.error_code, ErrorCode::InvalidTimestamp as i16);
    let indexes: Vec<i32> = refused(&answer).iter().map(|(index, _)| *index).collect();
    assert_eq!(indexes, [0, 1, 2, 3]);

    assert_eq!(client.fetch(0).await.high_watermark, 0);
}

/// KIP-110: a producer as old as that may have consumers as old as that.
#[tokio::test]
async fn zstd_is_refused_below_version_7() {
    let cluster = Cluster::start(1, &[]).await;
    let mut client = cluster.client(1).await;
    let zstd = fill(RecordBatchBuilder::new(Compression::Zstd), &["a"]);
    for version in 3..7 {
        let error = error(&mut client, version, zstd.clone()).await;
        assert_eq!(error, ErrorCode::UnsupportedCompressionType);
    }
    assert_eq!(client.fetch(0).await.high_watermark, 0);
    assert_eq!(error(&mut client, 7, zstd).await, ErrorCode::None);
}

/// KIP-110: of a topic that keeps its records in zstd; what else producers chose is theirs and their consumers' affair.
#[tokio::test]
async fn a_topic_in_zstd_is_not_read_below_version_10() {
    let cluster = Cluster::start(1, &[]).await;
    let mut client = cluster.client(1).await;
    assert_eq!(client.produce(-1, batch(&["a"])).await.error_code, 0);
    for (codec, before, after) in [
        (
            "zstd",
            ErrorCode::UnsupportedCompressionType,
            ErrorCode::None,
        ),
        ("lz4", ErrorCode::None, ErrorCode::None),
    ] {
        cluster.configure_topic(&[("compression.type", codec)]);
        for (version, expected) in [(4, before), (9, before), (10, after)] {
            let mut response = client.ask(version, &fetch(0)).await;
            let data = response.responses.remove(0).partitions.remove(0);
            assert_eq!(ErrorCode::from_code(data.error_code), expected, "{version}");
            assert_eq!(bytes(&data).is_empty(), expected != ErrorCode::None);
        }
    }
}

/// CVE-2018-17196.
#[tokio::test]
async fn a_transactional_batch_needs_a_request_with_a_transactional_id() {
    let cluster = Cluster::start(1, &[]).await;
    let mut client = cluster.client(1).await;
    let builder = RecordBatchBuilder::new(Compression::None).producer(1, 0, 0);
    let sent = fill(builder.transactional(), &["a"]);
    assert_eq!(
        error(&mut client, 9, sent.clone()).await,
        ErrorCode::TransactionalIdAuthorizationFailed
    );
    // And nobody has added the partition to a transaction.
    let mut request = produce(-1, sent);
    request.transactional_id = Some(ByteString::from_static("id"));
    let response = client.ask(9, &request).await;
    let answer = &response.responses[0].partition_responses[0];
    assert_eq!(answer.error_code, ErrorCode::InvalidTxnState as i16);
    assert_eq!(client.fetch(0).await.high_watermark, 0);
}

/// A message of format 0 or 1, with no value.
fn message(magic: u8, timestamp: i64, key: &str) -> Vec<u8> {
    let mut covered = vec![magic, 0];
    if magic == 1 {
        covered.extend_from_slice(&timestamp.to_be_bytes());
    }
    covered.extend_from_slice(&(key.len() as i32).to_be_bytes());
    covered.extend_from_slice(key.as_bytes());
    covered.extend_from_slice(&(-1i32).to_be_bytes());
    let mut message = 0i64.to_be_bytes().to_vec();
    message.extend_from_slice(&(covered.len() as i32 + 4).to_be_bytes());
    message.extend_from_slice(&crc32fast::hash(&covered).to_be_bytes());
    message.extend_from_slice(&covered);
    message
}

#[tokio::test]
async fn message_sets_of_old_producers_become_batches() {
    let cluster = Cluster::start(1, &[]).await;
    let mut client = cluster.client(1).await;
    for (version, magic) in [(0, 0), (1, 0), (2, 1)] {
        let set = [message(magic, 1000, "a"), message(magic, 2000, "b")].concat();
        let answer = send(&mut client, version, set.into()).await;
        let expected = i64::from(version) * 2;
        assert_eq!((answer.error_code, answer.base_offset), (0, expected));
    }
    let data = client.fetch(0).await;
    assert_eq!(data.high_watermark, 6);
    let mut found = Vec::new();
    for batch in batches(bytes(&data)) {
        let batch = batch.unwrap();
        batch.verify_crc().unwrap();
        assert!(!batch.header.has_producer_id());
        for record in batch.records(1 << 20).unwrap().iter() {
            let record = record.unwrap();
            assert_eq!(record.value, None);
            let key = String::from_utf8(record.key.unwrap().to_vec()).unwrap();
            found.push((record.offset, record.timestamp, key));
        }
    }
    let record = |offset, timestamp, key: &str| (offset, timestamp, key.to_owned());
    let expected = [
        record(0, -1, "a"),
        record(1, -1, "b"),
        record(2, -1, "a"),
        record(3, -1, "b"),
        record(4, 1000, "a"),
        record(5, 2000, "b"),
    ];
    assert_eq!(found, expected);

    // What is torn is not taken, nor a set where only batches may be.
    let mut torn = message(1, 1000, "a");
    torn[20] ^= 1;
    let torn = error(&mut client, 2, torn.into()).await;
    assert_eq!(torn, ErrorCode::CorruptMessage);
    let late = error(&mut client, 3, message(1, 1000, "a").into()).await;
    assert_eq!(late, ErrorCode::InvalidRecord);
    // A producer that old may send a batch of today all the same.
    assert_eq!(error(&mut client, 2, batch(&["x"])).await, ErrorCode::None);
    assert_eq!(client.fetch(0).await.high_watermark, 7);
}
