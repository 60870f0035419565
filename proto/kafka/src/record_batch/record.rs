//! The records of a batch, borrowed from its bytes (or from what they decompress to).

use std::borrow::Cow;

use super::header::{BatchHeader, TimestampType};
use super::raw::RawRecords;
use crate::compression::{Compression, CompressionError};
use crate::varint::{read_varint, read_varlong};

/// Why the records of a batch cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// They cannot be decompressed.
    #[error(transparent)]
    Compression(#[from] CompressionError),
    /// A record's bytes are not a record.
    #[error("record {index} of the batch is corrupt")]
    Corrupt {
        /// The record's index in its batch.
        index: i32,
    },
    /// Bytes follow the last record.
    #[error("{0} bytes follow the last record of the batch")]
    Trailing(usize),
}

/// A key and a value beside the record's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordHeader<'a> {
    /// The key: UTF-8 from well-behaved clients.
    pub key: &'a [u8],
    /// The value, or null.
    pub value: Option<&'a [u8]>,
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its offset in the partition.
    pub offset: i64,
    /// Milliseconds since 1970, or -1.
    pub timestamp: i64,
    /// Its key, or null.
    pub key: Option<&'a [u8]>,
    /// Its value, or null: a tombstone in a compacted topic.
    pub value: Option<&'a [u8]>,
    /// What the producer put beside them, in its order.
    pub headers: Vec<RecordHeader<'a>>,
}

/// The uncompressed records of one batch.
#[derive(Debug, Clone)]
pub struct BatchRecords<'a> {
    bytes: Cow<'a, [u8]>,
    base_offset: i64,
    last_offset_delta: i32,
    base_timestamp: i64,
    /// The timestamp of all records, if it is not their own.
    log_append_time: Option<i64>,
    count: i32,
}

impl<'a> BatchRecords<'a> {
    pub(super) fn new(
        header: &BatchHeader,
        bytes: &'a [u8],
        max_size: usize,
    ) -> Result<Self, RecordError> {
        let bytes = match header.attributes.compression()? {
            // Not compressed: nothing to copy, and the buffer that holds it is the bound.
            Compression::None => Cow::Borrowed(bytes),
            codec => Cow::Owned(codec.decompress(bytes, max_size)?),
        };
        let log_append_time = match header.attributes.timestamp_type() {
            TimestampType::CreateTime => None,
            TimestampType::LogAppendTime => Some(header.max_timestamp),
        };
        Ok(Self {
            bytes,
            base_offset: header.base_offset,
            last_offset_delta: header.last_offset_delta,
            base_timestamp: header.base_timestamp,
            log_append_time,
            count: header.record_count,
        })
    }

    /// The records one by one, as they lie there. After an error there are no more.
    pub fn raw(&self) -> RawRecords<'_> {
        RawRecords::new(&self.bytes, self.last_offset_delta, self.count)
    }

    /// All records as they lie there, one after the other.
    pub fn raw_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Reads the records one by one. After an error there are no more.
    pub fn iter(&self) -> RecordIter<'_> {
        RecordIter {
            batch: self,
            rest: &self.bytes,
            index: 0,
        }
    }
}

impl<'r> IntoIterator for &'r BatchRecords<'_> {
    type Item = Result<Record<'r>, RecordError>;
    type IntoIter = RecordIter<'r>;

    fn into_iter(self) -> RecordIter<'r> {
        self.iter()
    }
}

/// See [`BatchRecords::iter`].
#[derive(Debug, Clone)]
pub struct RecordIter<'r> {
    batch: &'r BatchRecords<'r>,
    rest: &'r [u8],
    index: i32,
}

impl<'r> RecordIter<'r> {
    fn take_record(&mut self) -> Option<Record<'r>> {
        let length = usize::try_from(read_varint(&mut self.rest)?).ok()?;
        let mut data;
        (data, self.rest) = self.rest.split_at_checked(length)?;

        let (_attributes, rest) = data.split_first()?;
        data = rest;
        let timestamp_delta = read_varlong(&mut data)?;
        let offset_delta = read_varint(&mut data)?;
        if !(0..=self.batch.last_offset_delta).contains(&offset_delta) {
            return None;
        }
        let timestamp = match self.batch.log_append_time {
            Some(time) => time,
            None => self.batch.base_timestamp.wrapping_add(timestamp_delta),
        };
        let key = read_nullable(&mut data)?;
        let value = read_nullable(&mut data)?;
        let headers = read_headers(&mut data)?;
        let offset = self.batch.base_offset + i64::from(offset_delta);
        data.is_empty().then_some(Record {
            offset,
            timestamp,
            key,
            value,
            headers,
        })
    }
}

impl<'r> Iterator for RecordIter<'r> {
    type Item = Result<Record<'r>, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        let index = self.index;
        if index == self.batch.count {
            let trailing = std::mem::take(&mut self.rest).len();
            return (trailing > 0).then_some(Err(RecordError::Trailing(trailing)));
        }
        let record = self.take_record();
        if record.is_some() {
            self.index += 1;
        } else {
            self.index = self.batch.count;
            self.rest = &[];
        }
        Some(record.ok_or(RecordError::Corrupt { index }))
    }
}

/// Bytes after their length, where -1 is null.
fn read_nullable<'a>(data: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    match read_varint(data)? {
        -1 => Some(None),
        length => {
            let bytes;
            (bytes, *data) = data.split_at_checked(usize::try_from(length).ok()?)?;
            Some(Some(bytes))
        }
    }
}

fn read_headers<'a>(data: &mut &'a [u8]) -> Option<Vec<RecordHeader<'a>>> {
    let count = usize::try_from(read_varint(data)?).ok()?;
    // Each header takes two bytes at least.
    if count > data.len() / 2 {
        return None;
    }
    let mut headers = Vec::with_capacity(count);
    for _ in 0..count {
        let key = read_nullable(data)??;
        let value = read_nullable(data)?;
        headers.push(RecordHeader { key, value });
    }
    Some(headers)
}
