//! Makes batches.

use bytes::Bytes;

use super::header::{
    Attributes, BATCH_HEADER_SIZE, BatchHeader, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE,
    NO_TIMESTAMP, TimestampType, set_crc, write_header,
};
use super::record::RecordHeader;
use crate::compression::{Compression, CompressionError};
use crate::varint::{write_varint, write_varlong};

/// Why a batch cannot be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// A record or a batch of more than 2 GiB, or a batch of more than 2^31 records.
    #[error("the record batch would be larger than the format allows")]
    TooLarge,
    /// A record's offset does not lie behind the one before it, or not within 2^31 of the batch's first.
    #[error("the record at offset {0} has no place in its batch")]
    OffsetOutOfPlace(i64),
    /// The records cannot be compressed.
    #[error(transparent)]
    Compression(#[from] CompressionError),
}

/// Collects records for one batch.
#[derive(Debug, Clone)]
pub struct RecordBatchBuilder {
    codec: Compression,
    level: Option<i32>,
    attributes: Attributes,
    base_offset: i64,
    partition_leader_epoch: i32,
    producer_id: i64,
    producer_epoch: i16,
    base_sequence: i32,
    /// Set by the first record.
    base_timestamp: Option<i64>,
    /// The largest one so far.
    max_timestamp: i64,
    /// The broker's time, whatever the records say.
    log_append_time: Option<i64>,
    count: i32,
    /// Of the last record.
    last_offset_delta: i32,
    /// The least that the next record may have.
    next_offset_delta: i64,
    /// The records, uncompressed.
    records: Vec<u8>,
    /// The record at work, since its length goes before it.
    record: Vec<u8>,
}

impl RecordBatchBuilder {
    /// An empty batch from offset 0, as a producer that is not idempotent sends it.
    pub fn new(codec: Compression) -> Self {
        Self {
            codec,
            level: None,
            attributes: Attributes::default().with_compression(codec),
            base_offset: 0,
            partition_leader_epoch: -1,
            producer_id: NO_PRODUCER_ID,
            producer_epoch: NO_PRODUCER_EPOCH,
            base_sequence: NO_SEQUENCE,
            base_timestamp: None,
            max_timestamp: NO_TIMESTAMP,
            log_append_time: None,
            count: 0,
            last_offset_delta: 0,
            next_offset_delta: 0,
            records: Vec::new(),
            record: Vec::new(),
        }
    }

    /// Compresses at another level than the codec's own; see [`Compression::compress_at`].
    #[must_use]
    pub fn compression_level(mut self, level: Option<i32>) -> Self {
        self.level = level;
        self
    }

    /// Sets the first record's offset.
    #[must_use]
    pub fn base_offset(mut self, base_offset: i64) -> Self {
        self.base_offset = base_offset;
        self
    }

    /// Sets the epoch of the leader that appends the batch.
    #[must_use]
    pub fn partition_leader_epoch(mut self, leader_epoch: i32) -> Self {
        self.partition_leader_epoch = leader_epoch;
        self
    }

    /// Makes the batch an idempotent producer's.
    #[must_use]
    pub fn producer(mut self, producer_id: i64, producer_epoch: i16, base_sequence: i32) -> Self {
        (self.producer_id, self.producer_epoch, self.base_sequence) =
            (producer_id, producer_epoch, base_sequence);
        self
    }

    /// Makes the batch part of a transaction.
    #[must_use]
    pub fn transactional(mut self) -> Self {
        self.attributes = self.attributes.with_transactional(true);
        self
    }

    /// Makes the batch the broker's, for markers.
    #[must_use]
    pub fn control(mut self) -> Self {
        self.attributes = self.attributes.with_control(true);
        self
    }

    /// Says that the broker's clock stamps the batch, with this time.
    #[must_use]
    pub fn log_append_time(mut self, timestamp: i64) -> Self {
        self.attributes = self
            .attributes
            .with_timestamp_type(TimestampType::LogAppendTime);
        self.log_append_time = Some(timestamp);
        self
    }

    /// Adds a record behind the last one. `timestamp` is in milliseconds since 1970; the first one's is the batch's base.
    pub fn append(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[RecordHeader<'_>],
    ) -> Result<(), BuildError> {
        let offset = self.base_offset.saturating_add(self.next_offset_delta);
        self.append_at(offset, timestamp, key, value, headers)
    }

    /// Adds a record at an offset, which may leave others out.
    pub fn append_at(
        &mut self,
        offset: i64,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[RecordHeader<'_>],
    ) -> Result<(), BuildError> {
        let next_count = self.count.checked_add(1).ok_or(BuildError::TooLarge)?;
        let offset_delta = offset
            .checked_sub(self.base_offset)
            .filter(|delta| *delta >= self.next_offset_delta)
            .and_then(|delta| i32::try_from(delta).ok())
            .ok_or(BuildError::OffsetOutOfPlace(offset))?;
        let base_timestamp = self.base_timestamp.unwrap_or(timestamp);

        self.record.clear();
        self.record.push(0);
        write_varlong(&mut self.record, timestamp.wrapping_sub(base_timestamp));
        write_varint(&mut self.record, offset_delta);
        write_nullable(&mut self.record, key)?;
        write_nullable(&mut self.record, value)?;
        write_length(&mut self.record, headers.len())?;
        for header in headers {
            write_nullable(&mut self.record, Some(header.key))?;
            write_nullable(&mut self.record, header.value)?;
        }
        write_length(&mut self.records, self.record.len())?;
        self.records.extend_from_slice(&self.record);

        self.count = next_count;
        self.next_offset_delta = i64::from(offset_delta) + 1;
        self.last_offset_delta = offset_delta;
        self.base_timestamp = Some(base_timestamp);
        self.max_timestamp = self.max_timestamp.max(timestamp);
        Ok(())
    }

    /// The number of records so far.
    pub fn count(&self) -> i32 {
        self.count
    }

    /// The batch's bytes so far, if it were not compressed.
    pub fn uncompressed_size(&self) -> usize {
        BATCH_HEADER_SIZE + self.records.len()
    }

    /// The batch, with its checksum.
    pub fn build(self) -> Result<Bytes, BuildError> {
        let mut batch = vec![0; BATCH_HEADER_SIZE];
        match self.codec {
            Compression::None => batch.extend_from_slice(&self.records),
            codec => batch.extend_from_slice(&codec.compress_at(self.level, &self.records)?),
        }
        let header = BatchHeader {
            base_offset: self.base_offset,
            batch_length: i32::try_from(batch.len() - 12).map_err(|_| BuildError::TooLarge)?,
            partition_leader_epoch: self.partition_leader_epoch,
            crc: 0,
            attributes: self.attributes,
            last_offset_delta: self.last_offset_delta,
            base_timestamp: self.base_timestamp.unwrap_or(NO_TIMESTAMP),
            max_timestamp: self.log_append_time.unwrap_or(self.max_timestamp),
            producer_id: self.producer_id,
            producer_epoch: self.producer_epoch,
            base_sequence: self.base_sequence,
            record_count: self.count,
        };
        write_header(&mut batch, &header);
        set_crc(&mut batch);
        Ok(batch.into())
    }
}

fn write_length(out: &mut Vec<u8>, length: usize) -> Result<(), BuildError> {
    write_varint(
        out,
        i32::try_from(length).map_err(|_| BuildError::TooLarge)?,
    );
    Ok(())
}

fn write_nullable(out: &mut Vec<u8>, bytes: Option<&[u8]>) -> Result<(), BuildError> {
    match bytes {
        None => write_varint(out, -1),
        Some(bytes) => {
            write_length(out, bytes.len())?;
            out.extend_from_slice(bytes);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Batch, RecordError, batches, verify_crc};
    use super::*;

    fn only_batch(bytes: &[u8]) -> Batch<'_> {
        let mut all = batches(bytes);
        let batch = all.next().unwrap().unwrap();
        assert!(all.next().is_none());
        batch
    }

    /// Written out by hand from the format's description.
    #[test]
    fn known_bytes() {
        let mut builder = RecordBatchBuilder::new(Compression::None).producer(9, 1, 4);
        let header = RecordHeader {
            key: b"h",
            value: None,
        };
        builder
            .append(1000, Some(b"k"), Some(b"v"), &[header])
            .unwrap();
        builder.append(999, None, None, &[]).unwrap();
        let bytes = builder.build().unwrap();
        #[rustfmt::skip]
        let expected = [
            0, 0, 0, 0, 0, 0, 0, 0,  0, 0, 0, 68,  0xff, 0xff, 0xff, 0xff,  2,
            // The checksum comes here.
            0, 0,  0, 0, 0, 1,  0, 0, 0, 0, 0, 0, 3, 0xe8,  0, 0, 0, 0, 0, 0, 3, 0xe8,
            0, 0, 0, 0, 0, 0, 0, 9,  0, 1,  0, 0, 0, 4,  0, 0, 0, 2,
            // Length 11: attributes, deltas, key, value, one header.
            22, 0, 0, 0,  2, b'k',  2, b'v',  2,  2, b'h', 1,
            // Length 6: timestamp delta -1, offset delta 1, two nulls, no header.
            12, 0, 1, 2,  1, 1,  0,
        ];
        assert_eq!(bytes[..17], expected[..17]);
        assert_eq!(bytes[21..], expected[17..]);
        verify_crc(&bytes).unwrap();
    }

    #[test]
    fn records_may_leave_offsets_out() {
        let mut builder = RecordBatchBuilder::new(Compression::None).base_offset(100);
        builder.append_at(103, 1000, None, None, &[]).unwrap();
        builder.append(1001, None, None, &[]).unwrap();
        builder.append_at(110, 1002, None, None, &[]).unwrap();
        for offset in [0, 110, 99 + (1 << 31) + 1] {
            let refused = builder.append_at(offset, 0, None, None, &[]);
            assert_eq!(refused, Err(BuildError::OffsetOutOfPlace(offset)));
        }
        let bytes = builder.build().unwrap();
        let batch = only_batch(&bytes);
        assert_eq!(
            (batch.header.base_offset, batch.header.last_offset()),
            (100, 110)
        );
        let records = batch.records(1000).unwrap();
        let offsets: Vec<_> = records
            .iter()
            .map(|record| record.unwrap().offset)
            .collect();
        assert_eq!(offsets, [103, 104, 110]);
    }

    #[test]
    fn a_batch_is_stamped_by_the_brokers_clock() {
        let mut builder = RecordBatchBuilder::new(Compression::None).log_append_time(9000);
        builder.append(1000, None, None, &[]).unwrap();
        let bytes = builder.build().unwrap();
        let batch = only_batch(&bytes);
        assert_eq!(batch.header.max_timestamp, 9000);
        let records = batch.records(1000).unwrap();
        assert_eq!(records.iter().next().unwrap().unwrap().timestamp, 9000);
    }

    #[test]
    fn records_of_a_damaged_batch_are_an_error_and_end() {
        let mut builder = RecordBatchBuilder::new(Compression::None);
        builder.append(1, None, Some(b"first"), &[]).unwrap();
        builder.append(1, None, Some(b"second"), &[]).unwrap();
        let good = builder.build().unwrap();

        let mut long = good.to_vec();
        let at = BATCH_HEADER_SIZE;
        long[at] = 0x7e;
        let batch = only_batch(&long);
        let records = batch.records(1000).unwrap();
        let all: Vec<_> = records.iter().collect();
        assert_eq!(all, [Err(RecordError::Corrupt { index: 0 })]);

        // One record, which says that its offset is beyond the batch's last one.
        let mut beyond = good.to_vec();
        (beyond[26], beyond[60]) = (0, 1);
        beyond[BATCH_HEADER_SIZE + 3] = 2;
        let batch = only_batch(&beyond);
        let records = batch.records(1000).unwrap();
        assert_eq!(
            records.iter().next(),
            Some(Err(RecordError::Corrupt { index: 0 }))
        );

        let mut fewer = good.to_vec();
        fewer[60] = 1;
        let batch = only_batch(&fewer);
        let records = batch.records(1000).unwrap();
        let all: Vec<_> = records.iter().collect();
        assert!(all[0].is_ok());
        assert_eq!(all[1..], [Err(RecordError::Trailing(13))]);
    }

    #[test]
    fn records_are_not_decompressed_beyond_the_bound() {
        let mut builder = RecordBatchBuilder::new(Compression::Zstd);
        builder.append(1, None, Some(&[0; 100_000]), &[]).unwrap();
        let bytes = builder.build().unwrap();
        let too_large = CompressionError::TooLarge {
            codec: Compression::Zstd,
            max_size: 50_000,
        };
        assert_eq!(
            only_batch(&bytes).records(50_000).unwrap_err(),
            RecordError::Compression(too_large)
        );
        assert!(only_batch(&bytes).records(200_000).is_ok());
    }

    type OwnedRecord = (
        i64,
        Option<Vec<u8>>,
        Option<Vec<u8>>,
        Vec<(Vec<u8>, Option<Vec<u8>>)>,
    );

    fn records() -> impl Strategy<Value = Vec<OwnedRecord>> {
        let bytes = || prop::collection::vec(any::<u8>(), 0..40);
        let header = (bytes(), prop::option::of(bytes()));
        let record = (
            0..i64::MAX,
            prop::option::of(bytes()),
            prop::option::of(bytes()),
            prop::collection::vec(header, 0..3),
        );
        prop::collection::vec(record, 1..20)
    }

    proptest! {
        #[test]
        fn what_is_built_is_read(records in records(), base_offset in 0..1i64 << 60) {
            for codec in Compression::ALL {
                let mut builder = RecordBatchBuilder::new(codec).base_offset(base_offset);
                for (timestamp, key, value, headers) in &records {
                    let headers: Vec<_> =
                        headers.iter().map(|(key, value)| RecordHeader { key, value: value.as_deref() }).collect();
                    builder.append(*timestamp, key.as_deref(), value.as_deref(), &headers).unwrap();
                }
                let bytes = builder.build().unwrap();
                verify_crc(&bytes).unwrap();
                let batch = only_batch(&bytes);
                prop_assert_eq!(batch.header.max_timestamp, records.iter().map(|r| r.0).max().unwrap());
                let read = batch.records(1 << 20).unwrap();
                let read: Vec<_> = read.iter().map(Result::unwrap).collect();
                prop_assert_eq!(read.len(), records.len());
                for (index, (record, (timestamp, key, value, headers))) in read.iter().zip(&records).enumerate() {
                    prop_assert_eq!(record.offset, base_offset + index as i64);
                    prop_assert_eq!(record.timestamp, *timestamp);
                    prop_assert_eq!(record.key, key.as_deref());
                    prop_assert_eq!(record.value, value.as_deref());
                    let read: Vec<_> = record.headers.iter().map(|h| (h.key.to_vec(), h.value.map(<[u8]>::to_vec))).collect();
                    prop_assert_eq!(&read, headers);
                }
            }
        }

        #[test]
        fn random_records_never_panic(mut body in prop::collection::vec(any::<u8>(), 0..200), count in 0..50i32, delta in 0..100i32) {
            let mut bytes = RecordBatchBuilder::new(Compression::None).build().unwrap().to_vec();
            let length = (bytes.len() - 12 + body.len()) as i32;
            bytes[8..12].copy_from_slice(&length.to_be_bytes());
            bytes[23..27].copy_from_slice(&delta.to_be_bytes());
            bytes[57..61].copy_from_slice(&count.to_be_bytes());
            bytes.append(&mut body);
            if let Some(Ok(batch)) = batches(&bytes).next() {
                let records = batch.records(1 << 16).unwrap();
                prop_assert!(records.iter().count() <= 51);
            }
        }
    }
}
