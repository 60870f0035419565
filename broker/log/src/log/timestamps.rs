//! Finding records by their time: what ListOffsets asks for.

use kafka_wire::record_batch::{Batch, NO_TIMESTAMP, TimestampType};

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
                let mut found = None;
                self.each_stamp(segment, &batch, |stamp| {
                    if found.is_none() && stamp.timestamp >= timestamp {
                        found = Some(stamp);
                    }
                })?;
                if found.is_some() {
                    return Ok(found);
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
                Some(batch) => self.first_largest(segment, &batch)?,
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
                let found = self.first_largest(segment, &batch)?;
                largest = found.filter(|found| found.timestamp > least).or(largest);
            }
        }
        Ok(largest)
    }

    /// The first of a batch's records with the largest timestamp.
    fn first_largest(
        &self,
        segment: &LogSegment,
        batch: &PlacedBatch,
    ) -> Result<Option<TimestampAndOffset>, LogError> {
        let mut largest: Option<TimestampAndOffset> = None;
        self.each_stamp(segment, batch, |stamp| {
            if largest.is_none_or(|largest| stamp.timestamp > largest.timestamp) {
                largest = Some(stamp);
            }
        })?;
        Ok(largest)
    }

    /// Shows when the records of a batch that have a timestamp, and are still in the log, were stamped. Of one that the
    /// broker has stamped as a whole, the first stands for all. Whatever a batch decompresses to, no more memory is taken
    /// than its own size.
    fn each_stamp(
        &self,
        segment: &LogSegment,
        batch: &PlacedBatch,
        mut see: impl FnMut(TimestampAndOffset),
    ) -> Result<(), LogError> {
        let PlacedBatch { position, header } = batch;
        let first_offset = header.base_offset.max(self.log_start_offset);
        if header.last_offset() < first_offset {
            return Ok(());
        }
        let stamp = |timestamp, offset| TimestampAndOffset {
            timestamp,
            offset,
            leader_epoch: Some(header.partition_leader_epoch).filter(|epoch| *epoch >= 0),
        };
        if header.attributes.timestamp_type() == TimestampType::LogAppendTime {
            see(stamp(header.max_timestamp, first_offset));
            return Ok(());
        }
        let damaged = |cause: String| LogError::Damaged {
            path: segment.path().to_owned(),
            position: *position,
            cause,
        };
        // Piece by piece, before anything is allocated: a length that was damaged is as large as it likes.
        segment.scan(*position, Depth::Checksums)?.next()?;
        let mut bytes = vec![0; header.size()];
        let read = segment
            .file()?
            .read_at(&mut bytes, *position)
            .attempt("read", segment.path())?;
        if read < bytes.len() {
            return Err(damaged(format!("{read} bytes of {}", bytes.len())));
        }
        let whole = Batch {
            header: header.clone(),
            bytes: &bytes,
        };
        let mut beyond = None;
        whole
            .scan(MAX_DECOMPRESSED_BYTES, |record| {
                let delta = record.offset_delta;
                if !(0..=header.last_offset_delta).contains(&delta) {
                    beyond = Some(delta);
                    return;
                }
                let offset = header.base_offset + i64::from(delta);
                let timestamp = header.base_timestamp.wrapping_add(record.timestamp_delta);
                if offset >= first_offset && timestamp > NO_TIMESTAMP {
                    see(stamp(timestamp, offset));
                }
            })
            .map_err(|error| damaged(error.to_string()))?;
        match beyond {
            Some(delta) => Err(damaged(format!("a record at offset delta {delta}"))),
            None => Ok(()),
        }
    }
}
