//! Logs that move to another log directory.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kafka_wire::record_batch::batches;
use kafka_wire::{TopicPartition, Uuid};
use log::{
    FileSystem, Log, LogConfig, LogError, LogManager, MoveError, MoveProgress, SharedLog,
    StdFileSystem,
};
use tempfile::TempDir;

use crate::broker::{NOW_MS, batch, locked, open, partition, produced, temporary_directory};
use crate::test_file_system::TestFileSystem;

/// Of two directories, with a log in the first.
struct Broker {
    directories: [Arc<TempDir>; 2],
    fs: Arc<dyn FileSystem>,
    manager: LogManager,
}

fn config() -> LogConfig {
    LogConfig {
        segment_bytes: 300,
        file_delete_delay_ms: 1000,
        ..LogConfig::default()
    }
}

impl Broker {
    fn start(fs: Arc<dyn FileSystem>) -> Self {
        let directories = [temporary_directory(), temporary_directory()];
        let broker = Self::open(directories, fs);
        drop(broker.log());
        assert_eq!(broker.holders(), [true, false]);
        broker
    }

    fn open(directories: [Arc<TempDir>; 2], fs: Arc<dyn FileSystem>) -> Self {
        let manager = open(&directories.each_ref(), fs.clone(), &config()).unwrap();
        Self {
            directories,
            fs,
            manager,
        }
    }

    fn kill_and_start(self) -> Self {
        drop(self.manager);
        Self::open(self.directories, self.fs)
    }

    fn path(&self, index: usize) -> &Path {
        self.directories[index].path()
    }

    fn log(&self) -> SharedLog {
        let id = Some(Uuid::from_bytes([7; 16]));
        self.manager
            .get_or_create(&partition(), id, config(), NOW_MS)
            .unwrap()
    }

    fn append(&self, count: usize) {
        for _ in 0..count {
            locked(&self.log())
                .append_as_leader(&mut batch(1, b"value", NOW_MS), 1, NOW_MS)
                .unwrap();
        }
    }

    fn begin(&self) {
        self.manager
            .move_to(&partition(), self.path(1), NOW_MS)
            .unwrap();
    }

    fn step(&self) -> Result<MoveProgress, LogError> {
        self.manager.copy_to_future(&partition(), 100, NOW_MS)
    }

    fn finish(&self) {
        for _ in 0..1000 {
            if self.step().unwrap() == MoveProgress::Moved {
                return;
            }
        }
        panic!("the move does not end");
    }

    /// Which directories have the partition's log.
    fn holders(&self) -> [bool; 2] {
        [0, 1].map(|index| self.path(index).join("t-0").is_dir())
    }

    /// The names of directories that end so, in either directory.
    fn marked(&self, mark: &str) -> Vec<PathBuf> {
        let entries = self
            .directories
            .iter()
            .flat_map(|directory| std::fs::read_dir(directory.path()).unwrap());
        entries
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.to_str().unwrap().ends_with(mark))
            .collect()
    }
}

/// Offsets and leader epochs of all batches.
fn content(log: &Log) -> Vec<(i64, i32)> {
    let mut content = Vec::new();
    let mut offset = log.log_start_offset();
    while let Some(range) = log.read(offset, 1 << 20, i64::MAX, true).unwrap().range {
        let mut bytes = vec![0; range.len as usize];
        range.file.read_at(&mut bytes, range.position).unwrap();
        for batch in batches(&bytes) {
            let batch = batch.unwrap();
            batch.verify_crc().unwrap();
            content.push((
                batch.header.base_offset,
                batch.header.partition_leader_epoch,
            ));
            offset = batch.header.last_offset() + 1;
        }
    }
    content
}

#[test]
fn a_log_moves_with_all_that_it_knows() {
    let broker = Broker::start(Arc::new(StdFileSystem));
    broker.append(10);
    let log = broker.log();
    locked(&log)
        .append_as_leader(&mut produced(1, 9, 0, 3), 1, NOW_MS)
        .unwrap();
    locked(&log).assign_epoch(5, 13).unwrap();
    broker
        .manager
        .checkpoint_high_watermarks(&[(log.clone(), 12)])
        .unwrap();
    let before = content(&locked(&log));
    broker.begin();
    assert_eq!(broker.manager.moving(), [partition()]);
    assert_eq!(broker.step().unwrap(), MoveProgress::Copied(73));
    // What is appended meanwhile comes along.
    broker.append(1);
    broker.finish();
    assert_eq!(broker.holders(), [false, true]);
    assert_eq!(broker.manager.moving(), []);
    assert_eq!(broker.step().unwrap(), MoveProgress::None);
    assert_eq!(locked(&log).directory(), broker.path(1).join("t-0"));
    assert_eq!(content(&locked(&log))[..before.len()], before);
    assert_eq!(locked(&log).log_end_offset(), 14);
    assert_eq!(locked(&log).latest_epoch(), Some(5));
    assert_eq!(locked(&log).topic_id(), Some(Uuid::from_bytes([7; 16])));
    let again = locked(&log).append_as_leader(&mut produced(1, 9, 0, 3), 5, NOW_MS);
    assert!(again.unwrap().duplicate, "the producer is known");
    broker.append(1);
    assert_eq!(broker.marked("-delete").len(), 1);
    assert_eq!(broker.manager.delete_due(NOW_MS + 1000).unwrap(), 1);
    assert_eq!(broker.marked("-delete").len(), 0);
    drop(log);
    let broker = broker.kill_and_start();
    assert_eq!(broker.manager.high_watermarks()[&partition()], 12);
    assert_eq!(locked(&broker.log()).log_end_offset(), 15);
    assert_eq!(broker.holders(), [false, true]);
}

#[test]
fn what_is_truncated_while_a_log_moves_is_not_in_its_copy() {
    for cut in [0, 4, 9] {
        let broker = Broker::start(Arc::new(StdFileSystem));
        broker.append(10);
        broker.begin();
        for _ in 0..6 {
            broker.step().unwrap();
        }
        let log = broker.log();
        locked(&log).truncate_to(cut, NOW_MS).unwrap();
        for _ in 0..3 {
            locked(&log)
                .append_as_leader(&mut batch(1, b"other", NOW_MS), 2, NOW_MS)
                .unwrap();
        }
        let expected = content(&locked(&log));
        assert_eq!(expected.len() as i64, cut + 3);
        broker.finish();
        assert_eq!(content(&locked(&log)), expected, "{cut}");
        assert_eq!(broker.holders(), [false, true]);
    }
}

#[test]
fn a_log_that_loses_its_front_while_it_moves_begins_anew() {
    let broker = Broker::start(Arc::new(StdFileSystem));
    broker.append(3);
    broker.begin();
    broker.step().unwrap();
    let log = broker.log();
    locked(&log)
        .truncate_fully_and_start_at(100, NOW_MS)
        .unwrap();
    broker.append(3);
    broker.finish();
    assert_eq!(locked(&log).log_start_offset(), 100);
    assert_eq!(content(&locked(&log)), [(100, 1), (101, 1), (102, 1)]);
}

#[test]
fn a_flush_that_a_move_overtakes_is_no_failure() {
    let broker = Broker::start(Arc::new(StdFileSystem));
    broker.append(5);
    broker.begin();
    broker.finish();
    broker.append(5);
    broker.manager.checkpoint_recovery_points(NOW_MS).unwrap();
    locked(&broker.log()).flush(NOW_MS).unwrap();
    assert_eq!(broker.manager.offline_directories(), []);
    assert_eq!(locked(&broker.log()).recovery_point(), 10);
}

#[test]
fn a_move_ends_by_a_move_back_and_with_its_log() {
    let broker = Broker::start(Arc::new(StdFileSystem));
    broker.append(5);
    for back in [true, false] {
        broker.begin();
        broker.begin();
        broker.step().unwrap();
        assert_eq!(broker.marked("-future").len(), 1);
        let (now, here) = (NOW_MS, broker.path(0));
        match back {
            true => broker.manager.move_to(&partition(), here, now).unwrap(),
            false => assert!(broker.manager.delete(&partition(), now).unwrap()),
        }
        assert_eq!(broker.manager.moving(), []);
        assert_eq!(broker.marked("-future").len(), 0);
        assert_eq!(broker.step().unwrap(), MoveProgress::None);
        assert_eq!(broker.holders(), [back, false]);
        broker.manager.delete_due(NOW_MS + 1000).unwrap();
        assert_eq!(broker.marked("-delete").len(), 0);
    }
}

#[test]
fn bug_kafka_4893_a_name_that_is_too_long_does_not_move() {
    let broker = Broker::start(Arc::new(StdFileSystem));
    let longest = TopicPartition::new("x".repeat(249), 0);
    let moved = broker.manager.move_to(&longest, broker.path(1), NOW_MS);
    assert!(matches!(moved, Err(MoveError::NameTooLong(_))), "{moved:?}");
}

#[test]
fn a_log_that_is_not_here_is_made_in_the_directory_that_was_asked_for() {
    let broker = Broker::start(Arc::new(StdFileSystem));
    for index in 1..4 {
        let partition = TopicPartition::new("t", index);
        let moved = broker.manager.move_to(&partition, broker.path(0), NOW_MS);
        assert!(matches!(moved, Err(MoveError::NoLog(_))), "{moved:?}");
        let made = broker
            .manager
            .get_or_create(&partition, None, config(), NOW_MS);
        assert!(
            locked(&made.unwrap())
                .directory()
                .starts_with(broker.path(0))
        );
    }
    for elsewhere in [
        broker.path(0).join(".."),
        PathBuf::from("/"),
        PathBuf::new(),
    ] {
        let moved = broker.manager.move_to(&partition(), &elsewhere, NOW_MS);
        assert!(
            matches!(moved, Err(MoveError::UnknownDirectory(_))),
            "{moved:?}"
        );
    }
}

#[test]
fn a_directory_that_fails_while_a_log_moves_into_it_takes_only_the_copy_along() {
    let fs = TestFileSystem::default();
    let broker = Broker::start(Arc::new(fs.clone()));
    broker.append(5);
    broker.begin();
    broker.step().unwrap();
    fs.break_directory(broker.path(1));
    assert!(broker.step().is_err());
    assert_eq!(broker.manager.moving(), []);
    broker.append(5);
    assert_eq!(broker.manager.offline_directories().len(), 1);
    let moved = broker.manager.move_to(&partition(), broker.path(1), NOW_MS);
    assert!(
        matches!(moved, Err(MoveError::Log(LogError::Offline(_)))),
        "{moved:?}"
    );
    fs.repair();
    // The next start goes on.
    let broker = broker.kill_and_start();
    assert_eq!(broker.manager.moving(), [partition()]);
    broker.finish();
    assert_eq!(locked(&broker.log()).log_end_offset(), 10);
    assert_eq!(broker.holders(), [false, true]);
}

#[test]
fn a_copy_whose_log_is_in_an_offline_directory_is_kept_and_does_not_stand_for_it() {
    let fs = TestFileSystem::default();
    let broker = Broker::start(Arc::new(fs.clone()));
    broker.append(5);
    broker.begin();
    broker.step().unwrap();
    fs.break_directory(broker.path(0));
    assert!(broker.step().is_err());
    assert_eq!(broker.marked("-future").len(), 1);
    let broker = broker.kill_and_start();
    assert!(broker.manager.get(&partition()).is_none());
    assert_eq!(broker.manager.moving(), []);
    assert_eq!(broker.marked("-future").len(), 1);
    fs.repair();
    let broker = broker.kill_and_start();
    assert_eq!(broker.manager.moving(), [partition()]);
    broker.finish();
    assert_eq!(locked(&broker.log()).log_end_offset(), 5);
}

#[test]
fn a_copy_without_a_log_is_deleted() {
    let broker = Broker::start(Arc::new(StdFileSystem));
    broker.append(5);
    broker.begin();
    broker.step().unwrap();
    std::fs::remove_dir_all(broker.path(0).join("t-0")).unwrap();
    let broker = broker.kill_and_start();
    assert_eq!(broker.manager.moving(), []);
    assert_eq!(broker.marked("-future").len(), 0);
    broker.manager.delete_due(NOW_MS).unwrap();
    assert_eq!(broker.marked("-delete").len(), 0);
    assert_eq!(locked(&broker.log()).log_end_offset(), 0);
}

/// Both disks fail, or one of them, and the broker ends, at each step in turn.
#[test]
fn a_move_that_ends_anywhere_loses_nothing() {
    for broken in [None, Some(0), Some(1)] {
        let (stayed, completed, moved) = end_anywhere(broken);
        assert!(stayed > 0 && moved > 0, "{broken:?}: {stayed} {moved}");
        // Where only the second disk fails, the first takes its log back.
        assert_eq!(completed > 0, broken != Some(1), "{broken:?}");
    }
}

/// How often the log stayed where it was, was moved by the next start, and was moved.
fn end_anywhere(broken: Option<usize>) -> (usize, usize, usize) {
    let (mut stayed, mut completed, mut moved) = (0, 0, 0);
    for after in 0.. {
        let fs = TestFileSystem::default();
        let broker = Broker::start(Arc::new(fs.clone()));
        broker.append(7);
        locked(&broker.log()).flush(NOW_MS).unwrap();
        let high_watermark = [(broker.log(), 7)];
        broker
            .manager
            .checkpoint_high_watermarks(&high_watermark)
            .unwrap();
        drop(high_watermark);
        let expected = content(&locked(&broker.log()));
        match broken {
            Some(index) => fs.break_directory_after(broker.path(index), after),
            None => fs.break_after(after),
        }
        let begun = broker.manager.move_to(&partition(), broker.path(1), NOW_MS);
        let result = begun.map_err(|_| ()).and_then(|()| {
            loop {
                match broker.step() {
                    Ok(MoveProgress::Copied(_)) => {}
                    Ok(MoveProgress::Moved) => return Ok(()),
                    Ok(MoveProgress::None) | Err(_) => return Err(()),
                }
            }
        });
        let holders = broker.holders();
        fs.repair();
        let broker = broker.kill_and_start();
        assert_eq!(broker.manager.offline_directories(), []);
        let log = broker.manager.get(&partition()).expect("the log is there");
        assert_eq!(content(&locked(&log)), expected, "after {after}");
        assert_eq!(
            broker.manager.high_watermarks()[&partition()],
            7,
            "after {after}"
        );
        match (holders, broker.holders()) {
            ([true, false], [true, false]) => stayed += 1,
            ([false, false], [false, true]) => completed += 1,
            ([false, true], [false, true]) => moved += 1,
            other => panic!("after {after}: {other:?}"),
        }
        // A move that goes on comes to its end.
        if broker.manager.moving() == [partition()] {
            broker.finish();
            assert_eq!(content(&locked(&broker.log())), expected);
            assert_eq!(broker.holders(), [false, true]);
        }
        assert_eq!(broker.marked("-future").len(), 0, "after {after}");
        broker.append(1);
        if result.is_ok() {
            break;
        }
    }
    (stayed, completed, moved)
}

/// The copy of a topic that was deleted while the copy's disk was gone.
#[test]
fn the_copy_of_a_deleted_topic_does_not_become_the_log_of_the_next_one() {
    let fs = TestFileSystem::default();
    let broker = Broker::start(Arc::new(fs.clone()));
    broker.append(5);
    broker.begin();
    for _ in 0..3 {
        broker.step().unwrap();
    }
    fs.break_directory(broker.path(1));
    assert!(broker.manager.delete(&partition(), NOW_MS).unwrap());
    let other_id = Some(Uuid::from_bytes([8; 16]));
    let made = broker
        .manager
        .get_or_create(&partition(), other_id, config(), NOW_MS);
    locked(&made.unwrap())
        .append_as_leader(&mut batch(1, b"other", NOW_MS), 1, NOW_MS)
        .unwrap();
    fs.repair();
    assert_eq!(broker.marked("-future").len(), 1);
    let broker = broker.kill_and_start();
    assert_eq!(broker.manager.moving(), []);
    assert_eq!(broker.marked("-future").len(), 0);
    let log = broker.manager.get(&partition()).unwrap();
    assert_eq!(locked(&log).topic_id(), other_id);
    assert_eq!(locked(&log).log_end_offset(), 1);
}

#[test]
fn a_move_from_a_directory_that_failed_before_anything_was_copied_ends() {
    let fs = TestFileSystem::default();
    let broker = Broker::start(Arc::new(fs.clone()));
    broker.append(5);
    broker.begin();
    fs.break_directory(broker.path(0));
    let appended =
        locked(&broker.log()).append_as_leader(&mut batch(1, b"value", NOW_MS), 1, NOW_MS);
    assert!(appended.is_err());
    assert!(broker.step().is_err());
    assert_eq!(broker.manager.moving(), []);
}

#[test]
fn the_next_start_need_not_verify_what_was_copied_and_synced() {
    let broker = Broker::start(Arc::new(StdFileSystem));
    broker.append(10);
    broker.begin();
    for _ in 0..6 {
        broker.step().unwrap();
    }
    broker.manager.checkpoint_recovery_points(NOW_MS).unwrap();
    let checkpoint = broker.path(1).join("recovery-point-offset-checkpoint");
    let recovery_points = std::fs::read_to_string(checkpoint).unwrap();
    assert_eq!(recovery_points, "0\n1\nt 0 4\n");
    let broker = broker.kill_and_start();
    broker.finish();
    assert_eq!(locked(&broker.log()).log_end_offset(), 10);
}

#[test]
fn nobody_waits_for_the_copy_to_be_synced() {
    let fs = TestFileSystem::default();
    let broker = Broker::start(Arc::new(fs.clone()));
    broker.append(10);
    broker.begin();
    let Broker { manager, .. } = &broker;
    std::thread::scope(|scope| {
        let (asked, asking) = std::sync::mpsc::channel();
        let (answered, answer) = std::sync::mpsc::channel();
        fs.on_sync("-future", move || {
            asked.send(()).unwrap();
            let waited = answer.recv_timeout(std::time::Duration::from_secs(10));
            waited.expect("the logs can be described while the copy is synced");
        });
        scope.spawn(move || {
            asking.recv().unwrap();
            // Takes the lock of every log.
            manager.describe();
            let _ = answered.send(());
        });
        broker.finish();
    });
    assert_eq!(locked(&broker.log()).recovery_point(), 10);
}

#[test]
fn a_partition_that_moves_is_shown_in_both_directories() {
    let broker = Broker::start(Arc::new(StdFileSystem));
    broker.append(5);
    broker.begin();
    broker.step().unwrap();
    let (directories, offline) = broker.manager.describe();
    assert_eq!(offline, []);
    let logs: Vec<_> = directories
        .iter()
        .map(|directory| {
            let [log] = &directory.logs[..] else {
                panic!("{directory:?}");
            };
            assert_eq!(log.partition, partition());
            assert!(directory.space.unwrap().total_bytes > 0);
            (
                directory.path.as_path(),
                log.size,
                log.log_end_offset,
                log.is_future,
            )
        })
        .collect();
    let expected = [
        (broker.path(0), 5 * 73, 5, false),
        (broker.path(1), 73, 1, true),
    ];
    assert_eq!(logs, expected);
}

#[test]
fn a_move_that_is_given_up_while_it_copies_does_not_end_the_next_one() {
    let fs = TestFileSystem::default();
    let broker = Broker::start(Arc::new(fs.clone()));
    broker.append(12);
    broker.begin();
    let (manager, [here, there]) = (&broker.manager, [0, 1].map(|index| broker.path(index)));
    std::thread::scope(|scope| {
        let (asked, asking) = std::sync::mpsc::channel();
        let (answered, answer) = std::sync::mpsc::channel::<()>();
        fs.on_sync("-future", move || {
            asked.send(()).unwrap();
            answer
                .recv_timeout(std::time::Duration::from_secs(10))
                .unwrap();
        });
        scope.spawn(move || {
            asking.recv().unwrap();
            for path in [here, there] {
                manager.move_to(&partition(), path, NOW_MS).unwrap();
            }
            answered.send(()).unwrap();
        });
        while broker.marked("-delete").is_empty() {
            broker.step().unwrap();
        }
    });
    assert_eq!(manager.moving(), [partition()]);
    broker.finish();
    assert_eq!(broker.holders(), [false, true]);
    assert_eq!(content(&locked(&broker.log())).len(), 12);
}
