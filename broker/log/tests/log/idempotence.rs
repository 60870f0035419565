//! What is remembered of producers, whatever happens to the files and the log.

use std::sync::Arc;

use kafka_wire::record_batch::BatchHeader;
use log::{AppendError, Log, LogConfig, ProducerError};

use crate::broker::{Broker, NOW_MS, batch, bytes, locked, produced, temporary_directory};
use crate::test_file_system::TestFileSystem;

fn append(log: &mut Log, sequence: i32) -> Result<(i64, bool), AppendError> {
    let info = log.append_as_leader(&mut produced(7, 2, sequence, 2), 0, NOW_MS)?;
    Ok((info.first_offset, info.duplicate))
}

fn check(log: &mut Log) {
    let end = log.log_end_offset();
    for (sequence, offset) in [(8, 8), (6, 6), (2, 2)] {
        assert_eq!(append(log, sequence).unwrap(), (offset, true), "{sequence}");
    }
    let next = append(log, 14).unwrap_err();
    assert!(
        matches!(
            next,
            AppendError::Producer(ProducerError::OutOfOrder {
                sequence: 14,
                expected: 10,
                ..
            })
        ),
        "{next}"
    );
    let stale = log
        .append_as_leader(&mut produced(7, 1, 10, 2), 0, NOW_MS)
        .unwrap_err();
    assert!(
        matches!(
            stale,
            AppendError::Producer(ProducerError::StaleEpoch {
                epoch: 1,
                current: 2,
                ..
            })
        ),
        "{stale}"
    );
    assert_eq!(log.log_end_offset(), end);
}

fn filled(log: &mut Log) {
    for sequence in 0..5 {
        append(log, sequence * 2).unwrap();
    }
}

/// After a failover the new leader is asked for what the old one has stored (Redpanda 3038, 3039).
#[test]
fn a_retry_of_one_of_five_in_flight_is_known_to_the_next_leader() {
    let (leader, follower) = (
        Broker::start(LogConfig::default()),
        Broker::start(LogConfig::default()),
    );
    let (from, to) = (leader.log(), follower.log());
    filled(&mut locked(&from));
    let data = bytes(&locked(&from).read(0, 1 << 20, i64::MAX, true).unwrap());
    let log = &mut *locked(&to);
    log.append_as_follower(&data, NOW_MS).unwrap();
    check(log);
}

/// Without the snapshot the producers are found again in the log, so that it may be lost or torn at any time.
#[test]
fn bug_kafka_9892_a_snapshot_that_a_power_cut_took_is_made_up_for_by_the_log() {
    for kept in 0..8 {
        let fs = TestFileSystem::default();
        let config = LogConfig {
            segment_bytes: 300,
            ..LogConfig::default()
        };
        let directory = temporary_directory();
        let broker = Broker::start_in(directory, Arc::new(fs.clone()), config);
        let shared = broker.log();
        {
            let log = &mut *locked(&shared);
            filled(log);
            log.flush(NOW_MS).unwrap();
            // Rolls, with snapshots that nobody syncs.
            for sequence in 5..9 {
                append(log, sequence * 2).unwrap();
            }
        }
        drop(shared);
        let mut step = kept;
        fs.cut_power(|limit| {
            step += 3;
            step % limit.max(1)
        });
        let broker = broker.kill_and_start();
        let shared = broker.log();
        let log = &mut *locked(&shared);
        let end = log.log_end_offset();
        assert!((10..=18).contains(&end), "{end}");
        let last = end as i32 - 2;
        assert_eq!(append(log, last).unwrap(), (end - 2, true), "kept {kept}");
        assert_eq!(append(log, last + 2).unwrap(), (end, false), "kept {kept}");
    }
}

#[test]
fn bug_kafka_6975_a_log_that_starts_within_a_batch_serves_it_whole() {
    let broker = Broker::start(LogConfig::default());
    let shared = broker.log();
    let log = &mut *locked(&shared);
    for _ in 0..2 {
        log.append_as_leader(&mut batch(4, b"value", NOW_MS), 0, NOW_MS)
            .unwrap();
    }
    log.raise_log_start_offset(2).unwrap();
    let data = bytes(&log.read(2, 1 << 20, 8, true).unwrap());
    let header = BatchHeader::parse(&data).unwrap();
    assert_eq!((header.base_offset, header.last_offset()), (0, 3));
    assert!(log.read(1, 1 << 20, 8, true).is_err());
    // A follower that begins where the leader's log starts takes it as well, and starts there, too.
    let follower = Broker::start(LogConfig::default());
    let to = follower.log();
    let to = &mut *locked(&to);
    to.truncate_fully_and_start_at(2, NOW_MS).unwrap();
    to.append_as_follower(&data, NOW_MS).unwrap();
    assert_eq!((to.log_start_offset(), to.log_end_offset()), (2, 8));
    assert_eq!(bytes(&to.read(2, 1 << 20, 8, true).unwrap()), data);
    assert!(to.read(1, 1 << 20, 8, true).is_err());
    // With records of its own it does not.
    let again = to.append_as_follower(&data, NOW_MS).unwrap_err();
    assert!(
        matches!(again, AppendError::UnexpectedOffset { found: 0, .. }),
        "{again}"
    );
}

#[test]
fn a_producer_that_is_silent_for_too_long_is_forgotten() {
    let broker = Broker::start(LogConfig {
        producer_id_expiration_ms: 1000,
        ..LogConfig::default()
    });
    append(&mut locked(&broker.log()), 0).unwrap();
    for (now_ms, left) in [(NOW_MS + 999, 1), (NOW_MS + 1001, 0)] {
        broker.manager.remove_expired_producers(now_ms);
        assert_eq!(locked(&broker.log()).producer_count(), left);
    }
    assert_eq!(locked(&broker.log()).log_end_offset(), 2);
}
