//! What a client's batch must be to come into the log.
//!
//! A batch is stored as it was sent wherever the rules allow it, so that its records are only glanced at: are they records,
//! as many as the header says, at the offsets that follow each other, with keys where the topic is compacted, and with
//! timestamps that the topic takes. What is compressed is decompressed for that, piece by piece: at most
//! [`DECOMPRESSED_PER_MESSAGE`] times `max.message.bytes` may come out, and never more than [`MAX_DECOMPRESSED_BYTES`], in
//! memory that does not grow with it.
//!
//! Pure: what the log is configured to take comes in with the batch.

use kafka_wire::TopicPartition;
use kafka_wire::compression::{Compression, CompressionError};
use kafka_wire::message_set::{self, MessageSetError};
use kafka_wire::record_batch::{
    Batch, BatchError, BatchHeader, NO_TIMESTAMP, RecordError, TimestampType,
};

use crate::batch_scanner::MAX_DECOMPRESSED_BYTES;
use crate::config::{LogConfig, TopicCompression};
use crate::error::{AppendError, RefusedRecord, RefusedRecords};

/// So many times `max.message.bytes` a client's batch may hold, once it is decompressed: 128 MiB with Kafka's default.
const DECOMPRESSED_PER_MESSAGE: usize = 128;
/// So many refused records of a batch are told of.
const REFUSED_RECORDS_TOLD: usize = 1000;

/// What becomes of a batch that was found right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Accepted {
    /// The largest timestamp of its records; -1 if none has one.
    max_timestamp: i64,
    /// The codec that the topic asks for, if it is another.
    recompress: Option<Compression>,
}

/// A client's batch that was found right, and is what the topic asks for. What is left is its place in the log.
#[derive(Debug)]
pub struct ClientBatch<'a> {
    pub(crate) bytes: BatchBytes<'a>,
    /// The header that it came with.
    pub(crate) header: BatchHeader,
    /// The largest timestamp of its records; -1 if none has one.
    pub(crate) max_timestamp: i64,
    /// The clock that it was judged by. Under the other one, other timestamps pass.
    pub(crate) timestamp_type: TimestampType,
}

#[derive(Debug)]
pub(crate) enum BatchBytes<'a> {
    /// As they were sent.
    Sent(&'a mut [u8]),
    /// In another format, or another codec.
    Made(Vec<u8>),
}

impl BatchBytes<'_> {
    pub(crate) fn as_mut(&mut self) -> &mut [u8] {
        match self {
            BatchBytes::Sent(bytes) => bytes,
            BatchBytes::Made(bytes) => bytes,
        }
    }
}

/// Checks what a client sent for a partition down to its records, and brings it into the form that the topic asks for. It
/// takes its time, all the more with what is compressed, and needs no log: nobody should be kept waiting for it.
pub fn prepare<'a>(
    records: &'a mut [u8],
    config: &LogConfig,
    topic_partition: &TopicPartition,
    now_ms: i64,
) -> Result<ClientBatch<'a>, AppendError> {
    let converted = match is_message_set(records) {
        true => Some(convert(records, config)?),
        false => None,
    };
    let batch = parse(converted.as_deref().unwrap_or(records), config)?;
    let accepted = check_records(&batch, config, topic_partition, now_ms)?;
    let max_timestamp = accepted.max_timestamp;
    let recompressed = match accepted.recompress {
        Some(codec) => Some(recompress(&batch, codec, config)?),
        None => None,
    };
    let header = batch.header;
    Ok(ClientBatch {
        bytes: match recompressed.or(converted) {
            Some(made) => BatchBytes::Made(made),
            None => BatchBytes::Sent(records),
        },
        header,
        max_timestamp,
        timestamp_type: config.message_timestamp_type,
    })
}

/// Reads the header of the one batch that a client may send for a partition (KIP-98), and checks all that it says.
fn parse<'a>(records: &'a [u8], config: &LogConfig) -> Result<Batch<'a>, AppendError> {
    if records.is_empty() {
        return Err(AppendError::InvalidRecord(
            "no record batch at all".to_owned(),
        ));
    }
    let header = BatchHeader::parse(records).map_err(|error| match error {
        BatchError::InvalidCount { .. } => AppendError::InvalidRecord(error.to_string()),
        error => AppendError::Corrupt(error.to_string()),
    })?;
    let size = header.size();
    let Some((bytes, behind)) = records.split_at_checked(size) else {
        return Err(AppendError::Corrupt(format!(
            "a batch of {size} bytes, of which {} are there",
            records.len()
        )));
    };
    check_size(size, config)?;
    check_header(&header, config)?;
    let batch = Batch { header, bytes };
    batch
        .verify_crc()
        .map_err(|error| AppendError::Corrupt(error.to_string()))?;
    match behind.is_empty() {
        true => Ok(batch),
        // What follows is a second batch only if it is one.
        false => Err(match BatchHeader::parse(behind) {
            Ok(_) => {
                AppendError::InvalidRecord("more than one record batch for a partition".to_owned())
            }
            Err(error) => AppendError::Corrupt(error.to_string()),
        }),
    }
}

/// Whether bytes are a message set of format 0 or 1.
fn is_message_set(records: &[u8]) -> bool {
    // The magic lies at the same place in all formats.
    matches!(records.get(16), Some(0 | 1))
}

/// A message set of format 0 or 1 as one batch, in the codec that the topic asks for.
fn convert(records: &[u8], config: &LogConfig) -> Result<Vec<u8>, AppendError> {
    let codec = match config.compression {
        TopicCompression::Producer => None,
        TopicCompression::Codec { codec, level } => Some((codec, level)),
    };
    let built = message_set::to_record_batch(records, max_decompressed(config), codec)
        .and_then(|builder| Ok(builder.build()?));
    match built {
        Ok(batch) => Ok(batch.to_vec()),
        Err(
            error @ (MessageSetError::Corrupt { .. }
            | MessageSetError::Compression(CompressionError::Corrupt { .. })),
        ) => Err(AppendError::Corrupt(error.to_string())),
        Err(error) => Err(AppendError::InvalidRecord(error.to_string())),
    }
}

/// A batch no larger than `max.message.bytes`, nor than a segment.
fn check_size(size: usize, config: &LogConfig) -> Result<(), AppendError> {
    let max = config.max_message_bytes;
    if size > max as usize {
        return Err(AppendError::MessageTooLarge { size, max });
    }
    let max = config.segment_bytes;
    if size > max as usize {
        return Err(AppendError::RecordListTooLarge { size, max });
    }
    Ok(())
}

fn check_header(header: &BatchHeader, config: &LogConfig) -> Result<(), AppendError> {
    let invalid = |reason: String| Err(AppendError::InvalidRecord(reason));
    if header.base_offset != 0 {
        return invalid(format!(
            "a base offset of {}, where a client says 0",
            header.base_offset
        ));
    }
    if header.record_count <= 0 || header.last_offset_delta != header.record_count - 1 {
        let (count, delta) = (header.record_count, header.last_offset_delta);
        return invalid(format!(
            "{count} records with a last offset delta of {delta}"
        ));
    }
    if header.attributes.is_control() {
        return invalid("a control batch, which only brokers write".to_owned());
    }
    if header.has_producer_id() && (header.base_sequence < 0 || header.producer_epoch < 0) {
        let (sequence, epoch) = (header.base_sequence, header.producer_epoch);
        return invalid(format!(
            "a producer id with sequence {sequence} and epoch {epoch}"
        ));
    }
    if header.attributes.timestamp_type() == TimestampType::LogAppendTime
        && config.message_timestamp_type == TimestampType::CreateTime
    {
        return Err(AppendError::InvalidTimestamp);
    }
    Ok(())
}

/// Glances at every record of a batch that [`parse`] let through.
fn check_records(
    batch: &Batch<'_>,
    config: &LogConfig,
    topic_partition: &TopicPartition,
    now_ms: i64,
) -> Result<Accepted, AppendError> {
    let codec = batch
        .header
        .attributes
        .compression()
        .map_err(|error| AppendError::InvalidRecord(error.to_string()))?;
    let mut records = Records::new(&batch.header, config, topic_partition, now_ms);
    batch
        .scan(max_decompressed(config), |record| {
            records.check(
                record.index,
                record.offset_delta,
                record.timestamp_delta,
                record.has_key,
            );
        })
        .map_err(refused_records)?;
    let max_timestamp = records.finish()?;
    let wanted = match config.compression {
        TopicCompression::Producer => codec,
        TopicCompression::Codec { codec, .. } => codec,
    };
    Ok(Accepted {
        max_timestamp,
        recompress: Some(wanted).filter(|wanted| *wanted != codec),
    })
}

/// The batch in the codec that the topic asks for. Its records, and all else that its header says, stay as they are:
/// producer, sequence, transaction, timestamps.
fn recompress(
    batch: &Batch<'_>,
    codec: Compression,
    config: &LogConfig,
) -> Result<Vec<u8>, AppendError> {
    let level = match config.compression {
        TopicCompression::Producer => None,
        TopicCompression::Codec { level, .. } => level,
    };
    let recompressed = batch
        .recompress(codec, level, max_decompressed(config))
        .map_err(|error| AppendError::InvalidRecord(error.to_string()))?;
    check_size(recompressed.len(), config)?;
    Ok(recompressed)
}

/// How much may come out of a client's batch.
fn max_decompressed(config: &LogConfig) -> usize {
    (config.max_message_bytes as usize)
        .saturating_mul(DECOMPRESSED_PER_MESSAGE)
        .min(MAX_DECOMPRESSED_BYTES)
}

/// Of whom the fault is: a batch has the checksum that it states, so that what is in it was sent like that.
fn refused_records(error: RecordError) -> AppendError {
    match error {
        RecordError::Compression(CompressionError::Corrupt { .. }) => {
            AppendError::Corrupt(error.to_string())
        }
        error => AppendError::InvalidRecord(error.to_string()),
    }
}

/// The records of one batch, one after the other.
struct Records<'a> {
    topic_partition: &'a TopicPartition,
    base_timestamp: i64,
    keys_needed: bool,
    /// What timestamps the topic takes, if it takes the producers'.
    timestamps: Option<(i64, i64)>,
    max_timestamp: i64,
    out_of_order: Option<(i32, i32)>,
    refused: RefusedRecords,
}

impl<'a> Records<'a> {
    fn new(
        header: &BatchHeader,
        config: &LogConfig,
        topic_partition: &'a TopicPartition,
        now_ms: i64,
    ) -> Self {
        let by_producers = config.message_timestamp_type == TimestampType::CreateTime;
        let within = (
            now_ms.saturating_sub(config.message_timestamp_before_max_ms),
            now_ms.saturating_add(config.message_timestamp_after_max_ms),
        );
        Self {
            topic_partition,
            base_timestamp: header.base_timestamp,
            keys_needed: config.compact,
            timestamps: by_producers.then_some(within),
            max_timestamp: NO_TIMESTAMP,
            out_of_order: None,
            refused: RefusedRecords::default(),
        }
    }

    #[inline(always)]
    fn check(&mut self, index: i32, offset_delta: i32, timestamp_delta: i64, has_key: bool) {
        let timestamp = self.base_timestamp.wrapping_add(timestamp_delta);
        self.max_timestamp = self.max_timestamp.max(timestamp);
        let in_time = match self.timestamps {
            Some((earliest, latest)) => timestamp >= earliest && timestamp <= latest,
            None => true,
        };
        if offset_delta != index || !in_time || self.keys_needed && !has_key {
            self.refuse(index, offset_delta, timestamp, has_key);
        }
    }

    #[cold]
    fn refuse(&mut self, index: i32, offset_delta: i32, timestamp: i64, has_key: bool) {
        if offset_delta != index {
            self.out_of_order.get_or_insert((index, offset_delta));
        }
        let message = if self.keys_needed && !has_key {
            format!(
                "Compacted topic cannot accept message without key in topic partition {}.",
                self.topic_partition
            )
        } else if let Some((earliest, latest)) = self.timestamps
            && timestamp != NO_TIMESTAMP
            && !(earliest..=latest).contains(&timestamp)
        {
            self.refused.by_timestamp = true;
            format!(
                "Timestamp {timestamp} of message with offset {index} is out of range. The timestamp should be within [{earliest}, {latest}]"
            )
        } else {
            return;
        };
        self.refused.count += 1;
        if self.refused.told.len() < REFUSED_RECORDS_TOLD {
            self.refused.told.push(RefusedRecord {
                batch_index: index,
                message,
            });
        }
    }

    /// The largest timestamp.
    fn finish(self) -> Result<i64, AppendError> {
        if let Some((index, offset_delta)) = self.out_of_order {
            return Err(AppendError::InvalidRecord(format!(
                "record {index} of the batch is at offset delta {offset_delta}"
            )));
        }
        if self.refused.count > 0 {
            return Err(AppendError::RefusedRecords(self.refused));
        }
        Ok(self.max_timestamp)
    }
}
