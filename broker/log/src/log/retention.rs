//! Letting old records go.
//!
//! Whole segments go, the oldest first, up to the first that no rule condemns; never one that holds a record at or above
//! the high watermark. The rules, in this order: the segment ends at or before the log's start (DeleteRecords, or the
//! leader's start on a follower); without it the log is still as large as `retention.bytes`; its youngest record is older
//! than `retention.ms`. The last two are those of logs with `cleanup.policy=delete`.

use super::Log;
use crate::error::LogError;
use crate::file_system::Attempt;
use crate::segment::LogSegment;

/// Segments that have a rule against them, and what it says.
struct Condemned {
    count: usize,
    reason: &'static str,
    /// The value of the key that the rule obeys, or the log's start.
    limit: i64,
}

impl Log {
    /// Removes the segments at the front that have outlived `retention.ms` or `retention.bytes`, or that the log no longer
    /// starts in, and moves the start of the log behind them. If that is all of them, a new active segment is begun first;
    /// an empty one stays. How many were removed; none of a log that takes no more writes.
    pub fn delete_old_segments(
        &mut self,
        high_watermark: i64,
        now_ms: i64,
    ) -> Result<usize, LogError> {
        if self.is_fenced() {
            return Ok(0);
        }
        let before_start = self.before_log_start(high_watermark)?;
        let mut deleted = self.delete_first(before_start, now_ms)?;
        if self.config.delete {
            let over_size = self.over_retention_bytes(high_watermark)?;
            deleted += self.delete_first(over_size, now_ms)?;
            let expired = self.over_retention_ms(high_watermark, now_ms)?;
            deleted += self.delete_first(expired, now_ms)?;
        }
        Ok(deleted)
    }

    fn before_log_start(&self, high_watermark: i64) -> Result<Condemned, LogError> {
        let start = self.log_start_offset;
        let count = self.count_first(high_watermark, |_, next_offset| Ok(next_offset <= start))?;
        Ok(Condemned {
            count,
            reason: "before the log's start",
            limit: start,
        })
    }

    fn over_retention_bytes(&self, high_watermark: i64) -> Result<Condemned, LogError> {
        let limit = self.config.retention_bytes;
        let mut count = 0;
        if let Ok(limit) = u64::try_from(limit) {
            let mut excess = self.size().saturating_sub(limit);
            count = self.count_first(high_watermark, |segment, _| {
                let rest = excess.checked_sub(segment.size());
                excess = rest.unwrap_or(excess);
                Ok(rest.is_some())
            })?;
        }
        Ok(Condemned {
            count,
            reason: "over retention.bytes",
            limit,
        })
    }

    fn over_retention_ms(&self, high_watermark: i64, now_ms: i64) -> Result<Condemned, LogError> {
        let limit = self.config.retention_ms;
        let mut count = 0;
        if limit >= 0 {
            count = self.count_first(high_watermark, |segment, _| {
                Ok(now_ms.saturating_sub(segment.youngest_ms()?) > limit)
            })?;
        }
        Ok(Condemned {
            count,
            reason: "over retention.ms",
            limit,
        })
    }

    /// How many segments at the front are condemned, given each with the offset after its last. What is not committed
    /// everywhere is not asked about, nor an empty active segment.
    fn count_first(
        &self,
        high_watermark: i64,
        mut condemned: impl FnMut(&LogSegment, i64) -> Result<bool, LogError>,
    ) -> Result<usize, LogError> {
        let next_offsets = self.segments.keys().skip(1).copied();
        let next_offsets = next_offsets.chain([self.log_end_offset]);
        let mut count = 0;
        for (segment, next_offset) in self.segments.values().zip(next_offsets) {
            let empty = segment.base_offset() == next_offset;
            if empty || next_offset > high_watermark || !condemned(segment, next_offset)? {
                break;
            }
            count += 1;
        }
        Ok(count)
    }

    fn delete_first(&mut self, condemned: Condemned, now_ms: i64) -> Result<usize, LogError> {
        let Condemned {
            count,
            reason,
            limit,
        } = condemned;
        if count == 0 {
            return Ok(0);
        }
        let deleted = self.take_first(count, now_ms);
        let base_offsets = self.fence_on_error(deleted)?;
        tracing::info!(
            partition = %self.topic_partition, ?base_offsets, reason, limit,
            log_start_offset = self.log_start_offset, "segments deleted"
        );
        Ok(count)
    }

    /// Removes so many segments at the front. Their base offsets.
    fn take_first(&mut self, count: usize, now_ms: i64) -> Result<Vec<i64>, LogError> {
        if count == self.segments.len() {
            self.roll(self.log_end_offset, now_ms)?;
            // Were only the old segments' names changed when the power is cut, nothing would tell where the log ended.
            self.fs
                .sync_directory(&self.directory)
                .attempt("sync", &self.directory)?;
        }
        let Some(first_kept) = self.segments.keys().nth(count).copied() else {
            return Ok(Vec::new());
        };
        self.advance_log_start_offset(first_kept)?;
        let kept = self.segments.split_off(&first_kept);
        let deleted = std::mem::replace(&mut self.segments, kept);
        let base_offsets = deleted.keys().copied().collect();
        self.delete_segments(deleted.into_values(), now_ms)?;
        Ok(base_offsets)
    }

    /// Serves nothing below `offset` any more: a client has asked for it, or the leader does not. The segments that lie
    /// wholly below go with [`Log::delete_old_segments`]. The start never goes back, nor beyond the end. Whether it moved.
    pub fn raise_log_start_offset(&mut self, offset: i64) -> Result<bool, LogError> {
        self.check_writable()?;
        let before = self.log_start_offset;
        let raised = self.advance_log_start_offset(offset.min(self.log_end_offset));
        self.fence_on_error(raised)?;
        Ok(self.log_start_offset > before)
    }

    fn advance_log_start_offset(&mut self, offset: i64) -> Result<(), LogError> {
        if offset > self.log_start_offset {
            self.log_start_offset = offset;
            if self.epochs.truncate_from_start(offset) {
                self.write_epochs()?;
            }
        }
        Ok(())
    }
}
