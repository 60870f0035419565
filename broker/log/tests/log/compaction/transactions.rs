//! Transactions, and what a producer's next batch is checked against.

use super::*;

fn in_transaction(producer_id: i64, sequence: i32, records: &[(&str, Option<&str>)]) -> Vec<u8> {
    let builder = RecordBatchBuilder::new(Compression::None)
        .producer(producer_id, 0, sequence)
        .transactional();
    keyed_with(builder, NOW_MS, records)
}

fn idempotent(producer_id: i64, sequence: i32, records: &[(&str, Option<&str>)]) -> Vec<u8> {
    let builder = RecordBatchBuilder::new(Compression::None).producer(producer_id, 0, sequence);
    keyed_with(builder, NOW_MS, records)
}

/// Base offset, number of records, and what kind of batch it is.
fn kinds(log: &Log) -> Vec<String> {
    let all = headers(log).into_iter();
    all.map(|header| {
        let kind = match header.attributes {
            attributes if attributes.is_control() => "marker",
            attributes if attributes.is_transactional() => "transaction",
            _ => "plain",
        };
        let horizon = if header.attributes.has_delete_horizon() {
            " horizon"
        } else {
            ""
        };
        format!(
            "{} {kind} {}{horizon}",
            header.base_offset, header.record_count
        )
    })
    .collect()
}

/// Another producer's record, so that those before it may go.
fn later(log: &mut Log, producer_id: i64) {
    append(
        log,
        &in_transaction(producer_id, 100, &[("later", Some("x"))]),
    );
    append(log, &marker(producer_id, 0, true));
}

#[test]
fn aborted_records_go_at_once_and_count_for_nothing() {
    let broker = Broker::start(config());
    let log = broker.log();
    {
        let mut log = locked(&log);
        append(&mut log, &keyed(&[("a", Some("1"))]));
        append(&mut log, &in_transaction(7, 0, &[("a", Some("aborted"))]));
        append(&mut log, &marker(7, 0, false));
        append(&mut log, &in_transaction(7, 1, &[("b", Some("2"))]));
        append(&mut log, &marker(7, 0, true));
        roll(&mut log);
    }
    compact_at(&broker, NOW_MS).unwrap();
    assert_eq!(
        short(&locked(&log)),
        ["0:a=1", "3:b=2", "5:roll=x"],
        "what was aborted has not replaced anything"
    );
    let log = locked(&log);
    assert_eq!(
        kinds(&log),
        [
            "0 plain 1",
            "2 marker 1",
            "3 transaction 1",
            "4 marker 1",
            "5 plain 1"
        ]
    );
    let aborted = log.aborted_transactions(0, 5).unwrap();
    assert_eq!(aborted.len(), 1, "the index goes with the marker");
    assert_eq!((aborted[0].first_offset, aborted[0].last_offset), (1, 2));
}

#[test]
fn an_open_transaction_is_where_compaction_ends() {
    let broker = Broker::start(config());
    let log = broker.log();
    {
        let mut log = locked(&log);
        append(&mut log, &keyed(&[("a", Some("1")), ("a", Some("2"))]));
        roll(&mut log);
        append(&mut log, &in_transaction(7, 0, &[("a", Some("open"))]));
        roll(&mut log);
    }
    let stats = compact_at(&broker, NOW_MS).unwrap();
    assert_eq!(stats.next_dirty_offset, 2);
    assert_eq!(short(&locked(&log)).len(), 4);
    append(&mut locked(&log), &marker(7, 0, true));
    roll(&mut locked(&log));
    compact_at(&broker, NOW_MS).unwrap();
    assert_eq!(short(&locked(&log)), ["3:a=open", "4:roll=x", "6:roll=x"]);
}

/// A transaction whose records and marker are in segments that are written apart.
#[test]
fn bug_kafka_8351_a_marker_stays_while_another_group_holds_records() {
    for committed in [false, true] {
        let broker = Broker::start(LogConfig {
            segment_bytes: 100,
            ..config()
        });
        let log = broker.log();
        {
            let mut log = locked(&log);
            append(&mut log, &in_transaction(7, 0, &[("a", Some("1"))]));
            roll(&mut log);
            append(&mut log, &marker(7, 0, committed));
            roll(&mut log);
            later(&mut log, 7);
            roll(&mut log);
        }
        let first_ms = NOW_MS + 5;
        compact_at(&broker, first_ms).unwrap();
        let with_marker = |kinds: Vec<String>| {
            let mine = kinds.into_iter().filter(|kind| kind.starts_with("2 "));
            mine.collect::<Vec<_>>()
        };
        assert_eq!(
            with_marker(kinds(&locked(&log))),
            ["2 marker 1"],
            "{committed}"
        );
        let expected: &[&str] = if committed { &["0:a=1"] } else { &[] };
        assert_eq!(short(&locked(&log))[..expected.len()], *expected);
        let aborted = locked(&log).aborted_transactions(0, 100).unwrap();
        assert_eq!(aborted.len(), usize::from(!committed));

        // Its records are gone, or another replaces them.
        append(&mut locked(&log), &keyed(&[("a", Some("2"))]));
        roll(&mut locked(&log));
        compact_at(&broker, first_ms + 10).unwrap();
        let expected = if committed {
            "2 marker 1"
        } else {
            "2 marker 1 horizon"
        };
        assert_eq!(with_marker(kinds(&locked(&log))), [expected]);
        roll(&mut locked(&log));
        compact_at(&broker, first_ms + 20).unwrap();
        assert_eq!(with_marker(kinds(&locked(&log))), ["2 marker 1 horizon"]);
        roll(&mut locked(&log));
        compact_at(&broker, first_ms + 2000).unwrap();
        assert_eq!(with_marker(kinds(&locked(&log))), [""; 0]);
        assert_eq!(locked(&log).aborted_transactions(0, 100).unwrap(), []);
    }
}

#[test]
fn bug_kafka_14055_a_marker_is_not_replaced_by_a_record_with_its_key() {
    for committed in [false, true] {
        let broker = Broker::start(config());
        let log = broker.log();
        // The key of a marker: version 0, and its type.
        let key = if committed { "\0\0\0\u{1}" } else { "\0\0\0\0" };
        {
            let mut log = locked(&log);
            append(&mut log, &in_transaction(7, 0, &[("a", Some("1"))]));
            append(&mut log, &marker(7, 0, committed));
            append(&mut log, &keyed(&[(key, Some("a user's"))]));
            later(&mut log, 7);
            roll(&mut log);
        }
        for round in 0..3 {
            compact_at(&broker, NOW_MS + round).unwrap();
            let kinds = kinds(&locked(&log));
            assert!(
                kinds.iter().any(|kind| kind.starts_with("1 marker 1")),
                "{kinds:?}"
            );
            roll(&mut locked(&log));
        }
        // Nor does a marker replace a user's record.
        append(&mut locked(&log), &marker(9, 0, committed));
        roll(&mut locked(&log));
        compact_at(&broker, NOW_MS + 10).unwrap();
        let user = format!("2:{key}=a user's");
        assert!(short(&locked(&log)).contains(&user));
    }
}

#[test]
fn bug_kafka_5490_7385_a_producers_last_batch_stays_though_nothing_is_left_in_it() {
    let broker = Broker::start(config());
    let log = broker.log();
    {
        let mut log = locked(&log);
        append(
            &mut log,
            &idempotent(7, 0, &[("a", Some("1")), ("b", Some("1"))]),
        );
        append(
            &mut log,
            &idempotent(7, 2, &[("a", Some("2")), ("b", Some("2"))]),
        );
        append(&mut log, &idempotent(8, 0, &[("a", Some("3"))]));
        roll(&mut log);
        append(&mut log, &keyed(&[("a", Some("4")), ("b", Some("4"))]));
        roll(&mut log);
    }
    compact_at(&broker, NOW_MS).unwrap();
    assert_eq!(
        kinds(&locked(&log)),
        [
            "2 plain 0",
            "4 plain 0",
            "5 plain 1",
            "6 plain 2",
            "8 plain 1"
        ]
    );
    let emptied = headers(&locked(&log))[0].clone();
    assert_eq!((emptied.base_offset, emptied.last_offset()), (2, 3));
    assert_eq!((emptied.base_sequence, emptied.last_sequence()), (2, 3));
    assert_eq!(emptied.max_timestamp, NOW_MS);

    // Read again, and from the log alone, it tells what the producer must send next.
    drop(log);
    let broker = broker.restart();
    for name in broker.files() {
        if name.ends_with(".snapshot") {
            std::fs::remove_file(broker.partition_directory().join(name)).unwrap();
        }
    }
    let broker = broker.kill_and_start();
    let log = broker.log();
    assert_eq!(locked(&log).log_end_offset(), 9);
    let mut again = idempotent(7, 2, &[("a", Some("2")), ("b", Some("2"))]);
    let info = locked(&log)
        .append_as_leader(&mut again, 0, NOW_MS)
        .unwrap();
    assert!(info.duplicate);
    assert_eq!(info.first_offset, 2);
    let mut next = idempotent(7, 4, &[("a", Some("5"))]);
    let info = locked(&log).append_as_leader(&mut next, 0, NOW_MS).unwrap();
    assert_eq!(info.first_offset, 9);
    let mut gap = idempotent(8, 2, &[("a", Some("5"))]);
    locked(&log)
        .append_as_leader(&mut gap, 0, NOW_MS)
        .unwrap_err();

    // Once it has written more, the empty one goes.
    roll(&mut locked(&log));
    compact_at(&broker, NOW_MS).unwrap();
    let kinds = kinds(&locked(&log));
    assert_eq!(kinds[0], "4 plain 0", "{kinds:?}");
}

#[test]
fn the_last_batch_of_a_round_stays_so_that_its_offsets_are_told() {
    let broker = Broker::start(config());
    let log = broker.log();
    append(
        &mut locked(&log),
        &crate::broker::batch(3, b"no key", NOW_MS),
    );
    let config = locked(&log).config().clone();
    locked(&log).update_config(LogConfig {
        segment_bytes: 1,
        ..config
    });
    append(
        &mut locked(&log),
        &crate::broker::batch(3, b"no key", NOW_MS),
    );
    compact_at(&broker, NOW_MS).unwrap();
    assert_eq!(kinds(&locked(&log)), ["0 plain 0", "3 plain 3"]);
    assert_eq!(headers(&locked(&log))[0].last_offset(), 2);
}
