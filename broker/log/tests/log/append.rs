//! What is taken in, what is refused, and where it goes.

use kafka_wire::record_batch::{BatchHeader, TimestampType, set_max_timestamp, verify_crc};
use log::{AppendError, Log, LogConfig, ProducerError, prepare};

use crate::broker::{Broker, NOW_MS, batch, bytes, locked, offsets, produced, records};

fn with_log<T>(config: LogConfig, test: impl FnOnce(&mut Log) -> T) -> T {
    let broker = Broker::start(config);
    let shared = broker.log();
    let mut log = locked(&shared);
    test(&mut log)
}

/// A batch whose fields were changed at `position`, with a right checksum.
fn changed(mut batch: Vec<u8>, position: usize, bytes: &[u8]) -> Vec<u8> {
    batch[position..position + bytes.len()].copy_from_slice(bytes);
    let header = BatchHeader::parse(&batch);
    let max_timestamp = header.map_or(NOW_MS, |header| header.max_timestamp);
    set_max_timestamp(&mut batch, TimestampType::CreateTime, max_timestamp);
    batch
}

#[test]
fn batches_get_offsets_and_epoch_and_are_stored_as_they_came() {
    with_log(LogConfig::default(), |log| {
        let mut first = batch(3, b"a", NOW_MS);
        let sent = first.clone();
        let info = log.append_as_leader(&mut first, 5, NOW_MS).unwrap();
        assert_eq!(
            (info.first_offset, info.last_offset, info.duplicate),
            (0, 2, false)
        );
        assert_eq!(info.log_append_time_ms, None);
        let mut second = batch(3, b"b", NOW_MS);
        let info = log.append_as_leader(&mut second, 5, NOW_MS).unwrap();
        assert_eq!((info.first_offset, info.last_offset), (3, 5));

        assert_eq!(offsets(log), [0, 1, 2, 3, 4, 5]);
        let stored = bytes(&log.read(0, sent.len() as u32, 6, false).unwrap());
        assert_eq!(
            stored[17..],
            sent[17..],
            "what the checksum covers is untouched"
        );
        assert_eq!(
            BatchHeader::parse(&stored).unwrap().partition_leader_epoch,
            5
        );
        assert_eq!(log.latest_epoch(), Some(5));
        assert_eq!(log.end_offset_for_epoch(5), Some((5, 6)));
    });
}

#[test]
fn bug_kafka_6554_13149_what_no_client_may_send_is_refused_and_changes_nothing() {
    with_log(LogConfig::default(), |log| {
        let good = || batch(3, b"a", NOW_MS);
        log.append_as_leader(&mut good(), 0, NOW_MS).unwrap();

        let refuse = |log: &mut Log, mut bad: Vec<u8>| {
            let error = log.append_as_leader(&mut bad, 0, NOW_MS).unwrap_err();
            assert_eq!(log.log_end_offset(), 3);
            assert_eq!(offsets(log), [0, 1, 2]);
            error
        };
        let invalid = |error| matches!(error, AppendError::InvalidRecord(_));
        assert!(invalid(refuse(log, Vec::new())), "nothing");
        assert!(
            invalid(refuse(log, changed(good(), 23, &5i32.to_be_bytes()))),
            "last offset delta"
        );
        assert!(
            invalid(refuse(log, changed(good(), 23, &(-1i32).to_be_bytes()))),
            "delta below zero"
        );
        assert!(
            invalid(refuse(log, changed(good(), 57, &0i32.to_be_bytes()))),
            "no records"
        );
        assert!(
            invalid(refuse(log, changed(good(), 21, &[0, 0x20]))),
            "a control batch"
        );
        assert!(
            invalid(refuse(log, changed(produced(1, 0, 0, 3), 53, &[0xff; 4]))),
            "no sequence"
        );
        assert!(
            invalid(refuse(log, changed(produced(1, 0, 0, 3), 51, &[0xff; 2]))),
            "no epoch"
        );

        let corrupt = |error| matches!(error, AppendError::Corrupt(_));
        let mut flipped = good();
        *flipped.last_mut().unwrap() ^= 1;
        assert!(corrupt(refuse(log, flipped)), "a flipped bit");
        for cut in [1, 16, 17, 60, 61, good().len() - 1] {
            assert!(corrupt(refuse(log, good()[..cut].to_vec())), "cut at {cut}");
        }
        let mut trailing = good();
        trailing.push(0);
        assert!(corrupt(refuse(log, trailing)), "a byte behind");
        assert!(invalid(refuse(log, good().repeat(2))), "two batches");

        for magic in [0, 1, 3, 0xff] {
            let mut other = good();
            other[16] = magic;
            assert!(corrupt(refuse(log, other)), "format {magic}");
        }
        assert!(!log.is_fenced());
    });
}

#[test]
fn sizes_are_bounded_for_clients() {
    let size = batch(1, &[0; 100], NOW_MS).len();
    let config = LogConfig {
        max_message_bytes: size as u32 - 1,
        segment_bytes: 2 * size as u32,
        ..LogConfig::default()
    };
    with_log(config.clone(), |log| {
        let error = log
            .append_as_leader(&mut batch(1, &[0; 100], NOW_MS), 0, NOW_MS)
            .unwrap_err();
        assert!(
            matches!(error, AppendError::MessageTooLarge { .. }),
            "{error}"
        );

        log.update_config(LogConfig {
            max_message_bytes: size as u32,
            ..config.clone()
        });
        log.append_as_leader(&mut batch(1, &[0; 100], NOW_MS), 0, NOW_MS)
            .unwrap();
        log.update_config(LogConfig {
            max_message_bytes: 1 << 20,
            ..config
        });
        let mut large = batch(1, &[0; 300], NOW_MS);
        let error = log.append_as_leader(&mut large, 0, NOW_MS).unwrap_err();
        assert!(
            matches!(error, AppendError::RecordListTooLarge { .. }),
            "{error}"
        );
    });
}

#[test]
fn a_log_stamped_by_the_broker() {
    let config = LogConfig {
        message_timestamp_type: TimestampType::LogAppendTime,
        ..LogConfig::default()
    };
    with_log(config, |log| {
        let info = log
            .append_as_leader(&mut batch(2, b"a", 5), 0, NOW_MS)
            .unwrap();
        assert_eq!(info.log_append_time_ms, Some(NOW_MS));
        assert!(
            records(log)
                .iter()
                .all(|(_, timestamp, _)| *timestamp == NOW_MS)
        );
        let found = log.offset_for_timestamp(NOW_MS).unwrap().unwrap();
        assert_eq!((found.timestamp, found.offset), (NOW_MS, 0));
    });
    with_log(LogConfig::default(), |log| {
        let mut stamped = batch(2, b"a", 5);
        set_max_timestamp(&mut stamped, TimestampType::LogAppendTime, 5);
        let error = log.append_as_leader(&mut stamped, 0, NOW_MS).unwrap_err();
        assert!(matches!(error, AppendError::InvalidTimestamp));
    });
}

#[test]
fn what_a_producer_sends_again_is_not_stored_again() {
    with_log(LogConfig::default(), |log| {
        let mut append =
            |sequence, count| log.append_as_leader(&mut produced(7, 0, sequence, count), 0, NOW_MS);
        for sequence in 0..6 {
            let info = append(sequence * 2, 2).unwrap();
            assert_eq!(
                (info.first_offset, info.duplicate),
                (i64::from(sequence) * 2, false)
            );
        }
        for sequence in 1..6 {
            let info = append(sequence * 2, 2).unwrap();
            assert_eq!(
                (info.first_offset, info.duplicate),
                (i64::from(sequence) * 2, true),
                "same offset"
            );
        }
        let error = append(0, 2).unwrap_err();
        let expected = ProducerError::OutOfOrder {
            producer_id: 7,
            sequence: 0,
            expected: 12,
        };
        assert!(
            matches!(error, AppendError::Producer(found) if found == expected),
            "{error}"
        );
        assert!(
            matches!(append(13, 1), Err(AppendError::Producer(_))),
            "one is missing"
        );
        assert_eq!(append(12, 1).unwrap().first_offset, 12);

        let mut new_and_known = [produced(7, 0, 13, 1), produced(7, 0, 12, 1)].concat();
        assert!(
            matches!(
                log.append_as_leader(&mut new_and_known, 0, NOW_MS),
                Err(AppendError::InvalidRecord(_))
            ),
            "else the new one would be acknowledged and not there"
        );
        assert!(matches!(
            log.append_as_leader(&mut produced(7, 1, 3, 1), 0, NOW_MS),
            Err(AppendError::Producer(ProducerError::OutOfOrder {
                expected: 0,
                ..
            }))
        ));
        log.append_as_leader(&mut produced(7, 1, 0, 1), 0, NOW_MS)
            .unwrap();
        assert!(matches!(
            log.append_as_leader(&mut produced(7, 0, 15, 1), 0, NOW_MS),
            Err(AppendError::Producer(ProducerError::StaleEpoch { .. }))
        ));
    });
}

#[test]
fn a_follower_keeps_what_the_leader_decided() {
    with_log(LogConfig::default(), |leader| {
        leader
            .append_as_leader(&mut produced(1, 0, 0, 2), 3, NOW_MS)
            .unwrap();
        leader
            .append_as_leader(&mut batch(1, b"x", NOW_MS), 3, NOW_MS)
            .unwrap();
        leader
            .append_as_leader(&mut batch(4, b"x", NOW_MS), 5, NOW_MS)
            .unwrap();
        let all = bytes(&leader.read(0, 1 << 20, 7, true).unwrap());
        with_log(LogConfig::default(), |follower| {
            let cut = &all[..all.len() - 1];
            let info = follower.append_as_follower(cut, NOW_MS).unwrap();
            assert_eq!(
                (info.first_offset, info.last_offset),
                (0, 2),
                "the batch that is cut short is left out"
            );
            let error = follower.append_as_follower(cut, NOW_MS).unwrap_err();
            assert!(
                matches!(
                    error,
                    AppendError::UnexpectedOffset {
                        found: 0,
                        log_end_offset: 3
                    }
                ),
                "{error}"
            );
            follower
                .append_as_follower(&all[info.size..], NOW_MS)
                .unwrap();
            assert_eq!(bytes(&follower.read(0, 1 << 20, 7, true).unwrap()), all);
            assert_eq!(follower.epochs(), leader.epochs());
            assert_eq!(follower.end_offset_for_epoch(4), Some((3, 3)));
            assert_eq!(follower.producer_count(), leader.producer_count());
            let error = follower.append_as_follower(&all[..30], NOW_MS).unwrap_err();
            assert!(
                matches!(error, AppendError::Corrupt(_)),
                "nothing whole: {error}"
            );
        });
    });
}

#[test]
fn a_follower_takes_nothing_that_was_damaged_on_the_way() {
    with_log(LogConfig::default(), |log| {
        let mut sent = batch(2, b"value", NOW_MS);
        let last = sent.len() - 3;
        sent[last] ^= 1;
        let error = log.append_as_follower(&sent, NOW_MS).unwrap_err();
        assert!(matches!(error, AppendError::Corrupt(_)), "{error}");
        assert_eq!((log.log_end_offset(), log.size()), (0, 0));
    });
}

#[test]
fn what_comes_again_was_stamped_when_it_came_first() {
    let config = LogConfig {
        message_timestamp_type: TimestampType::LogAppendTime,
        ..LogConfig::default()
    };
    with_log(config, |log| {
        for (duplicate, now_ms) in [(false, NOW_MS + 5), (true, NOW_MS + 9)] {
            let info = log.append_as_leader(&mut produced(7, 0, 0, 2), 0, now_ms);
            let info = info.unwrap();
            assert_eq!(info.duplicate, duplicate);
            assert_eq!(info.log_append_time_ms, Some(NOW_MS + 5));
        }
    });
}

#[test]
fn what_happens_while_a_batch_is_prepared_holds_for_it_too() {
    with_log(LogConfig::default(), |log| {
        let (config, partition) = (log.shared_config(), log.topic_partition().clone());
        let (mut first, mut again) = (produced(1, 0, 0, 2), produced(1, 0, 0, 2));
        let first = prepare(&mut first, &config, &partition, NOW_MS).unwrap();
        let again = prepare(&mut again, &config, &partition, NOW_MS).unwrap();
        log.append_as_leader(&mut batch(1, b"x", NOW_MS), 3, NOW_MS)
            .unwrap();
        log.update_config(LogConfig {
            message_timestamp_type: TimestampType::LogAppendTime,
            ..LogConfig::default()
        });

        let info = log.append_prepared(first, 4, NOW_MS + 7).unwrap();
        assert_eq!((info.first_offset, info.last_offset), (1, 2));
        assert_eq!(info.log_append_time_ms, None, "the clock it was judged by");
        let info = log.append_prepared(again, 4, NOW_MS + 8).unwrap();
        assert_eq!((info.first_offset, info.duplicate), (1, true));
        assert_eq!(info.log_append_time_ms, None);
        let stored = bytes(&log.read(1, 1 << 20, 3, true).unwrap());
        verify_crc(&stored).unwrap();
        let header = BatchHeader::parse(&stored).unwrap();
        assert_eq!(header.partition_leader_epoch, 4);
        let clock = header.attributes.timestamp_type();
        assert_eq!(
            (clock, header.max_timestamp),
            (TimestampType::CreateTime, NOW_MS + 1)
        );
    });
}

#[test]
fn a_time_that_the_broker_was_to_overwrite_is_not_kept_by_a_change_meanwhile() {
    let by_broker = LogConfig {
        message_timestamp_type: TimestampType::LogAppendTime,
        ..LogConfig::default()
    };
    with_log(by_broker, |log| {
        let (config, partition) = (log.shared_config(), log.topic_partition().clone());
        let mut far_off = batch(1, b"x", i64::MAX);
        let far_off = prepare(&mut far_off, &config, &partition, NOW_MS).unwrap();
        log.update_config(LogConfig::default());
        let info = log.append_prepared(far_off, 4, NOW_MS + 7).unwrap();
        assert_eq!(info.log_append_time_ms, Some(NOW_MS + 7));
        assert_eq!(records(log), [(0, NOW_MS + 7, b"x".to_vec())]);
    });
}
