//! The usual record, read in a few loads of eight bytes.
//!
//! Nearly all records are alike: no part of them is larger than 8 KiB, and their timestamps lie within some seconds, so that
//! every number before their key takes one or two bytes, and all of them come with one load. What is not like that, and
//! what is no record at all, is left to the plain reader, which alone says what is wrong.

use super::{RecordGlance, Slice, skip_headers, varint};

/// The record that `ahead` begins with, and its bytes, if it is a usual one and lies there whole.
#[inline(always)]
pub(super) fn glance(ahead: &[u8], index: i32) -> Option<(RecordGlance, usize)> {
    let mut head = word(ahead, 0)?;
    let mut at = 0;
    let end = size(short(&mut head, &mut at)?)?;
    let end = at + end;
    // The attributes of a record say nothing.
    head >>= 8;
    at += 1;
    let timestamp_delta = short(&mut head, &mut at)?;
    let offset_delta = short(&mut head, &mut at)?;
    let has_key = head as u8 != NULL;
    if has_key {
        at += size(short(&mut word(ahead, at)?, &mut at)?)?;
    } else {
        at += 1;
    }
    let value = short(&mut word(ahead, at)?, &mut at)?;
    if value != u32::from(NULL) {
        at += size(value)?;
    }
    // Nearly always there are no headers, of which a zero tells.
    if at + 1 != end || *ahead.get(at)? != 0 {
        check_headers(ahead.get(at..end)?)?;
    }
    let record = RecordGlance {
        index,
        offset_delta: zigzag(offset_delta),
        timestamp_delta: zigzag(timestamp_delta).into(),
        has_key,
    };
    Some((record, end))
}

/// A length of -1 as it is written.
const NULL: u8 = 1;

/// Eight bytes, the first one lowest.
#[inline(always)]
fn word(ahead: &[u8], at: usize) -> Option<u64> {
    let bytes = ahead.get(at..)?.first_chunk()?;
    Some(u64::from_le_bytes(*bytes))
}

/// Takes a number of one or two bytes, as it is written, off a word, and counts these.
#[inline(always)]
fn short(word: &mut u64, at: &mut usize) -> Option<u32> {
    let bytes = *word;
    if bytes & 0x80 == 0 {
        *word >>= 8;
        *at += 1;
        Some(bytes as u32 & 0x7f)
    } else if bytes & 0x8000 == 0 {
        *word >>= 16;
        *at += 2;
        Some(bytes as u32 & 0x7f | (bytes >> 1) as u32 & 0x3f80)
    } else {
        None
    }
}

/// A length that is not negative.
#[inline(always)]
fn size(raw: u32) -> Option<usize> {
    (raw & 1 == 0).then_some((raw >> 1) as usize)
}

#[inline(always)]
fn zigzag(raw: u32) -> i32 {
    (raw >> 1) as i32 ^ -((raw & 1) as i32)
}

/// Whether the end of a record is headers.
#[inline(never)]
fn check_headers(bytes: &[u8]) -> Option<()> {
    let mut source = Slice::new(bytes);
    let count = varint(&mut source).ok()?;
    skip_headers(&mut source, count, bytes.len() as u64).ok()?;
    (source.at == bytes.len()).then_some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Source, glance as plain};
    use super::*;
    use crate::varint::{write_varint, write_varlong};

    /// The record that `bytes` begin with, byte by byte, and its size.
    fn read_plainly(bytes: &[u8]) -> Option<(RecordGlance, usize)> {
        let mut source = Slice::new(bytes);
        let record = plain(&mut source, 3).ok()?;
        Some((record, source.position() as usize))
    }

    /// A number in `padding` more bytes than it needs.
    fn padded(value: i64, padding: usize, out: &mut Vec<u8>) {
        write_varlong(out, value);
        for _ in 0..padding {
            *out.last_mut().unwrap() |= 0x80;
            out.push(0);
        }
    }

    fn nullable(size: Option<usize>, padding: usize, out: &mut Vec<u8>) {
        padded(size.map_or(-1, |size| size as i64), padding, out);
        out.resize(out.len() + size.unwrap_or(0), 0x99);
    }

    fn record(
        (timestamp_delta, offset_delta): (i64, i32),
        (key, value): (Option<usize>, Option<usize>),
        headers: &[u8],
    ) -> Vec<u8> {
        let mut body = vec![0];
        write_varlong(&mut body, timestamp_delta);
        write_varint(&mut body, offset_delta);
        nullable(key, 0, &mut body);
        nullable(value, 0, &mut body);
        body.extend_from_slice(headers);
        let mut out = Vec::new();
        write_varint(&mut out, body.len() as i32);
        out.extend(body);
        // The next record.
        out.extend([0; 8]);
        out
    }

    #[test]
    fn the_usual_record_is_read_quickly() {
        for deltas in [(0, 0), (-64, 63), (64, 64), (8191, 8191), (-8192, 100)] {
            for key in [None, Some(0), Some(1), Some(63), Some(64), Some(4000)] {
                for value in [None, Some(0), Some(100), Some(4000)] {
                    for headers in [&[0][..], &[2, 2, b'h', 1]] {
                        let bytes = record(deltas, (key, value), headers);
                        let expected = RecordGlance {
                            index: 3,
                            offset_delta: deltas.1,
                            timestamp_delta: deltas.0,
                            has_key: key.is_some(),
                        };
                        let size = bytes.len() - 8;
                        assert_eq!(glance(&bytes, 3), Some((expected, size)));
                        assert_eq!(read_plainly(&bytes), Some((expected, size)));
                    }
                }
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_left_to_the_plain_reader() {
        for (deltas, value) in [
            ((8192, 0), 10),
            ((1 << 50, 0), 10),
            ((0, 8192), 10),
            ((0, 0), 8192),
        ] {
            let bytes = record(deltas, (None, Some(value)), &[0]);
            assert_eq!(glance(&bytes, 3), None, "{deltas:?} {value}");
            assert!(read_plainly(&bytes).is_some());
        }
    }

    proptest! {
        /// Whatever is read quickly is read plainly, too, and is the same.
        #[test]
        fn both_readers_read_the_same(
            numbers in (prop_oneof![Just(0i64), -70..70i64, -9000..9000i64, any::<i64>()], prop_oneof![-2..70i64, any::<i32>().prop_map(i64::from)]),
            parts in (prop::option::of(0..200usize), prop::option::of(0..200usize)),
            padding in prop::array::uniform5(prop_oneof![4 => Just(0usize), 1 => 1..11usize]),
            headers in prop_oneof![
                3 => Just(vec![0u8]),
                1 => Just(vec![4, 0, 1, 2, b'h', 2, b'v']),
                1 => prop::collection::vec(any::<u8>(), 0..12),
            ],
            off_by in prop_oneof![4 => Just(0i64), 1 => -3..4i64, 1 => any::<i32>().prop_map(i64::from)],
            flip in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
        ) {
            let mut body = vec![0];
            padded(numbers.0, padding[0], &mut body);
            padded(numbers.1, padding[1], &mut body);
            nullable(parts.0, padding[2], &mut body);
            nullable(parts.1, padding[3], &mut body);
            body.extend(headers);
            let mut bytes = Vec::new();
            padded(body.len() as i64 + off_by, padding[4], &mut bytes);
            bytes.extend(body);
            bytes.extend([0; 10]);
            if let Some((at, with)) = flip {
                let at = at.index(bytes.len());
                bytes[at] ^= with;
            }
            for cut in 0..=bytes.len() {
                if let Some(quick) = glance(&bytes[..cut], 3) {
                    prop_assert_eq!(Some(quick), read_plainly(&bytes[..cut]));
                }
            }
        }

        #[test]
        fn both_readers_read_random_bytes_the_same(bytes in prop::collection::vec(prop_oneof![0..4u8, any::<u8>()], 0..40)) {
            if let Some(quick) = glance(&bytes, 3) {
                prop_assert_eq!(Some(quick), read_plainly(&bytes));
            }
        }
    }
}
