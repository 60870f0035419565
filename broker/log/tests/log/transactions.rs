//! Transactions: how far readers of committed records get, what was aborted, and that it survives whatever happens.

use std::sync::Arc;

use kafka_wire::compression::Compression;
use kafka_wire::record_batch::{EndTransactionMarker, RecordBatchBuilder};
use log::{AbortedTransaction, AppendError, Log, LogConfig, LogError, ProducerError};

use crate::broker::{Broker, NOW_MS, batch, build, bytes, locked, offsets, temporary_directory};
use crate::test_file_system::TestFileSystem;

fn send(log: &mut Log, producer_id: i64, sequence: i32) -> i64 {
    let builder = RecordBatchBuilder::new(Compression::None)
        .producer(producer_id, 0, sequence)
        .transactional();
    let mut batch = build(builder, 1, b"value", NOW_MS);
    log.append_as_leader(&mut batch, 0, NOW_MS)
        .unwrap()
        .first_offset
}

fn end(log: &mut Log, producer_id: i64, committed: bool) -> i64 {
    let marker = EndTransactionMarker {
        committed,
        coordinator_epoch: 1,
    };
    let info = log.append_end_transaction_marker(producer_id, 0, marker, 0, NOW_MS);
    info.unwrap().first_offset
}

fn plain(log: &mut Log) -> i64 {
    let mut batch = batch(1, b"plain", NOW_MS);
    log.append_as_leader(&mut batch, 0, NOW_MS)
        .unwrap()
        .first_offset
}

fn aborted(log: &Log, from: i64, to: i64) -> Vec<(i64, i64, i64)> {
    let found = log.aborted_transactions(from, to).unwrap();
    let told = |one: &AbortedTransaction| (one.producer_id, one.first_offset, one.last_offset);
    found.iter().map(told).collect()
}

fn small() -> LogConfig {
    LogConfig {
        segment_bytes: 400,
        index_interval_bytes: 0,
        ..LogConfig::default()
    }
}

/// Producer 1 aborts over several segments, 2 aborts twice within them, 3 commits, 4 stays open.
fn history(log: &mut Log) {
    send(log, 1, 0);
    for sequence in 0..2 {
        send(log, 2, sequence);
        plain(log);
        end(log, 2, false);
    }
    send(log, 3, 0);
    end(log, 3, true);
    send(log, 1, 1);
    end(log, 1, false);
    plain(log);
    send(log, 4, 0);
    plain(log);
}

const HISTORY: [(i64, i64, i64); 3] = [(2, 1, 3), (2, 4, 6), (1, 0, 10)];
const OPEN_FROM: i64 = 12;

fn check(log: &mut Log) {
    let end_offset = log.log_end_offset();
    log.high_watermark_advanced(end_offset);
    assert_eq!(end_offset, 14);
    assert_eq!(log.first_unstable_offset(), Some(OPEN_FROM));
    assert_eq!(log.last_stable_offset(end_offset), OPEN_FROM);
    assert_eq!(aborted(log, 0, OPEN_FROM), HISTORY);
    assert_eq!(aborted(log, 5, 6), [(2, 4, 6), (1, 0, 10)]);
    assert_eq!(aborted(log, 11, OPEN_FROM), []);
}

#[test]
fn readers_of_committed_records_stay_before_the_first_open_transaction() {
    let broker = Broker::start(LogConfig::default());
    let shared = broker.log();
    let log = &mut *locked(&shared);
    assert_eq!((plain(log), log.last_stable_offset(1)), (0, 1));
    assert_eq!((send(log, 1, 0), send(log, 2, 0), plain(log)), (1, 2, 3));
    assert_eq!(log.last_stable_offset(4), 1);
    assert_eq!(log.last_stable_offset(1), 1, "nor above the high watermark");
    assert_eq!(end(log, 1, true), 4);
    log.high_watermark_advanced(4);
    assert_eq!(log.last_stable_offset(4), 1, "the marker may still be lost");
    log.high_watermark_advanced(5);
    assert_eq!(log.last_stable_offset(5), 2);
    assert_eq!(end(log, 2, false), 5);
    log.high_watermark_advanced(6);
    assert_eq!(
        (log.first_unstable_offset(), log.last_stable_offset(6)),
        (None, 6)
    );
    assert_eq!(aborted(log, 0, 6), [(2, 2, 5)]);
    let again = end(log, 2, false);
    assert_eq!(again, 6, "a transaction may be ended again");
    assert_eq!(aborted(log, 0, 7), [(2, 2, 5)]);
}

#[test]
fn bug_kafka_5376_the_aborted_of_a_read_are_those_of_its_range() {
    let broker = Broker::start(small());
    let shared = broker.log();
    let log = &mut *locked(&shared);
    history(log);
    assert!(log.segment_count() > 2, "{}", log.segment_count());
    check(log);
    let stable = log.last_stable_offset(log.log_end_offset());
    let mut offset = 0;
    while offset < stable {
        let data = log.read(offset, 1, stable, true).unwrap();
        let next = kafka_wire::record_batch::BatchHeader::parse(&bytes(&data))
            .unwrap()
            .next_offset();
        let found = log.aborted_transactions_of(&data, offset, stable).unwrap();
        let told: Vec<_> = found
            .iter()
            .map(|one| (one.producer_id, one.first_offset, one.last_offset))
            .collect();
        for wanted in HISTORY
            .iter()
            .filter(|(_, first, last)| *last >= offset && *first < next)
        {
            assert!(told.contains(wanted), "{wanted:?} at {offset}: {told:?}");
        }
        // One more batch may seem to be in the range, for the index tells the end of the next.
        assert!(
            told.iter()
                .all(|(_, first, last)| *last >= offset && *first <= next),
            "{told:?} at {offset}"
        );
        offset = next;
    }
    let none = log.read(stable, 100, stable, true).unwrap();
    assert_eq!(
        log.aborted_transactions_of(&none, stable, stable).unwrap(),
        []
    );
}

#[test]
fn transactions_survive_restarts() {
    let broker = Broker::start(small());
    history(&mut locked(&broker.log()));
    let index = |broker: &Broker| {
        let names = broker.files();
        names
            .iter()
            .filter(|name| name.ends_with("txnindex"))
            .cloned()
            .collect::<Vec<_>>()
    };
    let files = index(&broker);
    assert!(files.len() > 1, "{files:?}");
    let broker = broker.restart();
    check(&mut locked(&broker.log()));
    let broker = broker.kill_and_start();
    check(&mut locked(&broker.log()));
    assert_eq!(index(&broker), files);

    // A marker that comes after a restart ends what began before it.
    let shared = broker.log();
    let log = &mut *locked(&shared);
    let marker = end(log, 4, false);
    log.high_watermark_advanced(marker + 1);
    assert_eq!(log.first_unstable_offset(), None);
    assert_eq!(aborted(log, OPEN_FROM, marker), [(4, OPEN_FROM, marker)]);
}

#[test]
fn a_follower_knows_the_same_transactions() {
    let leader = Broker::start(small());
    let shared = leader.log();
    let from = &mut *locked(&shared);
    history(from);
    let follower = Broker::start(small());
    let to = follower.log();
    let to = &mut *locked(&to);
    while to.log_end_offset() < from.log_end_offset() {
        let data = from
            .read(to.log_end_offset(), 1 << 20, i64::MAX, true)
            .unwrap();
        to.append_as_follower(&bytes(&data), NOW_MS).unwrap();
    }
    check(to);
}

#[test]
fn a_truncation_takes_markers_and_transactions_back() {
    let broker = Broker::start(small());
    let shared = broker.log();
    let log = &mut *locked(&shared);
    history(log);
    log.truncate_to(10, NOW_MS).unwrap();
    assert_eq!(log.log_end_offset(), 10);
    log.high_watermark_advanced(10);
    assert_eq!(
        log.first_unstable_offset(),
        Some(0),
        "the marker of 1 is gone"
    );
    assert_eq!(aborted(log, 0, 10), [(2, 1, 3), (2, 4, 6)]);
    assert_eq!(end(log, 1, true), 10);
    assert_eq!(aborted(log, 0, 11), [(2, 1, 3), (2, 4, 6)]);
    log.truncate_to(6, NOW_MS).unwrap();
    assert_eq!(aborted(log, 0, 10), [(2, 1, 3)]);
    assert_eq!(log.first_unstable_offset(), Some(0));
    log.truncate_fully_and_start_at(50, NOW_MS).unwrap();
    assert_eq!(
        (log.first_unstable_offset(), aborted(log, 0, 100)),
        (None, vec![])
    );
}

#[test]
fn damaged_transaction_indexes_are_made_again() {
    let broker = Broker::start(small());
    history(&mut locked(&broker.log()));
    let mut broker = broker.restart();
    let indexes: Vec<_> = broker
        .files()
        .into_iter()
        .filter(|name| name.ends_with("txnindex"))
        .collect();
    for name in &indexes {
        for damage in [&[7][..], &[0; 34], &[0xff; 340], &[0; 20]] {
            broker.manager.shutdown(1).unwrap();
            std::fs::write(broker.partition_directory().join(name), damage).unwrap();
            broker = broker.kill_and_start();
            check(&mut locked(&broker.log()));
        }
    }
    // After a kill those of the segments that are verified are made again whatever they say.
    for name in &indexes {
        for damage in [None, Some(&[][..]), Some(&[0xff; 34])] {
            let path = broker.partition_directory().join(name);
            match damage {
                None => std::fs::remove_file(&path).unwrap(),
                Some(damage) => std::fs::write(&path, damage).unwrap(),
            }
            std::fs::remove_file(
                broker
                    .directory
                    .path()
                    .join("recovery-point-offset-checkpoint"),
            )
            .ok();
            broker = broker.kill_and_start();
            check(&mut locked(&broker.log()));
        }
    }
}

#[test]
fn bug_kafka_7866_when_the_transaction_index_fails_no_offset_comes_twice_and_nobody_reads_on() {
    let fs = TestFileSystem::default();
    let broker = Broker::start_in(
        temporary_directory(),
        Arc::new(fs.clone()),
        LogConfig::default(),
    );
    let shared = broker.log();
    {
        let log = &mut *locked(&shared);
        send(log, 1, 0);
        // The marker is written, its entry in the index is not.
        fs.break_after(1);
        let marker = EndTransactionMarker {
            committed: false,
            coordinator_epoch: 1,
        };
        let error = log
            .append_end_transaction_marker(1, 0, marker, 0, NOW_MS)
            .unwrap_err();
        assert!(
            matches!(error, AppendError::Log(LogError::Storage(_))),
            "{error}"
        );
        assert!(error.to_string().contains("txnindex"), "{error}");
        assert!(log.is_fenced());
        assert_eq!(log.last_stable_offset(2), 0);
        let refused = log.append_as_leader(&mut batch(1, b"x", NOW_MS), 0, NOW_MS);
        assert!(matches!(
            refused,
            Err(AppendError::Log(LogError::Fenced { .. }))
        ));
    }
    drop(shared);
    fs.repair();
    let broker = broker.kill_and_start();
    let shared = broker.log();
    let log = &mut *locked(&shared);
    assert_eq!(offsets(log), [0, 1]);
    assert_eq!(aborted(log, 0, 2), [(1, 0, 1)]);
    log.high_watermark_advanced(2);
    assert_eq!(log.last_stable_offset(2), 2);
}

#[test]
fn what_a_transaction_does_not_allow_is_refused() {
    let broker = Broker::start(LogConfig::default());
    let shared = broker.log();
    let log = &mut *locked(&shared);
    send(log, 1, 0);
    let mut outside = build(
        RecordBatchBuilder::new(Compression::None).producer(1, 0, 1),
        1,
        b"x",
        NOW_MS,
    );
    let error = log.append_as_leader(&mut outside, 0, NOW_MS).unwrap_err();
    assert!(
        matches!(
            error,
            AppendError::Producer(ProducerError::OutsideTransaction { producer_id: 1 })
        ),
        "{error}"
    );
    let marker = |coordinator_epoch| EndTransactionMarker {
        committed: true,
        coordinator_epoch,
    };
    log.append_end_transaction_marker(1, 3, marker(5), 0, NOW_MS)
        .unwrap();
    let stale_epoch = log.append_end_transaction_marker(1, 2, marker(5), 0, NOW_MS);
    assert!(matches!(
        stale_epoch,
        Err(AppendError::Producer(ProducerError::StaleEpoch { .. }))
    ));
    let stale_coordinator = log.append_end_transaction_marker(1, 3, marker(4), 0, NOW_MS);
    assert!(matches!(
        stale_coordinator,
        Err(AppendError::Producer(
            ProducerError::StaleCoordinator { .. }
        ))
    ));
    assert_eq!(log.log_end_offset(), 2);
}

#[test]
fn aborted_transactions_that_are_lost_are_damage_and_not_committed() {
    let broker = Broker::start(small());
    let shared = broker.log();
    let mut log = locked(&shared);
    history(&mut log);
    let index = index_files(&broker).remove(0);
    let content = std::fs::read(&index).unwrap();
    let lost = |log: &Log, what: &str| {
        let error = log.aborted_transactions(0, OPEN_FROM).unwrap_err();
        assert!(matches!(error, LogError::Damaged { .. }), "{what}: {error}");
    };
    std::fs::write(&index, vec![0xff; content.len()]).unwrap();
    lost(&log, "rubbish");
    std::fs::write(&index, []).unwrap();
    lost(&log, "emptied");
    std::fs::remove_file(&index).unwrap();
    lost(&log, "removed");
    std::fs::write(&index, &content).unwrap();
    assert_eq!(aborted(&log, 0, OPEN_FROM), HISTORY);
}

#[test]
fn an_emptied_transaction_index_is_made_again_by_a_clean_start() {
    let broker = Broker::start(small());
    history(&mut locked(&broker.log()));
    broker.manager.shutdown(1).unwrap();
    for index in index_files(&broker) {
        std::fs::write(index, []).unwrap();
    }
    let broker = broker.kill_and_start();
    check(&mut locked(&broker.log()));
}

/// The transaction indexes, sorted.
fn index_files(broker: &Broker) -> Vec<std::path::PathBuf> {
    let names = broker.files().into_iter();
    let names = names.filter(|name| name.ends_with(".txnindex"));
    let directory = broker.partition_directory();
    names.map(|name| directory.join(name)).collect()
}
