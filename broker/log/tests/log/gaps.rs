//! Offsets that are missing in the middle of a log: what compaction took away, here or at the leader.

use std::path::Path;
use std::sync::Arc;

use kafka_wire::record_batch::{set_base_offset, set_partition_leader_epoch};
use log::{AppendError, Log, LogConfig};

use crate::broker::{Broker, NOW_MS, batch, locked, offsets};

const CLEANER_CHECKPOINT: &str = "cleaner-offset-checkpoint";
const RECOVERY_CHECKPOINT: &str = "recovery-point-offset-checkpoint";

/// A batch of two records as a leader sends it.
fn sent(base_offset: i64) -> Vec<u8> {
    let mut batch = batch(2, b"value", NOW_MS);
    set_base_offset(&mut batch, base_offset);
    set_partition_leader_epoch(&mut batch, 0);
    batch
}

fn fetch(log: &mut Log, base_offsets: &[i64]) -> Result<(), AppendError> {
    let batches: Vec<u8> = base_offsets.iter().flat_map(|base| sent(*base)).collect();
    log.append_as_follower(&batches, NOW_MS).map(|_| ())
}

/// One batch fits a segment.
fn small_segments() -> LogConfig {
    LogConfig {
        segment_bytes: 100,
        ..LogConfig::default()
    }
}

fn content(directory: &Path, name: &str) -> String {
    std::fs::read_to_string(directory.join(name)).unwrap()
}

#[test]
fn a_follower_takes_gaps_whatever_the_policy_and_has_them_after_a_kill() {
    for config in [LogConfig::default(), small_segments()] {
        for compact in [false, true] {
            let mut broker = Broker::start(LogConfig {
                compact,
                ..config.clone()
            });
            let log = broker.log();
            // The first gap is where the log begins, or between what is fetched at once, or between two fetches.
            fetch(&mut locked(&log), &[3, 7]).unwrap();
            fetch(&mut locked(&log), &[12]).unwrap();
            let before = offsets(&locked(&log));
            assert_eq!(before, [3, 4, 7, 8, 12, 13]);
            drop(log);
            broker.config.compact = false;
            let broker = broker.kill_and_start();
            assert_eq!(offsets(&locked(&broker.log())), before);
        }
    }
}

#[test]
fn the_mark_of_a_gap_is_on_the_disk_before_the_gap_and_no_log_has_it_without() {
    let broker = Broker::start(LogConfig::default());
    let mark = || content(broker.directory.path(), CLEANER_CHECKPOINT);
    assert_eq!(mark(), "0\n0\n");
    let log = broker.log();
    fetch(&mut locked(&log), &[0, 2]).unwrap();
    assert_eq!(mark(), "0\n0\n");
    fetch(&mut locked(&log), &[4, 9]).unwrap();
    assert_eq!(mark(), "0\n1\nt 0 0\n");
}

#[test]
fn what_goes_back_is_refused_and_changes_nothing() {
    let broker = Broker::start(LogConfig::default());
    let shared = broker.log();
    let mut log = locked(&shared);
    log.truncate_fully_and_start_at(5, NOW_MS).unwrap();
    // The log would begin within the first batch.
    let error = fetch(&mut log, &[4, 3]).unwrap_err();
    assert!(
        matches!(
            error,
            AppendError::UnexpectedOffset {
                found: 3,
                log_end_offset: 6
            }
        ),
        "{error}"
    );
    assert_eq!((log.log_start_offset(), log.log_end_offset()), (5, 5));
    fetch(&mut log, &[5]).unwrap();
    assert!(fetch(&mut log, &[6]).is_err(), "below the end");
    assert_eq!(offsets(&log), [5, 6]);
}

#[test]
fn without_a_checkpoint_any_log_may_have_gaps_and_that_is_noted_for_each() {
    for harm in [None, Some("rubbish"), Some("")] {
        let broker = Broker::start(LogConfig::default());
        fetch(&mut locked(&broker.log()), &[0, 5]).unwrap();
        let path = broker.directory.path().join(CLEANER_CHECKPOINT);
        match harm {
            None => std::fs::remove_file(&path).unwrap(),
            Some(rubbish) => std::fs::write(&path, rubbish).unwrap(),
        }
        let broker = broker.kill_and_start().kill_and_start();
        assert_eq!(offsets(&locked(&broker.log())), [0, 1, 5, 6], "{harm:?}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "0\n1\nt 0 0\n");
    }
}

#[test]
fn a_gap_in_a_log_without_the_mark_is_damage() {
    for config in [LogConfig::default(), small_segments()] {
        for (compact, left) in [(false, 4), (true, 6)] {
            let broker = Broker::start(LogConfig {
                compact,
                ..config.clone()
            });
            fetch(&mut locked(&broker.log()), &[0, 2, 7]).unwrap();
            let mark = broker.directory.path().join(CLEANER_CHECKPOINT);
            std::fs::write(mark, "0\n0\n").unwrap();
            let broker = broker.kill_and_start();
            let all = [0, 1, 2, 3, 7, 8];
            assert_eq!(offsets(&locked(&broker.log())), all[..left]);
        }
    }
}

#[test]
fn a_recovery_that_cuts_the_log_takes_the_recovery_point_back_on_the_disk() {
    let broker = Broker::start(LogConfig::default());
    fetch(&mut locked(&broker.log()), &[0, 2, 4]).unwrap();
    let directory = Arc::clone(&broker.directory);
    let checkpoint = directory.path().join(RECOVERY_CHECKPOINT);
    std::fs::write(&checkpoint, "0\n1\nt 0 6\n").unwrap();
    let segment = broker
        .partition_directory()
        .join("00000000000000000000.log");
    let bytes = std::fs::read(&segment).unwrap();
    std::fs::write(&segment, &bytes[..bytes.len() - 1]).unwrap();
    let broker = broker.kill_and_start();
    assert_eq!(locked(&broker.log()).log_end_offset(), 4);
    assert_eq!(
        content(directory.path(), RECOVERY_CHECKPOINT),
        "0\n1\nt 0 4\n"
    );
}

#[test]
fn offsets_that_go_back_are_damage_though_there_may_be_gaps() {
    let broker = Broker::start(LogConfig {
        compact: true,
        ..LogConfig::default()
    });
    fetch(&mut locked(&broker.log()), &[0, 5, 9]).unwrap();
    let segment = broker
        .partition_directory()
        .join("00000000000000000000.log");
    let mut bytes = std::fs::read(&segment).unwrap();
    let third = bytes.len() / 3 * 2;
    bytes[third..third + 8].copy_from_slice(&6i64.to_be_bytes());
    std::fs::write(&segment, bytes).unwrap();
    let broker = broker.kill_and_start();
    assert_eq!(offsets(&locked(&broker.log())), [0, 1, 5, 6]);
}
