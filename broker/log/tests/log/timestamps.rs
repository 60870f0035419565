//! Records are found by their time whatever was appended, truncated and deleted: as a plain list of them says.

use kafka_wire::compression::Compression;
use kafka_wire::record_batch::{RecordBatchBuilder, set_max_timestamp};
use log::{Log, LogConfig, LogError, TimestampType};

use crate::broker::{Broker, NOW_MS, batch, locked};

/// Two or three batches a segment, and an index entry for every other one.
fn small() -> LogConfig {
    LogConfig {
        segment_bytes: 500,
        index_interval_bytes: 150,
        retention_ms: -1,
        ..LogConfig::default()
    }
}

/// A batch of records with these timestamps.
fn stamped(timestamps: &[i64]) -> Vec<u8> {
    let mut builder = RecordBatchBuilder::new(Compression::None);
    for timestamp in timestamps {
        builder
            .append(*timestamp, None, Some(&[0; 40]), &[])
            .unwrap();
    }
    builder.build().unwrap().to_vec()
}

/// Records by offset, from the start of the log on.
struct Model {
    start: usize,
    timestamps: Vec<i64>,
}

impl Model {
    fn left(&self) -> impl Iterator<Item = (i64, i64)> + '_ {
        let records = self.timestamps.iter().enumerate().skip(self.start);
        records.map(|(offset, timestamp)| (*timestamp, offset as i64))
    }

    fn check(&self, log: &Log) {
        let pair = |found: log::TimestampAndOffset| (found.timestamp, found.offset);
        for wanted in 0..=30 {
            let found = log.offset_for_timestamp(wanted).unwrap().map(pair);
            let expected = self.left().find(|(timestamp, _)| *timestamp >= wanted);
            assert_eq!(
                found, expected,
                "{wanted} in {:?} from {}",
                self.timestamps, self.start
            );
        }
        let found = log.max_timestamp_offset().unwrap().map(pair);
        let largest = self.left().map(|(timestamp, _)| timestamp).max();
        let expected = self
            .left()
            .find(|(timestamp, _)| Some(*timestamp) == largest);
        assert_eq!(
            found, expected,
            "the largest of {:?} from {}",
            self.timestamps, self.start
        );
    }
}

#[test]
fn whatever_happens_the_first_record_of_a_time_is_found() {
    for seed in 1..=20u64 {
        let mut state = seed;
        // xorshift64
        let mut random = move |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) % below
        };
        let mut broker = Broker::start(small());
        let mut model = Model {
            start: 0,
            timestamps: Vec::new(),
        };
        for _ in 0..40 {
            let shared = broker.log();
            let mut log = locked(&shared);
            match random(12) {
                0 if model.timestamps.len() > model.start => {
                    let left = (model.timestamps.len() - model.start) as u64;
                    let offset = model.start + random(left) as usize;
                    log.truncate_to(offset as i64, NOW_MS).unwrap();
                    // A batch goes as a whole; one below the start of the log takes that along.
                    model.timestamps.truncate(log.log_end_offset() as usize);
                    model.start = log.log_start_offset() as usize;
                }
                1 => {
                    let left = (model.timestamps.len() - model.start) as u64;
                    model.start += random(left + 1) as usize;
                    log.raise_log_start_offset(model.start as i64).unwrap();
                }
                2 => {
                    let end = log.log_end_offset();
                    log.delete_old_segments(end, NOW_MS).unwrap();
                }
                3 => {
                    drop(log);
                    drop(shared);
                    broker.manager.checkpoint_log_start_offsets().unwrap();
                    broker = match random(2) {
                        0 => broker.restart(),
                        _ => broker.kill_and_start(),
                    };
                    model.check(&locked(&broker.log()));
                    continue;
                }
                _ => {
                    // Few different times, so that many records have the same.
                    let timestamps: Vec<i64> =
                        (0..1 + random(3)).map(|_| random(30) as i64).collect();
                    log.append_as_leader(&mut stamped(&timestamps), 0, NOW_MS)
                        .unwrap();
                    model.timestamps.extend(timestamps);
                }
            }
            model.check(&log);
        }
    }
}

#[test]
fn of_a_batch_that_the_broker_stamped_the_first_record_that_is_left_is_found() {
    let broker = Broker::start(LogConfig {
        message_timestamp_type: TimestampType::LogAppendTime,
        ..small()
    });
    let shared = broker.log();
    let mut log = locked(&shared);
    for now_ms in [NOW_MS, NOW_MS + 10] {
        log.append_as_leader(&mut batch(3, b"v", 5), 0, now_ms)
            .unwrap();
    }
    let find = |log: &Log, timestamp| {
        let found = log.offset_for_timestamp(timestamp).unwrap();
        found.map(|found| (found.timestamp - NOW_MS, found.offset))
    };
    assert_eq!(find(&log, 0), Some((0, 0)));
    assert_eq!(find(&log, NOW_MS + 1), Some((10, 3)));
    log.raise_log_start_offset(1).unwrap();
    assert_eq!(find(&log, 0), Some((0, 1)));
    log.raise_log_start_offset(4).unwrap();
    assert_eq!(find(&log, 0), Some((10, 4)));
    assert_eq!(log.max_timestamp_offset().unwrap().unwrap().offset, 4);
}

#[test]
fn records_without_a_time_are_never_found_by_it() {
    let broker = Broker::start(small());
    let shared = broker.log();
    let mut log = locked(&shared);
    log.append_as_leader(&mut stamped(&[-1, -1]), 0, NOW_MS)
        .unwrap();
    assert_eq!(log.offset_for_timestamp(0).unwrap(), None);
    assert_eq!(log.max_timestamp_offset().unwrap(), None);
}

#[test]
fn no_time_is_read_from_a_damaged_batch() {
    for (position, byte) in [
        // Within a value.
        (100, None),
        // The offset of its second record, which lies beyond the last that the header states.
        (111, Some(10)),
    ] {
        let broker = Broker::start(small());
        let shared = broker.log();
        let mut log = locked(&shared);
        let mut sent = stamped(&[5, 6]);
        match byte {
            Some(byte) => {
                sent[position] = byte;
                set_max_timestamp(&mut sent, TimestampType::CreateTime, 6);
                log.append_as_follower(&sent, NOW_MS).unwrap();
            }
            None => {
                log.append_as_follower(&sent, NOW_MS).unwrap();
                let path = broker.partition_directory().join(format!("{:020}.log", 0));
                let mut bytes = std::fs::read(&path).unwrap();
                bytes[position] ^= 1;
                std::fs::write(&path, bytes).unwrap();
            }
        }
        for found in [log.offset_for_timestamp(6), log.max_timestamp_offset()] {
            assert!(matches!(found, Err(LogError::Damaged { .. })), "{found:?}");
        }
    }
}
