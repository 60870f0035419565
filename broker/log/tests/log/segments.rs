//! When a new segment begins, what files there are, and what truncation leaves of them.

use std::sync::Arc;

use kafka_wire::record_batch::set_base_offset;
use log::LogConfig;

use crate::broker::{Broker, NOW_MS, batch, locked, offsets, produced, temporary_directory};
use crate::test_file_system::TestFileSystem;

fn size_of(value: &[u8]) -> u32 {
    batch(1, value, NOW_MS).len() as u32
}

#[test]
fn files_are_named_by_base_offset_and_trimmed_when_closed() {
    let config = LogConfig {
        segment_bytes: 3 * size_of(b"value"),
        index_interval_bytes: 0,
        ..LogConfig::default()
    };
    let broker = Broker::start(config);
    let shared = broker.log();
    let mut log = locked(&shared);
    for _ in 0..7 {
        log.append_as_leader(&mut batch(1, b"value", NOW_MS), 0, NOW_MS)
            .unwrap();
    }
    assert_eq!(
        broker.files(),
        [
            "00000000000000000000.index",
            "00000000000000000000.log",
            "00000000000000000000.timeindex",
            "00000000000000000003.index",
            "00000000000000000003.log",
            "00000000000000000003.snapshot",
            "00000000000000000003.timeindex",
            "00000000000000000006.index",
            "00000000000000000006.log",
            "00000000000000000006.snapshot",
            "00000000000000000006.timeindex",
            "leader-epoch-checkpoint",
        ]
    );
    let len = |name: &str| {
        std::fs::metadata(broker.partition_directory().join(name))
            .unwrap()
            .len()
    };
    assert_eq!(
        len("00000000000000000000.index"),
        2 * 8,
        "an entry for each batch but the first"
    );
    assert_eq!(
        len("00000000000000000000.timeindex"),
        12,
        "the time never grew"
    );
    assert_eq!(len("00000000000000000006.index"), 10 * 1024 * 1024);
    assert_eq!(
        len("00000000000000000006.timeindex"),
        10 * 1024 * 1024 / 12 * 12
    );
}

/// How many files of the partition this process has open.
fn open_files(broker: &Broker) -> usize {
    let directory = broker.partition_directory();
    let descriptors = std::fs::read_dir("/proc/self/fd").unwrap();
    let files = descriptors.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
    files.filter(|path| path.starts_with(&directory)).count()
}

#[test]
fn files_are_open_while_they_are_read_or_hold_what_is_not_synced() {
    let broker = Broker::start(LogConfig {
        segment_bytes: size_of(b"value"),
        ..LogConfig::default()
    });
    let shared = broker.log();
    for _ in 0..4 {
        let mut log = locked(&shared);
        log.append_as_leader(&mut batch(1, b"value", NOW_MS), 0, NOW_MS)
            .unwrap();
    }
    assert_eq!(open_files(&broker), 4);
    broker.manager.checkpoint_recovery_points(NOW_MS).unwrap();
    assert_eq!(open_files(&broker), 1, "the active one");
    let read = || locked(&shared).read(0, 1 << 20, 4, true).unwrap();
    let (one, other) = (read(), read());
    assert_eq!(open_files(&broker), 2, "who reads the same shares the file");
    drop((one, other));
    assert_eq!(open_files(&broker), 1);
    drop(shared);
    let broker = broker.restart();
    let shared = broker.log();
    assert_eq!(open_files(&broker), 0);
    assert_eq!(offsets(&locked(&shared)), [0, 1, 2, 3]);
    assert_eq!(open_files(&broker), 0);
}

/// Wherever in a roll no file can be opened any more.
#[test]
fn a_roll_that_may_open_no_more_files_is_tried_again() {
    let size = size_of(b"value");
    let rolling = LogConfig {
        segment_bytes: 3 * size,
        index_interval_bytes: 0,
        ..LogConfig::default()
    };
    for grows in [false, true] {
        for opens in 0.. {
            let fs = TestFileSystem::default();
            let directory = temporary_directory();
            let broker = Broker::start_in(directory, Arc::new(fs.clone()), rolling.clone());
            let shared = broker.log();
            let append = || {
                let mut record = batch(1, b"value", NOW_MS);
                locked(&shared).append_as_leader(&mut record, 0, NOW_MS)
            };
            for _ in 0..3 {
                append().unwrap();
            }
            fs.run_out_of_files_after(opens);
            let appended = append();
            fs.repair();
            if appended.is_ok() {
                assert!(opens > 4, "the roll opens files");
                break;
            }
            assert!(!locked(&shared).is_fenced(), "{opens} opens");
            assert_eq!(offsets(&locked(&shared)), [0, 1, 2], "{opens} opens");
            if grows {
                // What follows goes to the segment that was to be closed.
                locked(&shared).update_config(LogConfig::default());
            }
            for offset in 3..6 {
                assert_eq!(append().unwrap().first_offset, offset, "{opens} opens");
            }
            let segments = if grows { 1 } else { 2 };
            assert_eq!(locked(&shared).segment_count(), segments, "{opens} opens");
            drop(shared);
            let broker = broker.kill_and_start();
            assert_eq!(
                offsets(&locked(&broker.log())),
                [0, 1, 2, 3, 4, 5],
                "{opens} opens"
            );
        }
    }
}

/// The segment before the one that is empty was cut, and after a cut nothing is written over what was there.
#[test]
fn a_roll_from_an_empty_segment_that_may_open_no_more_files_fences_the_log() {
    let mut failed = 0;
    for opens in 0.. {
        let fs = TestFileSystem::default();
        let directory = temporary_directory();
        let broker = Broker::start_in(directory, Arc::new(fs.clone()), LogConfig::default());
        let shared = broker.log();
        let mut log = locked(&shared);
        for _ in 0..2 {
            log.append_as_leader(&mut batch(1, b"value", NOW_MS), 0, NOW_MS)
                .unwrap();
        }
        log.truncate_to(1, NOW_MS).unwrap();
        assert_eq!(log.segment_count(), 2);
        let mut far = batch(1, b"value", NOW_MS);
        set_base_offset(&mut far, 1 << 40);
        fs.run_out_of_files_after(opens);
        let appended = log.append_as_follower(&far, NOW_MS);
        fs.repair();
        if appended.is_ok() {
            break;
        }
        failed += 1;
        assert!(log.is_fenced(), "{opens} opens");
    }
    assert!(failed > 3, "the roll opens files");
}

#[test]
fn a_preallocated_file_is_cut_when_it_is_closed_and_after_a_kill() {
    let size = size_of(b"value");
    let full = 3 * size + 7;
    let broker = Broker::start(LogConfig {
        segment_bytes: full,
        preallocate: true,
        ..LogConfig::default()
    });
    let append = |broker: &Broker| {
        locked(&broker.log())
            .append_as_leader(&mut batch(1, b"value", NOW_MS), 0, NOW_MS)
            .unwrap();
    };
    let len = |broker: &Broker, base_offset: u32| {
        let name = format!("{base_offset:020}.log");
        std::fs::metadata(broker.partition_directory().join(name))
            .unwrap()
            .len() as u32
    };
    append(&broker);
    assert_eq!(len(&broker, 0), full);
    append(&broker);
    let broker = broker.kill_and_start();
    assert_eq!(len(&broker, 0), 2 * size, "zeros are no batches");
    assert_eq!(offsets(&locked(&broker.log())), [0, 1]);
    append(&broker);
    append(&broker);
    assert_eq!((len(&broker, 0), len(&broker, 3)), (3 * size, full));
    let broker = broker.restart();
    assert_eq!(len(&broker, 3), size);
    append(&broker);
    locked(&broker.log()).truncate_to(4, NOW_MS).unwrap();
    assert_eq!((len(&broker, 3), len(&broker, 4)), (size, full));
    append(&broker);
    assert_eq!(offsets(&locked(&broker.log())), [0, 1, 2, 3, 4]);
    // A closed segment is as long as what it holds, whatever the next one's length is to be.
    assert_eq!(locked(&broker.log()).size(), u64::from(5 * size));
    for _ in 0..3 {
        append(&broker);
    }
    assert_eq!((len(&broker, 4), len(&broker, 7)), (3 * size, full));
}

#[test]
fn a_segment_rolls_by_the_age_of_its_records() {
    let config = LogConfig {
        segment_ms: 1000,
        ..LogConfig::default()
    };
    let broker = Broker::start(config);
    let shared = broker.log();
    let mut log = locked(&shared);
    let mut append = |timestamp, now_ms| {
        log.append_as_leader(&mut batch(1, b"v", timestamp), 0, now_ms)
            .unwrap();
        log.segment_count()
    };
    assert_eq!(append(5000, NOW_MS), 1);
    assert_eq!(
        append(6000, NOW_MS + 99_999),
        1,
        "the records' own time counts"
    );
    assert_eq!(append(6001, NOW_MS), 2);
    assert_eq!(append(-1, NOW_MS), 2);
    assert_eq!(append(7002, NOW_MS), 3);
    assert_eq!(append(9000, NOW_MS), 4);
}

#[test]
fn a_segment_without_timestamps_rolls_by_the_clock() {
    let config = LogConfig {
        segment_ms: 1000,
        ..LogConfig::default()
    };
    let broker = Broker::start(config);
    let shared = broker.log();
    let mut log = locked(&shared);
    for (now_ms, segments) in [
        (NOW_MS, 1),
        (NOW_MS + 1000, 1),
        (NOW_MS + 1001, 2),
        (NOW_MS + 1500, 2),
    ] {
        log.append_as_leader(&mut batch(1, b"v", -1), 0, now_ms)
            .unwrap();
        assert_eq!(log.segment_count(), segments, "at {now_ms}");
    }
}

#[test]
fn jitter_only_makes_it_earlier() {
    let config = LogConfig {
        segment_ms: 1000,
        segment_jitter_ms: 400,
        ..LogConfig::default()
    };
    for _ in 0..20 {
        let broker = Broker::start(config.clone());
        let shared = broker.log();
        let mut log = locked(&shared);
        for (timestamp, segments) in [(0, 1), (600, 1), (1001, 2)] {
            log.append_as_leader(&mut batch(1, b"v", timestamp), 0, NOW_MS)
                .unwrap();
            assert_eq!(log.segment_count(), segments, "at {timestamp}");
        }
    }
}

#[test]
fn jitter_makes_it_earlier_for_nearly_all_and_never_at_once() {
    let count_after = |segment_jitter_ms, timestamp| {
        let config = LogConfig {
            segment_ms: 1000,
            segment_jitter_ms,
            ..LogConfig::default()
        };
        let broker = Broker::start(config);
        let shared = broker.log();
        let mut log = locked(&shared);
        for timestamp in [0, timestamp] {
            log.append_as_leader(&mut batch(1, b"v", timestamp), 0, NOW_MS)
                .unwrap();
        }
        log.segment_count()
    };
    assert_eq!(count_after(0, 1000), 1);
    // One in 400 that this is late, so that twenty of them never are.
    assert!((0..20).any(|_| count_after(400, 1000) == 2));
    for _ in 0..20 {
        assert_eq!(count_after(i64::MAX, 0), 1, "no more than segment.ms");
    }
}

#[test]
fn a_segment_rolls_when_an_index_is_full() {
    let config = LogConfig {
        segment_index_bytes: 32,
        index_interval_bytes: 0,
        ..LogConfig::default()
    };
    let broker = Broker::start(config);
    let shared = broker.log();
    let mut log = locked(&shared);
    for step in 0..20 {
        log.append_as_leader(&mut batch(1, b"v", NOW_MS + step), 0, NOW_MS)
            .unwrap();
    }
    // A time index of two entries keeps one for the end, so that the second batch fills it.
    assert_eq!(log.segment_count(), 10);
    assert_eq!(offsets(&log), (0..20).collect::<Vec<_>>());
}

#[test]
fn a_segment_rolls_when_only_its_offset_index_is_full() {
    let broker = Broker::start(LogConfig {
        // Five offsets, and three times, of which one is for the end.
        segment_index_bytes: 40,
        index_interval_bytes: 0,
        ..LogConfig::default()
    });
    let shared = broker.log();
    let mut log = locked(&shared);
    for _ in 0..18 {
        log.append_as_leader(&mut batch(1, b"v", NOW_MS), 0, NOW_MS)
            .unwrap();
    }
    // The first batch of a segment has no entry, and a time that does not grow has one.
    assert_eq!(log.segment_count(), 3);
}

#[test]
fn the_largest_timestamp_has_a_place_in_a_time_index_that_is_full() {
    let broker = Broker::start(LogConfig {
        segment_index_bytes: 40,
        index_interval_bytes: 0,
        ..LogConfig::default()
    });
    // All at once, so that nothing is rolled in between.
    let mut fetched = Vec::new();
    for offset in 0..10 {
        let mut batch = batch(1, b"v", NOW_MS + offset);
        kafka_wire::record_batch::set_base_offset(&mut batch, offset);
        fetched.extend(batch);
    }
    let appended = locked(&broker.log()).append_as_follower(&fetched, NOW_MS);
    appended.unwrap();
    let broker = broker.restart();
    let shared = broker.log();
    let log = locked(&shared);
    assert_eq!(log.segment_count(), 1);
    assert_eq!(log.max_timestamp_offset().unwrap().unwrap().offset, 9);
}

#[test]
fn offsets_that_do_not_fit_an_index_go_to_a_new_segment() {
    let broker = Broker::start(LogConfig {
        compact: true,
        ..LogConfig::default()
    });
    let shared = broker.log();
    let mut log = locked(&shared);
    for base_offset in [0i64, 5, i64::from(i32::MAX) + 1, 1 << 40] {
        let mut batch = batch(1, b"v", NOW_MS);
        kafka_wire::record_batch::set_base_offset(&mut batch, base_offset);
        log.append_as_follower(&batch, NOW_MS).unwrap();
    }
    assert_eq!(log.segment_count(), 3);
    let all = [0, 5, i64::from(i32::MAX) + 1, 1 << 40];
    assert_eq!(offsets(&log), all);
    drop(log);
    drop(shared);
    let broker = broker.kill_and_start();
    assert_eq!(offsets(&locked(&broker.log())), all);
}

#[test]
fn offsets_that_do_not_fit_an_index_go_to_a_new_segment_when_they_come_together() {
    let broker = Broker::start(LogConfig {
        compact: true,
        ..LogConfig::default()
    });
    let all = [0, 5, i64::from(i32::MAX) + 7, 1 << 40, (1 << 40) + 3];
    let mut fetched = Vec::new();
    for base_offset in all {
        let mut batch = batch(1, b"v", NOW_MS);
        kafka_wire::record_batch::set_base_offset(&mut batch, base_offset);
        fetched.extend(batch);
    }
    let appended = locked(&broker.log()).append_as_follower(&fetched, NOW_MS);
    appended.unwrap();
    assert_eq!(locked(&broker.log()).segment_count(), 3);
    let broker = broker.kill_and_start();
    assert_eq!(offsets(&locked(&broker.log())), all);
}

#[test]
fn an_empty_segment_whose_indexes_do_not_reach_is_replaced_and_its_producers_are_kept() {
    let broker = Broker::start(LogConfig::default());
    for sequence in 0..2 {
        locked(&broker.log())
            .append_as_leader(&mut produced(7, 0, sequence, 1), 0, NOW_MS)
            .unwrap();
    }
    locked(&broker.log()).truncate_to(1, NOW_MS).unwrap();
    // Now there is a snapshot of the empty segment's offset.
    let broker = broker.restart();
    let far = 1 << 40;
    let mut batch = batch(1, b"v", NOW_MS);
    kafka_wire::record_batch::set_base_offset(&mut batch, far);
    locked(&broker.log())
        .append_as_follower(&batch, NOW_MS)
        .unwrap();
    assert_eq!(locked(&broker.log()).segment_count(), 2);
    assert!(
        broker
            .files()
            .contains(&"00000000000000000001.snapshot".to_owned())
    );
    let broker = broker.kill_and_start();
    let shared = broker.log();
    assert_eq!(offsets(&locked(&shared)), [0, far]);
    assert_eq!(locked(&shared).producer_count(), 1);
}

/// Relative offsets count from the last offset of what is appended, not from its first.
#[test]
fn a_batch_whose_last_offset_does_not_fit_goes_to_a_new_segment() {
    let far = i64::from(i32::MAX);
    for (base_offset, segments) in [(far - 1, 1), (far, 2)] {
        let broker = Broker::start(LogConfig {
            compact: true,
            ..LogConfig::default()
        });
        let shared = broker.log();
        let mut log = locked(&shared);
        for (base_offset, count) in [(0, 1), (base_offset, 2)] {
            let mut batch = batch(count, b"v", NOW_MS);
            kafka_wire::record_batch::set_base_offset(&mut batch, base_offset);
            log.append_as_follower(&batch, NOW_MS).unwrap();
        }
        assert_eq!(log.segment_count(), segments, "from {base_offset} on");
        // Its leader's next offset does not fit either.
        log.update_config(LogConfig::default());
        log.append_as_leader(&mut batch(1, b"v", NOW_MS), 0, NOW_MS)
            .unwrap();
        assert_eq!(log.segment_count(), segments + 1, "from {base_offset} on");
        assert_eq!(
            offsets(&log),
            [0, base_offset, base_offset + 1, base_offset + 2]
        );
    }
}

#[test]
fn a_batch_rolls_a_segment_that_would_grow_beyond_its_limit_and_no_other() {
    let size = size_of(b"value");
    for (segment_bytes, segments) in [(2 * size, 2), (2 * size - 1, 3), (3 * size, 1)] {
        let broker = Broker::start(LogConfig {
            segment_bytes,
            ..LogConfig::default()
        });
        let shared = broker.log();
        let mut log = locked(&shared);
        for _ in 0..3 {
            log.append_as_leader(&mut batch(1, b"value", NOW_MS), 0, NOW_MS)
                .unwrap();
        }
        assert_eq!(
            log.segment_count(),
            segments,
            "segment.bytes={segment_bytes}"
        );
    }
}

#[test]
fn a_follower_that_fetches_much_has_the_leaders_segments() {
    let config = LogConfig {
        segment_bytes: 3 * size_of(b"value"),
        ..LogConfig::default()
    };
    let broker = Broker::start(config);
    let shared = broker.log();
    let mut log = locked(&shared);
    let mut fetched = Vec::new();
    for base_offset in 0..8 {
        let mut batch = batch(1, b"value", NOW_MS);
        kafka_wire::record_batch::set_base_offset(&mut batch, base_offset);
        fetched.extend(batch);
    }
    log.append_as_follower(&fetched, NOW_MS).unwrap();
    assert_eq!(log.segment_count(), 3);
    assert!(
        broker
            .files()
            .contains(&"00000000000000000003.log".to_owned())
    );
    assert!(
        broker
            .files()
            .contains(&"00000000000000000006.log".to_owned())
    );
    let mut large = batch(1, &[0; 2000], NOW_MS);
    kafka_wire::record_batch::set_base_offset(&mut large, 8);
    log.append_as_follower(&large, NOW_MS).unwrap();
    assert_eq!(
        offsets(&log),
        (0..9).collect::<Vec<_>>(),
        "one that fits no segment has one of its own"
    );
}

#[test]
fn truncation_takes_records_epochs_and_producers() {
    let config = LogConfig {
        segment_bytes: 3 * size_of(b"value"),
        ..LogConfig::default()
    };
    for keep in 1..10 {
        let broker = Broker::start(config.clone());
        let shared = broker.log();
        let mut log = locked(&shared);
        for offset in 0..10 {
            log.append_as_leader(&mut produced(i64::from(offset), 0, 0, 1), offset, NOW_MS)
                .unwrap();
        }
        assert!(!log.truncate_to(10, NOW_MS).unwrap(), "nothing to drop");
        assert!(log.truncate_to(keep, NOW_MS).unwrap());
        assert_eq!(log.log_end_offset(), keep);
        assert_eq!(offsets(&log), (0..keep).collect::<Vec<_>>());
        assert_eq!(log.latest_epoch(), Some(keep as i32 - 1));
        assert_eq!(log.producer_count(), keep as usize);
        let again = log
            .append_as_leader(&mut produced(0, 0, 0, 1), 20, NOW_MS)
            .unwrap();
        assert!(again.duplicate, "the producer of what is left is known");
        log.append_as_leader(&mut produced(99, 0, 5, 1), 20, NOW_MS)
            .unwrap();
        assert_eq!(offsets(&log), (0..=keep).collect::<Vec<_>>());
        drop(log);
        drop(shared);
        let broker = broker.kill_and_start();
        assert_eq!(
            offsets(&locked(&broker.log())),
            (0..=keep).collect::<Vec<_>>()
        );
    }
}

#[test]
fn a_batch_that_spans_the_offset_goes_as_a_whole() {
    let broker = Broker::start(LogConfig::default());
    let shared = broker.log();
    let mut log = locked(&shared);
    for _ in 0..3 {
        log.append_as_leader(&mut batch(4, b"v", NOW_MS), 0, NOW_MS)
            .unwrap();
    }
    log.flush(NOW_MS).unwrap();
    assert_eq!(log.recovery_point(), 12);
    log.truncate_to(6, NOW_MS).unwrap();
    assert_eq!((log.log_end_offset(), log.recovery_point()), (4, 4));
    assert_eq!(offsets(&log), [0, 1, 2, 3]);
}

#[test]
fn bug_kafka_6492_a_log_truncated_to_nothing_goes_on() {
    let config = LogConfig {
        index_interval_bytes: 0,
        ..LogConfig::default()
    };
    let broker = Broker::start(config);
    let shared = broker.log();
    let mut log = locked(&shared);
    for _ in 0..5 {
        log.append_as_leader(&mut batch(1, b"v", NOW_MS), 2, NOW_MS)
            .unwrap();
    }
    log.truncate_to(0, NOW_MS).unwrap();
    assert_eq!(
        (log.log_start_offset(), log.log_end_offset(), log.size()),
        (0, 0, 0)
    );
    assert_eq!(
        (log.latest_epoch(), log.max_timestamp_offset().unwrap()),
        (None, None)
    );
    for _ in 0..5 {
        log.append_as_leader(&mut batch(1, b"v", NOW_MS), 3, NOW_MS)
            .unwrap();
    }
    assert_eq!(offsets(&log), [0, 1, 2, 3, 4]);
    assert_eq!(log.latest_epoch(), Some(3));

    log.truncate_fully_and_start_at(100, NOW_MS).unwrap();
    assert_eq!(
        (
            log.log_start_offset(),
            log.log_end_offset(),
            log.recovery_point()
        ),
        (100, 100, 100)
    );
    let info = log
        .append_as_leader(&mut batch(2, b"v", NOW_MS), 4, NOW_MS)
        .unwrap();
    assert_eq!(info.first_offset, 100);
    drop(log);
    drop(shared);
    let broker = broker.kill_and_start();
    let shared = broker.log();
    let log = locked(&shared);
    assert_eq!((log.log_start_offset(), log.log_end_offset()), (100, 102));
}

#[test]
fn the_largest_timestamp_is_known_after_truncation() {
    let broker = Broker::start(LogConfig {
        index_interval_bytes: 100,
        ..LogConfig::default()
    });
    let shared = broker.log();
    let mut log = locked(&shared);
    for timestamp in [10, 50, 20, 90, 30] {
        log.append_as_leader(&mut batch(1, &[0; 60], timestamp), 0, NOW_MS)
            .unwrap();
    }
    let max = |log: &log::Log| {
        log.max_timestamp_offset()
            .unwrap()
            .map(|max| (max.timestamp, max.offset))
    };
    assert_eq!(max(&log), Some((90, 3)));
    log.truncate_to(3, NOW_MS).unwrap();
    assert_eq!(max(&log), Some((50, 1)));
    log.truncate_to(1, NOW_MS).unwrap();
    assert_eq!(max(&log), Some((10, 0)));
}

#[test]
fn nothing_is_indexed_of_what_was_truncated() {
    let broker = Broker::start(LogConfig {
        index_interval_bytes: 0,
        ..LogConfig::default()
    });
    let shared = broker.log();
    let mut log = locked(&shared);
    for step in 0..6 {
        log.append_as_leader(&mut batch(1, b"v", NOW_MS + step), 0, NOW_MS)
            .unwrap();
    }
    log.truncate_to(3, NOW_MS).unwrap();
    let len = |extension: &str| {
        let name = format!("{:020}.{extension}", 0);
        let path = broker.partition_directory().join(name);
        std::fs::metadata(path).unwrap().len()
    };
    // Of the second batch and the third.
    assert_eq!((len("index"), len("timeindex")), (2 * 8, 2 * 12));
}

#[test]
fn bug_kafka_7415_an_epoch_is_known_from_its_leaders_first_word_on() {
    let broker = Broker::start(LogConfig::default());
    let append = |log: &mut log::Log, epoch| {
        log.append_as_leader(&mut batch(1, b"v", NOW_MS), epoch, NOW_MS)
            .unwrap();
    };
    {
        let shared = broker.log();
        let mut log = locked(&shared);
        append(&mut log, 1);
        // Of a leader whom nobody follows.
        log.assign_epoch(3, 1).unwrap();
        assert_eq!(log.latest_epoch(), Some(3));
        assert!(!log.truncate_to(1, NOW_MS).unwrap(), "no record goes");
        assert_eq!(log.latest_epoch(), Some(1));
        log.assign_epoch(4, 1).unwrap();
        append(&mut log, 4);
        assert_eq!(log.end_offset_for_epoch(3), Some((1, 1)));
    }
    let broker = broker.restart();
    let shared = broker.log();
    let log = locked(&shared);
    assert_eq!((log.epoch_of(0), log.epoch_of(1)), (Some(1), Some(4)));
}

/// For what was cut may come back after a power cut, unless the new segment's name says where the old ones end.
#[test]
fn a_truncation_is_on_the_disk_before_anything_is_appended_after_it() {
    let fs = crate::test_file_system::TestFileSystem::default();
    let broker = Broker::start_in(
        crate::broker::temporary_directory(),
        std::sync::Arc::new(fs.clone()),
        LogConfig {
            segment_bytes: size_of(b"value"),
            ..LogConfig::default()
        },
    );
    let shared = broker.log();
    let mut log = locked(&shared);
    for _ in 0..3 {
        log.append_as_leader(&mut batch(1, b"value", NOW_MS), 0, NOW_MS)
            .unwrap();
    }
    let (synced, is_synced) = std::sync::mpsc::channel();
    let names = broker.partition_directory();
    fs.on_sync("t-0", move || {
        let there = |base_offset| {
            names
                .join(format!("{base_offset:020}.log.deleted"))
                .exists()
        };
        synced.send([1, 2].map(there)).unwrap();
    });
    log.truncate_to(1, NOW_MS).unwrap();
    assert_eq!(is_synced.try_recv(), Ok([true, true]));
}
