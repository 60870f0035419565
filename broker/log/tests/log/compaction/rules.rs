//! What stays and what goes.

use super::*;

#[test]
fn the_last_record_of_each_key_stays_at_its_offset() {
    let broker = Broker::start(config());
    let log = broker.log();
    {
        let mut log = locked(&log);
        append(&mut log, &keyed(&[("a", Some("1")), ("b", Some("1"))]));
        append(&mut log, &keyed(&[("a", Some("2"))]));
        roll(&mut log);
        append(&mut log, &keyed(&[("b", Some("active"))]));
    }
    let stats = compact_at(&broker, NOW_MS).unwrap();
    assert_eq!(
        short(&locked(&log)),
        ["1:b=1", "2:a=2", "3:roll=x", "4:b=active"],
        "what the active segment holds does not count"
    );
    assert_eq!((stats.first_dirty_offset, stats.next_dirty_offset), (0, 3));
    assert_eq!((stats.records_read, stats.records_written), (3, 2));
    assert!(stats.bytes_written < stats.bytes_read);
    assert_eq!(compact_at(&broker, NOW_MS), None, "nothing is dirty");
}

#[test]
fn batches_keep_their_span_codec_clock_and_largest_timestamp() {
    for codec in Compression::ALL {
        let broker = Broker::start(config());
        let log = broker.log();
        {
            let mut log = locked(&log);
            let mut builder = RecordBatchBuilder::new(codec);
            for (timestamp, key) in [(9, "a"), (30, "b"), (20, "c"), (5, "b")] {
                builder
                    .append(NOW_MS + timestamp, Some(key.as_bytes()), Some(b"v"), &[])
                    .unwrap();
            }
            append(&mut log, &builder.build().unwrap());
            roll(&mut log);
        }
        compact_at(&broker, NOW_MS).unwrap();
        let log = locked(&log);
        let first = &headers(&log)[0];
        assert_eq!((first.base_offset, first.last_offset()), (0, 3));
        assert_eq!(first.record_count, 3);
        assert_eq!(first.attributes.compression(), Ok(codec));
        assert_eq!(first.max_timestamp, NOW_MS + 20, "30 is gone");
        let left: Vec<_> = contents(&log)
            .iter()
            .map(|record| (record.0, record.1 - NOW_MS))
            .collect();
        assert_eq!(left, [(0, 9), (2, 20), (3, 5), (4, 0)]);
        let found = log.offset_for_timestamp(NOW_MS + 10).unwrap().unwrap();
        assert_eq!(found.offset, 2, "{codec}");
    }
}

#[test]
fn records_without_a_key_go() {
    let broker = Broker::start(config());
    let log = broker.log();
    append(&mut locked(&log), &crate::broker::batch(2, b"v", NOW_MS));
    append(
        &mut locked(&log),
        &keyed(&[("", Some("an empty key is a key"))]),
    );
    roll(&mut locked(&log));
    let stats = compact_at(&broker, NOW_MS).unwrap();
    assert_eq!(stats.keyless_records, 2);
    assert_eq!(
        short(&locked(&log)),
        ["2:=an empty key is a key", "3:roll=x"]
    );
}

#[test]
fn bug_kafka_4529_a_tombstone_stays_for_delete_retention_after_its_log_was_compacted() {
    let broker = Broker::start(config());
    let log = broker.log();
    append(
        &mut locked(&log),
        &keyed(&[("a", Some("1")), ("b", Some("1"))]),
    );
    append(&mut locked(&log), &keyed(&[("a", None)]));
    roll(&mut locked(&log));
    // However old the tombstone is: who reads from the start has from now on delete.retention.ms to meet it.
    let first_ms = NOW_MS + 1_000_000;
    compact_at(&broker, first_ms).unwrap();
    assert_eq!(short(&locked(&log)), ["1:b=1", "2:a=", "3:roll=x"]);
    let header = headers(&locked(&log))[1].clone();
    assert!(header.attributes.has_delete_horizon());
    assert_eq!(header.base_timestamp, first_ms + 1000);
    assert_eq!(
        contents(&locked(&log))[1].1,
        NOW_MS,
        "its own time is as it was"
    );
    assert_eq!(header.max_timestamp, NOW_MS);

    // A later round does not put it off.
    roll(&mut locked(&log));
    compact_at(&broker, first_ms + 999).unwrap();
    assert_eq!(headers(&locked(&log))[1], header);
    roll(&mut locked(&log));
    compact_at(&broker, first_ms + 1000).unwrap();
    assert_eq!(
        short(&locked(&log)),
        ["1:b=1", "4:roll=x", "5:roll=x"],
        "the tombstone has done its work"
    );
}

#[test]
fn nothing_is_compacted_above_the_high_watermark_or_a_lag() {
    let lagging = LogConfig {
        min_compaction_lag_ms: 100,
        ..config()
    };
    let broker = Broker::start(lagging);
    let log = broker.log();
    for _ in 0..3 {
        append(&mut locked(&log), &keyed(&[("a", Some("v"))]));
        roll(&mut locked(&log));
    }
    // Segments from 0, 1, 3 and 5 on.
    assert_eq!(compact_up_to(&broker, 0, NOW_MS + 1000), None);
    assert_eq!(compact_up_to(&broker, 2, NOW_MS + 99), None, "too new");
    let stats = compact_up_to(&broker, 2, NOW_MS + 100).unwrap();
    assert_eq!(stats.next_dirty_offset, 1, "segments go as a whole");
    let stats = compact_up_to(&broker, 6, NOW_MS + 100).unwrap();
    assert_eq!((stats.first_dirty_offset, stats.next_dirty_offset), (1, 5));
    assert_eq!(short(&locked(&log)), ["3:roll=x", "4:a=v", "5:roll=x"]);
}

#[test]
fn a_log_is_compacted_when_it_is_dirty_enough_or_waits_for_too_long() {
    let half = LogConfig {
        min_cleanable_dirty_ratio: 0.5,
        max_compaction_lag_ms: 500,
        ..config()
    };
    let broker = Broker::start(half);
    let log = broker.log();
    append(&mut locked(&log), &keyed(&[("a", Some(&"v".repeat(1000)))]));
    roll(&mut locked(&log));
    assert!(compact_at(&broker, NOW_MS).is_some(), "all is dirty");
    append(&mut locked(&log), &keyed(&[("b", Some("v"))]));
    roll(&mut locked(&log));
    assert_eq!(compact_at(&broker, NOW_MS + 500), None);
    assert!(compact_at(&broker, NOW_MS + 501).is_some(), "overdue");
}

#[test]
fn a_map_that_is_full_ends_the_round_in_the_midst_of_a_segment() {
    let broker = Broker::start(config());
    let log = broker.log();
    for round in 0..2 {
        for key in 0..30 {
            let (key, value) = (format!("{key}"), format!("{round}"));
            append(&mut locked(&log), &keyed(&[(&key, Some(&value))]));
        }
    }
    roll(&mut locked(&log));
    let cleaner = Cleaner::new(broker.manager.clone());
    let mut rounds = 0;
    let mut next = 0;
    while let Some(cleaning) = cleaner.begin(NOW_MS, &|_| Some(61)) {
        let mut small = CleanerBuffers::new(24 * 10, 0.9, 200);
        let stats = cleaning.run(&mut small, &mut Unpaced).unwrap();
        assert_eq!(stats.first_dirty_offset, next);
        assert!(stats.next_dirty_offset > next);
        assert!(stats.buffer_utilization <= 0.9);
        next = stats.next_dirty_offset;
        rounds += 1;
    }
    assert_eq!((rounds, next), (7, 60), "nine keys in each round");
    let left: Vec<_> = contents(&locked(&log)).iter().map(|r| r.0).collect();
    assert_eq!(left, (30..61).collect::<Vec<_>>());
}

#[test]
fn a_map_without_room_for_a_batch_says_what_to_do_and_harms_no_other_log() {
    let broker = Broker::start(config());
    let log = broker.log();
    append(
        &mut locked(&log),
        &keyed(&[("a", None), ("b", None), ("c", None)]),
    );
    roll(&mut locked(&log));
    let cleaner = Cleaner::new(broker.manager.clone());
    let cleaning = cleaner.begin(NOW_MS, &|_| Some(4)).unwrap();
    let mut tiny = CleanerBuffers::new(24 * 2, 1.0, 4096);
    assert_eq!(cleaning.run(&mut tiny, &mut Unpaced), None);
    assert_eq!(cleaner.uncleanable(), [partition()]);
    assert!(cleaner.begin(NOW_MS, &|_| Some(4)).is_none());
    assert_eq!(short(&locked(&log)).len(), 4, "nothing is lost");

    // A log that is made anew under the name is another one.
    drop(log);
    broker.manager.delete(&partition(), NOW_MS).unwrap();
    append(&mut locked(&broker.log()), &keyed(&[("a", None)]));
    roll(&mut locked(&broker.log()));
    assert!(cleaner.begin(NOW_MS, &|_| Some(2)).is_some());
    assert_eq!(cleaner.uncleanable(), []);
}

#[test]
fn a_damaged_log_is_left_as_it_is() {
    let broker = Broker::start(config());
    let log = broker.log();
    append(
        &mut locked(&log),
        &keyed(&[("a", Some("1")), ("b", Some("1"))]),
    );
    append(&mut locked(&log), &keyed(&[("a", Some("2"))]));
    roll(&mut locked(&log));
    let path = broker
        .partition_directory()
        .join("00000000000000000000.log");
    let good = std::fs::read(&path).unwrap();
    let mut bad = good.clone();
    *bad.last_mut().unwrap() ^= 1;
    std::fs::write(&path, &bad).unwrap();
    let cleaner = Cleaner::new(broker.manager.clone());
    let cleaning = cleaner.begin(NOW_MS, &|_| Some(4)).unwrap();
    assert_eq!(cleaning.run(&mut buffers(), &mut Unpaced), None);
    assert_eq!(cleaner.uncleanable(), [partition()]);
    assert_eq!(std::fs::read(&path).unwrap(), bad);
    assert!(!broker.files().iter().any(|name| name.ends_with(".cleaned")));

    // Batches of an older format likewise.
    bad = good;
    bad[16] = 1;
    std::fs::write(&path, &bad).unwrap();
    let cleaner = Cleaner::new(broker.manager.clone());
    let cleaning = cleaner.begin(NOW_MS, &|_| Some(4));
    assert!(cleaning.is_none(), "its first dirty batch is not found");
    assert_eq!(cleaner.uncleanable(), [partition()]);
}

#[test]
fn small_segments_become_one_and_the_file_keeps_its_time() {
    let broker = Broker::start(config());
    let log = broker.log();
    for key in ["a", "b", "a", "c"] {
        append(&mut locked(&log), &keyed(&[(key, Some("v"))]));
        roll(&mut locked(&log));
    }
    let file = |name: &str| broker.partition_directory().join(name);
    let old = std::time::UNIX_EPOCH + std::time::Duration::from_millis(1_000_000_000_123);
    let last = std::fs::File::options()
        .write(true)
        .open(file("00000000000000000005.log"))
        .unwrap();
    last.set_modified(old).unwrap();
    assert_eq!(locked(&log).segment_count(), 5);
    compact_at(&broker, NOW_MS).unwrap();
    assert_eq!(locked(&log).segment_count(), 2);
    assert_eq!(
        short(&locked(&log)),
        ["2:b=v", "4:a=v", "5:roll=x", "6:c=v", "7:roll=x"]
    );
    let cleaned = file("00000000000000000000.log");
    assert_eq!(cleaned.metadata().unwrap().modified().unwrap(), old);
    let names: Vec<_> = broker
        .files()
        .into_iter()
        .filter(|name| name.starts_with('0') && !name.ends_with(".deleted"))
        .collect();
    assert_eq!(
        names,
        [
            "00000000000000000000.index",
            "00000000000000000000.log",
            "00000000000000000000.timeindex",
            "00000000000000000007.index",
            "00000000000000000007.log",
            "00000000000000000007.snapshot",
            "00000000000000000007.timeindex",
        ]
    );
    let checkpoint = broker.directory.path().join("cleaner-offset-checkpoint");
    assert_eq!(
        std::fs::read_to_string(checkpoint).unwrap(),
        "0\n1\nt 0 7\n"
    );

    drop(log);
    let broker = broker.restart();
    assert_eq!(short(&locked(&broker.log())).len(), 5);
    assert_eq!(compact_at(&broker, NOW_MS), None, "the checkpoint is read");
    let broker = broker.kill_and_start();
    assert_eq!(short(&locked(&broker.log())).len(), 5);
    assert_eq!(locked(&broker.log()).log_end_offset(), 8);
}

#[test]
fn a_compaction_can_be_ended_and_leaves_the_log_as_it_is() {
    struct UpTo(i32);
    impl Pace for UpTo {
        fn advance(&mut self, _bytes: u64) -> ControlFlow<()> {
            self.0 -= 1;
            if self.0 < 0 {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        }
    }
    let broker = Broker::start(config());
    let log = broker.log();
    append(
        &mut locked(&log),
        &keyed(&[("a", Some("1")), ("a", Some("2"))]),
    );
    roll(&mut locked(&log));
    let cleaner = Cleaner::new(broker.manager.clone());
    let before = broker.files();
    for steps in 0.. {
        let cleaning = cleaner.begin(NOW_MS, &|_| Some(3)).unwrap();
        assert!(
            cleaner.begin(NOW_MS, &|_| Some(3)).is_none(),
            "one at a time"
        );
        if cleaning.run(&mut buffers(), &mut UpTo(steps)).is_some() {
            assert_eq!(steps, 3);
            break;
        }
        assert_eq!(cleaner.uncleanable(), []);
        assert_eq!(broker.files(), before);
        assert_eq!(short(&locked(&log)).len(), 3);
    }
    assert_eq!(short(&locked(&log)), ["1:a=2", "2:roll=x"]);
}

#[test]
fn a_segment_is_rolled_in_time_for_the_largest_lag() {
    let broker = Broker::start(LogConfig {
        max_compaction_lag_ms: 500,
        ..config()
    });
    let log = broker.log();
    let at = |timestamp| {
        keyed_with(
            RecordBatchBuilder::new(Compression::None),
            timestamp,
            &[("a", Some("v"))],
        )
    };
    append(&mut locked(&log), &at(NOW_MS));
    append(&mut locked(&log), &at(NOW_MS + 500));
    assert_eq!(locked(&log).segment_count(), 1);
    append(&mut locked(&log), &at(NOW_MS + 501));
    assert_eq!(locked(&log).segment_count(), 2);
    let stats = compact_at(&broker, NOW_MS + 501).unwrap();
    assert_eq!(stats.next_dirty_offset, 2);
}

/// A topic that is not compacted any more still has its gaps, which are no damage.
#[test]
fn a_log_that_was_compacted_once_is_recovered_as_it_is() {
    let mut broker = Broker::start(config());
    let log = broker.log();
    for key in ["a", "b", "a", "b", "c"] {
        append(&mut locked(&log), &keyed(&[(key, Some("v"))]));
    }
    roll(&mut locked(&log));
    append(&mut locked(&log), &keyed(&[("a", Some("w"))]));
    compact_at(&broker, NOW_MS).unwrap();
    let before = short(&locked(&log));
    assert_eq!(before, ["2:a=v", "3:b=v", "4:c=v", "5:roll=x", "6:a=w"]);
    drop(log);
    broker.config = LogConfig::default();
    let broker = broker.kill_and_start();
    let log = broker.log();
    assert_eq!(short(&locked(&log)), before);
    assert!(!locked(&log).config().compact);
}

#[test]
fn a_log_whose_first_round_did_not_end_is_recovered_as_it_is() {
    struct UntilSwapped<'a>(&'a Broker);
    impl Pace for UntilSwapped<'_> {
        fn advance(&mut self, _bytes: u64) -> ControlFlow<()> {
            let files = self.0.files();
            let swapped = files.iter().any(|name| name.ends_with(".deleted"));
            match swapped {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        }
    }
    let mut broker = Broker::start(LogConfig {
        segment_bytes: 100,
        ..config()
    });
    let log = broker.log();
    for key in ["a", "b", "a", "c", "c", "d"] {
        append(&mut locked(&log), &keyed(&[(key, Some("v"))]));
    }
    let end = locked(&log).log_end_offset();
    locked(&log).high_watermark_advanced(end);
    let cleaner = Cleaner::new(broker.manager.clone());
    let cleaning = cleaner.begin(NOW_MS, &|_| Some(end)).unwrap();
    assert_eq!(
        cleaning.run(&mut buffers(), &mut UntilSwapped(&broker)),
        None
    );
    let before = short(&locked(&log));
    assert_ne!(before.len(), 6, "something went");
    drop((log, cleaner));
    broker.config = LogConfig::default();
    let broker = broker.kill_and_start();
    assert_eq!(short(&locked(&broker.log())), before);
}

#[test]
fn a_compacted_segment_whose_records_are_stamped_with_zero_keeps_its_indexes() {
    let broker = Broker::start(config());
    let log = broker.log();
    let plain = || RecordBatchBuilder::new(Compression::None);
    for value in ["1", "2", "3"] {
        let records = [("a", Some(value)), (value, Some(value))];
        append(&mut locked(&log), &keyed_with(plain(), 0, &records));
    }
    roll(&mut locked(&log));
    compact_at(&broker, NOW_MS).unwrap();
    let left = short(&locked(&log));
    assert_eq!(left, ["1:1=1", "3:2=2", "4:a=3", "5:3=3", "6:roll=x"]);
    for extension in ["index", "timeindex"] {
        let name = format!("00000000000000000000.{extension}");
        let size = std::fs::metadata(broker.partition_directory().join(name));
        let size = size.unwrap().len();
        assert!((1..100).contains(&size), "{extension}: {size} bytes");
    }
}

#[test]
fn without_timestamps_a_segment_is_as_old_as_its_file() {
    let lag_ms = 3_600_000;
    let broker = Broker::start(LogConfig {
        min_compaction_lag_ms: lag_ms,
        ..config()
    });
    let log = broker.log();
    for _ in 0..2 {
        let records = [("a", Some("v"))];
        let batch = keyed_with(RecordBatchBuilder::new(Compression::None), -1, &records);
        append(&mut locked(&log), &batch);
        roll(&mut locked(&log));
    }
    let path = broker
        .partition_directory()
        .join("00000000000000000000.log");
    let written = std::fs::metadata(path).unwrap().modified().unwrap();
    let since = written.duration_since(std::time::UNIX_EPOCH).unwrap();
    let written_ms = since.as_millis() as i64;
    assert_eq!(compact_at(&broker, written_ms + lag_ms - 1), None);
    assert!(compact_at(&broker, written_ms + lag_ms).is_some());
}

#[test]
fn the_dirtiest_log_is_first_and_nobody_takes_one_that_is_being_compacted() {
    let broker = Broker::start(config());
    let logs = ["a", "b", "c"].map(|topic| {
        let partition = kafka_wire::TopicPartition::new(topic, 0);
        let log = broker
            .manager
            .get_or_create(&partition, None, config(), NOW_MS);
        (partition, log.unwrap())
    });
    let dirty = |index: usize| {
        let mut log = locked(&logs[index].1);
        append(&mut log, &keyed(&[("x", Some("1"))]));
        roll(&mut log);
    };
    let cleaner = Cleaner::new(broker.manager.clone());
    let begin = || cleaner.begin(NOW_MS, &|_| Some(i64::MAX));
    for index in 0..3 {
        dirty(index);
        begin().unwrap().run(&mut buffers(), &mut Unpaced).unwrap();
        assert!(begin().is_none());
    }
    for (index, times) in [(0, 2), (1, 3), (2, 1)] {
        (0..times).for_each(|_| dirty(index));
    }
    let first = begin().unwrap();
    assert_eq!(*first.partition(), logs[1].0);
    let second = begin().unwrap();
    assert_eq!(*second.partition(), logs[0].0);
    drop(first);
    let third = begin().unwrap();
    assert_eq!(*third.partition(), logs[1].0, "nobody has it any more");
}

#[test]
fn a_log_in_a_directory_that_failed_is_not_said_to_be_uncleanable() {
    let fs = crate::test_file_system::TestFileSystem::default();
    let broker = Broker::start_in(
        crate::broker::temporary_directory(),
        std::sync::Arc::new(fs.clone()),
        LogConfig {
            min_compaction_lag_ms: 1,
            ..config()
        },
    );
    append(&mut locked(&broker.log()), &keyed(&[("a", Some("1"))]));
    roll(&mut locked(&broker.log()));
    let broker = broker.restart();
    fs.break_directory(&broker.partition_directory());
    let cleaner = Cleaner::new(broker.manager.clone());
    assert!(cleaner.begin(NOW_MS, &|_| Some(2)).is_none());
    assert!(broker.manager.all_offline());
    assert_eq!(cleaner.uncleanable(), []);
}

/// Two logs that are due, the first the dirtier, and neither of whose closed segments is open.
struct Due {
    directories: [std::sync::Arc<tempfile::TempDir>; 2],
    fs: crate::test_file_system::TestFileSystem,
    manager: std::sync::Arc<log::LogManager>,
}

impl Due {
    fn new() -> Self {
        let directories = [(); 2].map(|()| crate::broker::temporary_directory());
        let fs = crate::test_file_system::TestFileSystem::default();
        let start = || {
            let fs = std::sync::Arc::new(fs.clone());
            let manager = crate::broker::open(&directories.each_ref(), fs, &config());
            std::sync::Arc::new(manager.unwrap())
        };
        let manager = start();
        for partition in [Self::dirtier(), Self::other()] {
            let log = manager.get_or_create(&partition, None, config(), NOW_MS);
            let log = log.unwrap();
            append(&mut locked(&log), &keyed(&[("a", Some("1"))]));
            roll(&mut locked(&log));
        }
        // The other one is half clean.
        let cleaner = Cleaner::new(manager.clone());
        let end_of_other = |partition: &_| (*partition == Self::other()).then_some(2);
        let cleaning = cleaner.begin(NOW_MS, &end_of_other).unwrap();
        cleaning.run(&mut buffers(), &mut Unpaced).unwrap();
        roll(&mut locked(&manager.get(&Self::other()).unwrap()));
        manager.shutdown(7).unwrap();
        drop(cleaner);
        drop(manager);
        let manager = start();
        Self {
            directories,
            fs,
            manager,
        }
    }

    fn dirtier() -> kafka_wire::TopicPartition {
        kafka_wire::TopicPartition::new("dirtier", 0)
    }

    fn other() -> kafka_wire::TopicPartition {
        kafka_wire::TopicPartition::new("other", 0)
    }

    /// Whose turn it is.
    fn next(&self, cleaner: &Cleaner) -> Option<kafka_wire::TopicPartition> {
        let cleaning = cleaner.begin(NOW_MS, &|_| Some(3))?;
        Some(cleaning.partition().clone())
    }
}

#[test]
fn a_log_that_is_out_of_use_does_not_keep_the_others_from_being_compacted() {
    for fenced in [false, true] {
        let due = Due::new();
        let cleaner = Cleaner::new(due.manager.clone());
        assert_eq!(due.next(&cleaner), Some(Due::dirtier()));
        if fenced {
            due.fs.run_out_of_files_after(0);
            let log = due.manager.get(&Due::dirtier()).unwrap();
            locked(&log).truncate_to(1, NOW_MS).unwrap_err();
            due.fs.repair();
            assert!(locked(&log).is_fenced() && locked(&log).segment_count() == 2);
        } else {
            due.fs.break_directory(due.directories[0].path());
        }
        // Whether it is out of use already, or only found to be so here.
        for _ in 0..2 {
            assert_eq!(due.next(&cleaner), Some(Due::other()), "fenced: {fenced}");
        }
        assert_eq!(cleaner.uncleanable(), []);
    }
}

#[test]
fn times_are_found_in_a_log_that_was_compacted() {
    let broker = Broker::start(LogConfig {
        // The fourth batch has an entry, and the fifth has none.
        index_interval_bytes: 200,
        ..config()
    });
    let log = broker.log();
    for (index, key) in ["a", "b", "c", "d"].into_iter().enumerate() {
        let builder = RecordBatchBuilder::new(Compression::None);
        let timestamp = NOW_MS + 10 * index as i64;
        let batch = keyed_with(builder, timestamp, &[("x", Some("1")), (key, Some("1"))]);
        append(&mut locked(&log), &batch);
    }
    let builder = RecordBatchBuilder::new(Compression::None);
    let last = keyed_with(builder, NOW_MS + 99, &[("e", Some("1"))]);
    append(&mut locked(&log), &last);
    roll(&mut locked(&log));
    compact_at(&broker, NOW_MS).unwrap();
    drop(log);
    let broker = broker.restart();
    let log = broker.log();
    let log = locked(&log);
    let found = |timestamp| log.offset_for_timestamp(timestamp).unwrap();
    assert_eq!(found(NOW_MS + 11).unwrap().offset, 5);
    assert_eq!(found(NOW_MS + 31).unwrap().offset, 8);
    assert_eq!(log.max_timestamp_offset().unwrap().unwrap().offset, 8);
}

#[test]
fn a_batch_that_the_broker_stamped_keeps_its_time() {
    let broker = Broker::start(config());
    let log = broker.log();
    let mut stamped = keyed(&[("a", Some("1")), ("a", Some("2")), ("b", Some("1"))]);
    let clock = kafka_wire::record_batch::TimestampType::LogAppendTime;
    kafka_wire::record_batch::set_max_timestamp(&mut stamped, clock, NOW_MS + 50);
    append(&mut locked(&log), &stamped);
    roll(&mut locked(&log));
    compact_at(&broker, NOW_MS).unwrap();
    let left = &headers(&locked(&log))[0];
    assert_eq!((left.record_count, left.max_timestamp), (2, NOW_MS + 50));
    assert_eq!(left.attributes.timestamp_type(), clock);
}
