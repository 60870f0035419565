//! Segments in message format 0 or 1, as Kafka before 0.11 wrote them: they are not served, and nothing of them is changed.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use bytes::BufMut;
use kafka_wire::TopicPartition;
use log::{AppendError, LogConfig, LogError, ReadError, StdFileSystem};
use tempfile::TempDir;

use crate::broker::{Broker, NOW_MS, batch, locked, offsets};

/// Three messages.
fn message_set(magic: u8) -> Vec<u8> {
    let mut set = Vec::new();
    for offset in 0..3 {
        let mut message = vec![magic, 0];
        if magic == 1 {
            message.put_i64(NOW_MS);
        }
        message.put_i32(-1);
        message.put_i32(5);
        message.extend_from_slice(b"value");
        set.put_i64(offset);
        set.put_i32(message.len() as i32 + 4);
        set.put_u32(crc32fast::hash(&message));
        set.extend_from_slice(&message);
    }
    set
}

fn small() -> LogConfig {
    LogConfig::default()
}

/// A directory with such a log, of which Kafka has noted that all before `recovery_point` is on the disk.
fn directory(set: &[u8], clean: bool, recovery_point: i64) -> Arc<TempDir> {
    let broker = Broker::start(small());
    let directory = broker.directory.clone();
    broker.log();
    broker.manager.shutdown(1).unwrap();
    let partition = directory.path().join("t-0");
    for entry in fs::read_dir(&partition).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension != "metadata")
        {
            fs::remove_file(path).unwrap();
        }
    }
    fs::write(partition.join(SEGMENT), set).unwrap();
    let checkpoint = format!("0\n1\nt 0 {recovery_point}\n");
    let name = "recovery-point-offset-checkpoint";
    fs::write(directory.path().join(name), checkpoint).unwrap();
    if !clean {
        fs::remove_file(directory.path().join(".kafka_cleanshutdown")).unwrap();
    }
    directory
}

const SEGMENT: &str = "00000000000000000000.log";

fn on_file(directory: &Path) -> Vec<u8> {
    fs::read(directory.join("t-0").join(SEGMENT)).unwrap()
}

#[test]
fn a_log_that_ends_in_an_old_format_is_left_alone_and_says_so() {
    for (magic, clean) in [(0, true), (1, true), (0, false), (1, false)] {
        let set = message_set(magic);
        let directory = directory(&set, clean, 0);
        let mut broker = Broker::start_in(directory.clone(), Arc::new(StdFileSystem), small());
        for start in 0..3 {
            let shared = broker.log();
            let mut log = locked(&shared);
            let error = log.read(0, 1000, 3, true).unwrap_err();
            let ReadError::Log(LogError::UnsupportedFormat(unsupported)) = error else {
                panic!("{error}");
            };
            assert_eq!(unsupported.magic, magic as i8, "start {start}");
            assert!(unsupported.to_string().contains("copy the topic"));
            let error = log.append_as_leader(&mut batch(1, b"v", NOW_MS), 0, NOW_MS);
            assert!(matches!(
                error,
                Err(AppendError::Log(LogError::UnsupportedFormat(_)))
            ));
            assert!(matches!(
                log.offset_for_timestamp(0),
                Err(LogError::UnsupportedFormat(_))
            ));
            assert_eq!(log.delete_old_segments(3, i64::MAX).unwrap(), 0);
            assert!(log.truncate_to(0, NOW_MS).is_err());
            assert!(log.offline().is_none());
            drop(log);
            drop(shared);
            let other = TopicPartition::new("other", 0);
            let other = broker.manager.get_or_create(&other, None, small(), NOW_MS);
            let mut sent = batch(1, b"v", NOW_MS);
            let other = other.unwrap();
            locked(&other)
                .append_as_leader(&mut sent, 0, NOW_MS)
                .unwrap();
            drop(other);
            broker = match start {
                0 => broker.restart(),
                _ => broker.kill_and_start(),
            };
            assert!(
                on_file(directory.path()) == set,
                "magic {magic}, clean {clean}"
            );
        }
    }
}

#[test]
fn a_log_with_an_old_segment_before_others_goes_on_after_it() {
    for clean in [true, false] {
        let set = message_set(1);
        let directory = directory(&set, clean, 3);
        let active = directory.path().join("t-0/00000000000000000003.log");
        fs::write(active, []).unwrap();
        let mut broker = Broker::start_in(directory.clone(), Arc::new(StdFileSystem), small());
        for end in 3..6 {
            let shared = broker.log();
            let mut log = locked(&shared);
            assert_eq!(log.log_end_offset(), end, "clean {clean}");
            let info = log.append_as_leader(&mut batch(1, b"v", NOW_MS), 0, NOW_MS);
            assert_eq!(info.unwrap().first_offset, end);
            assert!(!log.read(3, 1000, end + 1, true).unwrap().is_empty());
            assert!(matches!(
                log.read(0, 1000, end + 1, true),
                Err(ReadError::Log(LogError::UnsupportedFormat(_)))
            ));
            drop(log);
            drop(shared);
            broker = match end {
                3 => broker.restart(),
                _ => broker.kill_and_start(),
            };
            assert!(on_file(directory.path()) == set, "clean {clean}");
        }
        let shared = broker.log();
        let mut log = locked(&shared);
        log.raise_log_start_offset(3).unwrap();
        log.delete_old_segments(6, NOW_MS).unwrap();
        assert_eq!(offsets(&log), [3, 4, 5]);
    }
}

#[test]
fn what_only_looks_like_an_old_format_is_damage() {
    for spoil in [16, 30] {
        let mut set = message_set(1);
        set[spoil] ^= 1;
        set.truncate(39);
        let directory = directory(&set, false, 0);
        let broker = Broker::start_in(directory.clone(), Arc::new(StdFileSystem), small());
        assert_eq!(locked(&broker.log()).log_end_offset(), 0);
        assert!(on_file(directory.path()).is_empty(), "byte {spoil}");
    }
}
