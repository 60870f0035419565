//! The fixed part of a batch: reading, checking, and changing it in place.

use std::fmt;
use std::ops::Range;

use super::record::{BatchRecords, RecordError};
use crate::compression::{Compression, CompressionError};

/// Bytes of a batch before its records.
pub const BATCH_HEADER_SIZE: usize = 61;
/// The only format version served.
pub const MAGIC: i8 = 2;
/// The producer id of a batch whose producer is not idempotent.
pub const NO_PRODUCER_ID: i64 = -1;
/// The epoch that goes with [`NO_PRODUCER_ID`].
pub const NO_PRODUCER_EPOCH: i16 = -1;
/// The sequence number that goes with [`NO_PRODUCER_ID`].
pub const NO_SEQUENCE: i32 = -1;
/// A timestamp that was not set.
pub const NO_TIMESTAMP: i64 = -1;

const BASE_OFFSET: Range<usize> = 0..8;
const LENGTH: Range<usize> = 8..12;
const PARTITION_LEADER_EPOCH: Range<usize> = 12..16;
const MAGIC_AT: usize = 16;
const CRC: Range<usize> = 17..21;
const ATTRIBUTES: Range<usize> = 21..23;
const LAST_OFFSET_DELTA: Range<usize> = 23..27;
const BASE_TIMESTAMP: Range<usize> = 27..35;
const MAX_TIMESTAMP: Range<usize> = 35..43;
const PRODUCER_ID: Range<usize> = 43..51;
const PRODUCER_EPOCH: Range<usize> = 51..53;
const BASE_SEQUENCE: Range<usize> = 53..57;
const RECORD_COUNT: Range<usize> = 57..61;

/// Bytes before those that the length field counts.
const BEFORE_LENGTH: usize = LENGTH.end;

/// Why bytes are not a record batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The bytes end within the batch. At the end of a fetch response this is normal.
    #[error("the record batch is cut off: it has {needed} bytes, {left} are left")]
    Incomplete {
        /// The batch's bytes, or those of its header if even that is cut off.
        needed: usize,
        /// Bytes there are.
        left: usize,
    },
    /// The length field says less than the header takes.
    #[error("the record batch states an impossible length of {0}")]
    InvalidLength(i32),
    /// A format other than 2.
    #[error("record batches of format {0} are not supported, only those of format {MAGIC}")]
    UnsupportedMagic(i8),
    /// The base offset is negative, or the last offset of the batch exceeds 64 bits.
    #[error("the record batch has an impossible base offset of {0}")]
    InvalidBaseOffset(i64),
    /// The last offset delta is negative, or the number of records does not fit it.
    #[error(
        "the record batch states {record_count} records up to offset delta {last_offset_delta}"
    )]
    InvalidCount {
        /// The number of records that is stated.
        record_count: i32,
        /// The offset of the last record, relative to the base offset.
        last_offset_delta: i32,
    },
    /// The bytes are not those that the checksum was computed of.
    #[error(
        "the record batch is corrupt: its CRC-32C is {computed:#010x}, but it states {stored:#010x}"
    )]
    Crc {
        /// The checksum in the batch.
        stored: u32,
        /// The checksum of its bytes.
        computed: u32,
    },
}

/// Whose clock a batch's timestamps come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TimestampType {
    /// The producer's, one for each record.
    #[default]
    CreateTime,
    /// The broker's when it appended the batch: the batch's max timestamp, for all of its records.
    LogAppendTime,
}

impl fmt::Display for TimestampType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            TimestampType::CreateTime => "CreateTime",
            TimestampType::LogAppendTime => "LogAppendTime",
        })
    }
}

/// The attributes of a batch: a set of bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Attributes(pub i16);

impl Attributes {
    const COMPRESSION: i16 = 0b111;
    const LOG_APPEND_TIME: i16 = 1 << 3;
    const TRANSACTIONAL: i16 = 1 << 4;
    const CONTROL: i16 = 1 << 5;
    const DELETE_HORIZON: i16 = 1 << 6;

    /// The codec of the records.
    pub fn compression(self) -> Result<Compression, CompressionError> {
        Compression::from_id((self.0 & Self::COMPRESSION) as u8)
    }

    /// These attributes with another codec.
    #[must_use]
    pub fn with_compression(self, codec: Compression) -> Self {
        Self(self.0 & !Self::COMPRESSION | i16::from(codec.id()))
    }

    /// Whose clock the timestamps come from.
    pub fn timestamp_type(self) -> TimestampType {
        if self.has(Self::LOG_APPEND_TIME) {
            TimestampType::LogAppendTime
        } else {
            TimestampType::CreateTime
        }
    }

    /// These attributes with another clock.
    #[must_use]
    pub fn with_timestamp_type(self, timestamp_type: TimestampType) -> Self {
        self.with(
            Self::LOG_APPEND_TIME,
            timestamp_type == TimestampType::LogAppendTime,
        )
    }

    /// Whether the batch is part of a transaction.
    pub fn is_transactional(self) -> bool {
        self.has(Self::TRANSACTIONAL)
    }

    /// These attributes, in or out of a transaction.
    #[must_use]
    pub fn with_transactional(self, transactional: bool) -> Self {
        self.with(Self::TRANSACTIONAL, transactional)
    }

    /// Whether the batch holds the broker's markers rather than records of a client.
    pub fn is_control(self) -> bool {
        self.has(Self::CONTROL)
    }

    /// These attributes, with or without the mark of a control batch.
    #[must_use]
    pub fn with_control(self, control: bool) -> Self {
        self.with(Self::CONTROL, control)
    }

    /// Whether the base timestamp is the time from which tombstones may be dropped (KIP-534).
    pub fn has_delete_horizon(self) -> bool {
        self.has(Self::DELETE_HORIZON)
    }

    /// These attributes, with or without the mark of a delete horizon.
    #[must_use]
    pub fn with_delete_horizon(self, horizon: bool) -> Self {
        self.with(Self::DELETE_HORIZON, horizon)
    }

    fn has(self, bit: i16) -> bool {
        self.0 & bit != 0
    }

    fn with(self, bit: i16, on: bool) -> Self {
        Self(if on { self.0 | bit } else { self.0 & !bit })
    }
}

/// The fixed part of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchHeader {
    /// The first record's offset. A producer sends 0, and the broker sets it.
    pub base_offset: i64,
    /// Bytes after this field.
    pub batch_length: i32,
    /// The epoch of the leader that appended the batch; -1 from a producer.
    pub partition_leader_epoch: i32,
    /// CRC-32C of all bytes from the attributes on.
    pub crc: u32,
    /// Codec, clock, transaction, control.
    pub attributes: Attributes,
    /// The last record's offset relative to the base offset; compaction keeps it.
    pub last_offset_delta: i32,
    /// What the records' timestamps are relative to, in milliseconds since 1970; or the delete horizon.
    pub base_timestamp: i64,
    /// The largest timestamp, in milliseconds since 1970.
    pub max_timestamp: i64,
    /// The producer, or [`NO_PRODUCER_ID`].
    pub producer_id: i64,
    /// The producer's epoch, or [`NO_PRODUCER_EPOCH`].
    pub producer_epoch: i16,
    /// The first record's sequence number, or [`NO_SEQUENCE`].
    pub base_sequence: i32,
    /// The number of records. In the log, compaction may have left fewer than the offsets suggest.
    pub record_count: i32,
}

impl BatchHeader {
    /// Reads a batch's header from the start of `data`, which need not hold the whole batch.
    ///
    /// Whatever passes has a length of at least a header, offsets that do not overflow, and no more records than
    /// offsets. The checksum is [`verify_crc`]'s matter.
    // Inlined where it is called: the fields that are used stay in registers.
    #[inline]
    pub fn parse(data: &[u8]) -> Result<Self, BatchError> {
        let left = data.len();
        // The magic lies at the same place in all formats; told first, it explains what else is odd.
        if let Some(&magic) = data.get(MAGIC_AT)
            && magic as i8 != MAGIC
        {
            return Err(BatchError::UnsupportedMagic(magic as i8));
        }
        let Some(bytes) = data.first_chunk::<BATCH_HEADER_SIZE>() else {
            return Err(BatchError::Incomplete {
                needed: BATCH_HEADER_SIZE,
                left,
            });
        };
        let header = Self {
            base_offset: i64::from_be_bytes(field(bytes, BASE_OFFSET)),
            batch_length: i32::from_be_bytes(field(bytes, LENGTH)),
            partition_leader_epoch: i32::from_be_bytes(field(bytes, PARTITION_LEADER_EPOCH)),
            crc: u32::from_be_bytes(field(bytes, CRC)),
            attributes: Attributes(i16::from_be_bytes(field(bytes, ATTRIBUTES))),
            last_offset_delta: i32::from_be_bytes(field(bytes, LAST_OFFSET_DELTA)),
            base_timestamp: i64::from_be_bytes(field(bytes, BASE_TIMESTAMP)),
            max_timestamp: i64::from_be_bytes(field(bytes, MAX_TIMESTAMP)),
            producer_id: i64::from_be_bytes(field(bytes, PRODUCER_ID)),
            producer_epoch: i16::from_be_bytes(field(bytes, PRODUCER_EPOCH)),
            base_sequence: i32::from_be_bytes(field(bytes, BASE_SEQUENCE)),
            record_count: i32::from_be_bytes(field(bytes, RECORD_COUNT)),
        };
        header.check()?;
        Ok(header)
    }

    #[inline]
    fn check(&self) -> Result<(), BatchError> {
        let Self {
            base_offset,
            batch_length,
            last_offset_delta,
            record_count,
            ..
        } = *self;
        if batch_length < (BATCH_HEADER_SIZE - BEFORE_LENGTH) as i32 {
            return Err(BatchError::InvalidLength(batch_length));
        }
        if last_offset_delta < 0 || record_count < 0 || record_count - 1 > last_offset_delta {
            return Err(BatchError::InvalidCount {
                record_count,
                last_offset_delta,
            });
        }
        // The next offset must be a number, too.
        if base_offset < 0
            || base_offset
                .checked_add(i64::from(last_offset_delta) + 1)
                .is_none()
        {
            return Err(BatchError::InvalidBaseOffset(base_offset));
        }
        Ok(())
    }

    /// All bytes of the batch, header included.
    #[inline]
    pub fn size(&self) -> usize {
        BEFORE_LENGTH + self.batch_length as usize
    }

    /// The last record's offset.
    #[inline]
    pub fn last_offset(&self) -> i64 {
        self.base_offset + i64::from(self.last_offset_delta)
    }

    /// The offset after the batch.
    #[inline]
    pub fn next_offset(&self) -> i64 {
        self.last_offset() + 1
    }

    /// Whether the batch comes from an idempotent producer.
    pub fn has_producer_id(&self) -> bool {
        self.producer_id > NO_PRODUCER_ID
    }

    /// The last record's sequence number, or [`NO_SEQUENCE`]; numbers wrap from the largest to 0.
    pub fn last_sequence(&self) -> i32 {
        match self.base_sequence {
            NO_SEQUENCE => NO_SEQUENCE,
            base => {
                let last = i64::from(base) + i64::from(self.last_offset_delta);
                (last % (i64::from(i32::MAX) + 1)) as i32
            }
        }
    }
}

/// The bytes at `range`, whose length is that of the type read.
#[inline]
fn field<const N: usize>(bytes: &[u8; BATCH_HEADER_SIZE], range: Range<usize>) -> [u8; N] {
    let mut value = [0; N];
    value.copy_from_slice(&bytes[range]);
    value
}

/// One whole batch within a buffer.
#[derive(Clone, PartialEq, Eq)]
pub struct Batch<'a> {
    /// Its header.
    pub header: BatchHeader,
    /// All its bytes, header included.
    pub bytes: &'a [u8],
}

impl<'a> Batch<'a> {
    /// Checks the batch's checksum.
    pub fn verify_crc(&self) -> Result<(), BatchError> {
        verify_crc(self.bytes)
    }

    /// Its records, decompressed to at most `max_size` bytes.
    pub fn records(&self, max_size: usize) -> Result<BatchRecords<'a>, RecordError> {
        BatchRecords::new(&self.header, &self.bytes[BATCH_HEADER_SIZE..], max_size)
    }
}

impl fmt::Debug for Batch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.header.fmt(f)
    }
}

/// The batches that follow each other in `data`. After an error there are no more.
pub fn batches(data: &[u8]) -> Batches<'_> {
    Batches { rest: data }
}

/// See [`batches`].
#[derive(Debug, Clone)]
pub struct Batches<'a> {
    rest: &'a [u8],
}

impl<'a> Batches<'a> {
    fn take_batch(&mut self) -> Result<Batch<'a>, BatchError> {
        let header = BatchHeader::parse(self.rest)?;
        let (needed, left) = (header.size(), self.rest.len());
        let (bytes, rest) = self
            .rest
            .split_at_checked(needed)
            .ok_or(BatchError::Incomplete { needed, left })?;
        self.rest = rest;
        Ok(Batch { header, bytes })
    }
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<Batch<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let batch = self.take_batch();
        if batch.is_err() {
            self.rest = &[];
        }
        Some(batch)
    }
}

/// Checks the checksum of one whole batch.
pub fn verify_crc(batch: &[u8]) -> Result<(), BatchError> {
    let left = batch.len();
    if left < BATCH_HEADER_SIZE {
        return Err(BatchError::Incomplete {
            needed: BATCH_HEADER_SIZE,
            left,
        });
    }
    let stored = u32::from_be_bytes([batch[17], batch[18], batch[19], batch[20]]);
    let computed = crc_fast::crc32_iscsi(&batch[CRC.end..]);
    if stored == computed {
        Ok(())
    } else {
        Err(BatchError::Crc { stored, computed })
    }
}

/// Sets the first record's offset; the checksum does not cover it.
///
/// # Panics
/// If `batch` is shorter than a header, which [`BatchHeader::parse`] has ruled out.
pub fn set_base_offset(batch: &mut [u8], base_offset: i64) {
    batch[BASE_OFFSET].copy_from_slice(&base_offset.to_be_bytes());
}

/// Sets the epoch of the leader that appends the batch; the checksum does not cover it.
///
/// # Panics
/// If `batch` is shorter than a header, which [`BatchHeader::parse`] has ruled out.
pub fn set_partition_leader_epoch(batch: &mut [u8], leader_epoch: i32) {
    batch[PARTITION_LEADER_EPOCH].copy_from_slice(&leader_epoch.to_be_bytes());
}

/// Sets the clock and the largest timestamp of one whole batch, and its checksum anew.
///
/// # Panics
/// If `batch` is shorter than a header, which [`BatchHeader::parse`] has ruled out.
pub fn set_max_timestamp(batch: &mut [u8], timestamp_type: TimestampType, max_timestamp: i64) {
    let attributes =
        Attributes(i16::from_be_bytes([batch[21], batch[22]])).with_timestamp_type(timestamp_type);
    batch[ATTRIBUTES].copy_from_slice(&attributes.0.to_be_bytes());
    batch[MAX_TIMESTAMP].copy_from_slice(&max_timestamp.to_be_bytes());
    set_crc(batch);
}

/// Computes the checksum of one whole batch and puts it in its place.
pub(super) fn set_crc(batch: &mut [u8]) {
    let crc = crc_fast::crc32_iscsi(&batch[CRC.end..]);
    batch[CRC].copy_from_slice(&crc.to_be_bytes());
}

/// Writes `header`, but for the checksum, into the first bytes of a batch.
pub(super) fn write_header(batch: &mut [u8], header: &BatchHeader) {
    set_base_offset(batch, header.base_offset);
    set_partition_leader_epoch(batch, header.partition_leader_epoch);
    batch[LENGTH].copy_from_slice(&header.batch_length.to_be_bytes());
    batch[MAGIC_AT] = MAGIC as u8;
    batch[ATTRIBUTES].copy_from_slice(&header.attributes.0.to_be_bytes());
    batch[LAST_OFFSET_DELTA].copy_from_slice(&header.last_offset_delta.to_be_bytes());
    batch[BASE_TIMESTAMP].copy_from_slice(&header.base_timestamp.to_be_bytes());
    batch[MAX_TIMESTAMP].copy_from_slice(&header.max_timestamp.to_be_bytes());
    batch[PRODUCER_ID].copy_from_slice(&header.producer_id.to_be_bytes());
    batch[PRODUCER_EPOCH].copy_from_slice(&header.producer_epoch.to_be_bytes());
    batch[BASE_SEQUENCE].copy_from_slice(&header.base_sequence.to_be_bytes());
    batch[RECORD_COUNT].copy_from_slice(&header.record_count.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::super::RecordBatchBuilder;
    use super::*;

    fn batch(records: usize) -> Vec<u8> {
        let mut builder = RecordBatchBuilder::new(Compression::None);
        for i in 0..records {
            builder
                .append(1000 + i as i64, None, Some(b"value"), &[])
                .unwrap();
        }
        builder.build().unwrap().to_vec()
    }

    #[test]
    fn patches_before_the_checksum_leave_it_valid() {
        let mut bytes = batch(3);
        set_base_offset(&mut bytes, 42);
        set_partition_leader_epoch(&mut bytes, 7);
        verify_crc(&bytes).unwrap();
        let header = BatchHeader::parse(&bytes).unwrap();
        assert_eq!(
            (
                header.base_offset,
                header.last_offset(),
                header.next_offset()
            ),
            (42, 44, 45)
        );
        assert_eq!(
            (header.partition_leader_epoch, header.max_timestamp),
            (7, 1002)
        );
        assert_eq!(header.size(), bytes.len());
    }

    #[test]
    fn log_append_time_is_set_with_a_new_checksum() {
        let mut bytes = batch(2);
        set_max_timestamp(&mut bytes, TimestampType::LogAppendTime, 5000);
        verify_crc(&bytes).unwrap();
        let batch = batches(&bytes).next().unwrap().unwrap();
        assert_eq!(
            batch.header.attributes.timestamp_type(),
            TimestampType::LogAppendTime
        );
        let records = batch.records(1000).unwrap();
        assert!(
            records
                .iter()
                .all(|record| record.unwrap().timestamp == 5000)
        );
    }

    #[test]
    fn a_flipped_bit_after_the_checksum_is_found() {
        let good = batch(2);
        for at in CRC.start..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            assert!(
                matches!(verify_crc(&bad), Err(BatchError::Crc { .. })),
                "byte {at}"
            );
        }
    }

    #[test]
    fn batches_follow_each_other_and_the_last_may_be_cut_off() {
        let (one, two) = (batch(1), batch(2));
        let both = [one.clone(), two.clone()].concat();
        let sizes: Vec<_> = batches(&both).map(|b| b.unwrap().bytes.len()).collect();
        assert_eq!(sizes, [one.len(), two.len()]);

        for cut in one.len() + 1..both.len() {
            let mut iter = batches(&both[..cut]);
            assert!(iter.next().unwrap().is_ok());
            assert!(
                matches!(iter.next(), Some(Err(BatchError::Incomplete { .. }))),
                "cut at {cut}"
            );
            assert!(iter.next().is_none());
        }
    }

    #[test]
    fn impossible_headers_are_refused() {
        fn parse(change: impl FnOnce(&mut Vec<u8>)) -> Result<BatchHeader, BatchError> {
            let mut bytes = batch(3);
            change(&mut bytes);
            BatchHeader::parse(&bytes)
        }
        assert!(parse(|_| ()).is_ok());
        assert_eq!(
            parse(|b| b[LENGTH].copy_from_slice(&48i32.to_be_bytes())),
            Err(BatchError::InvalidLength(48))
        );
        assert_eq!(
            parse(|b| b[LENGTH].copy_from_slice(&(-1i32).to_be_bytes())),
            Err(BatchError::InvalidLength(-1))
        );
        assert_eq!(
            parse(|b| b[MAGIC_AT] = 1),
            Err(BatchError::UnsupportedMagic(1))
        );
        assert_eq!(
            parse(|b| set_base_offset(b, -1)),
            Err(BatchError::InvalidBaseOffset(-1))
        );
        assert_eq!(
            parse(|b| set_base_offset(b, i64::MAX - 2)),
            Err(BatchError::InvalidBaseOffset(i64::MAX - 2))
        );
        assert_eq!(
            parse(|b| b[RECORD_COUNT].copy_from_slice(&4i32.to_be_bytes())),
            Err(BatchError::InvalidCount {
                record_count: 4,
                last_offset_delta: 2
            })
        );
        assert_eq!(
            parse(|b| b[LAST_OFFSET_DELTA].copy_from_slice(&(-1i32).to_be_bytes())),
            Err(BatchError::InvalidCount {
                record_count: 3,
                last_offset_delta: -1
            })
        );
        assert_eq!(
            BatchHeader::parse(&batch(1)[..60]),
            Err(BatchError::Incomplete {
                needed: BATCH_HEADER_SIZE,
                left: 60
            })
        );
    }

    #[test]
    fn sequence_numbers_wrap_to_zero() {
        let mut header = BatchHeader::parse(&batch(3)).unwrap();
        assert_eq!(header.last_sequence(), NO_SEQUENCE);
        header.base_sequence = i32::MAX - 1;
        assert_eq!(header.last_sequence(), 0);
        header.base_sequence = 5;
        assert_eq!(header.last_sequence(), 7);
    }

    #[test]
    fn attributes_are_independent_bits() {
        let attributes = Attributes::default()
            .with_compression(Compression::Zstd)
            .with_timestamp_type(TimestampType::LogAppendTime)
            .with_transactional(true)
            .with_control(true);
        assert_eq!(attributes.0, 0b11_1100);
        assert_eq!(attributes.compression(), Ok(Compression::Zstd));
        assert_eq!(
            attributes.with_compression(Compression::Gzip).compression(),
            Ok(Compression::Gzip)
        );
        assert!(!attributes.with_transactional(false).is_transactional());
        assert!(Attributes(7).compression().is_err());
        assert!(Attributes(1 << 6).has_delete_horizon());
    }
}
