use proptest::prelude::*;

use super::*;
use crate::record_batch::{batches, verify_crc};

type KeyAndValue = (Option<Vec<u8>>, Option<Vec<u8>>);
/// Offset, timestamp, and the rest.
type Converted = Vec<(i64, i64, KeyAndValue)>;

fn message(
    magic: u8,
    attributes: u8,
    timestamp: i64,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
) -> Vec<u8> {
    let mut covered = vec![magic, attributes];
    if magic == 1 {
        covered.extend_from_slice(&timestamp.to_be_bytes());
    }
    for part in [key, value] {
        let length = part.map_or(-1, |part| part.len() as i32);
        covered.extend_from_slice(&length.to_be_bytes());
        covered.extend_from_slice(part.unwrap_or_default());
    }
    let mut message = 77i64.to_be_bytes().to_vec();
    message.extend_from_slice(&(covered.len() as i32 + 4).to_be_bytes());
    message.extend_from_slice(&crc32fast::hash(&covered).to_be_bytes());
    message.extend_from_slice(&covered);
    message
}

fn two(magic: u8) -> Vec<u8> {
    let first = message(magic, 0, 1000, Some(b"k"), Some(b"one"));
    let second = message(magic, 0, 900, None, None);
    [first, second].concat()
}

/// As an old client compresses: the checksum of the LZ4 frame of format 0 covers the magic number, too.
fn wrapped(magic: u8, codec: Compression, inner: &[u8]) -> Vec<u8> {
    let mut value = codec.compress(inner).unwrap();
    if codec == Compression::Lz4 && magic == 0 {
        value[6] = (twox_hash::XxHash32::oneshot(0, &value[..6]) >> 8) as u8;
    }
    message(magic, codec.id(), 1000, None, Some(&value))
}

fn converted(data: &[u8]) -> Result<(Compression, Converted), MessageSetError> {
    let bytes = to_record_batch(data, 10_000, None)?.build()?;
    verify_crc(&bytes).unwrap();
    let batch = batches(&bytes).next().unwrap().unwrap();
    let records = batch.records(10_000).unwrap();
    let records = records.iter().map(|record| {
        let record = record.unwrap();
        (
            record.offset,
            record.timestamp,
            (
                record.key.map(<[u8]>::to_vec),
                record.value.map(<[u8]>::to_vec),
            ),
        )
    });
    Ok((
        batch.header.attributes.compression().unwrap(),
        records.collect(),
    ))
}

#[test]
fn messages_become_records_in_their_codec() {
    for magic in [0, 1] {
        for codec in [
            Compression::None,
            Compression::Gzip,
            Compression::Snappy,
            Compression::Lz4,
        ] {
            let set = match codec {
                Compression::None => two(magic),
                codec => wrapped(magic, codec, &two(magic)),
            };
            let (in_codec, records) =
                converted(&set).unwrap_or_else(|error| panic!("{magic} {codec}: {error}"));
            let [first, second] = if magic == 0 { [-1, -1] } else { [1000, 900] };
            let one = (Some(b"k".to_vec()), Some(b"one".to_vec()));
            assert_eq!(in_codec, codec);
            assert_eq!(records, [(0, first, one), (1, second, (None, None))]);
        }
    }
}

#[test]
fn another_codec_may_be_asked_for() {
    let builder = to_record_batch(&two(1), 1000, Some((Compression::Zstd, Some(1)))).unwrap();
    let bytes = builder.build().unwrap();
    let batch = batches(&bytes).next().unwrap().unwrap();
    assert_eq!(batch.header.attributes.compression(), Ok(Compression::Zstd));
}

#[test]
fn the_brokers_clock_is_not_forgotten() {
    let set = message(1, 0b1000, 5000, None, None);
    let bytes = to_record_batch(&set, 1000, None).unwrap().build().unwrap();
    let header = batches(&bytes).next().unwrap().unwrap().header;
    assert_eq!(
        header.attributes.timestamp_type(),
        TimestampType::LogAppendTime
    );
    assert_eq!(header.max_timestamp, 5000);
}

#[test]
fn damage_at_any_byte_is_found() {
    for magic in [0, 1] {
        let good = two(magic);
        let first = message(magic, 0, 1000, Some(b"k"), Some(b"one")).len();
        for cut in (1..good.len()).filter(|cut| *cut != first) {
            assert!(
                matches!(
                    converted(&good[..cut]),
                    Err(MessageSetError::Corrupt { .. })
                ),
                "cut at {cut}"
            );
        }
        // The offsets are nobody's business.
        for at in (8..first).chain(first + 8..good.len()) {
            let mut flipped = good.clone();
            flipped[at] ^= 0x10;
            assert!(
                matches!(converted(&flipped), Err(MessageSetError::Corrupt { .. })),
                "flipped at {at}"
            );
        }
    }
}

#[test]
fn what_does_not_belong_together_is_invalid() {
    let invalid = |set: &[u8]| matches!(converted(set), Err(MessageSetError::Invalid(_)));
    assert!(invalid(&[]), "nothing");
    assert!(invalid(&[two(0), two(1)].concat()), "two formats");
    let inner = two(1);
    assert!(
        invalid(&wrapped(0, Compression::Gzip, &inner)),
        "another format inside"
    );
    assert!(
        invalid(&wrapped(1, Compression::Gzip, &[])),
        "nothing inside"
    );
    let twice = wrapped(1, Compression::Gzip, &wrapped(1, Compression::Gzip, &inner));
    assert!(invalid(&twice), "compressed twice");
    let both = [wrapped(1, Compression::Gzip, &inner), two(1)].concat();
    assert!(invalid(&both), "something beside a compressed message");
    let both = [two(1), wrapped(1, Compression::Gzip, &inner)].concat();
    assert!(invalid(&both), "a compressed message beside something");
    assert!(invalid(&message(1, 1, 0, None, None)), "null inside");
    let unknown = message(1, 7, 0, None, None);
    assert!(matches!(
        converted(&unknown),
        Err(MessageSetError::Compression(_))
    ));
    let three = message(3, 0, 0, None, None);
    assert!(matches!(
        converted(&three),
        Err(MessageSetError::Corrupt { .. })
    ));
}

#[test]
fn a_bomb_is_refused() {
    let large = message(1, 0, 0, None, Some(&[0; 20_000]));
    for codec in [Compression::Gzip, Compression::Snappy, Compression::Lz4] {
        let bomb = wrapped(1, codec, &large);
        let refused = converted(&bomb);
        assert!(
            matches!(
                refused,
                Err(MessageSetError::Compression(
                    CompressionError::TooLarge { .. }
                ))
            ),
            "{refused:?}"
        );
    }
}

proptest! {
    #[test]
    fn random_bytes_never_panic(data in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = to_record_batch(&data, 1000, None);
        let _ = to_record_batch(&wrapped(0, Compression::Lz4, &data), 1000, None);
    }

    /// Below the checksum, where random bytes do not get.
    #[test]
    fn random_messages_never_panic(magic in 0..3u8, attributes: u8, body in prop::collection::vec(any::<u8>(), 0..60)) {
        let mut covered = vec![magic, attributes];
        covered.extend_from_slice(&body);
        let mut set = vec![0; 8];
        set.extend_from_slice(&(covered.len() as i32 + 4).to_be_bytes());
        set.extend_from_slice(&crc32fast::hash(&covered).to_be_bytes());
        set.extend_from_slice(&covered);
        let _ = to_record_batch(&set, 1000, None);
        for codec in [1, 2, 3, 4] {
            let _ = to_record_batch(&message(magic.min(1), codec, 0, None, Some(&set)), 1000, None);
        }
    }
}

#[test]
fn no_set_is_in_zstd() {
    for magic in [0, 1] {
        let error = converted(&wrapped(magic, Compression::Zstd, &two(magic))).unwrap_err();
        assert!(matches!(error, MessageSetError::Invalid(_)), "{error}");
    }
}
