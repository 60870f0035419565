//! What changes while a client's batch is prepared.

use std::collections::BTreeMap;

use arc_swap::ArcSwap;
use broker_core::metadata::MetadataImage;
use broker_core::partition::PartitionSettings;
use kafka_wire::ByteString;
use kafka_wire::compression::Compression;
use kafka_wire::record_batch::{BatchHeader, RecordBatchBuilder};
use log::{LoadProgress, LogConfig, LogManager, LogManagerConfig, StdFileSystem};

use super::super::fetcher::FetcherSettings;
use super::*;

/// Broker 1's replica of a partition of brokers 1 and 2, both of which it needs.
fn replica(directory: &tempfile::TempDir) -> Arc<Replica> {
    let partition = TopicPartition::new("t", 0);
    let logs = LogManager::open(
        LogManagerConfig {
            log_dirs: vec![directory.path().to_owned()],
            broker_id: 1,
            cluster_id: "c".to_owned(),
            recovery_threads_per_data_dir: 1,
            topic_config: &|_| LogConfig::default(),
            progress: &LoadProgress::default(),
        },
        Arc::new(StdFileSystem),
        0,
    );
    let log = logs
        .unwrap()
        .get_or_create(&partition, None, LogConfig::default(), 0)
        .unwrap();
    let core = Partition::new(PartitionSettings {
        local_id: 1,
        replica_lag_time_max_ms: 30_000,
        min_insync_replicas: 2,
        live_brokers: Arc::new(BTreeMap::from([(1, 1), (2, 1)])),
        log_start_offset: 0,
        log_end_offset: 0,
        high_watermark: 0,
    });
    let settings = FetcherSettings {
        broker_id: 1,
        listener: "PLAINTEXT".to_owned(),
        fetchers_per_broker: 1,
        wait_max_ms: 500,
        min_bytes: 1,
        partition_max_bytes: 1 << 20,
        response_max_bytes: 1 << 20,
        socket_timeout_ms: 1000,
    };
    let metadata = ArcSwap::from_pointee(MetadataImage::new(ByteString::from_static("c")));
    let effects = Effects {
        clock: Clock::start(),
        fetchers: Arc::new(Fetchers::new(settings, Arc::new(metadata))),
        alter_partition: Arc::default(),
    };
    let replica = Replica::new(partition, Uuid::from_bytes([7; 16]), log, core, effects);
    Arc::new(replica)
}

fn decided(leader: Option<i32>, leader_epoch: i32, isr: &[i32]) -> LeaderAndIsr {
    LeaderAndIsr {
        leader,
        leader_epoch,
        isr: isr.to_vec(),
        partition_epoch: leader_epoch,
        replicas: vec![1, 2],
    }
}

/// What becomes of a batch where that happens while it is prepared, and the leader epoch under which it is in the log then.
fn meanwhile(happens: impl FnOnce(&Arc<Replica>)) -> (Result<Produced, ProduceError>, Option<i32>) {
    let directory = tempfile::tempdir().unwrap();
    let replica = replica(&directory);
    replica.assign(1, decided(Some(1), 3, &[1, 2])).unwrap();
    let mut builder = RecordBatchBuilder::new(Compression::None);
    builder.append(now_ms(), None, Some(b"x"), &[]).unwrap();
    let mut records = builder.build().unwrap().to_vec();
    let batch = replica.prepare(&mut records, true).unwrap();
    happens(&replica);
    let produced = replica.append_prepared(batch, true);
    let log = replica.log();
    let data = log.read(0, 1 << 20, log.log_end_offset(), true).unwrap();
    let stored_under = data.range.map(|range| {
        let mut stored = vec![0; range.len as usize];
        range.file.read_at(&mut stored, range.position).unwrap();
        BatchHeader::parse(&stored).unwrap().partition_leader_epoch
    });
    (produced, stored_under)
}

#[test]
fn who_leads_no_more_appends_nothing() {
    let (produced, stored_under) = meanwhile(|replica| {
        replica.assign(1, decided(None, 4, &[2])).unwrap();
    });
    assert!(matches!(produced, Err(ProduceError::Leadership(_))));
    assert_eq!(stored_under, None);
}

#[test]
fn with_too_small_an_isr_nothing_is_appended() {
    let (produced, stored_under) = meanwhile(|replica| {
        replica.assign(1, decided(Some(1), 4, &[1])).unwrap();
    });
    let refused = matches!(
        produced,
        Err(ProduceError::NotEnoughReplicas {
            isr: 1,
            required: 2,
            ..
        })
    );
    assert!(refused);
    assert_eq!(stored_under, None);
}

#[test]
fn a_replica_that_ended_appends_nothing() {
    let (produced, stored_under) = meanwhile(|replica| replica.retire());
    assert!(matches!(produced, Err(ProduceError::Ended(Ended::Retired))));
    assert_eq!(stored_under, None);
}

#[test]
fn who_leads_again_appends_under_its_new_epoch() {
    let (produced, stored_under) = meanwhile(|replica| {
        replica.assign(1, decided(None, 4, &[2])).unwrap();
        replica.assign(1, decided(Some(1), 5, &[1, 2])).unwrap();
    });
    assert_eq!(produced.unwrap().info.last_offset, 0);
    assert_eq!(stored_under, Some(5));
}
