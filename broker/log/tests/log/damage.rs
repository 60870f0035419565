//! Files that were cut, flipped, emptied, removed or filled with rubbish: the log opens, keeps what was intact before the
//! damage, and never gives out anything else.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kafka_wire::record_batch::batches;
use log::{AppendError, EpochEntry, LogConfig, LogError, ReadError, StdFileSystem};
use tempfile::TempDir;

use crate::broker::{
    Broker, NOW_MS, batch, bytes, locked, offsets, produced, records, temporary_directory,
};
use crate::test_file_system::TestFileSystem;

fn small() -> LogConfig {
    LogConfig {
        segment_bytes: 400,
        segment_index_bytes: 240,
        index_interval_bytes: 100,
        ..LogConfig::default()
    }
}

/// A directory with a log of twelve records in three segments and more, three epochs, two producers.
fn filled(clean: bool) -> Arc<TempDir> {
    let broker = Broker::start(small());
    let shared = broker.log();
    for step in 0..6 {
        let mut log = locked(&shared);
        log.append_as_leader(
            &mut produced(i64::from(step % 2), 0, step / 2 * 2, 2),
            step / 2,
            NOW_MS,
        )
        .unwrap();
        log.append_as_leader(
            &mut batch(1, &[step as u8; 40], NOW_MS + i64::from(step)),
            step / 2,
            NOW_MS,
        )
        .unwrap();
    }
    assert!(locked(&shared).segment_count() >= 3);
    drop(shared);
    let directory = broker.directory.clone();
    if clean {
        broker.manager.shutdown(1).unwrap();
    }
    directory
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A copy of `directory` after `harm`, opened. The number of records that are left, which are the first of `all`.
fn open_harmed(
    directory: &TempDir,
    all: &[(i64, i64, Vec<u8>)],
    what: &str,
    harm: impl FnOnce(&Path),
) -> usize {
    let harmed = temporary_directory();
    copy(directory.path(), harmed.path());
    harm(harmed.path());
    let broker = Broker::start_in(harmed, Arc::new(StdFileSystem), small());
    let shared = broker.log();
    let mut log = locked(&shared);
    let left = records(&log);
    assert_eq!(left, all[..left.len()], "{what}");
    assert_eq!(log.log_end_offset(), left.len() as i64, "{what}");
    let max = log.max_timestamp_offset().unwrap().map(|max| max.timestamp);
    assert_eq!(max, left.iter().map(|record| record.1).max(), "{what}");
    for (_, timestamp, _) in &left {
        let first = left
            .iter()
            .find(|record| record.1 >= *timestamp)
            .map(|record| record.0);
        let found = log
            .offset_for_timestamp(*timestamp)
            .unwrap()
            .map(|found| found.offset);
        assert_eq!(found, first, "{what}");
    }
    // It goes on as if nothing had been.
    log.append_as_leader(&mut batch(1, b"more", NOW_MS), 9, NOW_MS)
        .unwrap();
    assert_eq!(
        offsets(&log),
        (0..=left.len() as i64).collect::<Vec<_>>(),
        "{what}"
    );
    left.len()
}

fn contents(directory: &TempDir) -> Vec<(i64, i64, Vec<u8>)> {
    let copied = temporary_directory();
    copy(directory.path(), copied.path());
    let broker = Broker::start_in(copied, Arc::new(StdFileSystem), small());
    records(&locked(&broker.log()))
}

/// The partition's files with one extension, sorted.
fn files(directory: &TempDir, extension: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory.path().join("t-0")).unwrap();
    let names = entries.map(|entry| PathBuf::from("t-0").join(entry.unwrap().file_name()));
    let mut files: Vec<_> = names
        .filter(|name| name.extension().is_some_and(|found| found == extension))
        .collect();
    files.sort();
    files
}

#[test]
fn zeros_behind_the_log_are_cut_off() {
    for clean in [false, true] {
        let directory = filled(clean);
        let all = contents(&directory);
        let name = files(&directory, "log").pop().unwrap();
        for padding in [1, 60, 61, 5000] {
            let left = open_harmed(&directory, &all, &format!("{padding} zeros"), |harmed| {
                let mut content = std::fs::read(harmed.join(&name)).unwrap();
                content.resize(content.len() + padding, 0);
                std::fs::write(harmed.join(&name), content).unwrap();
            });
            assert_eq!(left, all.len());
        }
    }
}

#[test]
fn what_only_saves_time_is_made_again() {
    for clean in [false, true] {
        let directory = filled(clean);
        let all = contents(&directory);
        let mut names: Vec<PathBuf> = ["index", "timeindex", "snapshot"]
            .iter()
            .flat_map(|extension| files(&directory, extension))
            .collect();
        names.push("t-0/leader-epoch-checkpoint".into());
        names.push("t-0/partition.metadata".into());
        names.push("recovery-point-offset-checkpoint".into());
        names.push("log-start-offset-checkpoint".into());
        names.push("replication-offset-checkpoint".into());
        let rubbish: [Option<&[u8]>; 6] = [
            None,
            Some(b""),
            Some(&[0; 96]),
            Some(&[0xff; 24]),
            Some(&[0x5a; 31]),
            Some(b"0\n1\nrubbish\n"),
        ];
        for name in &names {
            for content in rubbish {
                let left = open_harmed(
                    &directory,
                    &all,
                    &format!("{name:?} is {content:?}"),
                    |harmed| {
                        let _ = std::fs::remove_file(harmed.join(name));
                        if let Some(content) = content {
                            std::fs::write(harmed.join(name), content).unwrap();
                        }
                    },
                );
                assert_eq!(left, all.len(), "{name:?} is {content:?}");
            }
        }
    }
}

#[test]
fn an_index_that_lies_is_not_believed() {
    let directory = filled(true);
    let all = contents(&directory);
    for name in ["index", "timeindex"]
        .iter()
        .flat_map(|extension| files(&directory, extension))
    {
        let len = std::fs::metadata(directory.path().join(&name))
            .unwrap()
            .len();
        for position in 0..len as usize {
            for bit in [0, 3, 7] {
                let left = open_harmed(
                    &directory,
                    &all,
                    &format!("{name:?} flipped at {position}"),
                    |harmed| {
                        let mut content = std::fs::read(harmed.join(&name)).unwrap();
                        content[position] ^= 1 << bit;
                        std::fs::write(harmed.join(&name), content).unwrap();
                    },
                );
                assert_eq!(left, all.len());
            }
        }
    }
}

#[test]
fn bug_kafka_10432_epochs_are_found_again_from_epoch_zero() {
    for clean in [false, true] {
        for rubbish in [None, Some("")] {
            let directory = filled(clean);
            let checkpoint = directory.path().join("t-0/leader-epoch-checkpoint");
            std::fs::remove_file(&checkpoint).unwrap();
            if let Some(rubbish) = rubbish {
                std::fs::write(&checkpoint, rubbish).unwrap();
            }
            let broker = Broker::start_in(directory, Arc::new(StdFileSystem), small());
            let entry = |epoch, start_offset| EpochEntry {
                epoch,
                start_offset,
            };
            assert_eq!(
                locked(&broker.log()).epochs(),
                [entry(0, 0), entry(1, 6), entry(2, 12)]
            );
            assert_eq!(
                std::fs::read_to_string(&checkpoint).unwrap(),
                "0\n3\n0 0\n1 6\n2 12\n"
            );
        }
    }
}

#[test]
fn producers_are_found_again() {
    for clean in [false, true] {
        for remove in [false, true] {
            let directory = filled(clean);
            for name in files(&directory, "snapshot") {
                match remove {
                    true => std::fs::remove_file(directory.path().join(name)).unwrap(),
                    false => std::fs::write(directory.path().join(name), [0; 56]).unwrap(),
                }
            }
            let broker = Broker::start_in(directory, Arc::new(StdFileSystem), small());
            let shared = broker.log();
            let mut log = locked(&shared);
            assert_eq!(log.producer_count(), 2);
            for (sequence, offset) in [(0, 3), (2, 9), (4, 15)] {
                let info = log
                    .append_as_leader(&mut produced(1, 0, sequence, 2), 2, NOW_MS)
                    .unwrap();
                assert_eq!((info.duplicate, info.first_offset), (true, offset));
            }
        }
    }
}

#[test]
fn bug_kafka_10101_a_recovery_point_beyond_the_log_is_clamped() {
    let directory = filled(false);
    let checkpoint = directory.path().join("recovery-point-offset-checkpoint");
    std::fs::write(&checkpoint, "0\n1\nt 0 999\n").unwrap();
    let broker = Broker::start_in(directory, Arc::new(StdFileSystem), small());
    {
        let shared = broker.log();
        let log = locked(&shared);
        assert_eq!((log.log_end_offset(), log.recovery_point()), (18, 18));
    }
    std::fs::write(&checkpoint, "0\n1\nt 0 4\n").unwrap();
    let broker = broker.kill_and_start();
    assert_eq!(
        locked(&broker.log()).recovery_point(),
        4,
        "reading it again put nothing on the disk"
    );
}

#[test]
fn a_log_that_ends_before_it_starts_is_dropped() {
    let directory = filled(false);
    std::fs::write(
        directory.path().join("log-start-offset-checkpoint"),
        "0\n1\nt 0 50\n",
    )
    .unwrap();
    let broker = Broker::start_in(directory, Arc::new(StdFileSystem), small());
    let shared = broker.log();
    let mut log = locked(&shared);
    assert_eq!((log.log_start_offset(), log.log_end_offset()), (50, 50));
    assert_eq!(
        log.append_as_leader(&mut batch(1, b"v", NOW_MS), 9, NOW_MS)
            .unwrap()
            .first_offset,
        50
    );
}

#[test]
fn a_log_start_within_a_segment_is_kept() {
    let directory = filled(true);
    std::fs::write(
        directory.path().join("log-start-offset-checkpoint"),
        "0\n1\nt 0 2\n",
    )
    .unwrap();
    let broker = Broker::start_in(directory, Arc::new(StdFileSystem), small());
    assert_eq!(locked(&broker.log()).log_start_offset(), 2);
    let broker = broker.restart();
    let shared = broker.log();
    let log = locked(&shared);
    assert_eq!(log.log_start_offset(), 2);
    assert!(log.read(1, 1000, 18, true).is_err());
    assert!(!log.read(2, 1000, 18, true).unwrap().is_empty());
}

#[test]
fn leftovers_are_removed_and_orphans_too() {
    let directory = filled(true);
    let all = contents(&directory);
    let leftovers = [
        "00000000000000000000.log.deleted",
        "00000000000000000007.log.cleaned",
        "00000000000000000007.index.cleaned",
        "00000000000000000007.log.swap",
        "leader-epoch-checkpoint.tmp",
        "00000000000000000001.index",
        "00000000000000000001.timeindex",
        "00000000000000000001.txnindex",
    ];
    for name in leftovers {
        std::fs::write(directory.path().join("t-0").join(name), b"rubbish").unwrap();
    }
    let broker = Broker::start_in(directory, Arc::new(StdFileSystem), small());
    assert_eq!(records(&locked(&broker.log())), all);
    for name in broker.files() {
        assert!(!leftovers.contains(&name.as_str()), "{name}");
    }
}

#[test]
fn bug_kafka_6264_12520_a_finished_compaction_is_completed() {
    let directory = filled(true);
    let all = contents(&directory);
    let logs = files(&directory, "log");
    // Two segments have become one, of which everything is there; the originals, or the first of them, are not yet gone.
    let merged: Vec<u8> = logs[..2]
        .iter()
        .flat_map(|name| std::fs::read(directory.path().join(name)).unwrap())
        .collect();
    let swap = directory.path().join(&logs[0]).with_extension("log.swap");
    for gone in [false, true] {
        std::fs::write(&swap, &merged).unwrap();
        if gone {
            std::fs::remove_file(directory.path().join(&logs[0])).unwrap();
        }
        let left = open_harmed(&directory, &all, "swap", |_| ());
        assert_eq!(left, all.len());
    }
}

#[test]
fn bug_kafka_10778_after_a_failed_write_the_log_takes_no_more() {
    for full in [false, true] {
        for after in 0..12 {
            let fs = TestFileSystem::default();
            let broker = Broker::start_in(temporary_directory(), Arc::new(fs.clone()), small());
            let shared = broker.log();
            let append =
                || locked(&shared).append_as_leader(&mut batch(1, &[7; 100], NOW_MS), 0, NOW_MS);
            append().unwrap();
            match full {
                true => fs.fill_up_to(after * 100),
                false => fs.break_after(after),
            }
            let mut acknowledged = 1;
            let error = loop {
                match append() {
                    Ok(_) => acknowledged += 1,
                    Err(error) => break error,
                }
            };
            assert!(
                matches!(error, AppendError::Log(LogError::Storage(_))),
                "{error}"
            );
            fs.repair();
            let error = append().unwrap_err();
            assert!(
                matches!(error, AppendError::Log(LogError::Fenced { .. })),
                "{error}"
            );
            assert!(locked(&shared).offline().is_some());
            broker.manager.shutdown(1).unwrap();
            assert!(
                !broker
                    .directory
                    .path()
                    .join(".kafka_cleanshutdown")
                    .exists(),
                "it was not clean"
            );
            drop(shared);
            let broker = broker.kill_and_start();
            let left = offsets(&locked(&broker.log()));
            assert!(left.len() as i64 >= acknowledged && left.len() as i64 <= acknowledged + 1);
        }
    }
}

#[test]
fn a_failed_sync_is_never_tried_again() {
    let fs = TestFileSystem::default();
    let broker = Broker::start_in(temporary_directory(), Arc::new(fs.clone()), small());
    let shared = broker.log();
    locked(&shared)
        .append_as_leader(&mut batch(1, b"v", NOW_MS), 0, NOW_MS)
        .unwrap();
    fs.break_after(0);
    assert!(matches!(
        locked(&shared).flush(NOW_MS),
        Err(LogError::Storage(_))
    ));
    fs.repair();
    assert!(matches!(
        locked(&shared).flush(NOW_MS),
        Err(LogError::Fenced { .. })
    ));
    assert_eq!(locked(&shared).recovery_point(), 0);
}

#[test]
fn bug_kafka_6683_a_failed_append_leaves_no_trace_of_its_producer() {
    let fs = TestFileSystem::default();
    let broker = Broker::start_in(temporary_directory(), Arc::new(fs.clone()), small());
    let shared = broker.log();
    let mut log = locked(&shared);
    log.append_as_leader(&mut produced(1, 0, 0, 1), 0, NOW_MS)
        .unwrap();
    fs.break_after(0);
    log.append_as_leader(&mut produced(2, 0, 0, 1), 1, NOW_MS)
        .unwrap_err();
    assert_eq!(
        (
            log.producer_count(),
            log.latest_epoch(),
            log.log_end_offset()
        ),
        (1, Some(0), 1)
    );
}

#[test]
fn a_damaged_header_in_a_closed_segment_is_told_and_the_rest_is_served() {
    // After a clean shutdown nothing is verified. Base offset, length, magic: none of them is under the checksum.
    for (position, name) in [
        (0, "base offset"),
        (6, "base offset"),
        (8, "length"),
        (16, "magic"),
    ] {
        let directory = filled(true);
        let all = contents(&directory);
        let path = directory.path().join(&files(&directory, "log")[0]);
        let mut content = std::fs::read(&path).unwrap();
        content[position] ^= 0x40;
        std::fs::write(&path, content).unwrap();
        let broker = Broker::start_in(directory, Arc::new(StdFileSystem), small());
        let shared = broker.log();
        let log = locked(&shared);
        let error = log
            .read(0, 1 << 20, log.log_end_offset(), true)
            .unwrap_err();
        assert!(
            matches!(error, ReadError::Log(LogError::Damaged { .. })),
            "{name}: {error}"
        );
        let second = files(&broker.directory, "log")[1].clone();
        let base = second.file_stem().unwrap().to_str().unwrap();
        let base: usize = base.parse().unwrap();
        let data = bytes(
            &log.read(base as i64, 1 << 20, log.log_end_offset(), true)
                .unwrap(),
        );
        let first = batches(&data).next().unwrap().unwrap();
        assert_eq!(first.header.base_offset, all[base].0, "{name}");
    }
}

#[test]
fn an_index_that_is_gone_is_made_again_as_it_was() {
    let mut broker = Broker::start(LogConfig {
        segment_bytes: 500,
        index_interval_bytes: 0,
        ..LogConfig::default()
    });
    for step in 0..20 {
        locked(&broker.log())
            .append_as_leader(&mut batch(1, b"value", NOW_MS + step), 0, NOW_MS)
            .unwrap();
    }
    let path = broker.partition_directory();
    let indexes =
        ["index", "timeindex"].map(|extension| path.join(format!("{:020}.{extension}", 0)));
    let contents = || indexes.each_ref().map(|path| std::fs::read(path).unwrap());
    let before = contents();
    assert!(before.iter().all(|content| content.len() > 12));
    for path in &indexes {
        broker.manager.shutdown(1).unwrap();
        std::fs::remove_file(path).unwrap();
        broker = broker.kill_and_start();
        assert_eq!(contents(), before);
    }
}

#[test]
fn snapshots_of_no_segment_and_beyond_the_end_are_removed() {
    let broker = Broker::start(LogConfig {
        segment_bytes: 300,
        ..LogConfig::default()
    });
    for sequence in 0..10 {
        locked(&broker.log())
            .append_as_leader(&mut produced(7, 0, sequence, 1), 0, NOW_MS)
            .unwrap();
    }
    let broker = broker.restart();
    let before = broker.files();
    let snapshot = |offset: i64| {
        let name = format!("{offset:020}.snapshot");
        broker.partition_directory().join(name)
    };
    for offset in [1, 99] {
        std::fs::copy(snapshot(10), snapshot(offset)).unwrap();
    }
    let broker = broker.restart();
    assert_eq!(broker.files(), before);
}

#[test]
fn a_log_whose_segments_are_all_gone_begins_where_it_started() {
    let broker = Broker::start(LogConfig::default());
    for _ in 0..4 {
        locked(&broker.log())
            .append_as_leader(&mut batch(1, b"v", NOW_MS), 0, NOW_MS)
            .unwrap();
    }
    locked(&broker.log()).raise_log_start_offset(3).unwrap();
    broker.manager.checkpoint_log_start_offsets().unwrap();
    for name in broker.files() {
        std::fs::remove_file(broker.partition_directory().join(name)).unwrap();
    }
    let broker = broker.kill_and_start();
    let shared = broker.log();
    let log = locked(&shared);
    assert_eq!((log.log_start_offset(), log.log_end_offset()), (3, 3));
}

#[test]
fn recovery_tells_how_far_it_has_come() {
    let broker = Broker::start(LogConfig::default());
    for _ in 0..3 {
        locked(&broker.log())
            .append_as_leader(&mut batch(1, &[7; 600_000], NOW_MS), 0, NOW_MS)
            .unwrap();
    }
    let bytes = locked(&broker.log()).size();
    let Broker {
        directory, manager, ..
    } = broker;
    drop(manager);
    let progress = log::LoadProgress::default();
    let config = log::LogManagerConfig {
        log_dirs: vec![directory.path().to_owned()],
        broker_id: 1,
        cluster_id: "cluster".to_owned(),
        recovery_threads_per_data_dir: 1,
        topic_config: &|_| LogConfig::default(),
        progress: &progress,
    };
    let fs = Arc::new(log::StdFileSystem);
    let manager = log::LogManager::open(config, fs, NOW_MS).unwrap();
    // Each was read in pieces and found right. What is cut off would count, too.
    let log = manager.get(&crate::broker::partition()).unwrap();
    assert_eq!(locked(&log).log_end_offset(), 3);
    assert_eq!((progress.logs(), progress.opened_logs()), (1, 1));
    assert_eq!(
        (progress.bytes(), progress.verified_bytes()),
        (bytes, bytes)
    );
}
