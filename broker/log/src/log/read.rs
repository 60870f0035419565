//! Giving records out, as ranges of files: no byte of them is copied here.

use std::sync::Arc;

use super::Log;
use crate::batch_scanner::PlacedBatch;
use crate::error::{LogError, ReadError};
use crate::file_system::LogFile;
use crate::segment::LogSegment;

/// A piece of a segment file, to be sent with `sendfile(2)`.
///
/// The file stays readable as long as somebody holds it, even if its segment is deleted. If the log is truncated meanwhile
/// the range may reach beyond the end of the file: who sends it must then end the connection.
#[derive(Debug, Clone)]
pub struct FileRange {
    /// The segment's file.
    pub file: Arc<dyn LogFile>,
    /// Where the range begins, in bytes.
    pub position: u64,
    /// How long it is, in bytes.
    pub len: u32,
}

/// What a read found.
#[derive(Debug, Clone, Default)]
pub struct FetchData {
    /// Record batches; `None` if there are none to be had. The first holds the offset that was asked for, or is the first
    /// after it. The last may be cut short by the limit on bytes.
    pub range: Option<FileRange>,
    /// The first batch is larger than the range, so that a client can make nothing of it.
    pub first_batch_incomplete: bool,
    /// The base offset of the segment that the range is of.
    pub(crate) segment_base_offset: i64,
}

impl FetchData {
    /// How many bytes there are.
    pub fn len(&self) -> u32 {
        self.range.as_ref().map_or(0, |range| range.len)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Log {
    /// Finds the record batches from `offset` on, at most `max_bytes` of them; with `min_one_batch` the first is given even
    /// if it is larger. No batch is in the range that holds a record at or above `up_to_offset`: the high watermark for a
    /// consumer, the log's end for a follower. The range ends with its segment.
    pub fn read(
        &self,
        offset: i64,
        max_bytes: u32,
        up_to_offset: i64,
        min_one_batch: bool,
    ) -> Result<FetchData, ReadError> {
        self.check_supported()?;
        if offset < self.log_start_offset || offset > self.log_end_offset {
            let Self {
                log_start_offset,
                log_end_offset,
                ..
            } = *self;
            return Err(ReadError::OffsetOutOfRange {
                offset,
                log_start_offset,
                log_end_offset,
            });
        }
        let up_to_offset = up_to_offset.min(self.log_end_offset);
        if offset >= up_to_offset {
            return Ok(FetchData::default());
        }
        let floor = self
            .segments
            .range(..=offset)
            .next_back()
            .map_or(offset, |(base_offset, _)| *base_offset);
        for segment in self.segments.range(floor..).map(|(_, segment)| segment) {
            // Nothing may be left of a segment at or above the offset, for compaction takes records away.
            let Some(first) = segment.find(offset)? else {
                continue;
            };
            self.check_within(segment, &first)?;
            if first.header.last_offset() >= up_to_offset {
                break;
            }
            let first_size = first.header.size() as u32;
            let limit = if min_one_batch {
                max_bytes.max(first_size)
            } else {
                max_bytes
            };
            let wanted_end = first.position + u64::from(limit);
            let end = self.end_before(segment, up_to_offset, wanted_end)?;
            let len = (end - first.position) as u32;
            if len == 0 {
                break;
            }
            let range = FileRange {
                file: segment.file().map_err(LogError::from)?,
                position: first.position,
                len,
            };
            return Ok(FetchData {
                range: Some(range),
                first_batch_incomplete: len < first_size,
                segment_base_offset: segment.base_offset(),
            });
        }
        Ok(FetchData::default())
    }

    /// Base offsets are under no checksum: one that reaches beyond its segment was damaged on the disk, and would send a
    /// consumer to where there is nothing.
    fn check_within(&self, segment: &LogSegment, batch: &PlacedBatch) -> Result<(), LogError> {
        let following = self.segments.range(segment.base_offset() + 1..).next();
        let end = following.map_or(self.log_end_offset, |(base_offset, _)| *base_offset);
        let last = batch.header.last_offset();
        if last < end {
            return Ok(());
        }
        Err(LogError::Damaged {
            path: segment.path().to_owned(),
            position: batch.position,
            cause: format!("a batch up to offset {last}, where its segment ends at {end}"),
        })
    }

    /// Where in the segment to end: at `wanted_end`, or before the first batch that reaches to `up_to_offset`.
    fn end_before(
        &self,
        segment: &LogSegment,
        up_to_offset: i64,
        wanted_end: u64,
    ) -> Result<u64, ReadError> {
        let end = segment.size().min(wanted_end);
        if up_to_offset >= self.log_end_offset {
            return Ok(end);
        }
        let limit = segment
            .find(up_to_offset)?
            .map_or(segment.size(), |batch| batch.position);
        Ok(end.min(limit))
    }
}
