//! Finding records by their time: what ListOffsets asks for.

use kafka_wire::record_batch::{self, Batch, TimestampType};

use super::Log;
use crate::batch_scanner::{Depth, MAX_DECOMPRESSED_BYTES, PlacedBatch};
use crate::error::LogError;
use crate::file_system::Attempt;
use crate::segment::LogSegment;

/// A record's time and place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimestampAndOffset {
    /// Milliseconds since 1970.
    pub timestamp: i64,
    /// The record's offset.
    pub offset: i64,
    /// The epoch of the leader that wrote it; `None` if the batch does not tell.
    pub leader_epoch: Option<i32>,
}

impl Log {
    /// The first record that is stamped `timestamp` or later, `None` if there is none.
    pub fn offset_for_timestamp(
        &self,
        timestamp: i64,
    ) -> Result<Option<TimestampAndOffset>, LogError> {
        for segment in self.segments.values() {
            if segment.max_timestamp()?.timestamp < timestamp {
                continue;
            }
            let Some(start) = segment.find_timestamp(timestamp)? else {
                continue;
            };
            let mut batches = segment.scan(start.position, Depth::Headers)?;
            while let Some(batch) = batches.next()? {
                if batch.header.max_timestamp < timestamp
                    || batch.header.last_offset() < self.log_start_offset
                {
                    continue;
                }
                let wanted =
                    |stamp: i64, offset: i64| stamp >= timestamp && offset >= self.log_start_offset;
                if let Some(found) = find_record(segment, &batch, wanted)? {
                    return Ok(Some(found));
                }
            }
        }
        Ok(None)
    }

    /// The first of the records with the largest timestamp, `None` if no record has one.
    pub fn max_timestamp_offset(&self) -> Result<Option<TimestampAndOffset>, LogError> {
        let mut largest: Option<(i64, i64, &LogSegment)> = None;
        for segment in self.segments.values() {
            let max = segment.max_timestamp()?;
            if max.timestamp >= 0 && largest.is_none_or(|(timestamp, ..)| timestamp < max.timestamp)
            {
                largest = Some((max.timestamp, max.offset, segment));
            }
        }
        let Some((timestamp, offset, segment)) = largest else {
            return Ok(None);
        };
        let Some(batch) = segment.find(offset)? else {
            return Ok(None);
        };
        find_record(segment, &batch, |stamp, _| stamp == timestamp)
    }
}

/// The first record of a batch whose timestamp and offset are `wanted`.
fn find_record(
    segment: &LogSegment,
    batch: &PlacedBatch,
    wanted: impl Fn(i64, i64) -> bool,
) -> Result<Option<TimestampAndOffset>, LogError> {
    let PlacedBatch { position, header } = batch;
    let leader_epoch = Some(header.partition_leader_epoch).filter(|epoch| *epoch >= 0);
    let found = |timestamp, offset| {
        Some(TimestampAndOffset {
            timestamp,
            offset,
            leader_epoch,
        })
    };
    if header.attributes.timestamp_type() == TimestampType::LogAppendTime {
        // All its records have the batch's time.
        let at_first = wanted(header.max_timestamp, header.base_offset);
        return Ok(if at_first {
            found(header.max_timestamp, header.base_offset)
        } else {
            None
        });
    }
    let damaged = |cause: String| LogError::Damaged {
        path: segment.path().to_owned(),
        position: *position,
        cause,
    };
    let mut bytes = vec![0; header.size()];
    let read = segment
        .file()?
        .read_at(&mut bytes, *position)
        .attempt("read", segment.path())?;
    if read < bytes.len() {
        return Err(damaged(format!("{read} bytes of {}", bytes.len())));
    }
    record_batch::verify_crc(&bytes).map_err(|error| damaged(error.to_string()))?;
    let whole = Batch {
        header: header.clone(),
        bytes: &bytes,
    };
    let records = whole
        .records(MAX_DECOMPRESSED_BYTES)
        .map_err(|error| damaged(error.to_string()))?;
    for record in records.iter() {
        let record = record.map_err(|error| damaged(error.to_string()))?;
        if wanted(record.timestamp, record.offset) {
            return Ok(found(record.timestamp, record.offset));
        }
    }
    Ok(None)
}
