//! Finding records by their time: what ListOffsets asks for.

use kafka_wire::record_batch::{self, Batch, NO_TIMESTAMP, TimestampType};

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
                if batch.header.max_timestamp < timestamp {
                    continue;
                }
                let records = self.stamps(segment, &batch)?;
                if let Some(found) = records
                    .into_iter()
                    .find(|stamp| stamp.timestamp >= timestamp)
                {
                    return Ok(Some(found));
                }
            }
        }
        Ok(None)
    }

    /// The first of the records with the largest timestamp, `None` if no record has one.
    pub fn max_timestamp_offset(&self) -> Result<Option<TimestampAndOffset>, LogError> {
        let mut largest: Option<TimestampAndOffset> = None;
        for segment in self.segments.values() {
            let max = segment.max_timestamp()?;
            if max.timestamp <= largest.map_or(NO_TIMESTAMP, |largest| largest.timestamp) {
                continue;
            }
            // Of a segment that the log starts in, the record that stands in the index may be gone.
            let from_index = if segment.base_offset() < self.log_start_offset {
                None
            } else {
                segment.find(max.offset)?
            };
            let found = match from_index {
                Some(batch) => first_largest(self.stamps(segment, &batch)?),
                None => self.scan_largest(segment)?,
            };
            // The earlier of two stays.
            if let Some(found) = found
                && largest.is_none_or(|largest| found.timestamp > largest.timestamp)
            {
                largest = Some(found);
            }
        }
        Ok(largest)
    }

    /// Looks for the largest timestamp in every batch that may hold it.
    fn scan_largest(&self, segment: &LogSegment) -> Result<Option<TimestampAndOffset>, LogError> {
        let mut largest: Option<TimestampAndOffset> = None;
        let mut batches = segment.scan(0, Depth::Headers)?;
        while let Some(batch) = batches.next()? {
            let least = largest.map_or(NO_TIMESTAMP, |largest| largest.timestamp);
            if batch.header.max_timestamp > least {
                let found = first_largest(self.stamps(segment, &batch)?);
                largest = found.filter(|found| found.timestamp > least).or(largest);
            }
        }
        Ok(largest)
    }

    /// When the records of a batch that have a timestamp, and are still in the log, were stamped. Of one that the broker has
    /// stamped as a whole, the first stands for all.
    fn stamps(
        &self,
        segment: &LogSegment,
        batch: &PlacedBatch,
    ) -> Result<Vec<TimestampAndOffset>, LogError> {
        let PlacedBatch { position, header } = batch;
        let first_offset = header.base_offset.max(self.log_start_offset);
        if header.last_offset() < first_offset {
            return Ok(Vec::new());
        }
        let stamp = |timestamp, offset| TimestampAndOffset {
            timestamp,
            offset,
            leader_epoch: Some(header.partition_leader_epoch).filter(|epoch| *epoch >= 0),
        };
        if header.attributes.timestamp_type() == TimestampType::LogAppendTime {
            return Ok(vec![stamp(header.max_timestamp, first_offset)]);
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
        let mut stamps = Vec::new();
        for record in records.iter() {
            let record = record.map_err(|error| damaged(error.to_string()))?;
            if record.offset >= first_offset && record.timestamp > NO_TIMESTAMP {
                stamps.push(stamp(record.timestamp, record.offset));
            }
        }
        Ok(stamps)
    }
}

fn first_largest(stamps: Vec<TimestampAndOffset>) -> Option<TimestampAndOffset> {
    let later = |largest: TimestampAndOffset, next: TimestampAndOffset| {
        if next.timestamp > largest.timestamp {
            next
        } else {
            largest
        }
    };
    stamps.into_iter().reduce(later)
}
