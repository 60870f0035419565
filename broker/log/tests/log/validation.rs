//! What a client's records must be, and what the log makes of them.

use kafka_wire::compression::Compression;
use kafka_wire::record_batch::{
    BATCH_HEADER_SIZE, Batch, BatchHeader, RecordBatchBuilder, TimestampType, batches,
    set_max_timestamp, write_batch,
};
use log::{AppendError, Log, LogConfig, MAX_DECOMPRESSED_BYTES, RefusedRecords, TopicCompression};

use crate::broker::{Broker, NOW_MS, batch, build, bytes, locked, produced, records};

fn with_log<T>(config: LogConfig, test: impl FnOnce(&mut Log) -> T) -> T {
    let broker = Broker::start(config);
    let shared = broker.log();
    let mut log = locked(&shared);
    test(&mut log)
}

fn append(log: &mut Log, batch: &[u8]) -> Result<i64, AppendError> {
    let info = log.append_as_leader(&mut batch.to_vec(), 0, NOW_MS)?;
    Ok(info.first_offset)
}

/// The error, and that nothing came in.
fn refused(log: &mut Log, batch: &[u8]) -> AppendError {
    let end = log.log_end_offset();
    let error = append(log, batch).unwrap_err();
    assert_eq!(log.log_end_offset(), end);
    assert!(!log.is_fenced());
    error
}

fn refused_records(log: &mut Log, batch: &[u8]) -> RefusedRecords {
    match refused(log, batch) {
        AppendError::RefusedRecords(refused) => refused,
        error => panic!("{error}"),
    }
}

fn header(batch: &[u8]) -> BatchHeader {
    BatchHeader::parse(batch).unwrap()
}

/// The batch with these records, whatever they are.
fn holding(header: &BatchHeader, records: &[u8]) -> Vec<u8> {
    let mut batch = Vec::new();
    write_batch(header, records, &mut batch).unwrap();
    batch
}

fn stored(log: &Log) -> Vec<u8> {
    bytes(&log.read(0, 1 << 20, log.log_end_offset(), true).unwrap())
}

#[test]
fn bug_kafka_6554_13149_records_that_are_none_are_refused_in_every_codec() {
    with_log(LogConfig::default(), |log| {
        let good = batch(3, b"value", NOW_MS);
        let payload = &good[BATCH_HEADER_SIZE..];
        let each = payload.len() / 3;
        for codec in Compression::ALL {
            let header = header(&good);
            let attributes = header.attributes.with_compression(codec);
            let header = BatchHeader {
                attributes,
                ..header
            };
            let invalid = |log: &mut Log, records: &[u8]| {
                let error = refused(log, &holding(&header, records));
                assert!(
                    matches!(error, AppendError::InvalidRecord(_)),
                    "{codec}: {error}"
                );
            };
            invalid(log, &[]);
            invalid(log, &payload[..each * 2]);
            invalid(log, &[payload, payload].concat());
            invalid(log, &[payload, &[0]].concat());
            for cut in [1, each, each + 3, payload.len() - 1] {
                invalid(log, &payload[..cut]);
            }
            // The second record again: offsets do not follow each other.
            invalid(
                log,
                &[&payload[..each * 2], &payload[each..each * 2]].concat(),
            );
            invalid(log, &[&payload[each..], &payload[..each]].concat());
            append(log, &holding(&header, payload)).unwrap();
        }
        assert_eq!(records(log).len(), 15);
    });
}

#[test]
fn what_does_not_decompress_is_corrupt() {
    with_log(LogConfig::default(), |log| {
        for codec in 1..=4u8 {
            let mut nonsense = batch(1, b"abcdefgh", NOW_MS);
            nonsense[22] = codec;
            set_max_timestamp(&mut nonsense, TimestampType::CreateTime, NOW_MS);
            let error = refused(log, &nonsense);
            assert!(matches!(error, AppendError::Corrupt(_)), "{codec}: {error}");
        }
        let mut unknown = batch(1, b"abcdefgh", NOW_MS);
        unknown[22] = 5;
        set_max_timestamp(&mut unknown, TimestampType::CreateTime, NOW_MS);
        assert!(matches!(
            refused(log, &unknown),
            AppendError::InvalidRecord(_)
        ));
    });
}

#[test]
fn no_more_is_accepted_than_the_cleaner_decompresses() {
    // 128 times as much could come out of a batch of this topic as of one with Kafka's default.
    let config = LogConfig {
        max_message_bytes: 128 << 20,
        ..LogConfig::default()
    };
    with_log(config, |log| {
        let value = vec![0; MAX_DECOMPRESSED_BYTES];
        let bomb = build(
            RecordBatchBuilder::new(Compression::Zstd),
            1,
            &value,
            NOW_MS,
        );
        let error = refused(log, &bomb);
        assert!(error.to_string().contains("decompress to more"), "{error}");
    });
}

#[test]
fn a_bomb_is_refused() {
    let config = LogConfig {
        max_message_bytes: 10_000,
        ..LogConfig::default()
    };
    with_log(config, |log| {
        for codec in [Compression::Gzip, Compression::Zstd] {
            let fits = build(
                RecordBatchBuilder::new(codec),
                1,
                &vec![0; 1_200_000],
                NOW_MS,
            );
            append(log, &fits).unwrap();
            let bomb = build(
                RecordBatchBuilder::new(codec),
                1,
                &vec![0; 1_290_000],
                NOW_MS,
            );
            let error = refused(log, &bomb);
            assert!(matches!(error, AppendError::InvalidRecord(_)), "{error}");
            assert!(error.to_string().contains("decompress to more"), "{error}");
        }
    });
}

#[test]
fn a_clients_batch_begins_at_offset_zero() {
    with_log(LogConfig::default(), |log| {
        let builder = RecordBatchBuilder::new(Compression::None).base_offset(1);
        let error = refused(log, &build(builder, 1, b"x", NOW_MS));
        assert!(matches!(error, AppendError::InvalidRecord(_)), "{error}");
    });
}

#[test]
fn a_compacted_log_takes_no_record_without_a_key() {
    let config = LogConfig {
        compact: true,
        ..LogConfig::default()
    };
    with_log(config, |log| {
        for codec in Compression::ALL {
            let mut builder = RecordBatchBuilder::new(codec);
            for key in [Some(&b"k"[..]), None, Some(b""), None] {
                builder.append(NOW_MS, key, Some(b"v"), &[]).unwrap();
            }
            let refused = refused_records(log, &builder.build().unwrap());
            assert_eq!((refused.by_timestamp, refused.count), (false, 2));
            let told: Vec<_> = refused
                .told
                .iter()
                .map(|record| record.batch_index)
                .collect();
            assert_eq!(told, [1, 3]);
            assert_eq!(
                refused.told[0].message,
                "Compacted topic cannot accept message without key in topic partition t-0."
            );
            assert!(refused.to_string().starts_with(
                "One or more records have been rejected due to 2 record errors in total"
            ));
        }
        let mut builder = RecordBatchBuilder::new(Compression::None);
        builder.append(NOW_MS, Some(b"k"), None, &[]).unwrap();
        append(log, &builder.build().unwrap()).unwrap();
    });
}

#[test]
fn not_every_refused_record_is_told_of() {
    let config = LogConfig {
        compact: true,
        ..LogConfig::default()
    };
    with_log(config, |log| {
        let mut builder = RecordBatchBuilder::new(Compression::None);
        for _ in 0..5000 {
            builder.append(NOW_MS, None, None, &[]).unwrap();
        }
        let refused = refused_records(log, &builder.build().unwrap());
        assert_eq!((refused.count, refused.told.len()), (5000, 1000));
        assert!(refused.to_string().len() < 500);
    });
}

#[test]
fn timestamps_are_within_the_topics_bounds() {
    let config = LogConfig {
        message_timestamp_before_max_ms: 1000,
        message_timestamp_after_max_ms: 500,
        ..LogConfig::default()
    };
    with_log(config.clone(), |log| {
        let one = |timestamp| batch(1, b"v", timestamp);
        append(log, &one(NOW_MS - 1000)).unwrap();
        append(log, &one(NOW_MS + 500)).unwrap();
        append(log, &one(-1)).unwrap();
        for timestamp in [NOW_MS - 1001, NOW_MS + 501, 0, i64::MAX, i64::MIN] {
            let mut builder = RecordBatchBuilder::new(Compression::None);
            for timestamp in [NOW_MS, timestamp] {
                builder.append(timestamp, None, None, &[]).unwrap();
            }
            let refused = refused_records(log, &builder.build().unwrap());
            assert!(refused.by_timestamp);
            let told: Vec<_> = refused
                .told
                .iter()
                .map(|record| record.batch_index)
                .collect();
            assert_eq!(told, [1], "{timestamp}");
            let (from, to) = (NOW_MS - 1000, NOW_MS + 500);
            assert_eq!(
                refused.told[0].message,
                format!(
                    "Timestamp {timestamp} of message with offset 1 is out of range. The timestamp should be within [{from}, {to}]"
                )
            );
            assert_eq!(
                refused.to_string(),
                "One or more records have been rejected due to invalid timestamp"
            );
        }
    });
    let by_broker = LogConfig {
        message_timestamp_type: TimestampType::LogAppendTime,
        ..config
    };
    with_log(by_broker, |log| append(log, &batch(1, b"v", 0)).unwrap());
}

#[test]
fn the_largest_timestamp_is_that_of_the_records_whatever_the_header_says() {
    with_log(LogConfig::default(), |log| {
        for (claimed, codec) in [(0, Compression::None), (i64::MAX, Compression::Gzip)] {
            let mut sent = build(RecordBatchBuilder::new(codec), 2, b"v", NOW_MS);
            set_max_timestamp(&mut sent, TimestampType::CreateTime, claimed);
            append(log, &sent).unwrap();
        }
        for batch in batches(&stored(log)) {
            let batch = batch.unwrap();
            batch.verify_crc().unwrap();
            assert_eq!(batch.header.max_timestamp, NOW_MS + 1);
        }
    });
}

#[test]
fn batches_are_kept_in_the_codec_of_the_topic() {
    for wanted in Compression::ALL {
        let config = LogConfig {
            compression: TopicCompression::Codec {
                codec: wanted,
                level: Some(2),
            },
            ..LogConfig::default()
        };
        with_log(config, |log| {
            let mut sent = Vec::new();
            for (sequence, codec) in Compression::ALL.into_iter().enumerate() {
                let builder = RecordBatchBuilder::new(codec)
                    .producer(7, 1, sequence as i32 * 3)
                    .transactional();
                sent.push(build(builder, 3, &[b'v'; 500], NOW_MS));
            }
            for batch in &sent {
                append(log, batch).unwrap();
                let duplicate = log.append_as_leader(&mut batch.clone(), 0, NOW_MS).unwrap();
                assert!(duplicate.duplicate);
            }
            let stored = stored(log);
            let stored: Vec<Batch<'_>> = batches(&stored).map(Result::unwrap).collect();
            assert_eq!(stored.len(), sent.len());
            for (stored, sent) in stored.iter().zip(&sent) {
                stored.verify_crc().unwrap();
                let (stored, sent) = (&stored.header, header(sent));
                assert_eq!(stored.attributes.compression(), Ok(wanted));
                assert!(stored.attributes.is_transactional());
                assert_eq!((stored.producer_id, stored.producer_epoch), (7, 1));
                assert_eq!(stored.base_sequence, sent.base_sequence);
                assert_eq!((stored.record_count, stored.max_timestamp), (3, NOW_MS + 2));
            }
            assert_eq!(log.first_unstable_offset(), Some(0));
            assert!(
                records(log)
                    .iter()
                    .all(|(_, _, value)| value == &[b'v'; 500])
            );
        });
    }
}

#[test]
fn a_batch_that_grows_too_large_in_the_topics_codec_is_refused() {
    let config = LogConfig {
        compression: TopicCompression::Codec {
            codec: Compression::None,
            level: None,
        },
        max_message_bytes: 10_000,
        ..LogConfig::default()
    };
    with_log(config, |log| {
        let sent = build(
            RecordBatchBuilder::new(Compression::Zstd),
            1,
            &[0; 20_000],
            NOW_MS,
        );
        let error = refused(log, &sent);
        assert!(
            matches!(error, AppendError::MessageTooLarge { max: 10_000, .. }),
            "{error}"
        );
    });
}

#[test]
fn a_batch_that_needs_no_change_is_stored_as_it_came() {
    with_log(LogConfig::default(), |log| {
        for codec in Compression::ALL {
            let sent = build(RecordBatchBuilder::new(codec), 20, b"value", NOW_MS);
            let offset = append(log, &sent).unwrap();
            let data = log.read(offset, 1, log.log_end_offset(), true).unwrap();
            assert_eq!(bytes(&data)[17..], sent[17..], "{codec}");
        }
        append(log, &produced(1, 0, 0, 3)).unwrap();
    });
}

/// A message of format 0 or 1, as producers before 0.11 send it.
fn old_message(magic: u8, codec: Compression, key: Option<&[u8]>, value: &[u8]) -> Vec<u8> {
    let mut covered = vec![magic, codec.id()];
    if magic == 1 {
        covered.extend_from_slice(&NOW_MS.to_be_bytes());
    }
    covered.extend_from_slice(&key.map_or(-1, |key| key.len() as i32).to_be_bytes());
    covered.extend_from_slice(key.unwrap_or_default());
    covered.extend_from_slice(&(value.len() as i32).to_be_bytes());
    covered.extend_from_slice(value);
    let mut message = 0i64.to_be_bytes().to_vec();
    message.extend_from_slice(&(covered.len() as i32 + 4).to_be_bytes());
    message.extend_from_slice(&crc32fast::hash(&covered).to_be_bytes());
    message.extend_from_slice(&covered);
    message
}

#[test]
fn message_sets_become_batches() {
    with_log(LogConfig::default(), |log| {
        let mut next = 0;
        for (magic, timestamp) in [(0, -1), (1, NOW_MS)] {
            let set = [b"one", b"two"]
                .map(|value| old_message(magic, Compression::None, None, value))
                .concat();
            let gzip = Compression::Gzip.compress(&set).unwrap();
            let wrapped = old_message(magic, Compression::Gzip, None, &gzip);
            for sent in [&set, &wrapped] {
                let mut sent = sent.clone();
                let info = log.append_as_leader(&mut sent, 3, NOW_MS).unwrap();
                assert_eq!((info.first_offset, info.last_offset), (next, next + 1));
                next += 2;
            }
            let all = records(log);
            for (offset, stamp, value) in &all[all.len() - 4..] {
                assert_eq!(*stamp, timestamp);
                assert_eq!(value, if offset % 2 == 0 { b"one" } else { b"two" });
            }
        }
        let stored = stored(log);
        let codecs = batches(&stored).map(|batch| {
            let header = batch.unwrap().header;
            assert_eq!(header.partition_leader_epoch, 3);
            header.attributes.compression().unwrap()
        });
        let expected = [Compression::None, Compression::Gzip].repeat(2);
        assert!(codecs.eq(expected));
    });
}

#[test]
fn message_sets_are_held_to_the_same_rules() {
    let config = LogConfig {
        compact: true,
        max_message_bytes: 1000,
        compression: TopicCompression::Codec {
            codec: Compression::Zstd,
            level: None,
        },
        ..LogConfig::default()
    };
    with_log(config, |log| {
        let keyed = |key| old_message(1, Compression::None, key, b"v");
        let set = [keyed(Some(b"k")), keyed(None)].concat();
        let refused_keys = refused_records(log, &set);
        assert_eq!(refused_keys.told[0].batch_index, 1);
        let large: Vec<u8> = (0..4000u32)
            .map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        let large = old_message(1, Compression::None, Some(b"k"), &large);
        assert!(matches!(
            refused(log, &large),
            AppendError::MessageTooLarge { .. }
        ));
        let mut flipped = keyed(Some(b"k"));
        *flipped.last_mut().unwrap() ^= 1;
        assert!(matches!(refused(log, &flipped), AppendError::Corrupt(_)));
        append(log, &keyed(Some(b"k"))).unwrap();
        assert_eq!(
            header(&stored(log)).attributes.compression(),
            Ok(Compression::Zstd)
        );
    });
}

#[test]
fn what_is_compressed_anew_is_compressed_as_hard_as_the_topic_asks() {
    let value: Vec<u8> = (0..3000u32)
        .flat_map(|number| (number * 7919 % 1009).to_string().into_bytes())
        .collect();
    let stored_at = |level, sent: &[u8]| {
        let config = LogConfig {
            compression: TopicCompression::Codec {
                codec: Compression::Gzip,
                level: Some(level),
            },
            ..LogConfig::default()
        };
        with_log(config, |log| {
            append(log, sent).unwrap();
            log.size()
        })
    };
    for sent in [
        batch(1, &value, NOW_MS),
        old_message(1, Compression::None, None, &value),
    ] {
        assert!(stored_at(9, &sent) < stored_at(1, &sent));
    }
}
