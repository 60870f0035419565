//! What those are served who read committed records only, of a log in which transactions were aborted and committed, and
//! one is open. No client can write such a log here, so that it is written while the broker is down.

use std::sync::Arc;

use bytes::Bytes;
use kafka_wire::TopicPartition;
use kafka_wire::compression::Compression;
use kafka_wire::fetch::{FetchRequest, PartitionData};
use kafka_wire::list_offsets::{LATEST_TIMESTAMP, ListOffsetsRequest, MAX_TIMESTAMP};
use kafka_wire::record_batch::{EndTransactionMarker, RecordBatchBuilder};
use log::{LoadProgress, Log, LogConfig, LogManager, LogManagerConfig, StdFileSystem};

use crate::client::{Client, TOPIC, bytes, fetch, headers, list_offsets};
use crate::cluster::Cluster;

const READ_UNCOMMITTED: i8 = 0;
const READ_COMMITTED: i8 = 1;
/// Records are stamped with this and their offset.
const BASE_TIMESTAMP: i64 = 1_700_000_000_000;

/// One record; of a producer without an id if `producer_id` is `None`, and of a transaction otherwise.
fn append(log: &mut Log, producer_id: Option<i64>, sequence: i32) {
    let mut builder = RecordBatchBuilder::new(Compression::None);
    if let Some(producer_id) = producer_id {
        builder = builder.producer(producer_id, 0, sequence).transactional();
    }
    let timestamp = BASE_TIMESTAMP + log.log_end_offset();
    builder.append(timestamp, None, Some(b"x"), &[]).unwrap();
    let mut batch = builder.build().unwrap().to_vec();
    log.append_as_leader(&mut batch, 0, timestamp).unwrap();
}

fn end(log: &mut Log, producer_id: i64, committed: bool) {
    let marker = EndTransactionMarker {
        committed,
        coordinator_epoch: 0,
    };
    let timestamp = BASE_TIMESTAMP + log.log_end_offset();
    log.append_end_transaction_marker(producer_id, 0, marker, 0, timestamp)
        .unwrap();
}

/// Has the one broker stop, the log written to, and the broker lead it again.
async fn write(cluster: &mut Cluster, write: impl FnOnce(&mut Log)) -> Client {
    cluster.stop_broker(1).await;
    let config = LogManagerConfig {
        log_dirs: cluster.log_directories(1),
        broker_id: 1,
        cluster_id: "c".to_owned(),
        recovery_threads_per_data_dir: 1,
        topic_config: &|_| LogConfig::default(),
        progress: &LoadProgress::default(),
    };
    let manager = LogManager::open(config, Arc::new(StdFileSystem), 0).unwrap();
    let log = manager.get(&TopicPartition::new(TOPIC, 0)).unwrap();
    write(&mut log.lock().unwrap());
    drop(log);
    manager.shutdown(0).unwrap();
    drop(manager);
    cluster.start_broker(1).await;
    cluster.elect(1, &[1]).await;
    cluster.client(1).await
}

/// | offset | |
/// |---|---|
/// | 0 | producer 1, which aborts |
/// | 1 | outside of any transaction |
/// | 2 | producer 2, which commits |
/// | 3, 4 | their markers |
/// | 5 | outside of any transaction |
/// | 6 | producer 3, whose transaction is open |
/// | 7 | outside of any transaction |
fn history(log: &mut Log) {
    append(log, Some(1), 0);
    append(log, None, 0);
    append(log, Some(2), 0);
    end(log, 1, false);
    end(log, 2, true);
    append(log, None, 0);
    append(log, Some(3), 0);
    append(log, None, 0);
}

async fn read(client: &mut Client, offset: i64, isolation_level: i8) -> PartitionData {
    let request = FetchRequest {
        isolation_level,
        ..fetch(offset)
    };
    let mut response = client.ask(11, &request).await;
    response.responses.remove(0).partitions.remove(0)
}

fn offsets(data: &PartitionData) -> Vec<i64> {
    headers(data)
        .iter()
        .map(|header| header.base_offset)
        .collect()
}

/// The producers of the aborted transactions, and where those begin.
fn aborted(data: &PartitionData) -> Option<Vec<(i64, i64)>> {
    let all = data.aborted_transactions.as_ref()?;
    let told = all
        .iter()
        .map(|aborted| (aborted.producer_id, aborted.first_offset));
    Some(told.collect())
}

async fn offset_at(client: &mut Client, timestamp: i64, isolation_level: i8) -> i64 {
    let request = ListOffsetsRequest {
        isolation_level,
        ..list_offsets(timestamp)
    };
    let found = client.list_offsets(&request).await;
    assert_eq!(found.error_code, 0);
    found.offset
}

#[tokio::test]
async fn committed_records_are_served_up_to_the_first_open_transaction() {
    let mut cluster = Cluster::start(1, &[]).await;
    let mut client = write(&mut cluster, history).await;
    let all = read(&mut client, 0, READ_UNCOMMITTED).await;
    assert_eq!((all.high_watermark, all.last_stable_offset), (8, 6));
    assert_eq!(offsets(&all), [0, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(aborted(&all), None);

    let committed = read(&mut client, 0, READ_COMMITTED).await;
    let bounds = (committed.high_watermark, committed.last_stable_offset);
    assert_eq!(bounds, (8, 6));
    assert_eq!(offsets(&committed), [0, 1, 2, 3, 4, 5]);
    assert_eq!(aborted(&committed), Some(vec![(1, 0)]));
    // Up to its marker, a transaction is told of: a consumer that begins within it must know. Behind it, it is not.
    let within = read(&mut client, 2, READ_COMMITTED).await;
    assert_eq!(aborted(&within), Some(vec![(1, 0)]));
    let behind = read(&mut client, 4, READ_COMMITTED).await;
    assert_eq!(offsets(&behind), [4, 5]);
    assert_eq!(aborted(&behind).unwrap_or_default(), []);
    // What is open is not out of range, only not there yet.
    let open = read(&mut client, 6, READ_COMMITTED).await;
    assert_eq!((open.error_code, bytes(&open)), (0, &Bytes::new()[..]));

    // The open transaction aborts.
    let mut client = write(&mut cluster, |log| end(log, 3, false)).await;
    let committed = read(&mut client, 0, READ_COMMITTED).await;
    let bounds = (committed.high_watermark, committed.last_stable_offset);
    assert_eq!(bounds, (9, 9));
    assert_eq!(offsets(&committed), [0, 1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(aborted(&committed), Some(vec![(1, 0), (3, 6)]));
}

#[tokio::test]
async fn offsets_of_committed_records_end_at_the_first_open_transaction() {
    let mut cluster = Cluster::start(1, &[]).await;
    let mut client = write(&mut cluster, history).await;
    for (timestamp, uncommitted, committed) in [
        (LATEST_TIMESTAMP, 8, 6),
        (BASE_TIMESTAMP + 5, 5, 5),
        (BASE_TIMESTAMP + 6, 6, -1),
        (MAX_TIMESTAMP, 7, -1),
    ] {
        let found = offset_at(&mut client, timestamp, READ_UNCOMMITTED).await;
        assert_eq!(found, uncommitted, "at {timestamp}");
        let found = offset_at(&mut client, timestamp, READ_COMMITTED).await;
        assert_eq!(found, committed, "at {timestamp}, committed");
    }
    let mut client = write(&mut cluster, |log| end(log, 3, true)).await;
    let found = offset_at(&mut client, LATEST_TIMESTAMP, READ_COMMITTED).await;
    assert_eq!(found, 9);
}
