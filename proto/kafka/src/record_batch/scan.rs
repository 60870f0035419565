//! One glance at each record of a batch: what a broker has to know of what a client sends, at the price of a few bytes of
//! each record. Nothing is allocated for a batch that is not compressed, and one window for one that is, whatever comes out
//! of it.

mod quick;

use super::header::{BATCH_HEADER_SIZE, Batch};
use super::record::RecordError;
use crate::compression::{Compression, CompressionError, Decompressor};

/// Bytes that are decompressed at once.
const WINDOW_BYTES: usize = 32 * 1024;

/// What a glance tells of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordGlance {
    /// The record's index in its batch.
    pub index: i32,
    /// Its offset relative to the batch's base offset.
    pub offset_delta: i32,
    /// Its timestamp relative to the batch's base timestamp, in milliseconds.
    pub timestamp_delta: i64,
    /// Its key is not null.
    pub has_key: bool,
}

impl Batch<'_> {
    /// Shows every record to `see`, and finds out whether they are records: that each has the length that it states, its
    /// parts fill it, and nothing follows the last one. More than `max_size` decompressed bytes are an error, found before
    /// they are read.
    pub fn scan(&self, max_size: usize, see: impl FnMut(RecordGlance)) -> Result<(), RecordError> {
        let records = &self.bytes[BATCH_HEADER_SIZE..];
        let count = self.header.record_count;
        match self.header.attributes.compression()? {
            Compression::None => scan(Slice::new(records), count, see),
            codec => {
                let decompressor = Decompressor::new(codec, records, max_size)?;
                scan(Stream::new(decompressor), count, see)
            }
        }
    }
}

/// Why there is no next byte.
enum Stop {
    /// It was the last, or a record is not what it should be.
    Corrupt,
    Compression(CompressionError),
}

/// Where records come from.
trait Source {
    fn byte(&mut self) -> Result<u8, Stop>;
    fn skip(&mut self, count: u64) -> Result<(), Stop>;
    /// How many bytes were read.
    fn position(&self) -> u64;
    /// The bytes that follow, as many as are at hand.
    fn ahead(&self) -> &[u8];
    /// Skips bytes that are at hand.
    fn advance(&mut self, count: usize);
    /// How many bytes follow, as far as that is known; 0 at the end.
    fn following(&mut self) -> Result<usize, CompressionError>;
}

fn scan(
    mut source: impl Source,
    count: i32,
    mut see: impl FnMut(RecordGlance),
) -> Result<(), RecordError> {
    for index in 0..count {
        if let Some((record, size)) = quick::glance(source.ahead(), index) {
            source.advance(size);
            see(record);
            continue;
        }
        match glance(&mut source, index) {
            Ok(record) => see(record),
            Err(Stop::Corrupt) => return Err(RecordError::Corrupt { index }),
            Err(Stop::Compression(error)) => return Err(error.into()),
        }
    }
    match source.following()? {
        0 => Ok(()),
        trailing => Err(RecordError::Trailing(trailing)),
    }
}

/// Any record, byte by byte.
#[inline(never)]
fn glance(source: &mut impl Source, index: i32) -> Result<RecordGlance, Stop> {
    let length = u64::try_from(varint(source)?).map_err(|_| Stop::Corrupt)?;
    let end = source.position() + length;
    source.byte()?;
    let timestamp_delta = zigzag(unsigned(source, 10)?);
    let offset_delta = varint(source)?;
    let has_key = skip_nullable(source, end)?;
    skip_nullable(source, end)?;
    let headers = varint(source)?;
    skip_headers(source, headers, end)?;
    if source.position() != end {
        return Err(Stop::Corrupt);
    }
    Ok(RecordGlance {
        index,
        offset_delta,
        timestamp_delta,
        has_key,
    })
}

/// Skips bytes after their length, where -1 is null; whether they are not.
#[inline(always)]
fn skip_nullable(source: &mut impl Source, end: u64) -> Result<bool, Stop> {
    let length = varint(source)?;
    if length == -1 {
        return Ok(false);
    }
    let length = u64::try_from(length).map_err(|_| Stop::Corrupt)?;
    if source.position() + length > end {
        return Err(Stop::Corrupt);
    }
    source.skip(length)?;
    Ok(true)
}

fn skip_headers(source: &mut impl Source, count: i32, end: u64) -> Result<(), Stop> {
    let count = u64::try_from(count).map_err(|_| Stop::Corrupt)?;
    // Each takes two bytes at least.
    if count > end.saturating_sub(source.position()) / 2 {
        return Err(Stop::Corrupt);
    }
    for _ in 0..count {
        if !skip_nullable(source, end)? {
            return Err(Stop::Corrupt);
        }
        skip_nullable(source, end)?;
    }
    Ok(())
}

#[inline(always)]
fn varint(source: &mut impl Source) -> Result<i32, Stop> {
    let raw = unsigned(source, 5)?;
    let raw = u32::try_from(raw).map_err(|_| Stop::Corrupt)?;
    Ok((raw >> 1) as i32 ^ -((raw & 1) as i32))
}

fn zigzag(raw: u64) -> i64 {
    (raw >> 1) as i64 ^ -((raw & 1) as i64)
}

#[inline(always)]
fn unsigned(source: &mut impl Source, max_length: u32) -> Result<u64, Stop> {
    let first = source.byte()?;
    if first & 0x80 == 0 {
        return Ok(u64::from(first));
    }
    let second = source.byte()?;
    let value = u64::from(first & 0x7f) | u64::from(second & 0x7f) << 7;
    if second & 0x80 == 0 {
        return Ok(value);
    }
    unsigned_from_third(source, max_length, value)
}

fn unsigned_from_third(
    source: &mut impl Source,
    max_length: u32,
    mut value: u64,
) -> Result<u64, Stop> {
    for position in 2..max_length {
        let byte = source.byte()?;
        let bits = u64::from(byte & 0x7f);
        if position == 9 && bits > 1 {
            return Err(Stop::Corrupt);
        }
        value |= bits << (7 * position);
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Stop::Corrupt)
}

struct Slice<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Slice<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }
}

impl Source for Slice<'_> {
    #[inline(always)]
    fn byte(&mut self) -> Result<u8, Stop> {
        let byte = *self.bytes.get(self.at).ok_or(Stop::Corrupt)?;
        self.at += 1;
        Ok(byte)
    }

    #[inline(always)]
    fn skip(&mut self, count: u64) -> Result<(), Stop> {
        if count > (self.bytes.len() - self.at) as u64 {
            return Err(Stop::Corrupt);
        }
        self.at += count as usize;
        Ok(())
    }

    #[inline(always)]
    fn position(&self) -> u64 {
        self.at as u64
    }

    #[inline(always)]
    fn ahead(&self) -> &[u8] {
        &self.bytes[self.at..]
    }

    #[inline(always)]
    fn advance(&mut self, count: usize) {
        self.at += count;
    }

    fn following(&mut self) -> Result<usize, CompressionError> {
        Ok(self.bytes.len() - self.at)
    }
}

struct Stream<'a> {
    decompressor: Decompressor<'a>,
    window: Box<[u8]>,
    /// The part of the window that holds bytes, and how far they were read.
    filled: usize,
    at: usize,
    /// Bytes before the window.
    before: u64,
}

impl<'a> Stream<'a> {
    fn new(decompressor: Decompressor<'a>) -> Self {
        Self {
            decompressor,
            window: vec![0; WINDOW_BYTES].into_boxed_slice(),
            filled: 0,
            at: 0,
            before: 0,
        }
    }

    /// Reads on once the window is used up; false at the end.
    fn refill(&mut self) -> Result<bool, CompressionError> {
        self.before += self.filled as u64;
        (self.filled, self.at) = (0, 0);
        self.filled = self.decompressor.read(&mut self.window)?;
        Ok(self.filled > 0)
    }
}

impl Source for Stream<'_> {
    #[inline]
    fn byte(&mut self) -> Result<u8, Stop> {
        if self.at == self.filled && !self.refill().map_err(Stop::Compression)? {
            return Err(Stop::Corrupt);
        }
        let byte = self.window[self.at];
        self.at += 1;
        Ok(byte)
    }

    #[inline]
    fn skip(&mut self, count: u64) -> Result<(), Stop> {
        let mut left = count;
        loop {
            let here = left.min((self.filled - self.at) as u64);
            self.at += here as usize;
            left -= here;
            if left == 0 {
                return Ok(());
            }
            if !self.refill().map_err(Stop::Compression)? {
                return Err(Stop::Corrupt);
            }
        }
    }

    #[inline]
    fn position(&self) -> u64 {
        self.before + self.at as u64
    }

    #[inline(always)]
    fn ahead(&self) -> &[u8] {
        &self.window[self.at..self.filled]
    }

    #[inline(always)]
    fn advance(&mut self, count: usize) {
        self.at += count;
    }

    fn following(&mut self) -> Result<usize, CompressionError> {
        if self.at == self.filled {
            self.refill()?;
        }
        Ok(self.filled - self.at)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{RecordBatchBuilder, RecordHeader, batches, write_batch};
    use super::*;

    fn scanned(bytes: &[u8], max_size: usize) -> Result<Vec<RecordGlance>, RecordError> {
        let batch = batches(bytes).next().unwrap().unwrap();
        let mut seen = Vec::new();
        batch.scan(max_size, |record| seen.push(record))?;
        Ok(seen)
    }

    fn built(codec: Compression, value: &[u8]) -> Vec<u8> {
        let mut builder = RecordBatchBuilder::new(codec);
        let header = RecordHeader {
            key: b"h",
            value: None,
        };
        builder.append(1000, Some(b"k"), Some(value), &[]).unwrap();
        builder.append(400, None, None, &[header; 70]).unwrap();
        let last = RecordHeader {
            key: b"h",
            value: Some(b"the last"),
        };
        builder
            .append(1i64 << 40, Some(b""), Some(value), &[last])
            .unwrap();
        builder.build().unwrap().to_vec()
    }

    #[test]
    fn each_record_is_seen_whatever_the_codec() {
        // The larger values span several windows.
        for size in [0, 100, 10_000, 100_000] {
            let value: Vec<u8> = (0..size)
                .map(|at: u32| (at.wrapping_mul(2_654_435_761) >> 24) as u8)
                .collect();
            for codec in Compression::ALL {
                let seen = scanned(&built(codec, &value), 1 << 20).unwrap();
                let told: Vec<_> = seen
                    .iter()
                    .map(|record| {
                        (
                            record.index,
                            record.offset_delta,
                            record.timestamp_delta,
                            record.has_key,
                        )
                    })
                    .collect();
                assert_eq!(
                    told,
                    [
                        (0, 0, 0, true),
                        (1, 1, -600, false),
                        (2, 2, (1 << 40) - 1000, true)
                    ],
                    "{codec} {size}"
                );
            }
        }
    }

    #[test]
    fn every_other_byte_count_is_corrupt() {
        let good = built(Compression::None, b"value");
        let header = batches(&good).next().unwrap().unwrap().header;
        let records = &good[BATCH_HEADER_SIZE..];
        for codec in [Compression::None, Compression::Snappy] {
            let header = super::super::BatchHeader {
                attributes: header.attributes.with_compression(codec),
                ..header.clone()
            };
            for cut in 0..records.len() {
                let mut bytes = Vec::new();
                write_batch(&header, &records[..cut], &mut bytes).unwrap();
                assert!(
                    matches!(scanned(&bytes, 1 << 20), Err(RecordError::Corrupt { .. })),
                    "{codec} cut at {cut}"
                );
            }
            let mut bytes = Vec::new();
            write_batch(&header, &[records, &[0; 3]].concat(), &mut bytes).unwrap();
            assert_eq!(scanned(&bytes, 1 << 20), Err(RecordError::Trailing(3)));
        }
    }

    #[test]
    fn a_bomb_is_refused_before_it_bursts() {
        for codec in [
            Compression::Gzip,
            Compression::Snappy,
            Compression::Lz4,
            Compression::Zstd,
        ] {
            let bytes = built(codec, &vec![0; 4 << 20]);
            assert!(bytes.len() < 600_000, "{codec}");
            let refused = scanned(&bytes, 1 << 20).unwrap_err();
            let too_large = CompressionError::TooLarge {
                codec,
                max_size: 1 << 20,
            };
            assert_eq!(refused, too_large.into());
            assert_eq!(scanned(&bytes, 9 << 20).unwrap().len(), 3);
        }
    }

    proptest! {
        /// Whatever is scanned without an error is read without one, and the other way round.
        #[test]
        fn a_scan_takes_what_a_reader_takes(
            flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
            codec in prop::sample::select(&Compression::ALL[..]),
            count in 0..5i32,
        ) {
            let good = built(Compression::None, b"some value");
            let header = batches(&good).next().unwrap().unwrap().header;
            let mut records = good[BATCH_HEADER_SIZE..].to_vec();
            for (at, with) in flips {
                let at = at.index(records.len());
                records[at] ^= with;
            }
            let header = super::super::BatchHeader {
                attributes: header.attributes.with_compression(codec),
                record_count: count,
                last_offset_delta: i32::MAX,
                ..header
            };
            let mut bytes = Vec::new();
            write_batch(&header, &records, &mut bytes).unwrap();
            let scanned = scanned(&bytes, 1 << 20);
            let batch = batches(&bytes).next().unwrap().unwrap();
            let read: Result<Vec<_>, _> = batch.records(1 << 20).unwrap().iter().map(|record| record.map(|record| (record.offset, record.key.is_some()))).collect();
            match (&scanned, &read) {
                (Ok(scanned), Ok(read)) => {
                    let scanned: Vec<_> = scanned.iter().map(|record| (i64::from(record.offset_delta), record.has_key)).collect();
                    prop_assert_eq!(&scanned, read);
                }
                // A reader also refuses an offset that is not in the batch.
                (Ok(scanned), Err(_)) => prop_assert!(scanned.iter().any(|record| record.offset_delta < 0)),
                (Err(_), Ok(_)) => prop_assert!(false, "{scanned:?}"),
                (Err(_), Err(_)) => {}
            }
        }
    }
}
