//! What a power cut may bring back after a truncation: pieces of a history that is no longer the log's.

use std::path::PathBuf;

use kafka_wire::record_batch::set_partition_leader_epoch;
use log::LogConfig;

use crate::broker::{Broker, NOW_MS, batch, locked, produced, records};

/// A log of ten records, and what its files held before it was truncated to five of them and went on in another epoch.
fn truncated(flush: bool) -> (Broker, Vec<(PathBuf, Vec<u8>)>) {
    let broker = Broker::start(LogConfig::default());
    let shared = broker.log();
    let mut log = locked(&shared);
    for producer_id in 0..10 {
        log.append_as_leader(&mut produced(producer_id, 0, 0, 1), 1, NOW_MS)
            .unwrap();
    }
    let files = broker
        .files()
        .into_iter()
        .map(|name| broker.partition_directory().join(name));
    let before = files
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .collect();
    if flush {
        log.flush(NOW_MS).unwrap();
        drop(log);
        broker.manager.checkpoint_recovery_points(NOW_MS).unwrap();
        log = locked(&shared);
    }
    log.truncate_to(5, NOW_MS).unwrap();
    for step in 0..3 {
        log.append_as_leader(&mut batch(1, &[step; 30], NOW_MS), 2, NOW_MS)
            .unwrap();
    }
    drop(log);
    drop(shared);
    (broker, before)
}

#[test]
fn a_truncation_that_comes_undone_leaves_the_newer_history() {
    for flush in [false, true] {
        let (broker, before) = truncated(flush);
        let expected = records(&locked(&broker.log()));
        let (path, old) = before
            .into_iter()
            .find(|(path, _)| path.extension().is_some_and(|found| found == "log"))
            .unwrap();
        std::fs::write(path, old).unwrap();
        let broker = broker.kill_and_start();
        let shared = broker.log();
        let log = locked(&shared);
        assert_eq!(records(&log), expected);
        assert_eq!(log.producer_count(), 5);
        assert_eq!((log.epoch_of(4), log.epoch_of(5)), (Some(1), Some(2)));
    }
}

#[test]
fn a_batch_of_an_older_leader_behind_a_newer_ones_is_cut_off() {
    let broker = Broker::start(LogConfig::default());
    for epoch in [1, 3, 3] {
        locked(&broker.log())
            .append_as_leader(&mut batch(1, b"v", NOW_MS), epoch, NOW_MS)
            .unwrap();
    }
    let path = broker
        .partition_directory()
        .join("00000000000000000000.log");
    let mut content = std::fs::read(&path).unwrap();
    let last = content.len() / 3 * 2;
    set_partition_leader_epoch(&mut content[last..], 2);
    std::fs::write(&path, content).unwrap();
    let broker = broker.kill_and_start();
    assert_eq!(locked(&broker.log()).log_end_offset(), 2);
}

#[test]
fn a_snapshot_of_another_history_is_not_used() {
    let broker = Broker::start(LogConfig {
        segment_bytes: 300,
        ..LogConfig::default()
    });
    let shared = broker.log();
    let mut log = locked(&shared);
    for producer_id in 0..8 {
        log.append_as_leader(&mut produced(producer_id, 0, 0, 1), 1, NOW_MS)
            .unwrap();
    }
    let mut snapshots: Vec<_> = broker
        .files()
        .into_iter()
        .filter(|name| name.ends_with(".snapshot"))
        .collect();
    let path = broker.partition_directory().join(snapshots.pop().unwrap());
    let old = std::fs::read(&path).unwrap();
    log.truncate_to(1, NOW_MS).unwrap();
    for _ in 0..10 {
        log.append_as_leader(&mut batch(1, b"v", NOW_MS), 2, NOW_MS)
            .unwrap();
    }
    for name in broker
        .files()
        .iter()
        .filter(|name| name.ends_with(".snapshot"))
    {
        std::fs::remove_file(broker.partition_directory().join(name)).unwrap();
    }
    std::fs::write(path, old).unwrap();
    drop(log);
    drop(shared);
    let broker = broker.kill_and_start();
    let shared = broker.log();
    let log = locked(&shared);
    assert_eq!((log.log_end_offset(), log.producer_count()), (11, 1));
}

#[test]
fn an_index_entry_that_leads_too_far_is_not_believed() {
    let broker = Broker::start(LogConfig {
        index_interval_bytes: 0,
        ..LogConfig::default()
    });
    for _ in 0..10 {
        locked(&broker.log())
            .append_as_leader(&mut batch(1, b"v", NOW_MS), 1, NOW_MS)
            .unwrap();
    }
    let directory = broker.partition_directory();
    let size = std::fs::metadata(directory.join("00000000000000000000.log"))
        .unwrap()
        .len() as u32
        / 10;
    broker.manager.shutdown(1).unwrap();
    // Says that offset 2 is where 8 is.
    let entry = [2u32.to_be_bytes(), (8 * size).to_be_bytes()].concat();
    std::fs::write(directory.join("00000000000000000000.index"), entry).unwrap();
    let broker = broker.kill_and_start();
    assert_eq!(records(&locked(&broker.log())).len(), 10);
    let shared = broker.log();
    let log = locked(&shared);
    assert_eq!(
        log.read(3, 1, 10, true).unwrap().range.unwrap().position,
        u64::from(3 * size)
    );
}
