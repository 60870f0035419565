//! What is given out: ranges of files, found by offset or by time.

use kafka_wire::compression::Compression;
use kafka_wire::record_batch::{RecordBatchBuilder, batches};
use log::{Log, LogConfig, ReadError};

use crate::broker::{Broker, NOW_MS, batch, build, bytes, locked};

/// Small segments, and an index entry for nearly every batch.
fn small() -> LogConfig {
    LogConfig {
        segment_bytes: 1000,
        index_interval_bytes: 150,
        ..LogConfig::default()
    }
}

/// Ten batches of three records, with different values; about eight to a segment.
fn fill(log: &mut Log) -> u32 {
    let mut size = 0;
    for step in 0..10i64 {
        let mut batch = batch(3, format!("value-{step}").as_bytes(), NOW_MS + step * 10);
        size = batch.len() as u32;
        log.append_as_leader(&mut batch, 0, NOW_MS).unwrap();
    }
    assert!(log.segment_count() > 1);
    size
}

fn first_and_last(log: &Log, offset: i64, max_bytes: u32, up_to: i64) -> Option<(i64, i64)> {
    let data = bytes(&log.read(offset, max_bytes, up_to, true).unwrap());
    let headers: Vec<_> = batches(&data)
        .map_while(|batch| batch.ok().map(|batch| batch.header))
        .collect();
    Some((headers.first()?.base_offset, headers.last()?.last_offset()))
}

#[test]
fn a_read_begins_with_the_batch_that_holds_the_offset() {
    let broker = Broker::start(small());
    let shared = broker.log();
    let mut log = locked(&shared);
    fill(&mut log);
    for offset in 0..30 {
        let (first, _) = first_and_last(&log, offset, 1 << 20, 30).unwrap();
        assert_eq!(first, offset / 3 * 3, "offset {offset}");
    }
    assert!(
        log.read(30, 1 << 20, 30, true).unwrap().is_empty(),
        "at the end"
    );
    for offset in [-1, 31, i64::MAX] {
        let error = log.read(offset, 1 << 20, 30, true).unwrap_err();
        assert!(
            matches!(error, ReadError::OffsetOutOfRange { .. }),
            "{error}"
        );
    }
}

#[test]
fn nothing_at_or_above_the_given_offset_is_read() {
    let broker = Broker::start(small());
    let shared = broker.log();
    let mut log = locked(&shared);
    fill(&mut log);
    for up_to in 0..=30 {
        for offset in 0..=30 {
            let whole_below = up_to / 3 * 3;
            match first_and_last(&log, offset, 1 << 20, up_to) {
                Some((_, last)) => {
                    assert!(last < up_to, "read {offset} up to {up_to} brought {last}");
                }
                None => assert!(
                    offset >= whole_below,
                    "read {offset} up to {up_to} brought nothing"
                ),
            }
        }
    }
}

#[test]
fn the_limit_on_bytes_holds_except_for_one_batch() {
    let broker = Broker::start(small());
    let shared = broker.log();
    let mut log = locked(&shared);
    let size = fill(&mut log);

    let first = log.read(0, 10, 30, true).unwrap();
    assert_eq!((first.len(), first.first_batch_incomplete), (size, false));
    let cut = log.read(0, 10, 30, false).unwrap();
    assert_eq!((cut.len(), cut.first_batch_incomplete), (10, true));
    assert_eq!(
        log.read(0, size + 5, 30, true).unwrap().len(),
        size + 5,
        "the last may be cut short"
    );
    assert!(log.read(0, 0, 30, false).unwrap().is_empty());
    assert!(
        log.read(0, u32::MAX, 30, true).unwrap().len() <= 1000,
        "a range ends with its segment"
    );
}

#[test]
fn a_range_outlives_its_segment() {
    let broker = Broker::start(small());
    let shared = broker.log();
    let data = {
        let mut log = locked(&shared);
        fill(&mut log);
        let data = log.read(27, 1 << 20, 30, true).unwrap();
        log.truncate_fully_and_start_at(100, NOW_MS).unwrap();
        data
    };
    let bytes = bytes(&data);
    batches(&bytes)
        .next()
        .unwrap()
        .unwrap()
        .verify_crc()
        .unwrap();
}

#[test]
fn records_are_found_by_time() {
    for codec in [Compression::None, Compression::Zstd] {
        let broker = Broker::start(small());
        let shared = broker.log();
        let mut log = locked(&shared);
        for step in 0..20i64 {
            let builder = RecordBatchBuilder::new(codec);
            let mut batch = build(builder, 3, b"some value", NOW_MS + step * 10);
            log.append_as_leader(&mut batch, 4, NOW_MS).unwrap();
        }
        let find = |timestamp| {
            let found = log.offset_for_timestamp(timestamp).unwrap();
            found.map(|found| (found.timestamp - NOW_MS, found.offset, found.leader_epoch))
        };
        assert_eq!(find(0), Some((0, 0, Some(4))));
        assert_eq!(find(NOW_MS + 1), Some((1, 1, Some(4))));
        assert_eq!(
            find(NOW_MS + 3),
            Some((10, 3, Some(4))),
            "the first at or after it"
        );
        assert_eq!(find(NOW_MS + 191), Some((191, 58, Some(4))));
        assert_eq!(find(NOW_MS + 193), None, "later than all");
        let max = log.max_timestamp_offset().unwrap().unwrap();
        assert_eq!((max.timestamp, max.offset), (NOW_MS + 192, 59));
    }
}

#[test]
fn time_that_goes_back_is_found_first_in_the_log() {
    let broker = Broker::start(small());
    let shared = broker.log();
    let mut log = locked(&shared);
    assert_eq!(log.max_timestamp_offset().unwrap(), None, "an empty log");
    for timestamp in [50, 40, 90, 10, 90, 60] {
        log.append_as_leader(&mut batch(1, &[0; 100], timestamp), 0, NOW_MS)
            .unwrap();
    }
    let find = |timestamp| {
        log.offset_for_timestamp(timestamp)
            .unwrap()
            .map(|found| found.offset)
    };
    assert_eq!(
        [0, 41, 51, 90].map(find),
        [Some(0), Some(0), Some(2), Some(2)]
    );
    assert_eq!(find(91), None);
    assert_eq!(log.max_timestamp_offset().unwrap().unwrap().offset, 2);
}
