//! What goes of a log, and when.

use std::sync::Arc;

use kafka_wire::compression::Compression;
use kafka_wire::record_batch::RecordBatchBuilder;
use log::LogConfig;

use crate::broker::{Broker, NOW_MS, batch, locked, offsets, temporary_directory};
use crate::test_file_system::TestFileSystem;

/// Each batch fills a segment.
fn one_batch_a_segment() -> LogConfig {
    LogConfig {
        segment_bytes: batch(1, b"value", NOW_MS).len() as u32,
        file_delete_delay_ms: 1000,
        ..LogConfig::default()
    }
}

fn fill(broker: &Broker, batches: i64) {
    let shared = broker.log();
    let mut log = locked(&shared);
    for step in 0..batches {
        // With a key, for a compacted log takes no record without; it takes no byte more.
        let mut builder = RecordBatchBuilder::new(Compression::None);
        builder
            .append(NOW_MS + step, Some(b""), Some(b"value"), &[])
            .unwrap();
        let mut keyed = builder.build().unwrap().to_vec();
        log.append_as_leader(&mut keyed, 0, NOW_MS).unwrap();
    }
}

fn deleted_files(broker: &Broker) -> Vec<String> {
    let files = broker.files().into_iter();
    files.filter(|name| name.ends_with(".deleted")).collect()
}

#[test]
fn files_of_segments_that_go_are_renamed_at_once_and_unlinked_after_their_delay() {
    let broker = Broker::start(one_batch_a_segment());
    fill(&broker, 4);
    let shared = broker.log();
    let range = {
        let log = locked(&shared);
        log.read(2, 1 << 20, 4, true).unwrap().range.unwrap()
    };
    locked(&shared).truncate_to(2, NOW_MS).unwrap();
    assert_eq!(
        deleted_files(&broker),
        [
            "00000000000000000002.index.deleted",
            "00000000000000000002.log.deleted",
            "00000000000000000002.snapshot.deleted",
            "00000000000000000002.timeindex.deleted",
            "00000000000000000003.index.deleted",
            "00000000000000000003.log.deleted",
            "00000000000000000003.timeindex.deleted",
        ]
    );
    assert_eq!(broker.manager.delete_due(NOW_MS + 999).unwrap(), 0);
    assert_eq!(broker.manager.delete_due(NOW_MS + 1000).unwrap(), 7);
    assert_eq!(deleted_files(&broker), [""; 0]);
    let mut byte = [0];
    assert_eq!(
        range.file.read_at(&mut byte, range.position).unwrap(),
        1,
        "who holds a file keeps it"
    );
    assert_eq!(offsets(&locked(&shared)), [0, 1]);
}

#[test]
fn files_that_were_to_be_unlinked_go_at_the_next_start() {
    let broker = Broker::start(one_batch_a_segment());
    fill(&broker, 4);
    locked(&broker.log()).truncate_to(1, NOW_MS).unwrap();
    assert!(!deleted_files(&broker).is_empty());
    let broker = broker.kill_and_start();
    assert_eq!(deleted_files(&broker), [""; 0]);
    assert_eq!(offsets(&locked(&broker.log())), [0]);
}

/// A broker whose log has one segment for each of these timestamps, and the base offsets that are left after a check.
fn left_of(config: LogConfig, timestamps: &[i64], high_watermark: i64, now_ms: i64) -> Vec<i64> {
    let broker = Broker::start(config);
    let shared = broker.log();
    let mut log = locked(&shared);
    for timestamp in timestamps {
        log.append_as_leader(&mut batch(1, b"value", *timestamp), 0, NOW_MS)
            .unwrap();
    }
    let before = log.segment_count();
    let end = log.log_end_offset();
    let deleted = log.delete_old_segments(high_watermark, now_ms).unwrap();
    assert_eq!(log.log_end_offset(), end, "the end never moves");
    assert!(
        log.segment_count() + deleted - before <= 1,
        "at most one is rolled"
    );
    let left = base_offsets(&broker);
    assert_eq!(log.log_start_offset(), left[0]);
    left
}

fn base_offsets(broker: &Broker) -> Vec<i64> {
    let files = broker.files();
    let logs = files.iter().filter_map(|name| name.strip_suffix(".log"));
    logs.map(|digits| digits.parse().unwrap()).collect()
}

#[test]
fn segments_older_than_retention_ms_go_up_to_the_first_that_is_not() {
    let config = LogConfig {
        retention_ms: 100,
        ..one_batch_a_segment()
    };
    let left = |timestamps: &[i64], now_ms| left_of(config.clone(), timestamps, 9, now_ms);
    assert_eq!(
        left(&[0, 10, 20], 110),
        [1, 2],
        "100 ms are not more than 100 ms"
    );
    assert_eq!(left(&[0, 10, 20], 111), [2]);
    assert_eq!(
        left(&[0, 50, 10, 60], 140),
        [1, 2, 3],
        "none from the middle"
    );
    assert_eq!(
        left(&[0, 10, 20], 121),
        [3],
        "the active one too, and a new one begins"
    );
    assert_eq!(
        left(&[0, 10, 1_000_000], 999_999),
        [2],
        "one from the future stays"
    );
}

#[test]
fn retention_ms_of_zero_keeps_nothing_and_below_zero_everything() {
    let config = |retention_ms| LogConfig {
        retention_ms,
        ..one_batch_a_segment()
    };
    assert_eq!(left_of(config(0), &[5, 5], 2, 6), [2]);
    assert_eq!(left_of(config(-1), &[5, 5], 2, i64::MAX), [0, 1]);
}

#[test]
fn without_timestamps_the_age_of_a_segment_is_its_files() {
    let config = LogConfig {
        retention_ms: 3_600_000,
        ..one_batch_a_segment()
    };
    let now = std::time::SystemTime::now();
    let now_ms = now
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_millis() as i64;
    assert_eq!(left_of(config.clone(), &[-1, -1], 2, now_ms), [0, 1]);
    assert_eq!(left_of(config, &[-1, -1], 2, now_ms + 7_200_000), [2]);
}

#[test]
fn segments_go_without_which_the_log_is_as_large_as_retention_bytes() {
    let size = i64::from(one_batch_a_segment().segment_bytes);
    let left = |retention_bytes| {
        let config = LogConfig {
            retention_bytes,
            retention_ms: -1,
            ..one_batch_a_segment()
        };
        left_of(config, &[0; 4], 4, 0)
    };
    assert_eq!(left(-1), [0, 1, 2, 3]);
    assert_eq!(left(4 * size), [0, 1, 2, 3]);
    assert_eq!(left(2 * size), [2, 3]);
    assert_eq!(
        left(2 * size + 1),
        [1, 2, 3],
        "it may be larger by less than a segment"
    );
    assert_eq!(left(0), [4]);
}

#[test]
fn an_empty_active_segment_never_goes() {
    let config = LogConfig {
        retention_ms: 0,
        retention_bytes: 0,
        ..one_batch_a_segment()
    };
    let broker = Broker::start(config);
    let shared = broker.log();
    let mut log = locked(&shared);
    assert_eq!(log.delete_old_segments(0, i64::MAX).unwrap(), 0);
    log.append_as_leader(&mut batch(1, b"value", 0), 0, NOW_MS)
        .unwrap();
    assert_eq!(log.delete_old_segments(1, i64::MAX).unwrap(), 1);
    assert_eq!(log.delete_old_segments(1, i64::MAX).unwrap(), 0);
    assert_eq!((log.log_start_offset(), log.log_end_offset()), (1, 1));
    assert_eq!(base_offsets(&broker), [1]);
}

#[test]
fn a_log_that_is_only_compacted_loses_what_lies_before_its_start_and_nothing_else() {
    let config = LogConfig {
        delete: false,
        compact: true,
        retention_ms: 0,
        retention_bytes: 0,
        ..one_batch_a_segment()
    };
    let broker = Broker::start(config);
    fill(&broker, 4);
    let shared = broker.log();
    let mut log = locked(&shared);
    assert_eq!(log.delete_old_segments(4, i64::MAX).unwrap(), 0);
    assert!(log.raise_log_start_offset(2).unwrap());
    assert!(
        !log.raise_log_start_offset(1).unwrap(),
        "it never goes back"
    );
    assert_eq!(log.delete_old_segments(4, i64::MAX).unwrap(), 2);
    assert_eq!(base_offsets(&broker), [2, 3]);
    assert!(
        log.raise_log_start_offset(9).unwrap(),
        "but not beyond the end"
    );
    assert_eq!(log.delete_old_segments(4, i64::MAX).unwrap(), 2);
    assert_eq!(base_offsets(&broker), [4]);
}

#[test]
fn bug_kafka_5634_and_9133_nothing_goes_that_reaches_the_high_watermark() {
    let config = LogConfig {
        retention_ms: 0,
        ..one_batch_a_segment()
    };
    for (high_watermark, left) in [
        (0, vec![0, 1, 2]),
        (1, vec![1, 2]),
        (2, vec![2]),
        (3, vec![3]),
    ] {
        assert_eq!(left_of(config.clone(), &[0; 3], high_watermark, 1), left);
    }
    // A start above the base of the active segment: it can go when all of it is committed, and not before.
    let broker = Broker::start(LogConfig {
        segment_bytes: 1 << 20,
        ..config
    });
    fill(&broker, 4);
    let shared = broker.log();
    let mut log = locked(&shared);
    log.raise_log_start_offset(3).unwrap();
    assert_eq!(log.delete_old_segments(3, i64::MAX).unwrap(), 0);
    assert_eq!(log.delete_old_segments(4, i64::MAX).unwrap(), 1);
    assert_eq!(
        (log.log_start_offset(), base_offsets(&broker)),
        (4, vec![4])
    );
    log.append_as_leader(&mut batch(1, b"value", NOW_MS), 0, NOW_MS)
        .unwrap();
    assert_eq!(offsets(&log), [4]);
}

#[test]
fn what_is_kept_for_a_segment_goes_with_it_and_the_rest_is_found_again() {
    let config = LogConfig {
        retention_ms: 100,
        ..one_batch_a_segment()
    };
    let broker = Broker::start(config);
    let shared = broker.log();
    for step in 0..4 {
        let mut log = locked(&shared);
        let epoch = step as i32 / 2;
        log.append_as_leader(&mut produced_at(step), epoch, NOW_MS)
            .unwrap();
    }
    let mut log = locked(&shared);
    assert_eq!(log.delete_old_segments(4, NOW_MS + 103).unwrap(), 3);
    assert_eq!(
        broker.files(),
        [
            "00000000000000000000.index.deleted",
            "00000000000000000000.log.deleted",
            "00000000000000000000.timeindex.deleted",
            "00000000000000000001.index.deleted",
            "00000000000000000001.log.deleted",
            "00000000000000000001.snapshot.deleted",
            "00000000000000000001.timeindex.deleted",
            "00000000000000000002.index.deleted",
            "00000000000000000002.log.deleted",
            "00000000000000000002.snapshot.deleted",
            "00000000000000000002.timeindex.deleted",
            "00000000000000000003.index",
            "00000000000000000003.log",
            "00000000000000000003.snapshot",
            "00000000000000000003.timeindex",
            "leader-epoch-checkpoint",
        ]
    );
    let epochs =
        std::fs::read_to_string(broker.partition_directory().join("leader-epoch-checkpoint"));
    assert_eq!(
        epochs.unwrap(),
        "0\n1\n1 3\n",
        "the epoch begins where the log does"
    );
    assert_eq!(
        log.producer_count(),
        1,
        "a producer is known longer than its records"
    );
    drop(log);
    drop(shared);
    let broker = broker.kill_and_start().restart();
    let shared = broker.log();
    let log = locked(&shared);
    assert_eq!((log.log_start_offset(), offsets(&log)), (3, vec![3]));
    assert_eq!(log.epoch_of(3), Some(1));
    assert_eq!(log.producer_count(), 1);
}

fn produced_at(step: i64) -> Vec<u8> {
    let builder = kafka_wire::record_batch::RecordBatchBuilder::new(
        kafka_wire::compression::Compression::None,
    );
    let builder = builder.producer(7, 0, step as i32);
    crate::broker::build(builder, 1, b"value", NOW_MS + step)
}

#[test]
fn bug_kafka_6492_a_segment_truncated_to_nothing_takes_appends() {
    let config = LogConfig {
        segment_index_bytes: 64,
        index_interval_bytes: 0,
        segment_bytes: 1 << 20,
        ..LogConfig::default()
    };
    let broker = Broker::start(config);
    fill(&broker, 4);
    let shared = broker.log();
    let mut log = locked(&shared);
    log.raise_log_start_offset(1).unwrap();
    log.truncate_to(1, NOW_MS).unwrap();
    drop(log);
    fill(&broker, 4);
    let log = locked(&shared);
    assert_eq!(
        (log.log_start_offset(), offsets(&log)),
        (1, vec![1, 2, 3, 4])
    );
}

#[test]
fn a_log_that_takes_no_more_writes_keeps_its_segments() {
    let broker = Broker::start(LogConfig {
        retention_ms: 0,
        ..one_batch_a_segment()
    });
    fill(&broker, 3);
    let shared = broker.log();
    broker.manager.shutdown(1).unwrap();
    assert_eq!(locked(&shared).delete_old_segments(3, i64::MAX).unwrap(), 0);
    assert_eq!(base_offsets(&broker), [0, 1, 2]);
}

#[test]
fn the_start_of_a_log_is_checkpointed_where_it_lies_within_a_segment() {
    let broker = Broker::start(LogConfig {
        retention_ms: -1,
        ..one_batch_a_segment()
    });
    fill(&broker, 4);
    let shared = broker.log();
    locked(&shared).raise_log_start_offset(2).unwrap();
    drop(shared);
    let checkpoint = broker.directory.path().join("log-start-offset-checkpoint");
    broker.manager.checkpoint_log_start_offsets().unwrap();
    assert_eq!(
        std::fs::read_to_string(&checkpoint).unwrap(),
        "0\n1\nt 0 2\n"
    );
    let broker = broker.kill_and_start();
    let shared = broker.log();
    let mut log = locked(&shared);
    assert_eq!(log.log_start_offset(), 2);
    assert_eq!(log.delete_old_segments(4, NOW_MS).unwrap(), 2);
    drop(log);
    broker.manager.checkpoint_log_start_offsets().unwrap();
    assert_eq!(
        std::fs::read_to_string(&checkpoint).unwrap(),
        "0\n0\n",
        "the first segment tells"
    );
}

#[test]
fn bug_kafka_6975_a_follower_that_begins_within_a_batch_takes_the_whole_of_it() {
    let broker = Broker::start(LogConfig::default());
    let shared = broker.log();
    let mut log = locked(&shared);
    let mut sent = batch(3, b"value", NOW_MS);
    kafka_wire::record_batch::set_base_offset(&mut sent, 4);
    kafka_wire::record_batch::set_partition_leader_epoch(&mut sent, 2);
    log.truncate_fully_and_start_at(5, NOW_MS).unwrap();
    log.append_as_follower(&sent, NOW_MS).unwrap();
    assert_eq!((log.log_start_offset(), log.log_end_offset()), (5, 7));
    assert_eq!(log.epoch_of(5), Some(2));
    assert_eq!(base_offsets(&broker), [4]);
    assert!(
        log.read(4, 1 << 20, 7, true).is_err(),
        "nothing below its start"
    );
    assert!(!log.read(5, 1 << 20, 7, true).unwrap().is_empty());
    // A log that holds something takes nothing that it has already.
    assert!(log.append_as_follower(&sent, NOW_MS).is_err());
    assert_eq!((log.log_start_offset(), log.log_end_offset()), (5, 7));
}

#[test]
fn a_truncation_within_the_batch_that_the_log_starts_in_leaves_an_empty_log() {
    let broker = Broker::start(LogConfig::default());
    let shared = broker.log();
    let mut log = locked(&shared);
    for _ in 0..2 {
        log.append_as_leader(&mut batch(3, b"value", NOW_MS), 0, NOW_MS)
            .unwrap();
    }
    log.raise_log_start_offset(4).unwrap();
    log.truncate_to(5, NOW_MS).unwrap();
    assert_eq!((log.log_start_offset(), log.log_end_offset()), (4, 4));
    log.append_as_leader(&mut batch(1, b"value", NOW_MS), 0, NOW_MS)
        .unwrap();
    assert_eq!(offsets(&log), [4]);
}

#[test]
fn the_start_of_a_log_never_lies_beyond_its_end_and_never_goes_back() {
    let broker = Broker::start(one_batch_a_segment());
    fill(&broker, 3);
    let shared = broker.log();
    let mut log = locked(&shared);
    assert!(log.raise_log_start_offset(2).unwrap());
    assert!(!log.raise_log_start_offset(1).unwrap());
    assert_eq!(log.log_start_offset(), 2);
    assert!(log.raise_log_start_offset(9).unwrap());
    assert_eq!((log.log_start_offset(), log.log_end_offset()), (3, 3));
    assert!(!log.raise_log_start_offset(9).unwrap());
}

#[test]
fn a_log_that_begins_anew_forgets_where_it_started() {
    let broker = Broker::start(LogConfig::default());
    fill(&broker, 4);
    locked(&broker.log()).raise_log_start_offset(3).unwrap();
    broker.manager.checkpoint_log_start_offsets().unwrap();
    let truncated = locked(&broker.log()).truncate_fully_and_start_at(1, NOW_MS);
    truncated.unwrap();
    fill(&broker, 1);
    let broker = broker.kill_and_start();
    let shared = broker.log();
    let log = locked(&shared);
    assert_eq!((log.log_start_offset(), offsets(&log)), (1, vec![1]));
}

/// Whatever the file system does first: what takes the place of the files is on the disk before they are gone.
#[test]
fn names_are_synced_before_what_they_replace_is_unlinked() {
    let fs = TestFileSystem::default();
    let broker = Broker::start_in(
        temporary_directory(),
        Arc::new(fs.clone()),
        LogConfig {
            retention_ms: 0,
            file_delete_delay_ms: 0,
            ..one_batch_a_segment()
        },
    );
    fill(&broker, 2);
    let seen_at_sync = || {
        let (sender, seen) = std::sync::mpsc::channel();
        let directory = broker.partition_directory();
        let exists = move |name: &'static str| directory.join(name).exists();
        fs.on_sync("t-0", move || {
            let old = [
                "00000000000000000000.log",
                "00000000000000000000.log.deleted",
            ];
            let there = (exists("00000000000000000002.log"), old.map(&exists));
            sender.send(there).unwrap();
        });
        seen
    };
    // All of it goes: the new segment, which alone tells where the log ended, comes first.
    let seen = seen_at_sync();
    let deleted = locked(&broker.log()).delete_old_segments(2, NOW_MS + 100);
    assert_eq!(deleted.unwrap(), 2);
    assert_eq!(seen.try_recv(), Ok((true, [true, false])));
    let seen = seen_at_sync();
    assert!(broker.manager.delete_due(NOW_MS + 100).unwrap() > 0);
    assert_eq!(seen.try_recv(), Ok((true, [false, true])));
    assert_eq!(deleted_files(&broker), [""; 0]);
}
