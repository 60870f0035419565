//! Several logs, in one directory or more: who owns it, what is checkpointed, what is deleted.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_wire::{TopicPartition, Uuid};
use log::{
    GetOrCreateError, LoadProgress, LogConfig, LogError, LogManager, LogManagerConfig, OpenError,
    SharedLog, StdFileSystem, read_meta_properties,
};

use crate::broker::{
    Broker, NOW_MS, batch, locked, open, partition, produced, temporary_directory,
};
use crate::test_file_system::TestFileSystem;

#[test]
fn a_directory_has_one_holder_who_is_named() {
    let broker = Broker::start(LogConfig::default());
    let error = open(&[&broker.directory], broker.fs.clone(), &broker.config).unwrap_err();
    let pid = std::process::id().to_string();
    assert!(
        matches!(&error, OpenError::Locked { holder, .. } if holder.ends_with(&pid)),
        "{error}"
    );
    assert_eq!(
        std::fs::read_to_string(broker.directory.path().join(".lock")).unwrap(),
        pid
    );
    broker.kill_and_start();
}

#[test]
fn a_directory_belongs_to_one_broker_of_one_cluster() {
    let directory = tempfile::tempdir().unwrap();
    let start = |broker_id, cluster_id: &str| {
        let config = LogManagerConfig {
            log_dirs: vec![directory.path().to_owned()],
            broker_id,
            cluster_id: cluster_id.to_owned(),
            recovery_threads_per_data_dir: 1,
            topic_config: &|_| LogConfig::default(),
            progress: &LoadProgress::default(),
        };
        LogManager::open(config, Arc::new(StdFileSystem), NOW_MS)
    };
    assert_eq!(
        read_meta_properties(&StdFileSystem, directory.path()).unwrap(),
        None
    );
    drop(start(1, "a").unwrap());
    let known = read_meta_properties(&StdFileSystem, directory.path())
        .unwrap()
        .unwrap();
    assert_eq!(
        (known.broker_id, known.cluster_id.as_deref()),
        (Some(1), Some("a"))
    );
    assert!(matches!(
        start(2, "a"),
        Err(OpenError::OtherOwner {
            what: "broker.id",
            ..
        })
    ));
    assert!(matches!(
        start(1, "b"),
        Err(OpenError::OtherOwner {
            what: "cluster.id",
            ..
        })
    ));
    drop(start(1, "a").unwrap());
    std::fs::write(
        directory.path().join("meta.properties"),
        "version=1\nnode.id=1\n",
    )
    .unwrap();
    assert!(matches!(start(1, "a"), Err(OpenError::Unidentified { .. })));
}

#[test]
fn a_topic_id_is_kept_and_compared() {
    let broker = Broker::start(LogConfig::default());
    let id = |byte| Uuid::from_bytes([byte; 16]);
    let get = |broker: &Broker, topic_id| {
        let made =
            broker
                .manager
                .get_or_create(&partition(), topic_id, LogConfig::default(), NOW_MS);
        made.map(|log| locked(&log).topic_id())
    };
    assert_eq!(get(&broker, None).unwrap(), None);
    assert_eq!(
        get(&broker, Some(id(1))).unwrap(),
        Some(id(1)),
        "one that has none takes it"
    );
    let broker = broker.kill_and_start();
    assert_eq!(get(&broker, None).unwrap(), Some(id(1)));
    let error = get(&broker, Some(id(2))).unwrap_err();
    assert!(matches!(error, GetOrCreateError::InconsistentTopicId { found, .. } if found == id(1)));
}

#[test]
fn a_clean_shutdown_is_noted_and_the_note_is_used_once() {
    let broker = Broker::start(LogConfig::default());
    assert_eq!(broker.manager.clean_shutdown_broker_epoch(), None);
    locked(&broker.log())
        .append_as_leader(&mut produced(1, 0, 0, 3), 0, NOW_MS)
        .unwrap();
    let note = broker.directory.path().join(".kafka_cleanshutdown");
    broker.manager.shutdown(42).unwrap();
    assert_eq!(
        std::fs::read_to_string(&note).unwrap(),
        r#"{"version":0,"brokerEpoch":42}"#
    );
    assert!(
        locked(&broker.log())
            .append_as_leader(&mut batch(1, b"v", NOW_MS), 0, NOW_MS)
            .is_err(),
        "closed"
    );
    let index = broker
        .partition_directory()
        .join("00000000000000000000.index");
    assert_eq!(std::fs::metadata(index).unwrap().len(), 0, "trimmed");
    assert!(
        broker
            .files()
            .contains(&"00000000000000000003.snapshot".to_owned())
    );

    let broker = broker.kill_and_start();
    assert!(!note.exists());
    assert_eq!(broker.manager.clean_shutdown_broker_epoch(), Some(42));
    let shared = broker.log();
    let log = locked(&shared);
    assert_eq!(
        (
            log.log_end_offset(),
            log.recovery_point(),
            log.producer_count()
        ),
        (3, 3, 1)
    );
    drop(log);
    drop(shared);
    assert_eq!(
        broker
            .kill_and_start()
            .manager
            .clean_shutdown_broker_epoch(),
        None
    );
}

#[test]
fn bug_kafka_1647_851_769_a_high_watermark_is_never_forgotten() {
    let broker = Broker::start(LogConfig::default());
    let other = TopicPartition::new("u", 3);
    let log_of_other = broker
        .manager
        .get_or_create(&other, None, LogConfig::default(), NOW_MS)
        .unwrap();
    broker
        .manager
        .checkpoint_high_watermarks(&[(broker.log(), 7), (log_of_other, 9)])
        .unwrap();

    let broker = broker.kill_and_start();
    assert_eq!(broker.manager.high_watermarks()[&other], 9);
    // The other has no leader yet, so that nobody knows its high watermark.
    broker
        .manager
        .checkpoint_high_watermarks(&[(broker.log(), 8)])
        .unwrap();
    let file = broker
        .directory
        .path()
        .join("replication-offset-checkpoint");
    assert_eq!(
        std::fs::read_to_string(file).unwrap(),
        "0\n2\nt 0 8\nu 3 9\n"
    );
    let broker = broker.kill_and_start();
    assert_eq!(
        broker.manager.high_watermarks(),
        BTreeMap::from([(partition(), 8), (other.clone(), 9)])
    );

    broker.manager.delete(&other, NOW_MS).unwrap();
    broker
        .manager
        .checkpoint_high_watermarks(&[(broker.log(), 9)])
        .unwrap();
    assert_eq!(
        broker.kill_and_start().manager.high_watermarks(),
        BTreeMap::from([(partition(), 9)])
    );
}

#[test]
fn closed_segments_are_synced_and_the_recovery_point_follows() {
    let config = LogConfig {
        segment_bytes: 300,
        ..LogConfig::default()
    };
    let broker = Broker::start(config);
    let shared = broker.log();
    for _ in 0..10 {
        locked(&shared)
            .append_as_leader(&mut batch(1, b"value", NOW_MS), 0, NOW_MS)
            .unwrap();
    }
    broker.manager.checkpoint_recovery_points(NOW_MS).unwrap();
    let file = broker
        .directory
        .path()
        .join("recovery-point-offset-checkpoint");
    assert_eq!(
        std::fs::read_to_string(&file).unwrap(),
        "0\n1\nt 0 8\n",
        "up to the active segment"
    );
    locked(&shared).truncate_to(5, NOW_MS).unwrap();
    assert_eq!(
        std::fs::read_to_string(&file).unwrap(),
        "0\n1\nt 0 5\n",
        "taken back before others come"
    );
    locked(&shared)
        .append_as_leader(&mut batch(1, b"value", NOW_MS), 0, NOW_MS)
        .unwrap();
    locked(&shared).flush(NOW_MS).unwrap();
    broker.manager.checkpoint_recovery_points(NOW_MS).unwrap();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "0\n1\nt 0 6\n");
}

#[test]
fn flushes_are_due_by_number_and_by_time() {
    let config = LogConfig {
        flush_messages: 5,
        flush_ms: 100,
        ..LogConfig::default()
    };
    let broker = Broker::start(config);
    let shared = broker.log();
    let append = |count| {
        locked(&shared)
            .append_as_leader(&mut batch(count, b"v", NOW_MS), 0, NOW_MS)
            .unwrap()
    };
    append(4);
    assert_eq!(locked(&shared).recovery_point(), 0);
    append(1);
    assert_eq!(locked(&shared).recovery_point(), 5);
    append(1);
    broker.manager.flush_when_due(NOW_MS + 99).unwrap();
    assert_eq!(locked(&shared).recovery_point(), 5);
    broker.manager.flush_when_due(NOW_MS + 100).unwrap();
    assert_eq!(locked(&shared).recovery_point(), 6);
}

#[test]
fn a_deleted_log_is_renamed_then_removed() {
    let broker = Broker::start(LogConfig {
        file_delete_delay_ms: 1000,
        ..LogConfig::default()
    });
    let shared = broker.log();
    locked(&shared)
        .append_as_leader(&mut batch(1, b"v", NOW_MS), 0, NOW_MS)
        .unwrap();
    assert!(broker.manager.delete(&partition(), NOW_MS).unwrap());
    assert!(!broker.manager.delete(&partition(), NOW_MS).unwrap());
    assert!(broker.manager.get(&partition()).is_none());
    assert!(
        locked(&shared)
            .append_as_leader(&mut batch(1, b"v", NOW_MS), 0, NOW_MS)
            .is_err()
    );
    let deleted = || {
        let entries = std::fs::read_dir(broker.directory.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names
            .filter(|name| name.starts_with("t-0.") && name.ends_with("-delete"))
            .count()
    };
    assert_eq!(deleted(), 1);
    assert_eq!(
        locked(&broker.log()).log_end_offset(),
        0,
        "the name is free at once"
    );
    assert_eq!(broker.manager.delete_due(NOW_MS + 999).unwrap(), 0);
    assert_eq!(broker.manager.delete_due(NOW_MS + 1000).unwrap(), 1);
    assert_eq!(deleted(), 0);

    broker.manager.delete(&partition(), NOW_MS).unwrap();
    drop(shared);
    let directory = broker.directory.clone();
    let broker = broker.kill_and_start();
    assert_eq!(broker.manager.all().len(), 0);
    assert_eq!(
        broker.manager.delete_due(NOW_MS).unwrap(),
        1,
        "one that was left is due at once"
    );
    assert!(
        std::fs::read_dir(directory.path())
            .unwrap()
            .all(|entry| !entry.unwrap().path().is_dir())
    );
}

#[test]
fn nothing_on_file_outlives_a_deleted_log() {
    let config = LogConfig {
        segment_bytes: 300,
        ..LogConfig::default()
    };
    let broker = Broker::start(config);
    let fill = |log: &SharedLog| {
        for _ in 0..10 {
            locked(log)
                .append_as_leader(&mut batch(1, b"value", NOW_MS), 0, NOW_MS)
                .unwrap();
        }
    };
    let old = broker.log();
    fill(&old);
    locked(&old).raise_log_start_offset(1).unwrap();
    broker.manager.checkpoint_recovery_points(NOW_MS).unwrap();
    broker.manager.checkpoint_log_start_offsets().unwrap();
    broker
        .manager
        .checkpoint_high_watermarks(&[(old.clone(), 10)])
        .unwrap();
    broker.manager.delete(&partition(), NOW_MS).unwrap();
    let new = broker.log();
    fill(&new);
    // Collected before the old log was deleted, and written after the new one began.
    broker
        .manager
        .checkpoint_high_watermarks(&[(old, 10)])
        .unwrap();
    drop(new);

    let broker = broker.kill_and_start();
    assert_eq!(broker.manager.high_watermarks(), BTreeMap::new());
    for checkpoint in [
        "recovery-point-offset-checkpoint",
        "log-start-offset-checkpoint",
        "replication-offset-checkpoint",
    ] {
        let path = broker.directory.path().join(checkpoint);
        assert_eq!(
            std::fs::read_to_string(path).unwrap(),
            "0\n0\n",
            "{checkpoint}"
        );
    }
    let log = broker.log();
    assert_eq!(locked(&log).log_start_offset(), 0);
    assert_eq!(locked(&log).log_end_offset(), 10);
}

#[test]
fn a_log_that_cannot_be_renamed_is_not_the_next_topics() {
    let fs = TestFileSystem::default();
    let broker = Broker::start_in(
        temporary_directory(),
        Arc::new(fs.clone()),
        LogConfig::default(),
    );
    let id = |byte| Some(Uuid::from_bytes([byte; 16]));
    let get = |broker: &Broker, topic_id| {
        let config = LogConfig::default();
        broker
            .manager
            .get_or_create(&partition(), topic_id, config, NOW_MS)
    };
    locked(&get(&broker, id(1)).unwrap())
        .append_as_leader(&mut batch(1, b"v", NOW_MS), 0, NOW_MS)
        .unwrap();
    fs.break_after(0);
    assert!(broker.manager.delete(&partition(), NOW_MS).is_err());
    assert!(
        broker.manager.delete(&partition(), NOW_MS).is_err(),
        "still"
    );
    fs.repair();
    let error = get(&broker, id(2)).unwrap_err();
    assert!(
        matches!(error, GetOrCreateError::Log(LogError::Offline(_))),
        "{error}"
    );
    let broker = broker.kill_and_start();
    let error = get(&broker, id(2)).unwrap_err();
    assert!(
        matches!(error, GetOrCreateError::InconsistentTopicId { .. }),
        "{error}"
    );
    assert!(broker.manager.delete(&partition(), NOW_MS).unwrap());
    assert_eq!(locked(&get(&broker, id(2)).unwrap()).log_end_offset(), 0);
}

#[test]
fn a_directory_that_is_found_is_its_topics() {
    let broker = Broker::start(LogConfig::default());
    let id = |byte| Uuid::from_bytes([byte; 16]);
    let metadata = format!("version: 0\ntopic_id: {}", id(1));
    std::fs::create_dir(broker.partition_directory()).unwrap();
    std::fs::write(
        broker.partition_directory().join("partition.metadata"),
        metadata,
    )
    .unwrap();
    let get = |byte| {
        let config = LogConfig::default();
        broker
            .manager
            .get_or_create(&partition(), Some(id(byte)), config, NOW_MS)
    };
    let error = get(2).unwrap_err();
    assert!(
        matches!(error, GetOrCreateError::InconsistentTopicId { found, .. } if found == id(1)),
        "{error}"
    );
    assert!(broker.manager.delete(&partition(), NOW_MS).unwrap());
    assert_eq!(locked(&get(2).unwrap()).topic_id(), Some(id(2)));
}

#[test]
fn a_new_log_goes_where_the_fewest_are() {
    let (one, two) = (temporary_directory(), temporary_directory());
    let fs = Arc::new(StdFileSystem);
    let manager = open(&[&one, &two], fs, &LogConfig::default()).unwrap();
    for partition in 0..5 {
        let partition = TopicPartition::new("t", partition);
        manager
            .get_or_create(&partition, None, LogConfig::default(), NOW_MS)
            .unwrap();
    }
    let logs = |directory: &tempfile::TempDir| {
        let entries = std::fs::read_dir(directory.path()).unwrap();
        entries
            .filter(|entry| entry.as_ref().unwrap().path().is_dir())
            .count()
    };
    assert_eq!((logs(&one), logs(&two)), (3, 2));
}

#[test]
fn what_was_shut_down_survives_a_power_cut_and_the_note_of_it_does_not_survive_the_start() {
    let fs = TestFileSystem::default();
    let directory = temporary_directory();
    let start = || {
        Broker::start_in(
            directory.clone(),
            Arc::new(fs.clone()),
            LogConfig::default(),
        )
    };
    // Nothing is left but what was synced.
    let cut_power = || fs.cut_power(|below| 1.min(below - 1));
    let broker = start();
    for _ in 0..3 {
        locked(&broker.log())
            .append_as_leader(&mut batch(1, b"v", NOW_MS), 0, NOW_MS)
            .unwrap();
    }
    broker.manager.shutdown(7).unwrap();
    drop(broker);
    cut_power();
    let broker = start();
    assert_eq!(broker.manager.clean_shutdown_broker_epoch(), Some(7));
    assert_eq!(locked(&broker.log()).log_end_offset(), 3);
    drop(broker);
    cut_power();
    assert_eq!(start().manager.clean_shutdown_broker_epoch(), None);
}
