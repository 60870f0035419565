//! Bytes that rot under a running broker, or where its start did not look: they cost what they held, and nothing else.

use std::fs::File;
use std::os::unix::fs::FileExt;

use kafka_wire::TopicPartition;
use log::{LogConfig, LogError, ReadError};

use crate::broker::{Broker, NOW_MS, batch, locked};

const MAGIC_AT: u64 = 16;

/// No index entries, so that every search walks over the headers.
fn small() -> LogConfig {
    LogConfig {
        segment_bytes: 1000,
        ..LogConfig::default()
    }
}

fn append(log: &mut log::Log) -> i64 {
    let mut batch = batch(1, b"value", NOW_MS);
    let info = log.append_as_leader(&mut batch, 0, NOW_MS).unwrap();
    info.first_offset
}

fn damage(broker: &Broker, name: &str, position: u64) {
    let path = broker.partition_directory().join(name);
    let file = File::options().write(true).open(path).unwrap();
    file.write_all_at(&[0x55], position).unwrap();
}

const FIRST: &str = "00000000000000000000.log";

#[test]
fn damage_in_one_log_leaves_the_other_logs_of_its_directory_alone() {
    let broker = Broker::start(small());
    let shared = broker.log();
    let mut log = locked(&shared);
    for _ in 0..5 {
        append(&mut log);
    }
    let size = log.size() / 5;
    damage(&broker, FIRST, size + MAGIC_AT);
    let error = log.truncate_to(3, NOW_MS).unwrap_err();
    assert!(matches!(error, LogError::Damaged { .. }), "{error}");
    assert!(log.is_fenced() && log.offline().is_none());
    let other = TopicPartition::new("other", 0);
    let other = broker.manager.get_or_create(&other, None, small(), NOW_MS);
    assert_eq!(append(&mut locked(&other.unwrap())), 0);
    // The next start looks at every byte, though the rest was shut down well.
    drop(log);
    broker.manager.shutdown(1).unwrap_err();
    let note = broker.directory.path().join(".kafka_cleanshutdown");
    assert!(!note.exists());
}

#[test]
fn a_log_whose_first_batch_is_damaged_goes_on() {
    let broker = Broker::start(small());
    for _ in 0..3 {
        append(&mut locked(&broker.log()));
    }
    // After the start has looked; had the segment index entries, it would not even have.
    let broker = broker.restart();
    damage(&broker, FIRST, MAGIC_AT);
    let shared = broker.log();
    let mut log = locked(&shared);
    assert_eq!(append(&mut log), 3);
    let error = log.read(0, 1000, 4, true).unwrap_err();
    assert!(matches!(error, ReadError::Log(LogError::Damaged { .. })));
    // Until it rolls, too.
    while log.segment_count() == 1 {
        append(&mut log);
    }
    append(&mut log);
    assert!(!log.is_fenced() && log.offline().is_none());
    drop(log);
    drop(shared);
    broker.manager.shutdown(1).unwrap();
}

#[test]
fn a_log_is_truncated_though_what_is_left_of_it_is_damaged() {
    let broker = Broker::start(LogConfig {
        index_interval_bytes: 0,
        ..LogConfig::default()
    });
    let shared = broker.log();
    let mut log = locked(&shared);
    for _ in 0..5 {
        append(&mut log);
    }
    damage(&broker, FIRST, log.size() / 5 + MAGIC_AT);
    // The offset is found by the index, and no time in it is above the first batch's.
    assert!(log.truncate_to(4, NOW_MS).unwrap());
    assert_eq!(append(&mut log), 4);
}
