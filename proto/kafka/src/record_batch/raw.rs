//! The records of a batch as they lie there: for who drops some of them and leaves the rest as they are.
//!
//! A record holds its timestamp and its offset relative to the batch's, so that its bytes stay right for as long as the
//! batch keeps its base offset and its base timestamp.

use std::borrow::Cow;

use super::builder::BuildError;
use super::header::{BATCH_HEADER_SIZE, Batch, BatchHeader, set_crc, write_header};
use super::record::RecordError;
use crate::compression::{Compression, CompressionError};
use crate::varint::{read_varint, read_varlong, write_varint, write_varlong};

/// A record of which only as much is read as compaction asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawRecord<'a> {
    /// All its bytes, the length before them included.
    pub bytes: &'a [u8],
    /// Its offset relative to the batch's base offset.
    pub offset_delta: i32,
    /// Its timestamp relative to the batch's base timestamp, in milliseconds.
    pub timestamp_delta: i64,
    /// Its key, or null.
    pub key: Option<&'a [u8]>,
    /// Its value is not null: it is no tombstone.
    pub has_value: bool,
    attributes: u8,
    /// What follows the timestamp.
    rest: &'a [u8],
}

impl RawRecord<'_> {
    /// Appends the record with another timestamp delta, all else as it is.
    pub fn write_with_timestamp_delta(
        &self,
        timestamp_delta: i64,
        out: &mut Vec<u8>,
    ) -> Result<(), BuildError> {
        let mut delta = Vec::with_capacity(10);
        write_varlong(&mut delta, timestamp_delta);
        let length = i32::try_from(1 + delta.len() + self.rest.len());
        write_varint(out, length.map_err(|_| BuildError::TooLarge)?);
        out.push(self.attributes);
        out.extend_from_slice(&delta);
        out.extend_from_slice(self.rest);
        Ok(())
    }
}

/// See [`super::BatchRecords::raw`].
#[derive(Debug, Clone)]
pub struct RawRecords<'a> {
    rest: &'a [u8],
    last_offset_delta: i32,
    index: i32,
    count: i32,
}

impl<'a> RawRecords<'a> {
    /// Of `count` records that follow each other, none further than `last_offset_delta` from their batch's base offset.
    pub fn new(bytes: &'a [u8], last_offset_delta: i32, count: i32) -> Self {
        Self {
            rest: bytes,
            last_offset_delta,
            index: 0,
            count,
        }
    }

    /// Whether there is neither a record nor an error to come.
    pub fn is_at_end(&self) -> bool {
        self.index == self.count && self.rest.is_empty()
    }

    #[inline]
    fn take_record(&mut self) -> Option<RawRecord<'a>> {
        let whole = self.rest;
        let length = usize::try_from(read_varint(&mut self.rest)?).ok()?;
        let mut data;
        (data, self.rest) = self.rest.split_at_checked(length)?;
        let bytes = &whole[..whole.len() - self.rest.len()];

        let (&attributes, after) = data.split_first()?;
        data = after;
        let timestamp_delta = read_varlong(&mut data)?;
        let rest = data;
        let offset_delta = read_varint(&mut data)?;
        if !(0..=self.last_offset_delta).contains(&offset_delta) {
            return None;
        }
        let key = match read_varint(&mut data)? {
            -1 => None,
            length => {
                let key;
                (key, data) = data.split_at_checked(usize::try_from(length).ok()?)?;
                Some(key)
            }
        };
        let has_value = match read_varint(&mut data)? {
            -1 => false,
            length => {
                data.split_at_checked(usize::try_from(length).ok()?)?;
                true
            }
        };
        Some(RawRecord {
            bytes,
            offset_delta,
            timestamp_delta,
            key,
            has_value,
            attributes,
            rest,
        })
    }
}

impl<'a> Iterator for RawRecords<'a> {
    type Item = Result<RawRecord<'a>, RecordError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let index = self.index;
        if index == self.count {
            let trailing = std::mem::take(&mut self.rest).len();
            return (trailing > 0).then_some(Err(RecordError::Trailing(trailing)));
        }
        let record = self.take_record();
        if record.is_some() {
            self.index += 1;
        } else {
            self.index = self.count;
            self.rest = &[];
        }
        Some(record.ok_or(RecordError::Corrupt { index }))
    }
}

/// Appends a batch with this header and these records, as they are before they are compressed with the header's codec.
/// Length and checksum are put right.
pub fn write_batch(
    header: &BatchHeader,
    records: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), BuildError> {
    write_batch_at(header, None, records, out)
}

/// As [`write_batch`], at another level than the codec's own.
fn write_batch_at(
    header: &BatchHeader,
    level: Option<i32>,
    records: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), BuildError> {
    let start = out.len();
    out.resize(start + BATCH_HEADER_SIZE, 0);
    match header.attributes.compression()? {
        Compression::None => out.extend_from_slice(records),
        codec => out.extend_from_slice(&codec.compress_at(level, records)?),
    }
    let batch = &mut out[start..];
    let header = BatchHeader {
        batch_length: i32::try_from(batch.len() - 12).map_err(|_| BuildError::TooLarge)?,
        ..header.clone()
    };
    write_header(batch, &header);
    set_crc(batch);
    Ok(())
}

impl Batch<'_> {
    /// The batch in another codec, at a level (see [`Compression::compress_at`]); its records, and all else that its header
    /// says, stay as they are. More than `max_size` decompressed bytes are an error.
    pub fn recompress(
        &self,
        codec: Compression,
        level: Option<i32>,
        max_size: usize,
    ) -> Result<Vec<u8>, RecompressError> {
        let compressed = &self.bytes[BATCH_HEADER_SIZE..];
        let records = match self.header.attributes.compression()? {
            Compression::None => Cow::Borrowed(compressed),
            from => Cow::Owned(from.decompress(compressed, max_size)?),
        };
        let header = BatchHeader {
            attributes: self.header.attributes.with_compression(codec),
            ..self.header.clone()
        };
        let mut out = Vec::new();
        write_batch_at(&header, level, &records, &mut out)?;
        Ok(out)
    }
}

/// Why a batch was not put into another codec.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecompressError {
    /// Its own codec, or the other.
    #[error(transparent)]
    Compression(#[from] CompressionError),
    /// It would be larger than the format allows.
    #[error(transparent)]
    Build(#[from] BuildError),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{RecordBatchBuilder, RecordHeader, batches, verify_crc};
    use super::*;

    fn built(codec: Compression) -> Vec<u8> {
        let mut builder = RecordBatchBuilder::new(codec)
            .base_offset(10)
            .producer(9, 1, 4);
        let header = RecordHeader {
            key: b"h",
            value: Some(b"x"),
        };
        builder
            .append(1000, Some(b"a"), Some(b"one"), &[header])
            .unwrap();
        builder.append(1900, None, Some(b"two"), &[]).unwrap();
        builder.append(900, Some(b"c"), None, &[]).unwrap();
        builder.build().unwrap().to_vec()
    }

    #[test]
    fn raw_records_are_those_of_the_batch_and_put_it_together_again() {
        for codec in Compression::ALL {
            let bytes = built(codec);
            let batch = batches(&bytes).next().unwrap().unwrap();
            let records = batch.records(1000).unwrap();
            let mut payload = Vec::new();
            for (raw, record) in records.raw().zip(records.iter()) {
                let (raw, record) = (raw.unwrap(), record.unwrap());
                assert_eq!(raw.key, record.key);
                assert_eq!(raw.has_value, record.value.is_some());
                assert_eq!(10 + i64::from(raw.offset_delta), record.offset);
                assert_eq!(1000 + raw.timestamp_delta, record.timestamp);
                payload.extend_from_slice(raw.bytes);
            }
            let mut again = Vec::new();
            write_batch(&batch.header, &payload, &mut again).unwrap();
            assert_eq!(again, bytes, "{codec}");
        }
    }

    #[test]
    fn another_codec_leaves_all_but_the_bytes_as_it_is() {
        for from in Compression::ALL {
            let bytes = built(from);
            let batch = batches(&bytes).next().unwrap().unwrap();
            for to in Compression::ALL {
                let again = batch.recompress(to, Some(5), 1000).unwrap();
                verify_crc(&again).unwrap();
                let again = batches(&again).next().unwrap().unwrap();
                assert_eq!(again.header.attributes.compression(), Ok(to));
                let same = |header: &BatchHeader| BatchHeader {
                    batch_length: 0,
                    crc: 0,
                    attributes: header.attributes.with_compression(Compression::None),
                    ..header.clone()
                };
                assert_eq!(same(&again.header), same(&batch.header));
                let (before, after) = (batch.records(1000).unwrap(), again.records(1000).unwrap());
                assert!(before.iter().eq(after.iter()), "{from} to {to}");
            }
        }
    }

    #[test]
    fn another_base_timestamp_leaves_the_records_what_they_are() {
        let bytes = built(Compression::None);
        let batch = batches(&bytes).next().unwrap().unwrap();
        let records = batch.records(1000).unwrap();
        let mut header = batch.header.clone();
        header.base_timestamp = 1 << 50;
        let mut payload = Vec::new();
        for record in records.raw() {
            let record = record.unwrap();
            let delta = 1000 + record.timestamp_delta - header.base_timestamp;
            record
                .write_with_timestamp_delta(delta, &mut payload)
                .unwrap();
        }
        let mut again = Vec::new();
        write_batch(&header, &payload, &mut again).unwrap();
        verify_crc(&again).unwrap();
        let again = batches(&again).next().unwrap().unwrap();
        let same = again.records(1000).unwrap();
        assert!(same.iter().eq(records.iter()));
    }

    proptest! {
        #[test]
        fn random_records_never_panic(body in prop::collection::vec(any::<u8>(), 0..200), count in 0..50i32) {
            let records = RawRecords::new(&body, 100, count);
            prop_assert!(records.count() <= 51);
        }
    }
}
